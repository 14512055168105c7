"""Named arrays in one .npz file: written whole, and read whole or refused."""

from pathlib import Path

import numpy as np

from digits.errors import KitError
from digits.paths import shown, written_whole


class BrokenFileError(KitError):
    """The file is damaged, or not what it should be."""


def write_npz(path: Path, values: dict) -> None:
    """Write arrays, numbers and strings by their names."""
    with written_whole(path) as temporary:
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
        raise BrokenFileError(f"{shown(path)} is damaged ({error}).") from None
