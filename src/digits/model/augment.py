"""Random affine transforms of images, drawn and applied in NumPy."""

import numpy as np
from scipy import ndimage

from digits.config import Augmentation
from digits.data.competition import SIDE

_CENTER = (SIDE - 1) / 2


def affine_transforms(
    rotation_degrees: np.ndarray,
    zoom: np.ndarray,
    shear_degrees: np.ndarray,
    shift_x: np.ndarray,
    shift_y: np.ndarray,
) -> np.ndarray:
    """Return the affine transforms float32 (n, 8) that rotate, zoom, shear and shift images about their centre.

    Args:
        rotation_degrees: counter-clockwise angle (n,).
        zoom: scale of width and height (n, 2); 1 keeps the size, 1.1 enlarges.
        shear_degrees: slant of the top to the right (n,).
        shift_x: pixels to the right (n,).
        shift_y: pixels down (n,).

    Each row holds a0 a1 a2 b0 b1 b2 c0 c1 of `keras.ops.image.affine_transform`: the output pixel (x, y) is read at
    (a0·x + a1·y + a2, b0·x + b1·y + b2) of the input: the inverse of the visible movement.
    """
    angle, slant = np.deg2rad(rotation_degrees), np.tan(np.deg2rad(shear_degrees))
    cosine, sine = np.cos(angle), np.sin(angle)
    # The inverse of shift ∘ shear ∘ zoom ∘ rotate, in that order.
    unzoom_x, unzoom_y = 1 / zoom[:, 0], 1 / zoom[:, 1]
    a0, a1 = cosine * unzoom_x, cosine * unzoom_x * slant - sine * unzoom_y
    b0, b1 = sine * unzoom_x, sine * unzoom_x * slant + cosine * unzoom_y
    origin_x, origin_y = _CENTER + shift_x, _CENTER + shift_y
    a2 = _CENTER - a0 * origin_x - a1 * origin_y
    b2 = _CENTER - b0 * origin_x - b1 * origin_y
    zeros = np.zeros_like(a0)
    return np.stack([a0, a1, a2, b0, b1, b2, zeros, zeros], axis=1).astype(np.float32)


def identity_transforms(count: int) -> np.ndarray:
    """Return `count` identity transforms float32 (count, 8)."""
    zeros = np.zeros(count)
    return affine_transforms(zeros, np.ones((count, 2)), zeros, zeros, zeros)


def ink_margins(images: np.ndarray) -> np.ndarray:
    """Return the empty margins left, right, top and bottom of each digit, int (n, 4), in images uint8 (n, 28, 28)."""
    columns, rows = np.any(images, axis=1), np.any(images, axis=2)
    return np.stack([side.argmax(axis=1) for side in (columns, columns[:, ::-1], rows, rows[:, ::-1])], axis=1)


def draw_transforms(random: np.random.Generator, margins: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Draw an affine transform float32 (n, 8) for each image, uniformly within the ranges of `augmentation`.

    Args:
        random: the generator; the same state gives the same transforms on every backend and machine.
        margins: the images' `ink_margins` int (n, 4), which bound the shifts where `augmentation.keep_ink` is set.
    """
    count = len(margins)

    def within(limit: float, *shape: int) -> np.ndarray:
        return random.uniform(-limit, limit, size=(count, *shape))

    shift_x, shift_y = within(augmentation.shift_pixels), within(augmentation.shift_pixels)
    if augmentation.keep_ink:
        left, right, top, bottom = margins.T
        shift_x, shift_y = np.clip(shift_x, -left, right), np.clip(shift_y, -top, bottom)
    return affine_transforms(
        within(augmentation.rotation_degrees),
        1 + within(augmentation.zoom, 2),
        within(augmentation.shear_degrees),
        shift_x,
        shift_y,
    )


def apply_transforms(images: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Return images uint8 (n, side, side) transformed by float32 (n, 8), as the layer `networks.AffineTransform` does.

    SciPy's "grid-constant" is Keras's "constant": pixels beyond the edge are 0, and are interpolated with.
    """
    views = np.empty_like(images)
    for view, image, (a0, a1, a2, b0, b1, b2, *_) in zip(views, images, transforms, strict=True):
        # SciPy uses (row, column) where the transforms use (x, y).
        moved = ndimage.affine_transform(
            image.astype(np.float32), [[b1, b0], [a1, a0]], [b2, a2], order=1, mode="grid-constant"
        )
        view[:] = np.clip(np.rint(moved), 0, 255)
    return views
