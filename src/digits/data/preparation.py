"""Bring a photograph, scan or drawing into the form that MNIST's digits have."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from digits.console import BadInput, error_context
from digits.data.competition import SIDE
from digits.data.finding import find_digit, resize
from digits.data.image_files import find_images, folder_label, read_image
from digits.data.image_form import BOX, ImageForm, Prepared, box_of, is_ready
from digits.files import display_path, kit_command

FINE = 4
"""A digit is drawn at this many times its final size while its strokes are measured: a quarter pixel is seen."""
STROKE_WIDTHS = (2.2, 4.0)
"""Strokes of a digit of 20 pixels are brought into this range, in pixels; MNIST's are mostly 2 to 4 wide."""
SIZE = 0.9
"""Digits are made so large, in shares of the training images' digits: a 1 with a long upstroke, which is rare among
MNIST's, is then read as a 7 less often (docs/use-a-model.md)."""


def load_extra(
    folder: Path, classes: Sequence[str], known: np.ndarray, form: ImageForm
) -> tuple[np.ndarray, np.ndarray]:
    """Load custom images, LABEL/….png, to train on beside a dataset's: in its shape, with labels uint8 (n,).

    `known` are the dataset's images uint8 (m, height, width, channels), none of which may be among them. Raises
    BadInput, naming the first image that has no label, cannot be used, or is one of the dataset's.
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
                image = fit(read_image(file), form).image
                if image.tobytes() in known_images:
                    raise BadInput("one of the dataset's images, which would be scored")
        images.append(image)
        labels.append(classes.index(label))
    return np.stack(images), np.array(labels, np.uint8)


def fit(pixels: np.ndarray, form: ImageForm, *, is_prepared: bool | None = None) -> Prepared:
    """Return pixels uint8 (h, w, 1 or 3) of any image as the networks of a run take them.

    `is_prepared` says whether it has this form but for its size and ground; None: measured, see `ImageForm.is_like`.

    Raises:
        NotADigitImage: if there is nothing on the page.
    """
    is_prepared = form.is_like(pixels) if is_prepared is None else is_prepared
    if is_prepared or not form.is_drawn:
        return Prepared(form.squeezed(pixels))
    digit = prepare(pixels, form.box)
    image = np.rot90(digit.image.swapaxes(0, 1) if form.turn >= 4 else digit.image, form.turn % 4)
    return replace(digit, image=form.fitted(255 - image if form.is_light else image))


def prepare(pixels: np.ndarray, box: int = BOX) -> Prepared:
    """Find the digit in pixels uint8 (h, w, 1 or 3) and give it MNIST's size, place and stroke.

    The page's own brightness is divided out, so that shadows and uneven light vanish; ink darker or lighter than the
    page becomes white on black; specks and page edges go; strokes too thin or too thick for a box of 20×20 pixels are
    corrected, the ink is scaled to `SIZE` of that box, and the centre of mass comes to the middle of 28×28. Digits of
    other data than MNIST's have a `box` of their own.

    Raises:
        NotADigitImage: if there is nothing on the page.
    """
    if box == BOX and is_ready(pixels):
        return Prepared(pixels.copy())
    digit = find_digit(pixels)
    notes = (*digit.notes, "touches the edge") if digit.touches_edge else digit.notes
    return Prepared(_centred(_scaled(digit.strokes(), round(SIZE * box))), notes)


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
    """Return strokes float32 (h, w) in 0-1 as uint8 (28, 28, 1), their centre of mass in the middle."""
    centre = np.array(ndimage.center_of_mass(strokes))
    start = np.round(SIDE / 2 - centre).astype(int).clip(0, SIDE - np.array(strokes.shape))
    image = np.zeros((SIDE, SIDE, 1), np.uint8)
    rows, columns = (slice(first, first + length) for first, length in zip(start, strokes.shape, strict=True))
    image[rows, columns, 0] = np.round(255 * strokes)
    return image
