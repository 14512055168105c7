"""The form of a run's training images, measured, and how other images are brought into it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from digits.data.competition import SIDE
from digits.data.csv_reader import SIDES
from digits.data.image_files import gray, resize

Shape = tuple[int, int, int]
"""Height, width and channels of an image."""
BOX = 20
"""MNIST's digits were scaled into a box of 20×20 pixels, then placed in 28×28 by their centre of mass (LeCun 1998)."""
SAMPLE = 500
"""So many training images are measured: a share of 90 % is known to a percentage point or two."""
FAINT = 25
"""Pixels above it are ink, of 255: not the noise that JPEG leaves on a ground."""


@dataclass(frozen=True)
class Prepared:
    """An image as the networks take it, uint8 (height, width, channels), and what was noticed on the way."""

    image: np.ndarray
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageForm:
    """The form of a run's training images, into which other images are brought; the default is MNIST's."""

    side: int = SIDE
    """Of the images of a run before December 2026 in pixels, before they were resized to 28; else 28."""
    factor: int = 1  # By which their pixels were multiplied.
    box: int = BOX  # The long side of their ink, in pixels of 28.
    is_light: bool | None = False  # Whether their ground is light; None: neither nor.
    is_drawn: bool = True  # Whether they are strokes: photographs of other things are only resized.
    turn: int = 0
    """Quarter turns to the left of upright digits, after a mirroring along the diagonal from 4 on."""
    is_mnist: bool = True  # Whether they have MNIST's form in all of this, and are centred as its images are.
    is_assumed: bool = False
    shape: Shape = (SIDE, SIDE, 1)  # Of the images that the networks take.

    @property
    def own_shape(self) -> Shape:
        """That of the images before they were resized."""
        return (self.side, self.side, 1) if self.side != SIDE else self.shape

    @property
    def note(self) -> str | None:
        """What to print of it; None where it is MNIST's."""
        if self.is_assumed:
            return "The run's training images are not here and were not measured: MNIST's form is assumed."
        if self.is_mnist:
            return None
        if not self.is_drawn:
            return f"The run's training images are no drawings: images are resized to theirs, {shape_text(self.shape)}."
        ground = {True: "dark on light", False: "light on dark", None: "of light and dark grounds"}[self.is_light]
        turned = ", turned or mirrored" if self.turn else ""
        return (
            f"The run's training images do not have MNIST's form ({shape_text(self.own_shape)}, {ground}{turned}). "
            "Images of their size and ground are taken as they are, others are brought into this form."
        )

    def has_size(self, pixels: np.ndarray) -> bool:
        """Return whether pixels (h, w, channels) are of the training images' size."""
        return pixels.shape[:2] == self.own_shape[:2]

    def brightened(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels multiplied as the training images were, unless they have been."""
        return pixels * np.uint8(self.factor) if int(pixels.max()) * self.factor <= 255 else pixels

    def as_trained(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels uint8 (h, w, channels) of the training images' size as the networks take them."""
        return in_shape(self.brightened(self.coloured(pixels))[np.newaxis], self.shape)[0]

    def coloured(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels uint8 (h, w, channels) in grey or in colour as the training images are."""
        return in_shape(pixels[np.newaxis], (*pixels.shape[:2], self.shape[2]))[0]

    def shown(self, images: np.ndarray) -> np.ndarray:
        """Return images uint8 (…, channels) as a page shows them: light drawings as dark ink on white."""
        return 255 - images if self.is_drawn and self.is_light is False else images

    def is_like(self, pixels: np.ndarray) -> bool:
        """Return whether pixels (h, w, channels) have this size and ground; MNIST's size has anything."""
        has_ground = self.is_light is None or has_light_ground(gray(pixels)) == self.is_light
        return not self.is_mnist and self.has_size(pixels) and has_ground

    def squeezed(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels (h, w, channels) only in another colour and size, inverted where the ground is another."""
        image = self.coloured(pixels)
        if self.is_light is not None and has_light_ground(gray(image)) != self.is_light:
            image = 255 - image
        return self.as_trained(image) if self.has_size(image) else self.fitted(image)

    def fitted(self, image: np.ndarray) -> np.ndarray:
        """Return an image uint8 (h, w, channels) in the networks' size, as blurred as training images once smaller."""
        if self.side < SIDE:
            image = resize(image, (self.side, self.side))
        return resize(image, self.shape[:2])


def shape_text(shape: Shape) -> str:
    """Return the shape (height, width, channels) of images in words: "28 × 28 pixels in grey"."""
    return f"{shape[1]} × {shape[0]} pixels in {'grey' if shape[2] == 1 else 'colour'}"


def in_shape(images: np.ndarray, shape: Shape) -> np.ndarray:
    """Return images uint8 (n, h, w, channels) in the shape (height, width, channels): grey or RGB, and resized."""
    if images.shape[3] > shape[2]:
        images = np.stack([gray(image) for image in images])[..., np.newaxis]
    elif images.shape[3] < shape[2]:
        images = images.repeat(shape[2], axis=3)
    return images if images.shape[1:] == shape else np.stack([resize(image, shape[:2]) for image in images])


def fitting_size(size: tuple[int, int], long_side: int | None = None) -> tuple[int, int]:
    """Return height and width of an image of this size whose long side becomes `long_side`; None: what SIDES allow."""
    scale = (long_side or min(max(size), SIDES[1])) / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def measure_form(images: np.ndarray, factor: int = 1, turn: int = 0) -> ImageForm:
    """Return the form of images uint8 (n, height, width, channels), which were multiplied by `factor`."""
    shape, sample = images.shape[1:], in_shape(images[:: -(-len(images) // SAMPLE)], (SIDE, SIDE, 1))[..., 0]
    light_share = np.mean([has_light_ground(image) for image in sample])
    is_light = None if shape[2] > 1 or 0.1 < light_share < 0.9 else bool(light_share > 0.5)
    inks = [mask for mask in (255 - sample if is_light else sample) > FAINT if mask.any()]
    if not inks:
        return ImageForm(factor=factor, is_drawn=False, is_mnist=False, shape=shape)
    boxes = [box_of(ink) for ink in inks]
    box = int(np.median([max(bottom - top, right - left) for top, bottom, left, right in boxes]))
    # A stroke has two edges: twice its area by the length of these is its width. MNIST's are a sixth of a digit wide.
    width = np.median([2 * ink.sum() / max(1, np.diff(ink, axis=0).sum() + np.diff(ink, axis=1).sum()) for ink in inks])
    is_drawn = is_light is not None and shape[0] == shape[1] and bool(width < 0.3 * box)
    are_ready = np.mean([is_ready(image[..., np.newaxis]) for image in sample]) > 0.9
    is_mnist = shape == (SIDE, SIDE, 1) and turn == 0 and bool(are_ready)
    box = BOX if is_mnist else box
    return ImageForm(SIDE, factor, box, is_light, is_drawn, turn, is_mnist, shape=shape)


def measure_turn(images: np.ndarray, labels: Sequence[str], means: dict[str, np.ndarray]) -> int:
    """Return how images uint8 (n, 28, 28, 1) of digits are turned, see `ImageForm.turn`: EMNIST's CSVs are mirrored.

    `labels` name their classes (n,), and `means` are images (28, 28, 1) of classes that are upright.
    """
    names = np.asarray(labels)
    present = {name: names == name for name in means if name in names}
    pairs = [(images[rows, ..., 0].mean(axis=0), means[name][..., 0]) for name, rows in present.items()]
    if len(pairs) < 5:
        return 0

    def likeness(turn: int) -> float:
        turned = [(own, np.rot90(mean.T if turn >= 4 else mean, turn % 4)) for own, mean in pairs]
        return float(np.mean([abs(np.corrcoef(own.ravel(), mean.ravel())[0, 1]) for own, mean in turned]))

    best = max(range(8), key=likeness)
    # Digits of another script are like MNIST's in no direction: 0.4 at most for Kannada's.
    return best if likeness(best) > max(0.6, likeness(0) + 0.1) else 0


def has_light_ground(image: np.ndarray) -> bool:
    """Return whether the edge of an image (h, w) in 0-255 is light in the median."""
    return bool(np.median(edge_of(image)) > 127)


def edge_of(values: np.ndarray) -> np.ndarray:
    """Return the values (n, …) on the edge of an image (h, w, …), those of the corners twice."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def is_ready(pixels: np.ndarray) -> bool:
    """Return whether pixels (h, w, channels) are a digit as MNIST has it: 28×28, light on black, in place and size."""
    if pixels.shape != (SIDE, SIDE, 1) or not pixels.any():
        return False
    image = pixels[..., 0].astype(float)
    top, bottom, left, right = box_of(image > 0)
    centre = np.array([image.sum(axis=1), image.sum(axis=0)]) @ np.arange(SIDE) / image.sum()
    # The centre was rounded to whole pixels: it is up to half a pixel off, and a quarter for other programs' rounding.
    return max(bottom - top, right - left) == BOX and bool(np.abs(centre - SIDE / 2).max() <= 0.75)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the first row, the row after the last, the first column and the column after the last of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
