"""A memory-mapped copy of a CSV's images beside the file, used while the file is unchanged and the copy whole."""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from digits.data.competition import PIXELS, SIDE
from digits.data.csv_reader import read_table

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

    As `paths.written_whole`, but not waiting for the disk (0.2 of 0.3 s for both files): a copy that a power cut has
    torn has the wrong sum.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
