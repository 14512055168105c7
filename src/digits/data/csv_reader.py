"""The competition's CSVs as checked uint8 rows: a fast path for plainly well-formed bytes, else `csv_careful`."""

import gzip
import hashlib
import os
import stat
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.data import csv_careful
from digits.data.competition import CLASSES, REMEDY
from digits.errors import BadInput
from digits.paths import shown

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
    name = shown(path) if member is None else f"{member} in {shown(path)}"
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
        rows = csv_careful.parse(text, header, name, remedy)
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
            raise BadInput(f"{shown(path)}: expected a file, found a folder or device. {remedy}")
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open(_only_member(archive, path, member, remedy)) as file:
                data = file.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
            with gzip.open(path) if packed else path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(f"{shown(path)}: there is no such file. {remedy}") from None
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{shown(path)}: expected a whole archive, found a damaged one ({error}). {remedy}") from None
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{shown(path)}: cannot be read ({getattr(error, 'strerror', None) or error}). {remedy}"
        ) from None
    if len(data) > MAX_BYTES:
        raise BadInput(f"{shown(path)}: expected at most {MAX_BYTES:,} bytes of CSV, found more. {remedy}")
    return data


def _only_member(archive: zipfile.ZipFile, path: Path, member: str | None, remedy: str) -> str:
    names = archive.namelist()
    wanted = member if member is not None else (names[0] if len(names) == 1 else None)
    if names.count(wanted) != 1:
        raise BadInput(f"{shown(path)}: expected {member or 'one CSV'} inside, found {names[:5]}. {remedy}")
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
