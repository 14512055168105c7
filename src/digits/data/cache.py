"""Keep what a CSV of images was parsed to beside it, so that it is read in milliseconds the next time."""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from digits.data.csv_reader import Table, as_ids, parse, read_bytes
from digits.files import display_path

VERSION = 4


def read_cached(path: Path, member: str | None, *, labelled: bool, remedy: str) -> Table:
    """Read a CSV of images as `csv_reader.parse` does, from a copy where there is a good one; arrays are read-only.

    The first read leaves `.NAME.cache.npy` and `.json` beside the file, where the folder can be written to; later reads
    map them. A copy of a file that has changed since, or a damaged copy, is replaced.

    Raises:
        BadInput: as `csv_reader.read_bytes` and `csv_reader.parse`.
    """
    name = f".{path.name}.{Path(member).name}.cache" if member else f".{path.name}.cache"
    array_path, record_path = path.with_name(f"{name}.npy"), path.with_name(f"{name}.json")
    key = _key(path, labelled)
    table = _read(array_path, record_path, key) if key else None
    if table is None:
        place = f"{member} in {display_path(path)}" if member else display_path(path)
        table = parse(read_bytes(path, member, remedy), place, labelled=labelled, remedy=remedy)
        if key and key == _key(path, labelled):
            _write(array_path, record_path, key, table)
    for array in (table.pixels, table.labels):
        if array is not None:
            array.flags.writeable = False
    return table


def fingerprints(images: np.ndarray) -> np.ndarray:
    """Return uint64 (n,) for images uint8 (n, …): equal for equal images, another after any change of a pixel."""
    pixels = images.reshape(len(images), -1)
    if pixels.shape[1] % 8:
        pixels = np.pad(pixels, ((0, 0), (0, -pixels.shape[1] % 8)))
    words = np.ascontiguousarray(pixels).view(np.uint64)
    # SplitMix64 (Steele, Lea & Flood 2014), made odd: importing numpy.random alone takes as long as a cached read.
    mixed = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words @ (mixed ^ (mixed >> np.uint64(31)) | np.uint64(1))


def _key(path: Path, labelled: bool) -> dict | None:
    """Return what identifies this state of the file; None where it cannot be known."""
    try:
        state = path.stat()
    except OSError:
        return None
    return {
        "version": VERSION,
        "labelled": labelled,
        "bytes": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "ctime_ns": state.st_ctime_ns,
    }


def _checksum(pixels: np.ndarray, labels: np.ndarray | None) -> str:
    """Return a checksum of pixels and labels that shows a damaged copy, ten times faster than parsing the CSV."""
    content = hashlib.sha256(fingerprints(pixels).tobytes())
    content.update(b"" if labels is None else labels.tobytes())
    return content.hexdigest()


def _read(array_path: Path, record_path: Path, key: dict) -> Table | None:
    """Return the copy, or None if there is none, it is of another state of the file, or damaged."""
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        if record["key"] != key:
            return None
        flat = np.asarray(np.load(array_path, mmap_mode="r", allow_pickle=False))
        rows, columns, classes = record["rows"], record["columns"], tuple(record["classes"])
        if flat.dtype != np.uint8 or flat.shape != (rows * (columns + bool(classes)),):
            return None
        pixels = flat[: rows * columns].reshape(rows, columns)
        labels = flat[rows * columns :] if classes else None
        ids = None if record["ids"] is None else as_ids(record["ids"])
        if _checksum(pixels, labels) != record["checksum"] or (ids is not None and len(ids) != rows):
            return None
        return Table(pixels, labels, classes, ids, record["sha256"], record["content"], tuple(record["notes"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None


def _write(array_path: Path, record_path: Path, key: dict, table: Table) -> None:
    """Leave the copy; where that cannot be (read-only folder, full disk) the next read parses again."""
    flat = table.pixels.reshape(-1)
    record = {
        "key": key,
        "rows": len(table.pixels),
        "columns": table.pixels.shape[1],
        "classes": table.classes,
        "ids": None if table.ids is None else [str(name) for name in table.ids.tolist()],
        "sha256": table.sha256,
        "content": table.content,
        "notes": table.notes,
        "checksum": _checksum(table.pixels, table.labels),
    }
    with contextlib.suppress(OSError):
        with _renamed(array_path) as temporary:
            np.save(
                temporary, flat if table.labels is None else np.concatenate([flat, table.labels]), allow_pickle=False
            )
        with _renamed(record_path) as temporary:
            temporary.write_text(json.dumps(record), encoding="utf-8")


@contextlib.contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well.

    As `files.atomic_write`, but without waiting for the disk (0.2 of 0.3 s for both files): the checksum shows a copy
    that a power cut has damaged.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
