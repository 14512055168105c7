"""Bring the competition's files into the data folder: whole and checked, or not at all."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from digits.console import BadInput, KitError
from digits.data import archive
from digits.data.competition import DIGIT_RECOGNIZER, Competition, find_competition
from digits.data.folder import find_file
from digits.files import display_path
from digits.kaggle.client import Kaggle, NoCredentials

ATTEMPTS = 2


def fetch(data_dir: Path, kaggle: Kaggle, say: Callable[[str], None] = print) -> None:
    """Download the data, unless files in its form are there; a zip that lies in the folder is used before the network.

    Raises:
        KitError: what came is not the data; then nothing in the folder has changed.
    """
    competition = find_competition(kaggle.competition)
    if files := archive.installed_files(data_dir, competition):
        say(f"The data is already in {display_path(data_dir)}:")
        for installed in files:
            say(installed.line)
        if not all(installed.form.may_be_kaggles for installed in files):
            say(f"That is not {competition.slug}'s. To fetch the competition's, move it away and run this again.")
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    own, reason = data_dir / competition.archive, ""
    what = {"competition": kaggle.competition, "force": True, "quiet": True}
    for attempt in range(0 if own.is_file() else 1, ATTEMPTS + 1):
        with tempfile.TemporaryDirectory(prefix="digits-") as folder:
            file = own
            if attempt:
                kaggle.tell(f"Downloading the data of {kaggle.competition} ...")
                kaggle.ask("competition_download_files", what | {"path": folder}, attempts=2)
                file = next(Path(folder).glob(f"{kaggle.competition}.*"), Path(folder))
            try:
                install(file, data_dir, say, competition)
                if archive.installed_files(data_dir, competition):
                    return
                reason = "it does not hold train.csv and test.csv"
            except BadInput as error:
                error.fix = ""  # Another one than after --zip.
                reason = str(error).replace(f"{folder}/", "")
        if attempt < ATTEMPTS:
            say(f"{'What came' if attempt else display_path(own)} is not used: {reason}. Fetching the data.")
    raise KitError(
        f"what Kaggle sent is not the data: {reason}.\nNo good file in {display_path(data_dir)} was replaced. "
        f"Try again later, or fetch the zip from {kaggle.page}/data and give it: "
        f"scripts/download.sh{competition.flag} --zip FILE"
    )


def fetch_if_possible(data_dir: Path, kaggle: Kaggle, say: Callable[[str], None] = print) -> None:
    """Do as `fetch`, but where there are neither credentials nor a file to use, say so in one line and let it be."""
    try:
        fetch(data_dir, kaggle, say)
    except NoCredentials:
        say("No Kaggle credentials found, so this runs on the embedded sample (scripts/download.sh tells more).")


def install(
    file: Path,
    data_dir: Path,
    say: Callable[[str], None] = print,
    competition: Competition = DIGIT_RECOGNIZER,
) -> None:
    """Check a file with the competition's data and put what it holds into the data folder.

    Raises:
        BadInput: the file is not that, or not whole; then nothing in the folder has changed.
    """
    if not file.exists():
        raise BadInput(
            f"{display_path(file)}: there is no such file. Fetch it from https://www.kaggle.com/competitions/{competition.slug}/data"
        )
    data_dir.mkdir(parents=True, exist_ok=True)
    for path, installed in archive.install(file, data_dir, competition).items():
        say(installed.line if installed else display_path(path))
    missing = [name for name in ("train", "test") if find_file(data_dir, name, competition) is None]
    if missing:
        say(f"Still missing in {display_path(data_dir)}: {' and '.join(f'{name}.csv' for name in missing)}.")
