"""Random affine transforms of images, drawn and applied in NumPy."""

import numpy as np
from scipy import ndimage

from digits.config import Augmentation


def with_channels(images: np.ndarray) -> np.ndarray:
    """Return grey images uint8 (n, height, width), as the data's readers give them, as (n, height, width, 1)."""
    return images[..., np.newaxis] if images.ndim == 3 else images


def affine_transforms(
    rotation_degrees: np.ndarray,
    zoom: np.ndarray,
    shear_degrees: np.ndarray,
    shift_x: np.ndarray,
    shift_y: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """Return the affine transforms float32 (n, 8) that rotate, zoom, shear and shift images about their centre.

    Args:
        rotation_degrees: counter-clockwise angle (n,).
        zoom: scale of width and height (n, 2); 1 keeps the size, 1.1 enlarges.
        shear_degrees: slant of the top to the right (n,).
        shift_x: pixels to the right (n,).
        shift_y: pixels down (n,).
        size: height and width of the images in pixels.

    Each row holds a0 a1 a2 b0 b1 b2 c0 c1 of `keras.ops.image.affine_transform`: the output pixel (x, y) is read at
    (a0·x + a1·y + a2, b0·x + b1·y + b2) of the input: the inverse of the visible movement.
    """
    angle, slant = np.deg2rad(rotation_degrees), np.tan(np.deg2rad(shear_degrees))
    cosine, sine = np.cos(angle), np.sin(angle)
    # The inverse of shift ∘ shear ∘ zoom ∘ rotate, in that order.
    unzoom_x, unzoom_y = 1 / zoom[:, 0], 1 / zoom[:, 1]
    a0, a1 = cosine * unzoom_x, cosine * unzoom_x * slant - sine * unzoom_y
    b0, b1 = sine * unzoom_x, sine * unzoom_x * slant + cosine * unzoom_y
    centre_y, centre_x = (size[0] - 1) / 2, (size[1] - 1) / 2
    origin_x, origin_y = centre_x + shift_x, centre_y + shift_y
    a2 = centre_x - a0 * origin_x - a1 * origin_y
    b2 = centre_y - b0 * origin_x - b1 * origin_y
    zeros = np.zeros_like(a0)
    return np.stack([a0, a1, a2, b0, b1, b2, zeros, zeros], axis=1).astype(np.float32)


def identity_transforms(count: int) -> np.ndarray:
    """Return `count` identity transforms float32 (count, 8)."""
    return np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0], np.float32), (count, 1))


def ink_margins(images: np.ndarray) -> np.ndarray:
    """Return empty margins left, right, top and bottom, int (n, 4), of images uint8 (n, height, width, channels)."""
    columns, rows = np.any(images, axis=(1, 3)), np.any(images, axis=(2, 3))
    return np.stack([side.argmax(axis=1) for side in (columns, columns[:, ::-1], rows, rows[:, ::-1])], axis=1)


def draw_transforms(
    random: np.random.Generator, margins: np.ndarray, size: tuple[int, int], augmentation: Augmentation
) -> np.ndarray:
    """Draw an affine transform float32 (n, 8) for each image, uniformly within the ranges of `augmentation`.

    The same state of `random` gives the same transforms on every backend and machine. The images' `ink_margins` bound
    the shifts where `augmentation.keep_ink` is set. Their `size` is height and width in pixels.
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
        size,
    )


def apply_transforms(images: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Return images uint8 (n, height, width, channels) after transforms float32 (n, 8), as `AffineTransform` does it.

    SciPy's "grid-constant" is Keras's "constant": pixels beyond the edge are 0, and are interpolated with.
    """
    copies = np.empty_like(images)
    for copy, image, (a0, a1, a2, b0, b1, b2, *_) in zip(copies, images, transforms, strict=True):
        # SciPy uses (row, column, channel) where the transforms use (x, y).
        matrix, offset = [[b1, b0, 0], [a1, a0, 0], [0, 0, 1]], [b2, a2, 0]
        moved = ndimage.affine_transform(image.astype(np.float32), matrix, offset, order=1, mode="grid-constant")
        copy[:] = np.clip(np.rint(moved), 0, 255)
    return copies
