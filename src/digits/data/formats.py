"""Read image files of any kind, and labelled images from IDX files, NumPy archives (.npz) and folders of images."""

import hashlib
import io
import math
import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digits.console import BadInput, KitError
from digits.data.csv_reader import MAX_BYTES, MAX_CLASSES, SIDES, Table, as_ids, encode_labels, read_bytes
from digits.files import display_path

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
MAX_PIXELS = 100_000_000
WORKING_SIDE = 1024
"""The longest side, in pixels, at which an image is kept, give or take a factor of two."""
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


class NotADigitImage(KitError):  # noqa: N818 an answer about an input, like BadInput
    """This one image cannot be used; the message is a phrase that says why."""


def read_image(source: Path | bytes) -> np.ndarray:
    """Return an image file's pixels uint8 (height, width, 1 or 3), upright, less than 2,048 on its long side.

    Transparent pixels become the page: its own colour where most of the image is opaque, otherwise (a drawing on
    nothing) black or white, whichever differs more from what is drawn.

    Raises:
        NotADigitImage: if the file is not one image, or is damaged, too large or an animation.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images and odd metadata; both are checked here.
            image: Image.Image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            if image.width * image.height > MAX_PIXELS:
                raise NotADigitImage(f"{image.width:,}×{image.height:,} pixels; expected at most {MAX_PIXELS:,} in all")
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise NotADigitImage("an animation or a stack of images; expected one")
            image.draft("RGB", (WORKING_SIDE, WORKING_SIDE))  # A large JPEG is decoded at a fraction of its size.
            ImageOps.exif_transpose(image, in_place=True)
            return _pixels(image)
    except NotADigitImage:
        raise
    except UnidentifiedImageError:
        raise NotADigitImage("not an image that Pillow can read") from None
    except Image.DecompressionBombError:
        raise NotADigitImage(f"too many pixels; expected at most {MAX_PIXELS:,}") from None
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise NotADigitImage((error.strerror or str(error)).lower()) from None
    except Exception as error:  # Pillow's decoders raise a dozen kinds for damaged files.
        raise NotADigitImage(f"damaged or cut short ({str(error) or type(error).__name__})") from None


def _pixels(image: "Image.Image") -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16 or 32 bits become 8.
        deep = np.asarray(image, np.float32)
        low, high = float(deep.min()), float(deep.max())
        if low >= 0:
            low, high = 0, next((limit for limit in (1, 255, 65535) if high <= limit), high)
        image = Image.fromarray(((deep - low) * (255 / max(high - low, 1e-6))).round().astype(np.uint8))
    if factor := max(0, max(image.size) // WORKING_SIDE - 1):
        image = (image.convert("RGBA") if image.mode in ("P", "PA", "LA") else image).reduce(factor + 1)
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        values = np.asarray(image)
        opaque = values[values[..., 3] > 127, :3]
        if not len(opaque):
            raise NotADigitImage("empty: wholly transparent")
        colour = np.median(opaque[:: max(1, len(opaque) // 1000)], axis=0)
        if len(opaque) < image.width * image.height / 2:
            colour = np.full(3, 0 if colour.mean() > 127 else 255)
        page = Image.new("RGBA", image.size, (*colour.astype(int).tolist(), 255))
        image = Image.alpha_composite(page, image)
    mode = "L" if image.mode in ("1", "L") else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[..., np.newaxis] if mode == "L" else pixels


def gray(pixels: np.ndarray) -> np.ndarray:
    """Return pixels uint8 (h, w, 1 or 3) in grey (h, w), colours weighted by how bright the eye sees them (BT.601)."""
    from PIL import Image

    return pixels[..., 0] if pixels.shape[2] == 1 else np.asarray(Image.fromarray(pixels).convert("L"))


def image_files(folder: Path) -> list[Path]:
    """Return the image files right in a folder, in the order of their names, numbers by value."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    return sorted(files, key=lambda path: [(not part.isdigit(), int(part) if part.isdigit() else 0, part)
                                           for part in re.split(r"(\d+)", path.name)])  # fmt: skip


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of each subfolder that holds some, by the subfolder's name."""
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
    return {path.name: files for path in folders if (files := image_files(path))}


def table_of_images(files: Sequence[Path], labels: Sequence[str] | None, remedy: str) -> Table:
    """Read image files of one size in grey, one row each; a row's id is its file's name, or CLASS/NAME if names repeat.

    Raises:
        BadInput: naming the file, what was expected and what came.
    """
    images: list[np.ndarray] = []
    for file in files:
        try:
            images.append(gray(read_image(file)))
        except NotADigitImage as error:
            raise BadInput(f"{display_path(file)}: expected an image, found: {error}. {remedy}") from None
        height, width = images[-1].shape
        first_height, first_width = images[0].shape
        if height != width or (height, width) != (first_height, first_width):
            expected = "a square image" if height != width else f"{first_width} × {first_height} as {files[0].name}"
            raise BadInput(
                f"{display_path(file)}: expected {expected}, found {width} × {height} pixels. Give all images one size"
            )
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        names = [f"{file.parent.name}/{file.name}" for file in files]
    return table_of(
        np.stack(images),
        None if labels is None else np.array(labels),
        as_ids(names),
        display_path(files[0].parent),
        remedy,
    )


def tables_of_images(folder: Path, remedy: str) -> dict[str, Table]:
    """Return the tables of a folder of images: CLASS/*.png, or train/CLASS/*.png and test/*.png or test/CLASS/*.png.

    Empty where there are no images.

    Raises:
        BadInput: naming the file, what was expected and what came.
    """
    tables = {}
    roots = {"train": folder / "train", "test": folder / "test"} if (folder / "train").is_dir() else {"train": folder}
    for split, root in roots.items():
        if not root.is_dir():
            continue
        classes = class_folders(root)
        files = image_files(root) if split == "test" and not classes else []
        labels = None if files else [name for name, own in classes.items() for _ in own]
        files = files or [file for own in classes.values() for file in own]
        if len(classes) > MAX_CLASSES:
            raise BadInput(
                f"{display_path(root)}: expected at most {MAX_CLASSES} classes, found {len(classes)} folders."
            )
        if files:
            tables[split] = table_of_images(files, labels, remedy)
    return tables
