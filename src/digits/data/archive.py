"""Put the competition's files from an archive, a folder or a single file into the data folder: all of them, or none."""

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from digits.console import BadInput
from digits.data import csv_reader
from digits.data.competition import DIGIT_RECOGNIZER, Competition
from digits.data.dataset import DataFile, data_file
from digits.data.folder import PACKINGS, find_file, read_file
from digits.files import atomic_write, display_path

REMEDY = "Give the zip that Kaggle serves: scripts/download.sh --zip FILE"


def install(archive: Path, data_dir: Path, competition: Competition = DIGIT_RECOGNIZER) -> list[Path]:
    """Check an archive of the competition's files, then put its CSVs into `data_dir`; return their paths.

    Takes the competition's zip, packed anew or not, a tar archive, a folder, or one of the CSVs, plain or packed. Other
    files in it are left alone. Files that are right in form but not Kaggle's are taken too (see `describe`).

    Raises:
        BadInput: naming file, member, line and column; then nothing in `data_dir` has changed.
    """
    archive, data_dir = Path(archive), Path(data_dir)
    contents: dict[str, bytes] = {}
    rows: dict[str, int] = {}
    for member, data in _members(archive, competition):
        place = f"{member} in {display_path(archive)}" if member else display_path(archive)
        name, rows_found = _identify(Path(member or archive).name, data, place, competition)
        if name in contents:
            raise BadInput(f"{display_path(archive)}: expected one {name} inside, found the same name twice. {REMEDY}")
        contents[name], rows[name] = data, rows_found
    answers, images = rows.get(competition.sample_submission.name), rows.get(competition.test.name)
    if answers and images and answers != images:
        raise BadInput(
            f"{display_path(archive)}: expected as many rows in {competition.sample_submission.name} as in "
            f"{competition.test.name}, found {answers:,} and {images:,}. {REMEDY}"
        )
    for name in contents:
        if (data_dir / name).is_dir():
            raise BadInput(f"{display_path(data_dir / name)}: expected a file or nothing, found a folder. Remove it")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        # Each file is renamed into place as the stack unwinds, after all of them have been written.
        with ExitStack() as written:
            temporaries = [written.enter_context(atomic_write(data_dir / name)) for name in contents]
            for temporary, data in zip(temporaries, contents.values(), strict=True):
                temporary.write_bytes(data)
    except OSError as error:
        raise BadInput(
            f"{display_path(data_dir)}: expected a folder with room to write in, found: {error.strerror}. Make "
            "room, or give another folder: --data-dir DIR"
        ) from None
    return [data_dir / name for name in contents]


def is_complete(data_dir: Path, competition: Competition = DIGIT_RECOGNIZER) -> bool:
    """Return whether `data_dir` holds a good train.csv and test.csv; quick where they have been read before.

    A zip that has not been unpacked does not count.
    """
    try:
        for name in ("train", "test"):
            found = find_file(Path(data_dir), name, competition)
            if found is None or found[1] is not None:
                return False
            read_file(Path(data_dir), name, "", competition)
    except BadInput:
        return False
    return True


def installed_file(path: Path, competition: Competition = DIGIT_RECOGNIZER) -> DataFile:
    """Return what an installed train.csv or test.csv is: its rows, and how it relates to Kaggle's file."""
    name, table = read_file(Path(path).parent, Path(path).stem, "", competition)
    known = competition.train if Path(path).stem == "train" else competition.test
    return data_file(display_path(Path(path).with_name(name)), table, known)


def _members(archive: Path, competition: Competition) -> Iterator[tuple[str | None, bytes]]:
    """Yield the competition's files in an archive by their names inside it; (None, bytes) for a single file."""
    shown = display_path(archive)
    if archive.is_dir():
        names = [
            path.name for path in sorted(archive.iterdir()) if path.is_file() and _plain(path.name) in competition.files
        ]
        if not names and (archive / competition.archive).is_file():
            yield from _members(archive / competition.archive, competition)
            return
        if not names:
            raise _nothing_in(f"{shown} (a folder)", [path.name for path in archive.iterdir()], competition)
        for name in names:
            yield name, csv_reader.read_bytes(archive / name, remedy=REMEDY)
        return
    try:
        is_zip, is_tar = zipfile.is_zipfile(archive), archive.is_file() and tarfile.is_tarfile(archive)
        if is_zip:
            with zipfile.ZipFile(archive) as opened:
                infos = [
                    (
                        info.filename,
                        info.file_size,
                        stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG) and not info.flag_bits & 1,
                    )
                    for info in opened.infolist()
                ]
        elif is_tar:
            with tarfile.open(archive) as opened:
                infos = [(info.name, info.size, info.isreg()) for info in opened.getmembers()]
        else:
            yield None, csv_reader.read_bytes(archive, remedy=REMEDY)
            return
        files = [info for info in infos if csv_reader.is_wanted(info[0])]
        single = len(files) == 1
        wanted = [info for info in files if single or _plain(info[0]) in competition.files]
        if not wanted:
            raise _nothing_in(shown, [name for name, *_ in infos], competition)
        names = [_plain(name) for name, *_ in wanted]
        for name, size, is_regular in wanted:
            wrong = (
                (not is_regular and "a link, or encrypted")
                or (names.count(_plain(name)) > 1 and "the same name twice")
                or (size > csv_reader.MAX_BYTES and f"{size:,} bytes unpacked")
            )
            if wrong:
                raise BadInput(f"{shown}: expected plain files inside, found {name[:60]!r}: {wrong}. {REMEDY}")
            if is_zip:
                yield name, csv_reader.read_bytes(archive, name, REMEDY)
            else:
                with tarfile.open(archive) as opened:
                    file = opened.extractfile(name)
                    yield name, file.read(csv_reader.MAX_BYTES) if file else b""
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise BadInput(f"{shown}: expected a whole archive, found a damaged one ({error}). {REMEDY}") from None


def _plain(member: str) -> str:
    """Return the name of a file without its folder and its packing."""
    name = PurePosixPath(member).name
    return next((name.removesuffix(packing) for packing in PACKINGS[1:] if name.endswith(packing)), name)


def _nothing_in(place: str, names: list[str], competition: Competition) -> BadInput:
    found = f"{', '.join(names[:4])}{' …' * (len(names) > 4)}" if names else "nothing"
    return BadInput(f"{place}: expected {', '.join(competition.files)} inside, found {found[:200]}. {REMEDY}")


def _identify(name: str, data: bytes, place: str, competition: Competition) -> tuple[str, int]:
    """Return which of the competition's files this is, by its name, else by its columns, and its rows, checked."""
    train, test, sample = competition.train.name, competition.test.name, competition.sample_submission.name
    number, first = next(csv_reader.records(data[: 1 << 18] if data.isascii() else data, place, REMEDY), (0, []))
    kind = _plain(name)
    if kind not in competition.files:
        columns = {column.lower() for column in first}
        kind = sample if len(first) == 2 else train if columns & csv_reader.LABEL_NAMES else test
        if len(first) < 2:
            raise BadInput(
                f"{place}: expected one of {', '.join(competition.files)}, found a file that begins "
                f"{','.join(first)[:60]!r}. {REMEDY}"
            )
    if kind != sample:
        table = csv_reader.parse(data, place, labelled=kind == train, remedy=REMEDY)
        if kind == test and table.labels is not None:
            raise BadInput(f"{place}: expected test images without labels, found a label column. {REMEDY}")
        return kind, len(table.pixels)
    if tuple(first) != competition.header:
        raise BadInput(
            f"{place}, line {number}: expected {','.join(competition.header)!r}, found {','.join(first)[:40]!r}. "
            f"{REMEDY}"
        )
    rows = 0
    for number, fields in list(csv_reader.records(data, place, REMEDY))[1:]:
        expected = str(competition.first_id + rows)
        if len(fields) != 2 or fields[0] != expected or fields[1] not in competition.classes:
            found = ",".join(fields)[:40]
            raise BadInput(f"{place}, line {number}: expected '{expected},' and a class, found {found!r}. {REMEDY}")
        rows += 1
    if not rows:
        raise BadInput(f"{place}: expected rows below the header, found none. {REMEDY}")
    return kind, rows
