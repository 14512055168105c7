"""Bring the competition's files into the data folder: whole and checked, or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from digits.console import BadInput, KaggleRefused, KitError
from digits.data import archive
from digits.data.competition import ARCHIVE, TEST, TRAIN
from digits.files import display_path
from digits.kaggle.client import PAGE, Kaggle, find_credentials

ATTEMPTS = 2


def fetch(data_dir: Path, kaggle: Kaggle, say: Callable[[str], None] = print) -> None:
    """Download the data, unless it is there and good; a zip that lies in the folder is used before the network.

    Raises:
        KitError: what came is not the data; then nothing in the folder has changed.
    """
    if archive.is_complete(data_dir):
        say(f"The data is already in {display_path(data_dir)}, and good.")
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    if _used_own_zip(data_dir / ARCHIVE, data_dir, say):
        return
    say(f"Credentials: {kaggle.log_in()}")
    for attempt in range(1, ATTEMPTS + 1):
        with tempfile.TemporaryDirectory(prefix="digits-") as folder:
            try:
                install(kaggle.download(Path(folder)), data_dir, say)
                reason = f"it does not hold {TRAIN.name} and {TEST.name}."
            except BadInput as error:
                reason = str(error).removesuffix(archive.REMEDY).replace(f"{folder}/", "").strip()
        if archive.is_complete(data_dir):
            return
        if attempt < ATTEMPTS:
            say(f"What came is not the data: {reason} Fetching it again.")
    raise KitError(
        f"what Kaggle sent is not the data: {reason}\nNo good file in {display_path(data_dir)} was replaced. "
        "Try again later, "
        f"or fetch the zip with a browser from {PAGE}/data, then: scripts/download.sh --zip FILE"
    )


def fetch_if_possible(data_dir: Path, kaggle: Kaggle, say: Callable[[str], None] = print) -> None:
    """Do as `fetch`, but where there are neither credentials nor a file to use, say so in one line and let it be."""
    if not archive.is_complete(data_dir) and not (data_dir / ARCHIVE).is_file():
        try:
            find_credentials(os.environ)
        except KaggleRefused:
            say("No Kaggle credentials found, so this runs on the embedded sample (scripts/download.sh tells more).")
            return
    fetch(data_dir, kaggle, say)


def install(file: Path, data_dir: Path, say: Callable[[str], None] = print) -> None:
    """Check a file with the competition's data and put what it holds into the data folder.

    Raises:
        BadInput: the file is not that, or not whole; then nothing in the folder has changed.
    """
    if not file.is_file():
        raise BadInput(f"{display_path(file)}: there is no such file. Fetch it from {PAGE}/data")
    data_dir.mkdir(parents=True, exist_ok=True)
    for path in archive.install(file, data_dir):
        say(archive.describe(path) if path.name in (TRAIN.name, TEST.name) else display_path(path))


def _used_own_zip(file: Path, data_dir: Path, say: Callable[[str], None]) -> bool:
    """Use a zip that the plain client or the user left in the data folder; a broken one goes, with its resume marker.

    The client would take a broken one for good, and append to a part with a marker (it cannot tell).
    """
    if not file.is_file():
        return False
    try:
        install(file, data_dir, say)
    except BadInput as error:
        say(f"Removing a zip that is not good: {str(error).removesuffix(archive.REMEDY).strip()}")
        file.unlink()
        file.with_name(f"{file.name}.kaggle-partial").unlink(missing_ok=True)
        return False
    return archive.is_complete(data_dir)
