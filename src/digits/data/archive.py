"""Put the competition's files from an archive, a folder or a single file into the data folder: all of them, or none."""

import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, cast

from digits.console import BadInput, KitError, error_context, some_of
from digits.data import csv_reader
from digits.data.arrays import PACKINGS
from digits.data.competition import DIGIT_RECOGNIZER, Competition
from digits.data.dataset import DataFile, data_file
from digits.data.folder import TABLES, find_file
from digits.data.submission import known_form, parse_submission
from digits.files import atomic_write, display_path

FIX = "Give the zip that Kaggle serves: scripts/download.sh --zip FILE"
MAX_UNPACKED = 16 << 30
"""Bytes that an archive of any competition may hold, unpacked: images of up to 96 pixels are far from it."""


@dataclass(frozen=True)
class _Content:
    """A file that was checked; `file` is None for the sample submission."""

    data: bytes
    rows: int
    file: DataFile | None = None


def install(archive: Path, data_dir: Path, competition: Competition = DIGIT_RECOGNIZER) -> dict[Path, DataFile | None]:
    """Check an archive of the competition's files, put its CSVs into `data_dir`, and return what they are.

    Takes the competition's zip, packed anew or not, a tar archive, a folder, or one of the CSVs, plain or packed. Other
    files in it are left alone. Files that are right in form but not Kaggle's are taken too, and their `form` says so.
    Raises BadInput, naming file, member, line and column; then nothing in `data_dir` has changed.
    """
    try:
        contents = _contents(archive, competition)
    except BadInput as error:
        error.fix = FIX
        raise
    for path in (data_dir / name for name in contents):
        if path.is_dir():
            raise BadInput("expected a file or nothing, found a folder", at=display_path(path), fix="Remove it")
    # Each file is renamed into place as the stack unwinds, after all of them have been written.
    with _writable(data_dir), ExitStack() as written:
        temporaries = [written.enter_context(atomic_write(data_dir / name)) for name in contents]
        for temporary, content in zip(temporaries, contents.values(), strict=True):
            temporary.write_bytes(content.data)
    files = {data_dir / name: content.file for name, content in contents.items()}
    return {path: replace(file, name=display_path(path)) if file else None for path, file in files.items()}


@contextmanager
def _writable(data_dir: Path) -> Iterator[None]:
    """Make a folder to write in, and raise as KitError what keeps one from writing."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        message = f"expected a folder with room to write in, found: {error.strerror}"
        raise KitError(message, at=display_path(data_dir), fix="Make room, or give another: --data-dir DIR") from None


def unpack(archive: Path, data_dir: Path) -> list[str]:
    """Unpack an archive of any competition, and those in it, into `data_dir`; return what came, folders first.

    What is there of the same names is replaced. Raises BadInput for no archive, or a damaged or too large one; then
    nothing in `data_dir` has changed.
    """
    at = display_path(archive)
    with _writable(data_dir), tempfile.TemporaryDirectory(prefix=".unpacked-", dir=data_dir) as folder:
        new, old = Path(folder, "new"), Path(folder, "old")
        old.mkdir()
        with error_context(at, FIX):
            if archive.is_dir() or not _extract(archive, new, _all_of):
                raise BadInput("expected a whole zip or tar archive, found another file or a folder")
            for inner in [path for path in new.rglob("*.zip") if not path.name.endswith(".csv.zip")]:
                with error_context(inner.name):
                    if not _extract(inner, inner.with_suffix(""), _all_of):
                        raise BadInput("expected a whole archive, found a damaged one")
                inner.unlink()
        paths = sorted(new.iterdir(), key=lambda path: (path.is_file(), path.name))
        for path in paths:
            there = data_dir / path.name
            if there.exists() or there.is_symlink():
                there.rename(old / path.name)
            path.rename(there)
    return [path.name for path in paths]


def _all_of(sizes: dict[str, int]) -> list[str]:
    """Return all members of an archive but for notes of systems; BadInput where they are too large, or none."""
    members = [name for name in sizes if csv_reader.is_wanted(name)]
    size = sum(sizes[name] for name in members)
    if not members or size > MAX_UNPACKED:
        raise BadInput(f"expected 1 to {MAX_UNPACKED:,} bytes unpacked, found {size:,}")
    return members


def _extract(archive: Path, into: Path, choose: Callable[[dict[str, int]], list[str]]) -> bool:
    """Unpack those members of a zip or tar that `choose` takes of their sizes; return False where it is no archive."""
    with csv_reader.readable():
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                sizes = {info.filename: info.file_size for info in opened.infolist() if not info.is_dir()}
                opened.extractall(into, choose(sizes))
        elif archive.is_file() and tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                sizes = {member.name: member.size for member in tar.getmembers() if member.isfile()}
                # Not `extractall`, whose safe filter came with Python 3.11.4.
                for name in choose(sizes):
                    path = into.joinpath(*(part for part in PurePosixPath(name).parts if part not in ("/", "..")))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(cast(IO[bytes], tar.extractfile(name)).read())
        else:
            return False
    return True


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


def _contents(archive: Path, competition: Competition) -> dict[str, _Content]:
    """Return the competition's files that an archive, a folder or a single file holds, by their names, checked."""
    contents: dict[str, _Content] = {}
    place = display_path(archive)
    with tempfile.TemporaryDirectory(prefix="digits-") as temporary:
        with error_context(place):
            paths = _files_of(archive, Path(temporary), competition)
        for path in paths:
            data = csv_reader.read_bytes(path)
            with error_context(place if path == archive else f"{place}, {path.name}"):
                name, content = _identified(path.name, data, competition)
            if name in contents:
                raise BadInput(f"expected one {name} inside, found the same name twice", at=place)
            contents[name] = content
    sample, images = (contents.get(name) for name in ("sample_submission.csv", "test.csv"))
    if sample and images and sample.rows != images.rows:
        rows = f"{sample.rows:,} and {images.rows:,}"
        raise BadInput(f"expected as many rows in sample_submission.csv as in test.csv, found {rows}", at=place)
    return contents


def _files_of(archive: Path, temporary: Path, competition: Competition) -> list[Path]:
    """Return the competition's files in a folder, or those of an archive, unpacked into `temporary`."""
    if archive.is_dir():
        paths = [path for path in sorted(archive.iterdir()) if path.is_file()]
        if files := [path for path in paths if _plain(path.name) in competition.files]:
            return files
        if not (archive / competition.archive).is_file():
            raise _nothing_in([path.name for path in paths], competition)
        archive /= competition.archive
    if not _extract(archive, temporary, lambda sizes: _wanted(sizes, competition)):
        return [archive]
    return [path for path in sorted(temporary.rglob("*")) if path.is_file()]


def _wanted(sizes: dict[str, int], competition: Competition) -> list[str]:
    """Return which members of an archive are unpacked: the competition's files, or the only one whatever its name."""
    members = [name for name in sizes if csv_reader.is_wanted(name)]
    wanted = members if len(members) == 1 else [name for name in members if _plain(name) in competition.files]
    if not wanted:
        raise _nothing_in(list(sizes), competition)
    size = sum(sizes[name] for name in wanted)
    if size > csv_reader.MAX_BYTES:
        raise BadInput(f"expected at most {csv_reader.MAX_BYTES:,} bytes inside, found {size:,} bytes unpacked")
    return wanted


def _plain(member: str) -> str:
    """Return the name of a file without its folder and its packing."""
    name = PurePosixPath(member).name
    return next((name.removesuffix(packing) for packing in PACKINGS[1:] if name.endswith(packing)), name)


def _nothing_in(names: list[str], competition: Competition) -> BadInput:
    return BadInput(f"expected {', '.join(competition.files)} inside, found {some_of(names)[:200] or 'nothing'}")


def _identified(name: str, data: bytes, competition: Competition) -> tuple[str, _Content]:
    """Return which of the competition's files this is, by its name, else by its columns, and the file, checked."""
    train, test, sample = competition.files
    kind = _plain(name)
    if kind not in competition.files:
        _, first = next(csv_reader.records(data), (0, []))
        if len(first) < 2:
            begins = ",".join(first)[:60]
            raise BadInput(f"expected one of {', '.join(competition.files)}, found a file that begins {begins!r}")
        is_labelled = not csv_reader.COLUMN_NAMES["label"].isdisjoint(column.lower() for column in first)
        images = train if is_labelled else test
        kind = images if len(first) > 2 else sample
    if kind == sample:
        return kind, _Content(data, len(parse_submission(data, known_form(competition))))
    table = csv_reader.parse(data, labelled=kind == train)
    if kind == test and table.labels is not None:
        raise BadInput("expected test images without labels, found a label column")
    return kind, _Content(data, len(table.images), data_file(table, kind.removesuffix(".csv"), competition))
