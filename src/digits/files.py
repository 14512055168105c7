"""Where the kit's files are, and how a file is written whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from digits.console import KitError

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
OWN = DATA / "own"
"""Images of the user's own, by class: OWN/7/….png."""
SUBMISSIONS = ROOT / "submissions"
SUBMISSION = SUBMISSIONS / "submission.csv"
REFERENCE = SUBMISSIONS / "reference"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it replaces `path`, else it is removed.

    Readers, a crash and a loss of power at any moment see the old file or the new one, never a part.

    Raises:
        OSError: naming `path`, where it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove what `atomic_write` left in `folder` when its process was killed."""
    for path in folder.glob(".*.tmp*"):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Put the new name itself on the disk, so that files appear in the order in which they were written."""
    with contextlib.suppress(OSError):  # Some file systems have no such thing for folders.
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def display_path(path: Path) -> str:
    """Return `path` as a person would type it: relative to the working folder where it lies below it."""
    path = Path(path).absolute()
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


class BrokenFileError(KitError):
    """The file is damaged, or not what it should be."""


def write_npz(path: Path, values: dict) -> None:
    """Write arrays, numbers and strings by their names."""
    with atomic_write(path) as temporary:
        np.savez(temporary, **values)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read all that `write_npz` wrote; the zip's own checksums tell when a bit has changed.

    Raises:
        BrokenFileError: if the file is damaged or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as values:
            return {name: values[name] for name in values.files}
    except Exception as error:  # A damaged zip makes Python and NumPy raise a dozen kinds.
        raise BrokenFileError(f"{display_path(path)} is damaged ({error}).") from None
