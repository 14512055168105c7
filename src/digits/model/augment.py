"""Random changes of images, drawn in NumPy: one affine transform, and one of brightness and contrast."""

import numpy as np
from scipy import ndimage

from digits.config import Augmentation

AFFINE = 8
"""Numbers that describe an affine transform; two more, a factor and a summand, change brightness and contrast."""


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
        zoom: scale of width and height (n, 2); 1 keeps the size, 1.1 enlarges, -1 mirrors.
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


def identity_transforms(count: int, columns: int = AFFINE) -> np.ndarray:
    """Return `count` transforms float32 (count, columns) that change nothing; columns are AFFINE or AFFINE + 2."""
    return np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 0], np.float32)[:columns], (count, 1))


def ink_margins(images: np.ndarray) -> np.ndarray:
    """Return empty margins left, right, top and bottom, int (n, 4), of images uint8 (n, height, width, channels)."""
    columns, rows = np.any(images, axis=(1, 3)), np.any(images, axis=(2, 3))
    return np.stack([side.argmax(axis=1) for side in (columns, columns[:, ::-1], rows, rows[:, ::-1])], axis=1)


def draw_transforms(
    random: np.random.Generator, margins: np.ndarray, size: tuple[int, int], augmentation: Augmentation
) -> np.ndarray:
    """Draw a transform for each image, uniformly within the ranges of `augmentation`.

    The same state of `random` gives the same transforms on every backend and machine. The images' `ink_margins` bound
    the shifts where `augmentation.keep_ink` is set. Their `size` is height and width in pixels.

    Returns:
        Affine transforms float32 (n, 8), or (n, 10) where brightness or contrast change: pixels in 0-255 are multiplied
        by the ninth number, and the tenth is added.
    """
    count = len(margins)

    def within(limit: float, *shape: int) -> np.ndarray:
        return random.uniform(-limit, limit, size=(count, *shape))

    shift_x, shift_y = within(augmentation.shift_pixels), within(augmentation.shift_pixels)
    rotation, zoom = within(augmentation.rotation_degrees), 1 + within(augmentation.zoom, 2)
    shear = within(augmentation.shear_degrees)
    left, right, top, bottom = margins.T
    # Flips are drawn last, so that the other numbers are the same without them.
    if augmentation.flip_left_right:
        is_flipped = random.random(count) < 0.5
        zoom[is_flipped, 0] *= -1
        left, right = np.where(is_flipped, right, left), np.where(is_flipped, left, right)
    if augmentation.flip_up_down:
        is_flipped = random.random(count) < 0.5
        zoom[is_flipped, 1] *= -1
        top, bottom = np.where(is_flipped, bottom, top), np.where(is_flipped, top, bottom)
    if augmentation.keep_ink:
        shift_x, shift_y = np.clip(shift_x, -left, right), np.clip(shift_y, -top, bottom)
    transforms = affine_transforms(rotation, zoom, shear, shift_x, shift_y, size)
    if not augmentation.changes_tones:
        return transforms
    factor, brighter = 1 + within(augmentation.contrast), within(augmentation.brightness)
    summand = 255 / 2 * (1 - factor) + 255 * brighter  # Contrast changes about the middle of 0-255.
    return np.concatenate([transforms, np.stack([factor, summand], axis=1).astype(np.float32)], axis=1)


def apply_transforms(images: np.ndarray, transforms: np.ndarray, *, mirror_edges: bool = False) -> np.ndarray:
    """Return images uint8 (n, height, width, channels) changed as `networks.augmented_model` does it.

    Transforms are float32 (n, 8) or (n, 10), as `draw_transforms` returns them; `mirror_edges` as in `Augmentation`.
    SciPy's "grid-constant" is Keras's "constant": pixels beyond the edge are 0, and are interpolated with.
    """
    mode = "reflect" if mirror_edges else "grid-constant"
    copies = np.empty_like(images)
    for copy, image, transform in zip(copies, images, transforms, strict=True):
        a0, a1, a2, b0, b1, b2 = transform[:6]
        # SciPy uses (row, column, channel) where the transforms use (x, y).
        matrix, offset = [[b1, b0, 0], [a1, a0, 0], [0, 0, 1]], [b2, a2, 0]
        moved = ndimage.affine_transform(image.astype(np.float32), matrix, offset, order=1, mode=mode)
        for factor, summand in transform[AFFINE:].reshape(-1, 2):
            moved = moved * factor + summand
        copy[:] = np.clip(np.rint(moved), 0, 255)
    return copies
