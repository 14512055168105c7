"""Bring the competition's files into the data folder: whole and checked, or not at all."""

import hashlib
import tempfile
from pathlib import Path

from digits.config import Options
from digits.console import BadInput, KitError, error_context, progress_bar, some_of
from digits.data import archive
from digits.data.competition import Competition
from digits.data.folder import TABLES, find_file, listed_images
from digits.files import display_path, kit_command
from digits.kaggle.client import CredentialsError, Kaggle, MissingCredentialsError


def fetch(data_dir: Path, kaggle: Kaggle) -> None:
    """Download the data, unless files in its form are there; a zip that lies in the folder is used before the network.

    Raises KitError if what came is not the data; then nothing in the folder has changed.
    """
    competition = kaggle.competition
    if files := archive.installed_files(data_dir, competition):
        print(f"The data is already in {display_path(data_dir)}:")
        for file in files:
            print(file.line)
        if not all(file.form.may_be_kaggles for file in files):
            print(f"That is not {competition.slug}'s. To fetch the competition's, move it away and run this again.")
        return
    names = [] if competition.is_known or not data_dir.is_dir() else sorted(path.name for path in data_dir.iterdir())
    if names := [name for name in names if name[0] != "." and name != competition.archive]:
        print(f"The data is already in {display_path(data_dir)}: {some_of(names)}. To fetch it again, move it away.")
        return
    if competition.suggestion:
        kaggle.log(f"{competition.slug} is not known here.{competition.suggestion}")
    zip_there = data_dir / competition.archive
    if zip_there.is_file():
        reason = _install(zip_there, data_dir, competition)
        if not reason:
            return
        print(f"{display_path(zip_there)} is not used: {reason}. Fetching the data.")
    give_zip = kit_command("scripts/download.sh", "--zip", "FILE") + competition.flag
    fix = f"Try again later, or fetch the zip from {kaggle.page}/data and give it: {give_zip}"
    with error_context(fix=fix), tempfile.TemporaryDirectory(prefix="digits-") as folder:
        kaggle.log(f"Downloading the data of {competition.slug} ...")
        with progress_bar(lambda: f"{sum(file.stat().st_size for file in Path(folder).glob('*')) / 1e6:.1f} MB"):
            arguments = {"competition": competition.slug, "path": folder, "force": True, "quiet": True}
            kaggle.ask("competition_download_files", arguments, attempts=2)
        fetched = next(Path(folder).glob(f"{competition.slug}.*"), Path(folder))
        if reason := _install(fetched, data_dir, competition):
            raise KitError(
                f"what Kaggle sent is not the data: {reason}. No good file in {display_path(data_dir)} was replaced"
            )


def _install(file: Path, data_dir: Path, competition: Competition) -> str:
    """Do as `install`; return why the data are not complete then, or an empty text."""
    try:
        install(file, data_dir, competition)
    except BadInput as error:
        error.fix = ""  # Another one than after --zip.
        return str(error).replace(f"{display_path(file.parent)}/", "").rstrip(".")
    is_whole = not competition.is_known or archive.installed_files(data_dir, competition)
    return "" if is_whole else "it does not hold train.csv and test.csv"


def fetch_if_possible(data_dir: Path, kaggle: Kaggle) -> None:
    """Do as `fetch`, but where no credentials can be used, and no file, say so and let it be."""
    try:
        fetch(data_dir, kaggle)
    except MissingCredentialsError:
        says_more = kit_command("scripts/download.sh")
        print(f"No Kaggle credentials found, so this runs on the embedded sample. {says_more} says what to do.")
    except CredentialsError as error:
        kaggle.log(f"warning: {error}")
        print("Kaggle credentials cannot be used, so this runs on the embedded sample.")


def install(file: Path, data_dir: Path, competition: Competition) -> None:
    """Check a file with the competition's data and put what it holds into the data folder.

    Raises BadInput if the file is not that, or not whole; then nothing in the folder has changed.
    """
    if not file.exists():
        page = f"https://www.kaggle.com/competitions/{competition.slug}/data"
        raise BadInput(f"{display_path(file)}: there is no such file. Fetch it from {page}")
    if not competition.is_known:
        _unpack(file, data_dir, competition)
        return
    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in data_dir.glob("*.csv")}
    for path, installed in archive.install(file, data_dir, competition).items():
        is_other = before.get(path, installed.sha256) != installed.sha256
        print(f"{installed.line}{'; replaces another file' if is_other else ''}")
    missing = [name for name in TABLES if find_file(data_dir, name, competition) is None]
    if missing:
        print(f"Still missing in {display_path(data_dir)}: {' and '.join(f'{name}.csv' for name in missing)}.")


def _unpack(file: Path, data_dir: Path, competition: Competition) -> None:
    """Unpack what Kaggle serves for an unknown competition, and print what it is and what training lacks."""
    print(f"Unpacking {display_path(file)} ...")
    print(f"{display_path(data_dir)}: {', '.join(archive.unpack(file, data_dir))}")
    try:
        if listed := listed_images(data_dir, competition, Options()):
            counts = {split: len(each.files) for split, each in listed.items()}
            print(f"All images found: {counts['train']:,} to train on, {counts.get('test', 0):,} to predict")
    except BadInput as error:
        print(f"Note: {error}")
    print(f"Train: {kit_command('src/train.py')}{competition.flag}")
