"""Put the competition's files from a zip or a single file on disk into the data folder: all of them whole, or none."""

import stat
import zipfile
from contextlib import ExitStack
from pathlib import Path

from digits.console import BadInput
from digits.data import csv_reader
from digits.data.competition import FILES, PIXELS, SAMPLE_SUBMISSION, TEST, TRAIN, KnownFile
from digits.data.dataset import find_file, read_file
from digits.files import atomic_write, display_path

REMEDY = "Give the zip that Kaggle serves: scripts/download.sh --zip digit-recognizer.zip"
DIGITS = frozenset(b"%d" % digit for digit in range(10))


def install(archive: Path, data_dir: Path) -> list[Path]:
    """Check an archive of the competition's files whole, then put its CSVs into `data_dir`; return their paths.

    Takes digit-recognizer.zip, or one of the three CSVs, plain, `.gz` or `.zip`. Files that are right in form but not
    Kaggle's byte for byte are taken too (see `describe`).

    Raises:
        BadInput: naming file, member, line and column; then nothing in `data_dir` has changed.
    """
    archive, data_dir = Path(archive), Path(data_dir)
    contents = dict(_read(archive))
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
            f"{display_path(data_dir)}: expected a folder with room to write in, found: {error.strerror}. "
            "Make room, or "
            "give another folder: --data-dir DIR"
        ) from None
    return [data_dir / name for name in contents]


def is_complete(data_dir: Path) -> bool:
    """Say whether `data_dir` holds a good train.csv and test.csv; quick where they have been read before, no network.

    A zip that has not been unpacked does not count.
    """
    try:
        for known in (TRAIN, TEST):
            found = find_file(Path(data_dir), known)
            if found is None or found[1] is not None:
                return False
            read_file(Path(data_dir), known)
    except BadInput:
        return False
    return True


def describe(path: Path) -> str:
    """Say in a line what an installed train.csv or test.csv is: its rows, and whether it is Kaggle's byte for byte."""
    digits, file = read_file(Path(path).parent, FILES[Path(path).name])
    return f"{display_path(path)}: {len(digits.images):,} rows, {file['form']}"


def _read(archive: Path) -> list[tuple[str, bytes]]:
    """Return the checked CSVs in an archive by the names they get."""
    members = _members(archive) if archive.is_file() and zipfile.is_zipfile(archive) else [None]
    contents, rows = [], {}
    for member in members:
        data = csv_reader.read_bytes(archive, member, REMEDY)
        place = f"{member} in {display_path(archive)}" if member else display_path(archive)
        known = _known(member or archive.name, data, place)
        rows[known.name] = _check(known, data, place)
        contents.append((known.name, data))
    answers, images = rows.get(SAMPLE_SUBMISSION.name), rows.get(TEST.name)
    if answers and images and answers != images:
        raise BadInput(
            f"{display_path(archive)}: expected as many rows in {SAMPLE_SUBMISSION.name} as in {TEST.name}, found "
            f"{answers:,} and {images:,}. {REMEDY}"
        )
    return contents


def _members(archive: Path) -> list[str]:
    """Return the names in a zip, all of them safe, expected and of a bearable size."""
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise BadInput(
            f"{display_path(archive)}: expected a whole zip, found a damaged one ({error}). {REMEDY}"
        ) from None
    single = len(infos) == 1
    names = [info.filename for info in infos]
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        wrong = (
            (Path(info.filename).name != info.filename and "a path")
            or (kind not in (0, stat.S_IFREG) and "no regular file")
            or (names.count(info.filename) > 1 and "the same name twice")
            or (info.flag_bits & 1 and "an encrypted file")
            or (info.file_size > csv_reader.MAX_BYTES and f"{info.file_size:,} bytes unpacked")
            or (not single and info.filename not in FILES and "a file of something else")
        )
        if wrong:
            raise BadInput(
                f"{display_path(archive)}: expected only {', '.join(FILES)} inside, found "
                f"{info.filename[:60]!r}: {wrong}. "
                f"{REMEDY}"
            )
    if not names:
        raise BadInput(f"{display_path(archive)}: expected {', '.join(FILES)} inside, found nothing. {REMEDY}")
    return names


def _known(name: str, data: bytes, place: str) -> KnownFile:
    """Return which of the competition's files this is: by its name, else by its header."""
    plain = name.removesuffix(".gz").removesuffix(".zip")
    if plain in FILES:
        return FILES[plain]
    header = data[: 16 * PIXELS].removeprefix(csv_reader.UTF8_BOM).partition(b"\n")[0].replace(b'"', b"").strip()
    for known in FILES.values():
        if header == ",".join(known.header).encode():
            return known
    found = header[:60].decode("ascii", "replace")
    raise BadInput(f"{place}: expected one of {', '.join(FILES)}, found a file that begins {found!r}. {REMEDY}")


def _check(known: KnownFile, data: bytes, place: str) -> int:
    """Check a CSV from its first to its last byte and return its number of rows."""
    if known is not SAMPLE_SUBMISSION:
        return len(csv_reader.parse(data, known.header, place, REMEDY))
    lines = data.removeprefix(csv_reader.UTF8_BOM).replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    expected = [",".join(known.header).encode(), *(b"%d," % number for number in range(1, len(lines)))]
    for number, (line, start) in enumerate(zip(lines, expected, strict=True), start=1):
        if line != start if number == 1 else line[: len(start)] != start or line[len(start) :] not in DIGITS:
            wanted = start.decode() + ("" if number == 1 else "digit")
            found = line[:40].decode("ascii", "replace")
            raise BadInput(f"{place}, line {number}: expected {wanted!r}, found {found!r}. {REMEDY}")
    if len(lines) == 1:
        raise BadInput(f"{place}: expected rows below the header, found none. {REMEDY}")
    return len(lines) - 1
