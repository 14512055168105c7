"""The slow way through a CSV that is not plainly well-formed: read right where its meaning is plain, else refused."""

import csv
import io
from collections.abc import Iterator

import numpy as np

from digits.errors import BadInput

VALUES = {str(value): value for value in range(256)}
LONGEST_NUMBER = 40


def parse(text: bytes, header: tuple[str, ...], name: str, remedy: str) -> np.ndarray:
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
