"""Read labelled images from NumPy archives (.npz), arrays (.npy) and IDX files."""

import hashlib
import math
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digits.console import BadInput
from digits.data.csv_reader import MAX_BYTES, SIDES, Table, encode_labels, read_bytes
from digits.files import display_path

if TYPE_CHECKING:
    pass


from digits.data.csv_reader import parse

NPZ_NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("X_train", "y_train", "X_test", "y_test"),
    ("x", "y"),
    ("X", "y"),
    ("images", "labels"),
    ("data", "target"),
)
"""The names of images and labels of the training set, then of the test set; the first that fit are taken."""


_IDX_SPLIT = {"train": r"train", "test": r"t10k|test"}


def table_of(images: np.ndarray, labels: np.ndarray | None, ids: np.ndarray | None, place: str, remedy: str) -> Table:
    """Return images (n, side, side) in 0-255, or shapes that amount to it, and their labels and ids as a checked table.

    Args:
        images: (n, side, side), (n, side, side, 1), (n, 1, side, side) or (n, side²), integers or floats that are whole
            numbers in 0-255, or floats in 0-1.
        labels: integers or words (n,) or (n, 1), or one-hot (n, classes); None where there are none.
        ids: (n,), or None.
        place: what the error messages call them.
        remedy: what the error messages tell the user to do.

    Raises:
        BadInput: naming what was expected and what came.
    """
    found = f"{images.dtype} {images.shape}"
    count, size = len(images) if images.ndim else 0, math.prod(images.shape[1:])
    side = math.isqrt(size)
    shapes = [(side, side), (side, side, 1), (1, side, side), (side * side,)]
    if (
        not count
        or images.shape[1:] not in shapes
        or not SIDES[0] <= side <= SIDES[1]
        or images.dtype.kind not in "buif"
    ):
        raise BadInput(
            f"{place}: expected numbers (n, side, side) or (n, side²) with a side of {SIDES[0]} to {SIDES[1]}, found "
            f"{found}. {remedy}"
        )
    notes: tuple[str, ...] = ()
    pixels = images.reshape(count, size)
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        if pixels.dtype.kind == "f" and low >= 0 and 0 < high <= 1:
            pixels, notes = np.rint(pixels * 255), ("0-1 taken as 0-255",)
        if not (low >= 0 and pixels.max() <= 255 and (pixels == np.rint(pixels)).all()):
            raise BadInput(f"{place}: expected whole numbers in 0-255, found {low:g} to {high:g} ({found}). {remedy}")
        pixels = pixels.astype(np.uint8)
    pixels = np.ascontiguousarray(pixels)
    content = hashlib.sha256(pixels.data)
    codes: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    if labels is not None:
        if (
            labels.ndim == 2
            and labels.shape[1] > 1
            and ((labels == 0) | (labels == 1)).all()
            and (labels.sum(1) == 1).all()
        ):
            labels = labels.argmax(axis=1)
        if labels.shape not in ((count,), (count, 1)) or labels.dtype.kind not in "uiU":
            raise BadInput(
                f"{place}: expected a label for each of {count} images, found {labels.dtype} {labels.shape}. {remedy}"
            )
        codes, classes = encode_labels([str(label) for label in labels.reshape(-1).tolist()], place, remedy)
        content.update(codes.data)
    return Table(pixels, codes, classes, ids, content.hexdigest(), content.hexdigest(), notes)


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
            read = {name: arrays[name] for name in arrays.files}
        return {name: array for name, array in read.items() if isinstance(array, np.ndarray)}  # Others are bytes.
    except BadInput:
        raise
    except Exception as error:  # A damaged zip or header makes Python and NumPy raise a dozen kinds.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BadInput(f"{shown}: expected a whole .npz, found a damaged one ({reason}). {remedy}") from None


def tables_of_npz(path: Path, remedy: str) -> dict[str, Table]:
    """Return the tables "train" and, where there is one, "test" of an .npz (see `NPZ_NAMES`).

    Raises:
        BadInput: naming the file and the array, what was expected and what came.
    """
    arrays, shown = read_npz(path, remedy), display_path(path)
    for names in NPZ_NAMES:
        if not set(names[:2]) <= arrays.keys():
            continue
        tables = {}
        for split, images, labels in (("train", *names[:2]), *((("test", *names[2:]),) if len(names) > 2 else ())):
            if images in arrays:
                place = f"{shown}, {images}"
                tables[split] = table_of(arrays[images], arrays.get(labels), None, place, remedy)
        return tables
    expected = " or ".join(" and ".join(names[:2]) for names in NPZ_NAMES[:4])
    raise BadInput(f"{shown}: expected the arrays {expected}, found {', '.join(arrays)[:80] or 'nothing'}. {remedy}")


def read_idx(path: Path, remedy: str) -> np.ndarray:
    """Read an IDX file of bytes (LeCun's format of MNIST), plain or packed, as uint8 of the shape that it says.

    Raises:
        BadInput: naming the file, what was expected and what came.
    """
    data, shown = read_bytes(path, remedy=remedy), display_path(path)
    dimensions = data[3] if len(data) > 3 else 0
    if data[:3] != b"\0\0\x08" or not 1 <= dimensions <= 4:
        raise BadInput(f"{shown}: expected an IDX file of bytes (00 00 08 …), found {data[:4].hex(' ')}. {remedy}")
    start = 4 + 4 * dimensions
    shape = tuple(int(size) for size in np.frombuffer(data[4:start].ljust(4 * dimensions, b"\0"), ">u4"))
    if len(data) - start != math.prod(shape):
        raise BadInput(
            f"{shown}: expected {math.prod(shape):,} bytes of {' × '.join(map(str, shape))}, found "
            f"{len(data) - start:,}. Is the file cut off? {remedy}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def find_idx(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the IDX files of a folder by split ("train", "test") and kind ("images", "labels"), by their names."""
    files = [path for path in sorted(folder.iterdir()) if re.search(r"idx[13]", path.name) and path.is_file()]
    found: dict[str, dict[str, Path]] = {}
    for split, pattern in _IDX_SPLIT.items():
        for kind in ("images", "labels"):
            fitting = [path for path in files if re.search(pattern, path.name) and kind in path.name]
            if len(fitting) > 1:
                names = ", ".join(path.name for path in fitting[:4])
                raise BadInput(f"{display_path(folder)}: expected one IDX file of {split} {kind}, found {names}.")
            if fitting:
                found.setdefault(split, {})[kind] = fitting[0]
    return found


def tables_of_idx(files: dict[str, dict[str, Path]], remedy: str) -> dict[str, Table]:
    """Return the tables of IDX files that `find_idx` found.

    Raises:
        BadInput: naming the file, what was expected and what came.
    """
    tables = {}
    for split, kinds in files.items():
        if "images" not in kinds:
            raise BadInput(f"{display_path(kinds['labels'])}: expected the {split} images beside it. {remedy}")
        labels = read_idx(kinds["labels"], remedy) if "labels" in kinds else None
        place = display_path(kinds["images"])
        tables[split] = table_of(read_idx(kinds["images"], remedy), labels, None, place, remedy)
    return tables


ARRAY_SUFFIXES = {".csv", ".npy", ".npz"}


IMAGE_NAMES, LABEL_NAMES = ("x", "images", "x_test", "arr_0"), ("y", "labels", "y_test")
"""The arrays that are read of an .npz; without one of these names the first."""


def read_array_file(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images uint8 (n, height, width) and labels (n,) or None, of a .csv, .npy, .npz or IDX file.

    Raises:
        BadInput: if the file is damaged or holds something else.
    """
    shown = display_path(path)
    if path.suffix.lower() == ".csv":
        table = parse(read_bytes(path), shown)
        side = math.isqrt(table.pixels.shape[1])
        labels = None if table.labels is None else np.array(table.classes)[table.labels]
        return table.pixels.reshape(-1, side, side), labels
    if "ubyte" in path.name:
        arrays = {"x": read_idx(path, "")}
    elif path.suffix.lower() == ".npz":
        arrays = read_npz(path, "")
    else:
        try:
            with path.open("rb") as file:
                arrays = {"x": np.lib.format.read_array(file, allow_pickle=False)}
        except Exception as error:  # A damaged file makes NumPy raise a dozen kinds.
            raise BadInput(f"{shown}: damaged, or not a NumPy array ({str(error).splitlines()[0]})") from None
    images = next((arrays[name] for name in IMAGE_NAMES if name in arrays), next(iter(arrays.values()), np.array([])))
    labels = next((arrays[name] for name in LABEL_NAMES if name in arrays), None)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim == 2 and math.isqrt(images.shape[1]) ** 2 == images.shape[1] >= 64:
        images = images.reshape(len(images), math.isqrt(images.shape[1]), -1)
    images = images[np.newaxis] if images.ndim == 2 else images
    if images.ndim != 3 or not images.size or images.dtype.kind not in "buif":
        raise BadInput(f"{shown}: expected images (n, height, width), found {images.dtype} {images.shape}")
    if images.dtype != np.uint8:
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 255):
            raise BadInput(f"{shown}: expected values of 0 to 255, or 0 to 1, found {low:g} to {high:g}")
        images = (images * (255 if high <= 1 else 1)).round().astype(np.uint8)
    if labels is not None and labels.shape != images.shape[:1]:
        raise BadInput(f"{shown}: expected a label for each of {len(images)} images, found {labels.shape}")
    return images, labels
