"""Bring a photograph, scan or drawing into the form that MNIST's digits have."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from digits.console import BadInput, error_context
from digits.data.competition import SIDE
from digits.data.image_files import NotADigitImage, as_image, find_images, folder_label, gray, read_image
from digits.files import display_path

BOX = 20
"""MNIST's digits were scaled into a box of 20×20 pixels, then placed in 28×28 by their centre of mass (LeCun 1998)."""
FINE = 4
"""A digit is drawn at this many times its final size while its strokes are measured: a quarter pixel is seen."""
STROKE_WIDTHS = (2.2, 4.0)
"""Strokes of a digit of 20 pixels are brought into this range, in pixels; MNIST's are mostly 2 to 4 wide."""
FINDING_SIDE, PAGE_SIDE = 160, 64
"""The longest side, in pixels, at which the digit is looked for (a stroke of a digit that fills a tenth of the side is
two wide), and the page is measured (its light changes slowly)."""
INK = 0.35
"""Pixels of this share of the ink's level, 0-1, are ink: thin strokes are fainter than their pen."""


@dataclass(frozen=True)
class Prepared:
    """A digit as MNIST has it, uint8 (28, 28), 0 paper to 255 ink, and what was noticed on the way."""

    image: np.ndarray
    notes: tuple[str, ...] = ()


def resized(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Return pixels uint8 (n, side²) as images uint8 (n, 28, 28), multiplied by `factor` and resized if need be."""
    side = math.isqrt(pixels.shape[1])
    images = (pixels if factor == 1 else pixels * np.uint8(factor)).reshape(-1, side, side)
    if side == SIDE:
        return images
    size = (SIDE, SIDE)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images])


@dataclass(frozen=True)
class ImageForm:
    """The form of a run's training images, into which other images are brought; the default is MNIST's."""

    side: int = SIDE
    """Of the images in pixels, before they were resized to 28."""
    factor: int = 1
    """By which their pixels were multiplied."""
    box: int = BOX
    """The long side of their ink, in pixels of 28."""

    def has_size(self, pixels: np.ndarray) -> bool:
        """Return whether pixels (h, w, channels) are of the training images' size."""
        return pixels.shape[:2] == (self.side, self.side)

    def brightened(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels multiplied as the training images were, unless they have been."""
        return pixels * np.uint8(self.factor) if int(pixels.max()) * self.factor <= 255 else pixels

    def as_trained(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels uint8 (side, side, channels) of the training images' kind as the networks take them."""
        return resized(self.brightened(gray(pixels)).reshape(1, -1), 1)[0]

    def fit(self, pixels: np.ndarray, *, is_prepared: bool | None = None) -> Prepared:
        """Return pixels uint8 (h, w, 1 or 3) of any image as the networks take them.

        Args:
            pixels: of the image.
            is_prepared: whether it is in this form but for its size and ground; None: if it has the training images'
                size, where that is not 28 × 28, which may be anything.

        Raises:
            NotADigitImage: if there is nothing on the page.
        """
        if is_prepared is not False and self.side != SIDE and self.has_size(pixels):
            return Prepared(self.as_trained(pixels))
        prepared = Prepared(squeeze(pixels)) if is_prepared else prepare(pixels, self.box)
        if self.side >= SIDE:
            return prepared
        # As blurred as what the networks were trained on.
        small = Image.fromarray(prepared.image).resize((self.side, self.side), Image.Resampling.BOX)
        return replace(prepared, image=resized(np.asarray(small).reshape(1, -1), 1)[0])


def load_extra(folder: Path, classes: Sequence[str], known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Load images of the user's own to train on beside a dataset's, prepared: uint8 (n, 28, 28) and labels uint8 (n,).

    Args:
        folder: images by class, LABEL/….png.
        classes: the names of the labels, in order.
        known: the dataset's training and test images uint8 (m, 28, 28), none of which may be among them.

    Raises:
        BadInput: naming the first image that has no label, cannot be used, or is one of the dataset's.
    """
    with error_context(f"--extra {display_path(folder)}", "Save images there with: python src/draw.py"):
        files = find_images(folder)
        if not folder.is_dir():
            raise BadInput("expected a folder of images, found a file")
    known_images = {image.tobytes() for image in known}
    images, labels = [], []
    for file in files:
        with error_context(f"--extra: {display_path(file)}"):
            label = folder_label(file, classes)
            if label is None:
                raise BadInput(
                    f"expected it in a folder named after its class ({', '.join(classes)}), found {file.parent.name!r}",
                    fix=f"Move it to {display_path(folder)}/{classes[0]}/ or another of these",
                )
            with error_context(fix="Remove it"):
                image = prepare(read_image(file)).image
                if image.tobytes() in known_images:
                    raise BadInput("one of the dataset's images, which would be scored")
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
    digit = _find(pixels)
    return Prepared(_centred(_scaled(_strokes(pixels, digit), box)), digit.notes)


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
    # The centre was rounded to whole pixels: it is up to half a pixel off, and a quarter for other programs' rounding.
    return max(bottom - top, right - left) == BOX and bool(np.abs(centre - SIDE / 2).max() <= 0.75)


@dataclass(frozen=True)
class _Digit:
    """Where the digit of an image is, on the image reduced to FINDING_SIDE."""

    channel: int
    """The one in which the ink differs most from the page."""
    is_light: bool
    """Whether the ink is lighter than the page."""
    page: np.ndarray
    """The brightness float32 (h, w) of the page under dark ink; of a light ink's inverted image."""
    ink: np.ndarray
    """How much darker than the page each pixel is, float32 (h, w) in 0-1."""
    level: float
    """How strong the ink is, 0-1."""
    mask: np.ndarray
    """Where the digit may be, bool (h, w)."""
    notes: tuple[str, ...]


def _find(pixels: np.ndarray) -> _Digit:
    """Return where the digit is in pixels uint8 (h, w, 1 or 3).

    Raises:
        NotADigitImage: if there is nothing on the page.
    """
    planes = _shrunk(pixels)
    channel = int(planes.std(axis=(1, 2)).argmax())
    is_light = _ink_is_light(planes[channel])
    dark = 255 - planes[channel] if is_light else planes[channel]
    page = _page(dark)
    ink = _ink(dark, page)
    level = _ink_level(ink)
    mask, notes = _digit_mask(ink, level)
    return _Digit(channel, is_light, page, ink, level, mask, notes)


def _strokes(pixels: np.ndarray, digit: _Digit) -> np.ndarray:
    """Return the digit's ink float32 (h, w) in 0-1, cut to its box, in the detail that the image has."""
    top, bottom, left, right = _box(digit.mask)
    ink, mask, scale = digit.ink, digit.mask, len(pixels) / len(digit.ink)
    if scale > 1:
        rows, columns = slice(max(0, top - 1), bottom + 1), slice(max(0, left - 1), right + 1)
        first_row, last_row, first_column, last_column = (
            round(end * scale) for end in (rows.start, rows.stop, columns.start, columns.stop)
        )
        part = pixels[first_row:last_row, first_column:last_column, digit.channel, np.newaxis]
        detail = _shrunk(part)[0]
        page, mask = (_resize(values[rows, columns], detail.shape) for values in (digit.page, digit.mask))
        ink, mask = _ink(255 - detail if digit.is_light else detail, page), mask > 0.1
        inked = mask & (ink > INK * digit.level)
        if not inked.any():
            raise NotADigitImage("empty: nothing stands out from the page")
        top, bottom, left, right = _box(inked)
    # From a fifth of the level, paper, to seven tenths, ink: the blurred edge between them keeps its grey.
    strokes = ((ink / digit.level - 0.2) / 0.5).clip(0, 1) * mask
    return strokes[top:bottom, left:right]


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
    planes = as_image(pixels).resize((width, height), Image.Resampling.BOX, reducing_gap=1.0).split()
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


@dataclass(frozen=True)
class _Blot:
    """A connected piece of ink: its number, its box and the sum of its ink."""

    number: int
    rows: slice
    columns: slice
    weight: float

    @property
    def height(self) -> int:
        return self.rows.stop - self.rows.start

    @property
    def width(self) -> int:
        return self.columns.stop - self.columns.start

    def is_page_edge(self, height: int, width: int) -> bool:
        """Return whether it lies along a whole side of an image, as the table under a page does."""
        along_row = (self.rows.start == 0) != (self.rows.stop == height)
        along_column = (self.columns.start == 0) != (self.columns.stop == width)
        return (along_row and self.width > 0.9 * width and self.height < 0.3 * height) or (
            along_column and self.height > 0.9 * height and self.width < 0.3 * width
        )

    def is_beside(self, other: "_Blot") -> bool:
        """Return whether it is wholly left or right of another."""
        return self.columns.start >= other.columns.stop or self.columns.stop <= other.columns.start


def _digit_mask(ink: np.ndarray, level: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return where the digit is, bool (h, w), without specks and page edges, and notes on what else is there."""
    labelled, count = ndimage.label(ink > INK * level, np.ones((3, 3)))
    weights = np.bincount(labelled.ravel(), ink.ravel(), count + 1)[1:]
    boxes = zip(ndimage.find_objects(labelled), weights, strict=True)
    blots = [_Blot(number, rows, columns, weight) for number, ((rows, columns), weight) in enumerate(boxes, start=1)]
    blots = [blot for blot in blots if not blot.is_page_edge(*ink.shape)] or blots
    main = max(blots, key=lambda blot: blot.weight)
    kept = [blot for blot in blots if blot.weight >= 0.04 * main.weight]  # The rest are specks.
    mask = np.isin(labelled, [blot.number for blot in kept])
    tall = max(main.height, main.width)
    notes = []
    if any(blot.is_beside(main) and blot.weight >= 0.2 * main.weight and blot.height > 0.5 * tall for blot in kept):
        notes.append("more than one digit?")
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        notes.append("touches the edge")
    if tall < 12:
        notes.append("very small")
    # A pixel more all round, for strokes' faint edges, where a pixel is not a whole stroke.
    return ndimage.maximum_filter(mask, 3) if min(ink.shape) > 40 else mask, tuple(notes)


def _scaled(strokes: np.ndarray, box: int) -> np.ndarray:
    """Return strokes float32 (h, w) in 0-1 scaled so that the long side is `box`, their width corrected."""
    fine = _resize_to(strokes, BOX * FINE)
    solid = np.pad(fine > 0.5, 2 * FINE)  # Room for strokes to grow.
    if not solid.any():
        return _resize_to(fine, box)
    inside = ndimage.distance_transform_edt(solid)
    # In a bar w pixels wide the distances to the outside are 1, 2 … 2, 1: their mean is about (w + 2) / 4.
    width = (4 * inside[solid].mean() - 2) / FINE
    missing = np.clip(width, *STROKE_WIDTHS) - width
    if abs(missing) > 0.2:
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
