"""Read tables from text: tolerant where the meaning is plain, checked from the first byte to the last."""

import bz2
import contextlib
import csv
import functools
import gzip
import hashlib
import io
import lzma
import math
import operator
import re
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.console import DISK_FULL, BadInput, error_context, some_of
from digits.files import display_path

MAX_BYTES = 1 << 30
"""Largest file that is read, unpacked: ten times the competition's."""
MAX_CLASSES = 100
MISSING = frozenset({"", "nan", "na", "n/a", "none", "null", "nat", "?"})
"""What stands for a label that is not known, in small letters."""
SIDES = (8, 96)
"""The least and the greatest side of an image in pixels; greater ones of files and arrays are resized to fit."""
COLUMN_NAMES = {
    "label": {"label", "labels", "class", "classes", "target", "digit", "category", "y"},
    "id": {"id", "ids", "imageid", "image_id", "image", "filename", "file", "name"},
    "index": {"", "unnamed: 0", "index", "row.names", "rownames"},
}
"""The names of columns beside the pixels; an index are the row numbers that pandas and R write by default."""
_TEXTS = ("label", "id")
UTF8_BOM = b"\xef\xbb\xbf"
MAGIC = {
    "an image (PNG, JPEG, GIF)": (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"),
    "an array (.npy, IDX, HDF5)": (b"\x93NUMPY", b"\x00\x00\x08", b"\x89HDF"),
    "a Parquet file, a PDF or a database": (b"PAR1", b"%PDF", b"SQLite"),
    "a pickle": (b"\x80\x04", b"\x80\x05"),
    "a JSON file": (b"{",),
    "a web page or XML": (b"<",),
    "an archive in the archive": (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!"),
    "a Git LFS pointer, not the file itself (git lfs pull)": (b"version https://git-lfs",),
}
"""How files that are no table begin."""
_SHOWN = 40
"""Characters of a wrong field that are shown."""


@dataclass(frozen=True)
class Table:
    """A set of images with what is known of them, as a file holds it.

    `images` are uint8 (n, height, width, channels), 1 for grey or 3 for RGB; `labels` are uint8 (n,) positions in
    `classes`, None where there are none; `ids` are int64 or str (n,), None where there are none. `sha256` is that of
    the unpacked file, `content` that of pixels and labels, however they are written. `notes` say what was assumed.
    `name` is that of the file or array.
    """

    images: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    ids: np.ndarray | None
    sha256: str
    content: str
    notes: tuple[str, ...] = ()
    name: str = ""

    @classmethod
    def of(
        cls,
        images: np.ndarray,
        labels: Sequence[str] | None,
        ids: np.ndarray | None,
        sha256: str | None = None,
        notes: Sequence[str] = (),
    ) -> "Table":
        """Return images with their labels as they are written; `sha256` None: that of the content."""
        images, codes = np.ascontiguousarray(images), None
        classes: tuple[str, ...] = ()
        content = hashlib.sha256(images.data)
        if labels is not None:
            codes, classes = encode_labels(labels)
            content.update(codes.data)
        return cls(images, codes, classes, ids, sha256 or content.hexdigest(), content.hexdigest(), tuple(notes))


@dataclass(frozen=True)
class Columns:
    """The numbers of a table's columns; `notes` say what was assumed."""

    width: int
    pixels: list[int]  # In row-major order.
    texts: dict[str, int]  # Of "label" and "id", where there are such columns.
    notes: list[str]
    is_guessed: bool  # Whether the label or id was taken by its place alone.


def read_bytes(path: Path, member: str | None = None) -> bytes:
    """Return the bytes of a file, unpacked where it is gzip, bzip2 or xz, or a member of a zip (None: the only one).

    Raises BadInput if it cannot be read, is no regular file, is damaged or larger than `MAX_BYTES`.
    """
    with error_context(display_path(path)), readable():
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInput("expected a file, found a folder, a device or a pipe")
        data = _unpacked(path, member)
        if len(data) > MAX_BYTES:
            raise BadInput(f"expected at most {MAX_BYTES:,} bytes, found more")
    return data


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Raise as BadInput what Python raises for a file or an archive that cannot be read, but not for a full disk."""
    try:
        yield
    except FileNotFoundError:
        raise BadInput("there is no such file") from None
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise BadInput(f"expected a whole archive, found a damaged one ({error})") from None
    except (NotImplementedError, RuntimeError) as error:
        raise BadInput(f"expected an archive without a password, of a usual compression, found: {error}") from None
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in DISK_FULL:
            raise
        raise BadInput(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _unpacked(path: Path, member: str | None) -> bytes:
    """Return at most `MAX_BYTES` + 1 bytes of a file, or of what is packed in it."""
    with path.open("rb") as raw:
        start = raw.read(6)
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if (name == member if member else is_wanted(name))]
            if len(names) != 1:
                raise BadInput(f"expected {member or 'one CSV'} inside, found {archive.namelist()[:5]}")
            with archive.open(names[0]) as file:
                return file.read(MAX_BYTES + 1)
    openers: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    unpack = next((opener for magic, opener in openers.items() if start.startswith(magic)), open)
    with unpack(path, "rb") as file:
        return file.read(MAX_BYTES + 1)


def is_wanted(member: str) -> bool:
    """Tell a file in an archive from the folders and the notes of macOS that lie beside it."""
    return not member.endswith("/") and "__MACOSX/" not in member and not Path(member).name.startswith(".")


def records(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of a table as (line number, fields), without blanks around fields and empty lines at the end.

    Takes UTF-8 with or without byte order mark and UTF-16 with one; LF, CRLF, CR or CRCRLF (Windows, written twice);
    commas, or semicolons, tabs or bars where the first line has no comma; fields in quotes or not; with a comma at the
    end of each line or without. Raises BadInput, naming line and byte of what is no text, or no table.
    """
    text = _decode(data).replace("\r\r\n", "\r\n")
    first = re.split(r"[\r\n]", text[: 1 << 18].lstrip("\r\n"), maxsplit=1)[0]
    delimiter = next((mark for mark in ",;\t|" if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    empty_line, width, has_empty_end = 0, 0, first.endswith(delimiter) and len(first) > 1
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                empty_line = empty_line or reader.line_num
                continue
            if empty_line and width:
                raise BadInput("expected fields, found an empty line", at=f"line {empty_line}", fix="Remove it.")
            if has_empty_end and not fields[-1].strip():
                fields.pop()
            empty_line, width = 0, len(fields)
            yield reader.line_num, [field.strip(" \t") for field in fields]
    except csv.Error as error:
        raise BadInput(f"expected plain CSV fields, found: {error}", at=f"line {reader.line_num}") from None


def rows_of(data: bytes) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of a table's columns, and its rows as (line number, fields), of which there may be none.

    Raises BadInput where a name stands twice, or a line has more or fewer fields.
    """
    lines = records(data)
    _, header = next(lines, (1, []))
    if len(set(header)) < len(header):
        raise BadInput(f"expected each column once, found {Counter(header).most_common(1)[0][0]!r} twice", at="line 1")
    rows = []
    for number, fields in lines:
        if len(fields) != len(header):
            fix = "Is the file cut off here, or is there a comma too many?"
            raise BadInput(f"expected {len(header)} fields, found {len(fields)}", at=f"line {number}", fix=fix)
        rows.append((number, fields))
    return header, rows


def columns_of(data: bytes) -> dict[str, list[str]]:
    """Return the fields of a table by the names of its columns, as `rows_of` reads them; BadInput without rows."""
    header, rows = rows_of(data)
    if not rows:
        raise BadInput("expected rows below the header, found none")
    return dict(zip(header, map(list, zip(*(fields for _, fields in rows), strict=True)), strict=True))


def first_line(data: bytes) -> tuple[int, list[str]]:
    """Return the number and the fields of a table's first line; 0 and none where there is none."""
    head = data[: 1 << 18]
    return next(records(head if head.isascii() else data), (0, []))


def _decode(data: bytes) -> str:
    kinds = [kind for kind, beginnings in MAGIC.items() if data.startswith(beginnings)]
    if data[257:262] == b"ustar":
        kinds = ["a tar archive (unpack it)"]
    if kinds:
        raise BadInput(f"expected a CSV, found {kinds[0]}")
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    wrong = data.find(b"\0")
    try:
        if wrong < 0 or encoding == "utf-16":
            return data.decode(encoding)
    except UnicodeDecodeError as error:
        wrong = error.start
    line, byte = data.count(b"\n", 0, wrong) + 1, wrong - data.rfind(b"\n", 0, wrong)
    place = f"line {line}, byte {byte}"
    raise BadInput(f"expected text, found the byte 0x{data[wrong]:02x}", at=place, fix="Save it in UTF-8.")


def parse(data: bytes, *, labelled: bool = False) -> Table:
    """Parse a CSV of images: pixels 0-255, one image a row, and a label (which there must be if `labelled`) or an id.

    The header tells which column is what, in any order. Without a header, what stands before the pixels is the label
    where `labelled`, or where it repeats; else the id. Raises BadInput, naming line and column, what was expected and
    what came.
    """
    number, first = first_line(data)
    if not first:
        raise BadInput("expected a table, found an empty file")
    words = sum(not re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", name, re.IGNORECASE) for name in first)
    has_header = words > 1 or len(set(first)) == len(first)  # No row of pixels has only different values.
    with error_context(f"line {number}"):
        columns = _find_columns(first, has_header, labelled)
    pixels, texts = _parse_fast(data, columns, has_header) or _parse_carefully(data, columns, has_header)
    if columns.is_guessed and _look_like_labels(pixels[:, -1]):
        fix = f"Put a line of names above, such as pixel0, …, pixel{len(first) - 2}, label."
        raise BadInput("expected a header, or the label first: the last column looks like labels as well", fix=fix)
    ids = texts.pop("id", None)
    if columns.is_guessed and ids and len(set(ids)) < len(ids):  # Ids do not repeat.
        texts, ids = {"label": ids}, None
    side = math.isqrt(pixels.shape[1])
    images, digest = pixels.reshape(-1, side, side, 1), hashlib.sha256(data).hexdigest()
    return Table.of(images, texts.get("label"), None if ids is None else as_ids(ids), digest, columns.notes)


def _look_like_labels(values: np.ndarray) -> bool:
    """Return whether numbers (n,) can be labels: 0 or 1 up to a number below 100, not nearly always the same one."""
    numbers, counts = np.unique(values, return_counts=True)
    is_gapless = numbers[0] <= 1 and numbers[-1] - numbers[0] == len(numbers) - 1
    return len(values) >= 20 and 2 <= len(numbers) <= MAX_CLASSES and is_gapless and counts.max() < 0.9 * len(values)


def _find_columns(first: list[str], has_header: bool, labelled: bool) -> Columns:
    """Find the columns of a table by its header, or by their number alone."""
    width, numbers = len(first), [str(index) for index in range(len(first))]
    names = [name.lower() for name in first] if has_header else numbers
    repeated, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise BadInput(f"expected each column once, found {repeated[:_SHOWN]!r} {count} times")
    kinds = [next((kind for kind, known in COLUMN_NAMES.items() if name in known), "pixel") for name in names]
    wanted = "label" if labelled else "id"
    notes = ["row numbers left out"] if "index" in kinds else []
    is_guessed = names == numbers and not _side(width) and bool(_side(width - 1))
    odd = 0 if is_guessed else _odd_column(names, kinds)
    if odd is not None and wanted not in kinds:
        kinds[odd] = wanted
        notes += [] if is_guessed else [f"column {first[odd]!r} taken as the {wanted}"]
    for kind in _TEXTS:
        if kinds.count(kind) > 1:
            both = ", ".join(repr(name) for name, other in zip(first, kinds, strict=True) if other == kind)
            raise BadInput(f"expected one column with the {kind}, found {both}", fix="Remove one.")
    rest = [index for index, kind in enumerate(kinds) if kind == "pixel"]
    side = _side(len(rest))
    if not side:
        shown = [first[index][:_SHOWN] for index in rest] or first
        nearest = round(math.sqrt(len(rest)))
        raise BadInput(
            f"expected the pixels of square images of {SIDES[0]} × {SIDES[0]} to {SIDES[1]} × {SIDES[1]}, found "
            f"{len(rest)} pixel columns ({shown[0]!r} … {shown[-1]!r}); {nearest} × {nearest} would be {nearest**2}",
            fix="Give images in colour as files or as an .npy (n, height, width, 3); images that a table lists lie "
            "unpacked in train/ beside it",
        )
    if labelled and "label" not in kinds:
        raise BadInput(f"expected a column 'label' beside {len(rest)} pixels, found none (a test file?)")
    order = _row_major([names[index] for index in rest], side)
    if order is None:
        raise BadInput(
            f"expected pixels numbered without a gap, such as pixel0 … pixel{side * side - 1} or 1x1 … {side}x{side}, "
            f"found {first[rest[0]]!r} … {first[rest[-1]]!r}"
        )
    texts = {kind: kinds.index(kind) for kind in _TEXTS if kind in kinds}
    return Columns(width, [rest[place] for place in order], texts, notes, is_guessed)


def _odd_column(names: list[str], kinds: list[str]) -> int | None:
    """Return the only column beside a square of pixels that is named unlike all others; None where there is none."""
    stems = {index: re.sub(r"\d.*", "", name) for index, name in enumerate(names) if kinds[index] == "pixel"}
    usual = Counter(stems.values()).most_common(1)
    odd = [index for index, stem in stems.items() if stem != usual[0][0]]
    return odd[0] if len(odd) == 1 and _side(len(stems) - 1) else None


def _side(pixels: int) -> int:
    """Return the side of a square image of so many pixels; 0 where it is not square or not of 8 to 64."""
    side = math.isqrt(max(pixels, 0))
    return side if side * side == pixels and SIDES[0] <= side <= SIDES[1] else 0


def _row_major(names: list[str], side: int) -> np.ndarray | None:
    """Return the order int (side²,) in which named pixels are row-major; None where their numbers have gaps.

    Names carry a number (pixel0, pixel_1, 783), a row and a column (1x1, r28c28), or none: then they stay as they are.
    """
    matches = [match for name in names if (match := re.fullmatch(r"(\D*)(\d+)(?:\D+(\d+))?\D*", name))]
    if not matches:
        return np.arange(len(names))
    if len(matches) < len(names) or len({(match[1], match[3] is None) for match in matches}) > 1:
        return None
    numbers = np.array([[int(number[:9]) for number in match.groups()[1:] if number] for match in matches])
    numbers -= numbers.min(axis=0)
    if numbers.shape[1] == 2 and (numbers >= side).any():
        return None
    positions = numbers @ [side, 1][-numbers.shape[1] :]
    order = np.argsort(positions, kind="stable")
    return order if (positions[order] == np.arange(len(names))).all() else None


_Columns = tuple[np.ndarray, dict[str, list[str]]]
"""Pixels uint8 (n, side²), and labels and ids by "label" and "id"."""


def _parse_carefully(data: bytes, columns: Columns, has_header: bool) -> _Columns:
    """Parse any table that can be understood, or raise `BadInput` naming line and column."""
    lines = records(data)
    header = next(lines)[1] if has_header else [str(number) for number in range(1, columns.width + 1)]
    texts: dict[str, list[str]] = {kind: [] for kind in columns.texts}
    pixels, pixels_of = bytearray(), operator.itemgetter(*columns.pixels)
    for number, fields in lines:
        if len(fields) != columns.width:
            hint = (
                "is the file cut off here, or are there row names without a header? In R: write.csv(…, row.names=FALSE)"
            )
            raise BadInput(f"expected {columns.width} fields, found {len(fields)} ({hint})", at=f"line {number}")
        values = [_pixel(field) for field in pixels_of(fields)]
        if -1 in values:
            wrong = columns.pixels[values.index(-1)]
            fix = "Multiply the pixels by 255 and round them." if re.match(r"0*\.\d", fields[wrong]) else ""
            place = f"line {number}, column {header[wrong]}"
            raise BadInput(f"expected an integer 0-255, found {fields[wrong][:_SHOWN]!r}", at=place, fix=fix)
        pixels += bytes(values)
        for kind, column in columns.texts.items():
            if not fields[column]:
                raise BadInput(f"expected a {kind}, found nothing", at=f"line {number}, column {kind}")
            texts[kind].append(fields[column])
    if not pixels:
        raise BadInput("expected rows below the header, found none")
    return np.frombuffer(pixels, np.uint8).reshape(-1, len(columns.pixels)), texts


@functools.lru_cache(maxsize=4096)
def _pixel(text: str) -> int:
    """Return a pixel's value, which may be written as 7, 007, 7.0 or 7e0; -1 where it is no whole number 0-255."""
    with contextlib.suppress(ValueError):
        value = float(text[:_SHOWN].replace("_", " "))
        return int(value) if value in range(256) else -1
    return -1


def _parse_fast(data: bytes, columns: Columns, has_header: bool) -> _Columns | None:
    """Parse a table of plain whole numbers 0-255, and of labels and ids as text, with NumPy; None for any other."""
    if b'"' in data or b"\0" in data:
        return None
    others = sorted(set(range(columns.width)) - set(columns.pixels))
    try:
        with warnings.catch_warnings(action="error"):  # NumPy would take 7.5 for 7 with a warning.
            rows = np.loadtxt(
                io.BytesIO(data.removeprefix(UTF8_BOM)),
                np.dtype([("pixels", np.uint8, (len(columns.pixels),)), ("others", object, (len(others),))]),
                delimiter=",",
                skiprows=int(has_header),
                comments=None,
                encoding="utf-8",
                usecols=[*columns.pixels, *others],
                ndmin=1,
            )
    except (ValueError, Warning):  # Other values, no table, or no UTF-8: the careful parser says where.
        return None
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    commas = np.count_nonzero(np.frombuffer(data, np.uint8) == ord(","))
    # NumPy skips empty lines, and leaves out fields behind the last column.
    if not len(rows) or len(rows) != lines - has_header or commas != lines * (columns.width - 1):
        return None
    texts = {kind: rows["others"][:, others.index(column)] for kind, column in columns.texts.items()}
    stripped = {kind: [text.strip(" \t") for text in column] for kind, column in texts.items()}
    return (rows["pixels"], stripped) if all(map(all, stripped.values())) else None


def encode_labels(texts: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as uint8 (n,) positions among the classes, which are in order of number, then of the alphabet.

    A class is named as it is written: 7, 07 and 7.0 are three. Raises BadInput for more than `MAX_CLASSES` classes, and
    naming the rows where some labels are missing.
    """
    names = sorted(set(texts), key=lambda name: (_number(name) is None, _number(name) or 0, name))
    missing = [name for name in names if _is_missing(name, names)]
    if missing and len(names) > len(missing):
        rows = [row for row, label in enumerate(texts, start=1) if label in missing]
        found = f"{missing[0]!r} in {len(rows)} of {len(texts)} rows ({some_of(rows)})"
        fix = "Remove these rows, or name their class."
        raise BadInput(f"expected a class of each image, found {found}", at="column label", fix=fix)
    if len(names) > MAX_CLASSES:
        found = f"{len(names)} ({names[0]!r}, {names[1]!r} …): is it another column?"
        raise BadInput(f"expected at most {MAX_CLASSES} classes, found {found}", at="column label")
    position = {name: index for index, name in enumerate(names)}
    return np.array([position[label] for label in texts], np.uint8), tuple(names)


def _number(name: str) -> int | None:
    """Return the whole number that a class's name is, written as 7, 07 or 7.0, or None."""
    return int(match[1]) if (match := re.fullmatch(r"(\d{1,9})(\.0*)?", name)) else None


def _is_missing(name: str, names: list[str]) -> bool:
    """Return whether a label stands for none: by its name, or -1 beside three classes or more from 0 up."""
    is_minus_one = name in ("-1", "-1.0") and sum(_number(other) is not None for other in names) > 2
    return is_minus_one or name.lower() in MISSING


def positions_among(names: Sequence[str], classes: Sequence[str]) -> list[int | None]:
    """Return the position of each name among the classes, None for others.

    A name is found as it is written, else by its number (7.0 and 07 are 7), where the classes have different numbers.
    """
    written = {name: index for index, name in enumerate(classes)}
    pairs = [(number, index) for index, name in enumerate(classes) if (number := _number(name)) is not None]
    numbers: dict[int | None, int] = dict(pairs) if len(dict(pairs)) == len(pairs) else {}
    return [written.get(name, numbers.get(_number(name))) for name in names]


def as_ids(ids: Sequence[str]) -> np.ndarray:
    """Return ids as int64 (n,) where all are whole numbers, else as str (n,)."""
    are_numbers = all(re.fullmatch(r"0|[1-9]\d{0,17}", text) for text in ids)
    return np.array(ids, np.int64 if are_numbers else None)
