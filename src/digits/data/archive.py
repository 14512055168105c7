"""Put the competition's files from an archive, a folder or a single file into the data folder: all of them, or none."""

import hashlib
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, cast

from digits.console import BadInput, KitError, error_context, some_of
from digits.data import csv_reader
from digits.data.competition import DIGIT_RECOGNIZER, Competition
from digits.data.dataset import DataFile, data_file
from digits.data.folder import TABLES, find_file
from digits.data.submission import content_hash, known_form, parse_submission
from digits.files import display_path

FIX = "Give the zip that Kaggle serves: scripts/download.sh --zip FILE"
MAX_UNPACKED = 16 << 30
"""Bytes that an archive of any competition may hold, unpacked: images of up to 96 pixels are far from it."""


def install(archive: Path, data_dir: Path, competition: Competition = DIGIT_RECOGNIZER) -> dict[Path, DataFile]:
    """Check an archive of the competition's files, put its CSVs into `data_dir`, and return what they are.

    Takes the competition's zip, packed anew or not, a tar archive, a folder, or one of the CSVs, plain or packed. Other
    files in it are left alone. Files that are right in form but not Kaggle's are taken too, and their `form` says so.
    Raises BadInput, naming file, member, line and column; then nothing in `data_dir` has changed.
    """
    place, files = display_path(archive), {}
    with _replacing(data_dir) as folder:
        try:
            with error_context(place):
                paths = _files_of(archive, folder / "packed", competition)
            for name, path in paths.items():
                data = csv_reader.read_bytes(path)
                with error_context(place if path == archive else f"{place}, {path.name}"):
                    files[name] = _checked(name, data, competition)
                (folder / "new" / name).write_bytes(data)
            sample, images = (files.get(name) for name in ("sample_submission.csv", "test.csv"))
            if sample and images and sample.rows != images.rows:
                rows = f"{sample.rows:,} and {images.rows:,}"
                message = f"expected as many rows in sample_submission.csv as in test.csv, found {rows}"
                raise BadInput(message, at=place)
        except BadInput as error:
            error.fix = FIX
            raise
    return {data_dir / name: replace(file, name=display_path(data_dir / name)) for name, file in files.items()}


def unpack(archive: Path, data_dir: Path) -> list[str]:
    """Unpack an archive of any competition, and those in it, into `data_dir`; return what came, folders first.

    What is there of the same names is replaced. Raises BadInput for no archive, or a damaged or too large one; then
    nothing in `data_dir` has changed.
    """
    with _replacing(data_dir) as folder, error_context(display_path(archive), FIX):
        new = folder / "new"
        if archive.is_dir() or not _extract(archive, new, MAX_UNPACKED):
            raise BadInput("expected a whole zip or tar archive, found another file or a folder")
        for inner in [path for path in new.rglob("*.zip") if not path.name.endswith(".csv.zip")]:
            with error_context(inner.name):
                if not _extract(inner, inner.with_suffix(""), MAX_UNPACKED):
                    raise BadInput("expected a whole archive, found a damaged one")
            inner.unlink()
        return [path.name for path in sorted(new.iterdir(), key=lambda path: (path.is_file(), path.name))]


@contextmanager
def _replacing(data_dir: Path) -> Iterator[Path]:
    """Yield a temporary folder whose subfolder "new" replaces what is in `data_dir` of the same names in the end.

    An error leaves `data_dir` as it was. What keeps one from writing is raised as KitError.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=data_dir) as folder:
            new, old = Path(folder, "new"), Path(folder, "old")
            new.mkdir()
            old.mkdir()
            yield Path(folder)
            for there in [data_dir / path.name for path in new.iterdir() if path.is_file()]:
                if there.is_dir():
                    raise BadInput(
                        "expected a file or nothing, found a folder", at=display_path(there), fix="Remove it"
                    )
            for path in new.iterdir():
                there = data_dir / path.name
                if there.exists() or there.is_symlink():
                    there.rename(old / path.name)
                path.rename(there)
    except OSError as error:
        message = f"expected a folder with room to write in, found: {error.strerror}"
        raise KitError(message, at=display_path(data_dir), fix="Make room, or give another: --data-dir DIR") from None


def _extract(archive: Path, into: Path, limit: int) -> bool:
    """Unpack a zip or tar of at most `limit` bytes without notes of systems; return False where it is no archive."""
    with csv_reader.readable():
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                sizes = {info.filename: info.file_size for info in opened.infolist()}
                opened.extractall(into, _wanted(sizes, limit))
        elif archive.is_file() and tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                sizes = {member.name: member.size for member in tar.getmembers() if member.isfile()}
                # Not `extractall`, whose safe filter came with Python 3.11.4.
                for name in _wanted(sizes, limit):
                    path = into.joinpath(*(part for part in PurePosixPath(name).parts if part not in ("/", "..")))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(cast(IO[bytes], tar.extractfile(name)).read())
        else:
            return False
    return True


def _wanted(sizes: dict[str, int], limit: int) -> list[str]:
    members = [name for name in sizes if csv_reader.is_wanted(name)]
    size = sum(sizes[name] for name in members)
    if not members or size > limit:
        raise BadInput(f"expected 1 to {limit:,} bytes unpacked, found {size:,}")
    return members


def _files_of(archive: Path, into: Path, competition: Competition) -> dict[str, Path]:
    """Return the competition's files by their names: of a folder, or of an archive, which is unpacked `into` one."""
    paths, found = [archive], {}
    if archive.is_dir():
        paths = sorted(archive.iterdir())
    elif _extract(archive, into, csv_reader.MAX_BYTES):
        paths = sorted(into.rglob("*.*"))
    for name in competition.files:
        # As it is, packed, or renamed by a browser: "train (1).csv".
        pattern = rf"{name.removesuffix('.csv')}( ?\(\d+\))?\.csv(\.\w+)?"
        same = [path for path in paths if path.is_file() and re.fullmatch(pattern, path.name)]
        if len(same) > 1:
            raise BadInput(f"expected one {name} inside, found {len(same)}")
        if same:
            found[name] = same[0]
    if not found and archive.is_dir() and (archive / competition.archive).is_file():
        return _files_of(archive / competition.archive, into, competition)
    if not found and paths == [archive]:
        next(csv_reader.records(csv_reader.read_bytes(archive)), None)  # Of a web page or a damaged zip it says so.
    if not found:
        names = some_of([path.name for path in paths])[:200] or "nothing"
        raise BadInput(f"expected {', '.join(competition.files)} inside, found {names}")
    return found


def _checked(name: str, data: bytes, competition: Competition) -> DataFile:
    """Return what one of the competition's files is; BadInput where it is not right in form."""
    if name == "sample_submission.csv":
        predictions = parse_submission(data, known_form(competition))
        rows, content = len(predictions), content_hash(predictions)
    else:
        table = csv_reader.parse(data, labelled=name == "train.csv")
        rows, content = len(table.images), table.content
        if name == "test.csv" and table.labels is not None:
            raise BadInput("expected test images without labels, found a label column")
    sha256, known = hashlib.sha256(data).hexdigest(), competition.files[name]
    return DataFile(name, rows, sha256, known.form(sha256, content, rows), known.rows)


def installed_files(data_dir: Path, competition: Competition = DIGIT_RECOGNIZER) -> list[DataFile]:
    """Return what train.csv and test.csv in `data_dir` are; empty unless both are there, good and not in an archive."""
    files = []
    try:
        for name in TABLES:
            located = find_file(data_dir, name, competition)
            if located is None or located.member:
                return []
            file = data_file(located.read_table(labelled=name == "train"), name, competition)
            files.append(replace(file, name=display_path(located.path)))
    except BadInput:
        return []
    return files
