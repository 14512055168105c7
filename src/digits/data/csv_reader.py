"""Read a CSV of digits into uint8, checked from the first byte to the last, and cached."""

import contextlib
import csv
import gzip
import hashlib
import io
import json
import os
import secrets
import stat
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.console import BadInput
from digits.data.competition import CLASSES, PIXELS, REMEDY, SIDE
from digits.files import display_path

VALUES = {str(value): value for value in range(256)}
LONGEST_NUMBER = 40


def parse_carefully(text: bytes, header: tuple[str, ...], name: str, remedy: str) -> np.ndarray:
    """Parse a CSV of integers 0-255 below `header` to uint8 (n, columns), or raise `BadInput` naming the exact place.

    Read right: any line ends, quoted fields, blank space around a number, leading zeros, empty lines at the end.
    """
    _check_characters(text, name, remedy)
    lines = _lines(text, name, remedy)
    number, found = next(lines, (1, []))
    if not found:
        raise BadInput(f"{name}, line 1: expected a header, found an empty {'line' if text else 'file'}. {remedy}")
    _check_header([field.strip(" \t") for field in found], header, f"{name}, line {number}", remedy)
    rows = []
    empty = 0
    for number, fields in lines:
        if not fields or (len(fields) == 1 and not fields[0].strip(" \t")):
            empty = empty or number
            continue
        if empty:
            raise BadInput(f"{name}, line {empty}: expected {len(header)} fields, found an empty line. {remedy}")
        rows.append(_row(fields, header, f"{name}, line {number}", remedy))
    if not rows:
        raise BadInput(f"{name}: expected rows below the header, found none. {remedy}")
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), len(header))


def _check_characters(text: bytes, name: str, remedy: str) -> None:
    """Refuse what is not ASCII text, naming the place."""
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(
            f"{name}, line 1: expected ASCII or UTF-8 text, found UTF-16. Save it as CSV in UTF-8, or: {remedy}"
        )
    if text.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        raise BadInput(f"{name}: expected a CSV, found an archive in the archive. {remedy}")
    at = text.find(b"\0")
    if not text.isascii():
        first = next(index for index, byte in enumerate(text) if byte > 127)
        at = first if at < 0 else min(first, at)
    if at >= 0:
        line = text.count(b"\n", 0, at) + 1
        column = at - text.rfind(b"\n", 0, at)
        raise BadInput(
            f"{name}, line {line}, byte {column}: expected ASCII text, found the byte 0x{text[at]:02x}. {remedy}"
        )


def _lines(text: bytes, name: str, remedy: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record's line number in the file and its fields."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(text), encoding="ascii", newline=""), strict=True)
    try:
        for fields in reader:
            yield reader.line_num, fields
    except csv.Error as error:
        raise BadInput(f"{name}, line {reader.line_num}: expected plain CSV fields, found: {error}. {remedy}") from None


def _check_header(found: list[str], header: tuple[str, ...], place: str, remedy: str) -> None:
    """Refuse any header but the one expected, naming the first difference in the words that fit it."""
    if found == list(header):
        return
    if len(found) == 1 and any(mark in found[0] for mark in ";\t|"):
        raise BadInput(f"{place}: expected fields separated by commas, found {found[0][:LONGEST_NUMBER]!r}. {remedy}")
    if all(field.isdigit() for field in found):
        raise BadInput(f"{place}: expected the header {_short(header)}, found numbers: the header is missing. {remedy}")
    if "label" in found and "label" not in header:
        raise BadInput(
            f"{place}: expected a test file without labels, found a column 'label' (a training file?). {remedy}"
        )
    if len(set(found)) < len(found):
        twice = next(field for field in found if found.count(field) > 1)
        raise BadInput(
            f"{place}: expected each column once, found {twice[:LONGEST_NUMBER]!r} {found.count(twice)} times. {remedy}"
        )
    missing = [column for column in header if column not in set(found)]
    extra = [column[:LONGEST_NUMBER] for column in found if column not in set(header)]
    if missing or extra:
        difference = "; ".join(
            f"{len(columns)} {kind}: {', '.join(map(repr, columns[:3]))}{' …' * (len(columns) > 3)}"
            for kind, columns in (("missing", missing), ("not expected", extra))
            if columns
        )
        raise BadInput(
            f"{place}: expected {len(header)} columns {_short(header)}, found {len(found)} ({difference}). {remedy}"
        )
    at = next(index for index, pair in enumerate(zip(found, header, strict=True)) if pair[0] != pair[1])
    raise BadInput(f"{place}, column {at + 1}: expected {header[at]!r}, found {found[at]!r}, out of order. {remedy}")


def _short(header: tuple[str, ...]) -> str:
    return ",".join(header) if len(header) < 4 else f"{header[0]},{header[1]},…,{header[-1]}"


def _row(fields: list[str], header: tuple[str, ...], place: str, remedy: str) -> bytes:
    """Turn one record to bytes, or name the first field that is wrong."""
    if len(fields) != len(header):
        cut = " (is the file cut off here?)" if len(fields) < len(header) else ""
        raise BadInput(f"{place}: expected {len(header)} fields, found {len(fields)}{cut}. {remedy}")
    try:
        return bytes([VALUES[field] for field in fields])
    except KeyError:
        return bytes([_value(field, column, place, remedy) for field, column in zip(fields, header, strict=True)])


def _value(field: str, column: str, place: str, remedy: str) -> int:
    digits = field.strip(" \t")
    if digits.isdigit() and int(digits[:LONGEST_NUMBER]) <= 255 and len(digits) <= LONGEST_NUMBER:
        return int(digits)
    found = repr(field[:LONGEST_NUMBER]) if digits else "nothing"
    raise BadInput(f"{place}, column {column}: expected an integer 0-255, found {found}. {remedy}")


MAX_BYTES = 1 << 30
"""Largest CSV that is read, unpacked: ten times the competition's."""
CHUNK_BYTES = 1 << 20
"""Parsed at a time: in smaller pieces threads spend more on taking turns in Python than the processor's cache saves."""
MOST_THREADS = 4
UTF8_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Table:
    """What a CSV held: rows uint8 (n, columns), and the sha256 of its (unpacked) bytes."""

    rows: np.ndarray
    sha256: str


def read_table(path: Path, header: tuple[str, ...], member: str | None = None, remedy: str = REMEDY) -> Table:
    """Read a CSV of integers 0-255 below exactly this header; plain, `.gz`, or in a zip.

    Read right: LF, CRLF, CR or mixed line ends, a UTF-8 byte order mark, quoted fields, blanks around a number.

    Args:
        path: the file.
        header: the column names expected, in order.
        member: the CSV's name inside a zip; None for a zip with one member.
        remedy: what the error messages tell the user to do.

    Raises:
        BadInput: naming the file, line and column, what was expected and what came.
    """
    data = read_bytes(path, member, remedy)
    name = display_path(path) if member is None else f"{member} in {display_path(path)}"
    with ThreadPoolExecutor(1) as thread:
        digest = thread.submit(lambda: hashlib.sha256(data).hexdigest())
        return Table(parse(data, header, name, remedy), digest.result())


def parse(data: bytes, header: tuple[str, ...], name: str, remedy: str = REMEDY) -> np.ndarray:
    """Parse a whole CSV to uint8 (n, columns), labels 0-9; `name` is what the error messages call the file."""
    text = data.removeprefix(UTF8_BOM)
    rows = _parse_plain(text, header)
    if rows is None and b"\r\n" in text:
        rows = _parse_plain(text.replace(b"\r\n", b"\n"), header)
    if rows is None:
        rows = parse_carefully(text, header, name, remedy)
    if header[0] == "label" and rows[:, 0].max() >= CLASSES:
        row = int(np.argmax(rows[:, 0] >= CLASSES))
        raise BadInput(f"{name}, line {row + 2}, column label: expected a digit 0-9, found {rows[row, 0]}. {remedy}")
    return rows


def read_bytes(path: Path, member: str | None = None, remedy: str = REMEDY) -> bytes:
    """Return the bytes of a CSV: of the file, of the `.gz` unpacked, or of one member of a zip.

    Raises:
        BadInput: if it cannot be read, is no regular file, is damaged or larger than `MAX_BYTES`.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInput(f"{display_path(path)}: expected a file, found a folder or device. {remedy}")
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open(_only_member(archive, path, member, remedy)) as file:
                data = file.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
            with gzip.open(path) if packed else path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(f"{display_path(path)}: there is no such file. {remedy}") from None
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadInput(
            f"{display_path(path)}: expected a whole archive, found a damaged one ({error}). {remedy}"
        ) from None
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{display_path(path)}: cannot be read ({getattr(error, 'strerror', None) or error}). {remedy}"
        ) from None
    if len(data) > MAX_BYTES:
        raise BadInput(f"{display_path(path)}: expected at most {MAX_BYTES:,} bytes of CSV, found more. {remedy}")
    return data


def _only_member(archive: zipfile.ZipFile, path: Path, member: str | None, remedy: str) -> str:
    names = archive.namelist()
    wanted = member if member is not None else (names[0] if len(names) == 1 else None)
    if names.count(wanted) != 1:
        raise BadInput(f"{display_path(path)}: expected {member or 'one CSV'} inside, found {names[:5]}. {remedy}")
    return wanted


def _parse_plain(data: bytes, header: tuple[str, ...]) -> np.ndarray | None:
    """Parse bytes of which every one is as expected, or return None: nothing is guessed or mended here."""
    first = ",".join(header).encode()
    ending = b"\r\n" if data.startswith(first + b"\r\n") else b"\n"
    start = len(first) + len(ending)
    if not data.startswith(first + ending) or len(data) == start:
        return None
    chunks = []
    while start < len(data):
        stop = data.rfind(b"\n", start, start + CHUNK_BYTES) + 1
        if stop == 0:
            # No line end: the last line may go without; a longer line is no row of pixels.
            if len(data) - start > CHUNK_BYTES:
                return None
            stop = len(data)
        chunks.append((start, stop))
        start = stop
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
        parts = list(threads.map(lambda chunk: _parse_chunk(data, *chunk, ending, len(header)), chunks))
    return None if any(part is None for part in parts) else np.concatenate(parts)


def _parse_chunk(data: bytes, start: int, stop: int, ending: bytes, columns: int) -> np.ndarray | None:
    """Parse the whole lines data[start:stop] to uint8 (lines, columns), or return None if any byte is not as expected.

    Works on all bytes at once, with three bytes of the line before in front: at each byte, the value of the field that
    ended just before it; then only those at separators are taken.
    """
    piece = data[start - 3 : stop]
    if not piece.endswith(ending):
        piece += ending
    piece = np.frombuffer(piece, np.uint8)
    is_digit = piece >= ord("0")
    two_digits = is_digit[1:] & is_digit[:-1]
    digit = piece - np.uint8(ord("0"))
    digit *= is_digit.view(np.uint8)  # 0 at separators
    hundreds = digit[:-3] * two_digits[1:-1].view(np.uint8)
    four_digits = (two_digits[2:] & two_digits[:-2]).any()
    if piece.max() > ord("9") or hundreds.max() > 2 or four_digits:
        return None
    hundreds *= 100
    values = digit[1:-2] * np.uint8(10)
    values += digit[2:-1]
    values += hundreds
    if (values < hundreds).any():  # wrapped round: 256 to 299
        return None
    body = piece[3:]
    ends = np.flatnonzero(body < ord("0"))
    per_line = columns + len(ending) - 1
    lines, rest = divmod(len(ends), per_line)
    if rest:
        return None
    ends = ends.reshape(lines, per_line)
    separators_in_a_row = len(body) - np.count_nonzero(is_digit[2:-1] | is_digit[3:])
    if (
        np.count_nonzero(body == ord(",")) != lines * (columns - 1)
        or (body[ends[:, -1]] != ord("\n")).any()
        or separators_in_a_row != lines * (len(ending) - 1)
        or (len(ending) == 2 and (body[ends[:, -2]] != ord("\r")).any())
    ):
        return None
    return values.take(ends)[:, :columns]


VERSION = 2


def read_cached(
    path: Path, member: str | None, header: tuple[str, ...], remedy: str, keep: bool = True
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return images uint8 (n, 28, 28), labels uint8 (n,) or None (where `header` has none), and the CSV's sha256.

    The first read parses the CSV and leaves `.NAME.cache.npy` and `.json` beside it, where the folder can be written
    to; later reads map that copy. A copy of a file that has changed since, or a damaged copy, is replaced, not used.
    Without `keep` no copy is looked for or left. The arrays are read-only, the first time too.

    Raises:
        BadInput: as `csv_reader.read_table`.
    """
    path = Path(path)
    name = f".{path.name}.{member}.cache" if member else f".{path.name}.cache"
    array_path, facts_path = path.with_name(f"{name}.npy"), path.with_name(f"{name}.json")
    key = _key(path, len(header)) if keep else None
    if key:
        cached = _read(array_path, facts_path, key)
        if cached:
            return cached
    table = read_table(path, header, member, remedy)
    images = np.ascontiguousarray(table.rows[:, -PIXELS:]).reshape(-1, SIDE, SIDE)
    labels = np.ascontiguousarray(table.rows[:, 0]) if len(header) > PIXELS else None
    for array in (images, labels):
        if array is not None:
            array.flags.writeable = False
    if key and key == _key(path, len(header)):
        _write(array_path, facts_path, key, images, labels, table.sha256)
    return images, labels, table.sha256


def fingerprints(images: np.ndarray) -> np.ndarray:
    """Return uint64 (n,) for images uint8 (n, 28, 28): equal for equal images, another after any change of a pixel."""
    words = images.reshape(-1, PIXELS).view(np.uint64)
    # SplitMix64 (Steele, Lea & Flood 2014), made odd: importing numpy.random alone takes as long as a cached read.
    mixed = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words @ (mixed ^ (mixed >> np.uint64(31)) | np.uint64(1))


def _key(path: Path, columns: int) -> dict | None:
    """Return what names this state of the file; None where it cannot be known."""
    try:
        state = path.stat()
    except OSError:
        return None
    return {
        "version": VERSION,
        "columns": columns,
        "bytes": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "ctime_ns": state.st_ctime_ns,
    }


def _check(images: np.ndarray, labels: np.ndarray | None) -> str:
    """Return a sum over images and labels that shows a damaged copy, ten times faster than reading the CSV."""
    content = hashlib.sha256(fingerprints(images).tobytes())
    content.update(b"" if labels is None else labels.tobytes())
    return content.hexdigest()


def _read(array_path: Path, facts_path: Path, key: dict) -> tuple[np.ndarray, np.ndarray | None, str] | None:
    """Return the copy, or None if there is none, it is of another state of the file, or damaged."""
    try:
        facts = json.loads(facts_path.read_text(encoding="ascii"))
        if facts["key"] != key:
            return None
        flat = np.asarray(np.load(array_path, mmap_mode="r", allow_pickle=False))
        rows = facts["rows"]
        if flat.dtype != np.uint8 or flat.shape != (rows * key["columns"],):
            return None
        images = flat[: rows * PIXELS].reshape(rows, SIDE, SIDE)
        labels = flat[rows * PIXELS :] if key["columns"] > PIXELS else None
        if _check(images, labels) != facts["check"]:
            return None
        return images, labels, str(facts["sha256"])
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _write(
    array_path: Path, facts_path: Path, key: dict, images: np.ndarray, labels: np.ndarray | None, sha256: str
) -> None:
    """Leave the copy; where that cannot be (read-only folder, full disk) the next read parses again."""
    parts = [images.reshape(-1)] if labels is None else [images.reshape(-1), labels]
    facts = {"key": key, "rows": len(images), "sha256": sha256, "check": _check(images, labels)}
    with contextlib.suppress(OSError):
        with _renamed(array_path) as temporary:
            np.save(temporary, np.concatenate(parts), allow_pickle=False)
        with _renamed(facts_path) as temporary:
            temporary.write_text(json.dumps(facts), encoding="ascii")


@contextlib.contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well.

    As `paths.atomic_write`, but not waiting for the disk (0.2 of 0.3 s for both files): a copy that a power cut has
    torn has the wrong sum.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
