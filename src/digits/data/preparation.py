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
from digits.data.finding import box_of, find_digit, resize
from digits.data.image_files import find_images, folder_label, gray, read_image
from digits.files import display_path, kit_command

BOX = 20
"""MNIST's digits were scaled into a box of 20×20 pixels, then placed in 28×28 by their centre of mass (LeCun 1998)."""
FINE = 4
"""A digit is drawn at this many times its final size while its strokes are measured: a quarter pixel is seen."""
STROKE_WIDTHS = (2.2, 4.0)
"""Strokes of a digit of 20 pixels are brought into this range, in pixels; MNIST's are mostly 2 to 4 wide."""


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
    with error_context(f"--extra {display_path(folder)}", f"Save images there with: {kit_command('src/draw.py')}"):
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
    return resize(gray, (SIDE, SIDE)).clip(0, 255).round().astype(np.uint8)


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
    digit = find_digit(pixels)
    notes = (*digit.notes, "touches the edge") if digit.touches_edge else digit.notes
    return Prepared(_centred(_scaled(digit.strokes(), box)), notes)


def ink_box(images: np.ndarray) -> int:
    """Return the long side of the ink in pixels, the median of images uint8 (n, 28, 28)."""
    boxes = (box_of(image > 0) for image in images if image.any())
    return int(np.median([max(bottom - top, right - left) for top, bottom, left, right in boxes]))


def is_ready(pixels: np.ndarray) -> bool:
    """Return whether pixels (h, w, channels) are a digit as MNIST has it: 28×28, light on black, in place and size."""
    if pixels.shape != (SIDE, SIDE, 1) or not pixels.any():
        return False
    image = pixels[..., 0]
    top, bottom, left, right = box_of(image > 0)
    centre = np.array(ndimage.center_of_mass(image))
    # The centre was rounded to whole pixels: it is up to half a pixel off, and a quarter for other programs' rounding.
    return max(bottom - top, right - left) == BOX and bool(np.abs(centre - SIDE / 2).max() <= 0.75)


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
            top, bottom, left, right = box_of(grown > 0)
            fine = grown[top:bottom, left:right]
    return _resize_to(fine, box)


def _resize_to(values: np.ndarray, side: int) -> np.ndarray:
    return resize(values, [max(1, round(length * side / max(values.shape))) for length in values.shape])


def _centred(strokes: np.ndarray) -> np.ndarray:
    """Return strokes float32 (h, w) in 0-1 as uint8 (28, 28), their centre of mass in the middle."""
    centre = np.array(ndimage.center_of_mass(strokes))
    start = np.round(SIDE / 2 - centre).astype(int).clip(0, SIDE - np.array(strokes.shape))
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[start[0] : start[0] + strokes.shape[0], start[1] : start[1] + strokes.shape[1]] = np.round(255 * strokes)
    return image
