"""Bring a photograph, scan or drawing into the form that MNIST's digits have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from digits.console import BadInput
from digits.data.cache import fingerprints
from digits.data.competition import SIDE
from digits.data.image_files import NotADigitImage, find_images, label_of, read_image
from digits.files import display_path

BOX = 20
"""MNIST's digits were scaled into a box of 20×20 pixels, then placed in 28×28 by their centre of mass (LeCun 1998)."""


FINE = 4
"""A digit is drawn at this many times its final size while its strokes are measured and corrected."""


STROKE_WIDTHS = (2.2, 4.0)
"""Strokes of a digit of 20 pixels are brought into this range, in pixels; MNIST's are mostly 2 to 4 wide."""


FINDING_SIDE, PAGE_SIDE = 160, 64
"""The longest side, in pixels, at which the digit is looked for, and the page is measured."""


@dataclass(frozen=True)
class Prepared:
    """A digit as MNIST has it, uint8 (28, 28), 0 paper to 255 ink, and what was noticed on the way."""

    image: np.ndarray
    notes: tuple[str, ...] = ()


def load_extra(folder: Path, classes: Sequence[str], known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Load images of the user's own to train on beside a dataset's, prepared: uint8 (n, 28, 28) and labels uint8 (n,).

    Args:
        folder: images by class, LABEL/….png or …_LABEL.png.
        classes: the names of the labels, in order.
        known: the dataset's training and test images uint8 (m, 28, 28), none of which may be among them.

    Raises:
        BadInput: naming the first image that has no label, cannot be used, or is one of the dataset's.
    """
    files, arrays, problem = find_images(folder)
    if arrays:
        raise BadInput(f"--extra {display_path(folder)}: expected a folder of images, found a file of another kind.")
    if problem:
        raise BadInput(f"--extra {display_path(folder)}: {problem}. Save images there with: python src/draw.py")
    prints = set(fingerprints(known).tolist())
    images, labels = [], []
    for file in files:
        label = label_of(file, classes)
        if label is None:
            raise BadInput(
                f"--extra: {display_path(file)} has no label. Expected a folder or an end of the name that is one of "
                f"{', '.join(classes)}: {classes[0]}/….png or …_{classes[0]}.png"
            )
        try:
            image = prepare(read_image(file)).image
        except NotADigitImage as error:
            raise BadInput(f"--extra: {display_path(file)}: {error}. Remove it.") from None
        if int(fingerprints(image[np.newaxis])[0]) in prints:
            raise BadInput(
                f"--extra: {display_path(file)} is one of the dataset's images, which would be scored. Remove it."
            )
        images.append(image)
        labels.append(classes.index(label))
    return np.stack(images), np.array(labels, np.uint8)


def squeeze(pixels: np.ndarray) -> np.ndarray:
    """Return pixels (h, w, channels) only made grey, inverted where the page is light, and resized, uint8 (28, 28).

    What people do who skip the preparation; `prepare` does better on all that is not MNIST already.
    """
    gray = pixels.mean(axis=2)
    edge = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    gray = 255 - gray if np.median(edge) > 127 else gray
    return _resize(gray, (SIDE, SIDE)).clip(0, 255).round().astype(np.uint8)


def prepare(pixels: np.ndarray, box: int = BOX) -> Prepared:
    """Find the digit in pixels uint8 (h, w, 1 or 3) and give it MNIST's size, place and stroke.

    The page's own brightness is divided out, so that shadows and uneven light vanish; ink darker or lighter than the
    page becomes white on black; specks and page edges go; the ink's box is scaled to 20×20 pixels, strokes too thin or
    too thick for that size are corrected, and the centre of mass comes to the middle of 28×28.

    Args:
        pixels: of an image of any size.
        box: the long side of the ink in pixels, for data other than MNIST's.

    Raises:
        NotADigitImage: if there is nothing on the page.
    """
    if box == BOX and is_ready(pixels):
        return Prepared(pixels[..., 0].copy())
    small = _shrunk(pixels)
    channel = int(small.std(axis=(1, 2)).argmax())  # The one in which the ink differs most from the page.
    small, pixels = small[channel], pixels[..., channel, np.newaxis]
    light = _ink_is_light(small)
    small = 255 - small if light else small
    page = _page(small)
    ink = _ink(small, page)
    level = _ink_level(ink)
    mask, notes = _digit_mask(ink, level)
    top, bottom, left, right = _box(mask)
    scale = len(pixels) / len(ink)
    if scale > 1:  # Take what was found from the image itself, in all its detail.
        top, left = max(0, top - 1), max(0, left - 1)
        bottom, right = bottom + 1, right + 1
        mask, page = mask[top:bottom, left:right], page[top:bottom, left:right]
        first_row, last_row, first_column, last_column = (round(end * scale) for end in (top, bottom, left, right))
        own = _shrunk(pixels[first_row:last_row, first_column:last_column])[0]
        size = own.shape
        ink = _ink(255 - own if light else own, _resize(page, size))
        mask = _resize(mask.astype(np.float32), size) > 0.1
        if not (mask & (ink > 0.35 * level)).any():
            raise NotADigitImage("empty: nothing stands out from the page")
        top, bottom, left, right = _box(mask & (ink > 0.35 * level))
    strokes = ((ink / level - 0.2) / 0.5).clip(0, 1) * mask
    return Prepared(_centred(_scaled(strokes[top:bottom, left:right], box)), notes)


def ink_box(images: np.ndarray) -> int:
    """Return the long side of the ink in pixels, the median of images uint8 (n, 28, 28)."""
    boxes = (_box(image > 0) for image in images if image.any())
    return int(np.median([max(bottom - top, right - left) for top, bottom, left, right in boxes]))


def is_ready(pixels: np.ndarray) -> bool:
    """Return whether pixels (h, w, channels) are a digit as MNIST has it: 28×28, light on black, in place and size."""
    if pixels.shape != (SIDE, SIDE, 1) or not pixels.any():
        return False
    image = pixels[..., 0]
    top, bottom, left, right = _box(image > 0)
    centre = np.array(ndimage.center_of_mass(image))
    return max(bottom - top, right - left) == BOX and bool(np.abs(centre - SIDE / 2).max() <= 0.75)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the first row, the row after the last, the first column and the column after the last of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def _resize(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return values (h, w) resized to (height, width), antialiased, float32."""
    image = Image.fromarray(values.astype(np.float32, copy=False))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """Return pixels uint8 (h, w, channels) as float32 (channels, h, w), the long side at most FINDING_SIDE."""
    factor = max(1.0, max(pixels.shape[:2]) / FINDING_SIDE)
    width, height = (max(1, round(length / factor)) for length in pixels.shape[1::-1])
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    planes = image.resize((width, height), Image.Resampling.BOX, reducing_gap=1.0).split()
    return np.stack([np.asarray(plane, np.float32) for plane in planes])


def _ink(pixels: np.ndarray, page: np.ndarray) -> np.ndarray:
    """Return how much darker than the page each pixel is, in shares of the page: float32 (h, w) in 0-1."""
    if min(pixels.shape) > 100:  # Against noise: strokes of a digit of this size are several pixels wide.
        pixels = ndimage.uniform_filter(pixels, 3, mode="nearest")
    return ((page - pixels) / np.maximum(page, 32)).clip(0, 1)


def _ink_is_light(gray: np.ndarray) -> bool:
    """Return whether the largest difference from a smooth page is towards light.

    The page is the quadratic surface nearest to most pixels (least absolute differences, by reweighting).
    """
    values = _resize(gray, (32, 32)).reshape(-1)
    y, x = np.mgrid[-1:1:32j, -1:1:32j].astype(np.float32).reshape(2, -1)
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y])
    difference = values - np.median(values)
    for _ in range(8):
        weighted = terms / (abs(difference) + 2)
        difference = values - np.linalg.solve(weighted @ terms.T, weighted @ values) @ terms
    return bool(difference.max() > -difference.min())


def _page(gray: np.ndarray) -> np.ndarray:
    """Return the brightness float32 (h, w) of the page under dark ink: a closing wider than any stroke."""
    size = [max(1, round(length * min(1, PAGE_SIDE / max(gray.shape)))) for length in gray.shape]
    reach = max(3, round(0.35 * min(size)))
    wide = np.pad(_resize(gray, size), reach, "edge")  # Or the dark side of a gradient would be brightened.
    closed = ndimage.grey_closing(wide, (reach, reach))[reach:-reach, reach:-reach]
    return _resize(ndimage.gaussian_filter(closed, 1, mode="nearest"), gray.shape)


def _ink_level(ink: np.ndarray) -> float:
    """Return how strong the ink is, 0-1.

    Raises:
        NotADigitImage: if nothing stands out from the page.
    """
    smooth = ndimage.uniform_filter(ink, 3) if min(ink.shape) >= 16 else ink
    peak = float(smooth.max())
    some = smooth[::2, ::2]
    noise = 1.5 * float(np.median(abs(some - np.median(some))))
    if peak < max(0.1, 6 * noise):
        raise NotADigitImage("empty: nothing stands out from the page")
    return float(np.median(smooth[smooth >= 0.5 * peak]))


def _digit_mask(ink: np.ndarray, level: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return where the digit is, bool (h, w), without specks and page edges, and notes on what else is there."""
    labelled, count = ndimage.label(ink > 0.35 * level, np.ones((3, 3)))
    boxes = ndimage.find_objects(labelled)
    weights = np.bincount(labelled.ravel(), ink.ravel())[1:]
    height, width = ink.shape

    def edge(box) -> bool:
        """Return whether a component lies along a whole side of the image, as the table under a page does."""
        rows, columns = box
        wide, tall = columns.stop - columns.start > 0.9 * width, rows.stop - rows.start > 0.9 * height
        return (wide and (rows.start == 0) != (rows.stop == height) and rows.stop - rows.start < 0.3 * height) or (
            tall and (columns.start == 0) != (columns.stop == width) and columns.stop - columns.start < 0.3 * width
        )

    inner = [index for index in range(count) if not edge(boxes[index])] or list(range(count))
    heaviest = max(weights[index] for index in inner)
    kept = [index for index in inner if weights[index] >= 0.04 * heaviest]
    main = boxes[max(kept, key=lambda index: weights[index])]
    tall = max(main[0].stop - main[0].start, main[1].stop - main[1].start)
    notes = []
    for index in kept:
        rows, columns = boxes[index]
        beside = columns.start >= main[1].stop or columns.stop <= main[1].start
        if beside and weights[index] >= 0.2 * heaviest and rows.stop - rows.start > 0.5 * tall:
            notes.append("more than one digit?")
            break
    mask = np.isin(np.arange(count + 1), np.array(kept) + 1)[labelled]
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        notes.append("touches the edge")
    if tall < 12:
        notes.append("very small")
    return ndimage.maximum_filter(mask, 3) if min(ink.shape) > 40 else mask, tuple(notes)


def _scaled(strokes: np.ndarray, box: int) -> np.ndarray:
    """Return strokes float32 (h, w) in 0-1 scaled so that the long side is `box`, their width corrected."""
    fine = _resize_to(strokes, BOX * FINE)
    solid = np.pad(fine > 0.5, 2 * FINE)  # Room for strokes to grow.
    inside = ndimage.distance_transform_edt(solid)
    # In a bar w pixels wide the distances to the outside are 1, 2 … 2, 1: their mean is about (w + 2) / 4.
    width = (4 * inside[solid].mean() - 2) / FINE if solid.any() else 0.0
    missing = np.clip(width, *STROKE_WIDTHS) - width
    if abs(missing) > 0.2 and solid.any():
        grown = (0.5 + missing * FINE / 2 + inside - ndimage.distance_transform_edt(~solid)).clip(0, 1)
        if grown.any():
            top, bottom, left, right = _box(grown > 0)
            fine = grown[top:bottom, left:right]
    return _resize_to(fine, box)


def _resize_to(values: np.ndarray, side: int) -> np.ndarray:
    return _resize(values, [max(1, round(length * side / max(values.shape))) for length in values.shape])


def _centred(strokes: np.ndarray) -> np.ndarray:
    """Return strokes float32 (h, w) in 0-1 as uint8 (28, 28), their centre of mass in the middle."""
    centre = np.array(ndimage.center_of_mass(strokes))
    start = np.round(SIDE / 2 - centre).astype(int).clip(0, SIDE - np.array(strokes.shape))
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[start[0] : start[0] + strokes.shape[0], start[1] : start[1] + strokes.shape[1]] = np.round(255 * strokes)
    return image
