"""Read labelled images from NumPy archives (.npz)."""

import zipfile
from pathlib import Path

import numpy as np

from digits.console import BadInput
from digits.data.csv_reader import MAX_BYTES
from digits.files import display_path


def read_npz(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz by their names: never a pickle, never more than `MAX_BYTES`.

    Raises:
        BadInput: naming the file and the array, what was expected and what came.
    """
    shown = display_path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.file_size > MAX_BYTES:
                    raise BadInput(
                        f"{shown}, {info.filename}: expected at most {MAX_BYTES:,} bytes, found {info.file_size:,}. "
                        f"{remedy}"
                    )
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except BadInput:
        raise
    except Exception as error:  # A damaged zip or header makes Python and NumPy raise a dozen kinds.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BadInput(f"{shown}: expected a whole .npz, found a damaged one ({reason}). {remedy}") from None


def labelled_images(
    arrays: dict[str, np.ndarray], names: tuple[str, str], side: int, place: str, remedy: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (n, side, side) and labels uint8 (n,) 0-9 from the arrays of these names.

    Raises:
        BadInput: naming the array, what was expected and what came.
    """
    for name in names:
        if name not in arrays:
            raise BadInput(f"{place}: expected the array {name}, found {list(arrays)[:6]}. {remedy}")
    images, labels = (arrays[name] for name in names)
    if images.dtype != np.uint8 or images.shape[1:] != (side, side):
        raise BadInput(
            f"{place}, {names[0]}: expected uint8 (n, {side}, {side}), found {images.dtype} {images.shape}. {remedy}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1] or not len(labels):
        raise BadInput(
            f"{place}, {names[1]}: expected an integer label for each of {len(images)} images, found {labels.dtype} "
            f"{labels.shape}. {remedy}"
        )
    if labels.min() < 0 or labels.max() > 9:
        raise BadInput(f"{place}, {names[1]}: expected digits 0-9, found {labels.max()}. {remedy}")
    return np.ascontiguousarray(images), labels.astype(np.uint8)
