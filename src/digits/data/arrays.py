"""Read labelled images from a file of any form: CSV, NumPy's .npz and .npy, IDX; one reader to train and to predict."""

import io
import math
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from digits.console import BadInput, error_context
from digits.data import csv_reader
from digits.data.csv_reader import SIDES, Table, parse, read_bytes
from digits.data.image_form import Shape, fitting_size, in_shape
from digits.files import display_path

PACKINGS = ("", ".gz", ".zip", ".bz2", ".xz")
ARRAY_SUFFIXES = (".npy", ".npz", "ubyte")
IMAGE_WORDS = ("x", "images", "image", "imgs", "img", "data", "pixels", "features", "digits", "arr")
LABEL_WORDS = ("y", "labels", "label", "lbls", "target", "targets", "class", "classes")
_SPLITS = {"test": r"test(ing)?|t10k", "val": r"\bval(id|idation)?\b", "train": r"train(ing)?"}


def split_of(name: str) -> str | None:
    """Return which set a file, a folder or an array is by its name: "train", "val", "test", or None."""
    words = re.sub(r"[\W_]+", " ", name.lower())
    return next((split for split, pattern in _SPLITS.items() if re.search(pattern, words)), None)


def role_of(name: str) -> tuple[str, str] | None:
    """Return the split ("images" where there is none) and kind ("images" or "labels") that a name says, or None.

    Takes the names in use for arrays and files: x_train, X_test, testLabels, train-images-idx3-ubyte.gz, data, target.
    """
    split = split_of(name)
    words = re.sub(_SPLITS[split], " ", re.sub(r"[\W_]+", " ", name.lower())) if split else name.lower()
    for word in re.split(r"[^a-z]+", words):
        if word in IMAGE_WORDS:
            return split or "images", "images"
        if word in LABEL_WORDS:
            return split or "images", "labels"
    return None


def has_suffix(name: str, *suffixes: str) -> bool:
    """Return whether a file's name ends so, in any case, plain or packed."""
    return name.lower().endswith(tuple(suffix + packing for suffix in suffixes for packing in PACKINGS))


def is_array_file(path: Path) -> bool:
    """Return whether a file is one for `read_sets`, by its name."""
    return has_suffix(path.name, ".csv", *ARRAY_SUFFIXES)


def read_sets(path: Path, trained: Shape | None = None) -> dict[str, Table]:
    """Read all sets of images of a CSV, an .npz, an .npy or an IDX file, plain or packed.

    The keys are "train", "val", "test", or "images" where the file does not tell. Images to train on are resized to fit
    `SIDES`; with `trained`, the shape of those of the run that predicts them, all are left as they are. Raises
    BadInput, naming the file and the array or line, what was expected and what came.
    """
    if ".csv" in path.name.lower():
        data = read_bytes(path)
        with error_context(display_path(path)):
            return {split_of(path.name) or "images": parse(data)}
    arrays = read_arrays(path)
    with error_context(display_path(path)):
        return tables_of(arrays, trained)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz by their names, or the one of an .npy or IDX file by the file's name."""
    if path.suffix.lower() == ".npz":
        with error_context(display_path(path)):
            return read_npz(path)
    data = read_bytes(path)
    with error_context(display_path(path)):
        is_numpy = ".npy" in path.name.lower() or data.startswith(b"\x93NUMPY")
        return {path.name: _parse_npy(data) if is_numpy else parse_idx(data)}


def set_to_predict(sets: dict[str, Table]) -> tuple[str, Table]:
    """Return which of the sets of a file is meant where images are to be predicted, its name first: "test" if there."""
    split = next(split for split in ("test", "images", "val", "train") if split in sets)
    return split, sets[split]


def tables_of(arrays: dict[str, np.ndarray], trained: Shape | None = None) -> dict[str, Table]:
    """Return the tables of named arrays by split (see `role_of`); a single array needs no name."""
    roles: dict[tuple[str, str], str] = {}
    for name in arrays:
        if (role := role_of(name)) and (role not in roles or arrays[name].ndim > arrays[roles[role]].ndim):
            roles[role] = name
    if len(arrays) == 1:
        [name] = arrays
        if not roles or arrays[name].ndim > 1:
            roles = {(split_of(name) or "images", "images"): name}
    if set(arrays) == {"arr_0", "arr_1"} and arrays["arr_1"].ndim < arrays["arr_0"].ndim:
        roles = {("images", "images"): "arr_0", ("images", "labels"): "arr_1"}  # What np.savez(images, labels) writes.
    splits = [split for split, kind in roles if kind == "images"]
    if not splits or any(split not in splits for split, _ in roles):
        found = ", ".join(arrays)[:80] or "nothing"
        raise BadInput(f"expected images and labels named as x_train and y_train, or x and y, found {found}")
    tables = {}
    for split in splits:
        name, labels = roles[split, "images"], roles.get((split, "labels"), "")
        with error_context(name if len(arrays) > 1 else ""):
            table = table_of(arrays[name], arrays.get(labels), trained=trained)
        tables[split] = replace(table, name=name)
    return tables


def table_of(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    trained: Shape | None = None,
) -> Table:
    """Return images in any of the usual shapes, with their labels and ids, as a checked table.

    Args:
        images: (n, height, width), (n, height, width, 1 or 3), (n, 1 or 3, height, width) or (n, side²), integers or
            floats that are whole numbers in 0-255, or floats in 0-1.
        labels: whole numbers or words (n,) or (n, 1), or one-hot (n, classes); None where there are none.
        ids: (n,), or None.
        trained: see `read_sets`.
    """
    found = f"{images.dtype} {images.shape}"
    pixels = _in_rows(images, None if labels is None else len(labels), trained)
    if not pixels.size or pixels.ndim != 4 or images.dtype.kind not in "buif":
        raise BadInput(f"expected numbers (n, height, width), (n, height, width, 3) or (n, side²), found {found}")
    size = height, width = pixels.shape[1:3]
    if not trained and min(size := fitting_size((height, width))) < SIDES[0]:
        raise BadInput(f"expected images of at least {SIDES[0]} × {SIDES[0]} pixels, found {width} × {height}")
    notes: tuple[str, ...] = ()
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        if pixels.dtype.kind == "f" and low >= 0 and 0 < high <= 1:
            pixels, notes = np.rint(pixels * 255), ("0-1 taken as 0-255",)
        if not (low >= 0 and pixels.max() <= 255 and (pixels == np.rint(pixels)).all()):
            raise BadInput(f"expected whole numbers in 0-255, found {low:g} to {high:g} ({found})")
        pixels = pixels.astype(np.uint8)
    if not trained and pixels.shape[3] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    if size != (height, width):
        notes = (*notes, f"{width} × {height} pixels resized to {size[1]} × {size[0]}")
    texts = None if labels is None else _label_texts(labels, len(pixels))
    return Table.of(in_shape(pixels, (*size, pixels.shape[3])), texts, ids, notes=notes)


def _in_rows(images: np.ndarray, labels: int | None, trained: Shape | None) -> np.ndarray:
    """Return an array as (n, height, width, 1), or (n, height, width, 3) in colour; (n,) where it is neither.

    A table (h, w) is one image to predict, unless its rows have the pixels of a trained image, or a label each.
    """
    count = len(images) if images.ndim else 0
    if trained and images.ndim in (1, 2) and images.shape[-1] == math.prod(trained):
        return images.reshape(-1, *trained)
    if images.ndim == 2:
        side = math.isqrt(images.shape[1])
        are_rows = side**2 == images.shape[1] and (not trained or labels == count)
        return images.reshape(count, side, side, 1) if are_rows else images[np.newaxis, ..., np.newaxis]
    if images.ndim == 3 and images.shape[2] in (3, 4) and trained and labels != count:
        return images[np.newaxis, ..., :3]
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        return np.moveaxis(images, 1, 3)
    if images.ndim == 3:
        return images[..., np.newaxis]
    return images if images.ndim == 4 and images.shape[3] in (1, 3) else images.reshape(-1)


def _label_texts(labels: np.ndarray, count: int) -> list[str]:
    """Return labels (n,), (n, 1) or one-hot (n, classes) as text; floats that are whole numbers as these."""
    found = f"{labels.dtype} {labels.shape}"
    if labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all():
        labels = labels.argmax(axis=1)
    if labels.dtype.kind == "f" and (labels == np.rint(labels)).all():
        labels = labels.astype(np.int64)
    if labels.shape not in ((count,), (count, 1)) or labels.dtype.kind not in "uiU":
        raise BadInput(f"expected a label for each of {count} images, found {found}")
    return [str(label) for label in labels.reshape(-1).tolist()]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz by their names: never a pickle, never more than `MAX_BYTES`."""
    arrays = {}
    with csv_reader.readable(), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with error_context(info.filename):
                if info.file_size > csv_reader.MAX_BYTES:
                    raise BadInput(f"expected at most {csv_reader.MAX_BYTES:,} bytes, found {info.file_size:,}")
                arrays[info.filename.removesuffix(".npy")] = _parse_npy(archive.read(info))
    return arrays


def _parse_npy(data: bytes) -> np.ndarray:
    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # A damaged header makes Python and NumPy raise a dozen kinds.
        if "allow_pickle" in str(error):
            raise BadInput("expected an array of numbers, found Python objects: save it as numbers") from None
        raise BadInput(f"expected a NumPy array, found a damaged one, or none ({reason_of(error)})") from None


def reason_of(error: Exception) -> str:
    """Return the first line of an exception's message, or its kind."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def parse_idx(data: bytes) -> np.ndarray:
    """Parse an IDX file of bytes (LeCun's format of MNIST) to uint8 of the shape that it says."""
    dimensions = data[3] if len(data) > 3 else 0
    if data[:3] != b"\0\0\x08" or not 1 <= dimensions <= 4:
        raise BadInput(f"expected an IDX file of bytes (00 00 08 …), found {data[:4].hex(' ')}")
    start = 4 + 4 * dimensions
    shape = tuple(int(size) for size in np.frombuffer(data[4:start].ljust(4 * dimensions, b"\0"), ">u4"))
    size = math.prod(shape)
    if len(data) - start != size:
        sizes = " × ".join(map(str, shape))
        raise BadInput(f"expected {size:,} bytes of {sizes}, found {len(data) - start:,}. Is the file cut off?")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
