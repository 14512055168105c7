"""One Keras model for a whole ensemble: uint8 images in, mean probabilities out, test-time augmentation included."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from digits.config import Tta
from digits.console import BadInput
from digits.data.image_form import shape_text
from digits.model.predict import copy_weight, tta_transforms


def ensemble_model(
    members: Sequence[Sequence[keras.Model]],
    ttas: Sequence[Tta],
    weights: Sequence[float],
    *,
    logarithmic: bool = False,
) -> keras.Model:
    """Return a model from images uint8 to probabilities float32 (n, classes).

    The networks of a member are averaged equally, each with the member's test-time augmentation, and the members, or
    with `logarithmic` their logarithms, by their weights. Images are (n, height, width) where they are grey, else (n,
    height, width, channels), as Pillow gives them.

    Around the networks it is made of Keras's own layers and operations alone, so that it loads and converts without
    this kit. An augmented copy is a gather with fixed indices and weights: converters know that, but not an affine
    transform.

    The networks are renamed, since names must be unique in a model.
    """
    shapes = {network.input_shape[1:] for networks in members for network in networks}
    shape = shapes.pop()
    if shapes:
        sizes = f"{shape_text(shape)} and {shape_text(shapes.pop())}"
        raise BadInput(f"expected networks that take images of one size, found {sizes}", fix="Use the runs alone.")
    height, width, channels = shape
    images = keras.Input(shape[:2] if channels == 1 else shape, dtype="uint8", name="images_0_to_255")
    flat = ops.reshape(ops.cast(images, "float32"), (-1, height * width, channels))
    copies: dict[Tta, keras.KerasTensor] = {}
    means, count = [], 0
    for networks, tta in zip(members, ttas, strict=True):
        transforms = tta_transforms(tta, (height, width))
        if tta not in copies:
            transformed = [flat, *(_transformed(flat, transform, height, width) for transform in transforms[1:])]
            copies[tta] = ops.reshape(ops.concatenate(transformed, axis=0), (-1, *shape))
        by_network = []
        for network in networks:
            count += 1
            network.name = f"network_{count}"
            probabilities = network(copies[tta], training=False)
            by_copy = ops.reshape(probabilities, (len(transforms), -1, probabilities.shape[-1]))
            mean = by_copy[0]
            if len(transforms) > 1:
                weight = copy_weight(tta, ops.max(mean, axis=-1, keepdims=True), ops.clip)
                augmented = sum(by_copy[index] for index in range(1, len(transforms)))
                mean = (mean + weight * augmented) / (1 + weight * (len(transforms) - 1))
            by_network.append(mean)
        means.append(_weighted_sum(by_network, np.full(len(by_network), 1 / len(by_network))))
    if logarithmic:
        means = [ops.log(ops.clip(mean, 1e-7, 1.0)) for mean in means]
    total = _weighted_sum(means, np.array(weights) / np.sum(weights))
    last = keras.layers.Softmax if logarithmic else keras.layers.Identity
    return keras.Model(images, last(name="probabilities")(total), name="digits")


def _weighted_sum(terms: Sequence, weights: np.ndarray):
    total = terms[0] * float(weights[0])
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total = total + term * float(weight)
    return total


def _transformed(flat, transform: np.ndarray, height: int, width: int):
    """Return images float32 (n, height × width, channels) after one affine transform, as `AffineTransform` does it."""
    y, x = np.divmod(np.arange(height * width), width)
    a0, a1, a2, b0, b1, b2, *_ = transform
    x, y = a0 * x + a1 * y + a2, b0 * x + b1 * y + b2  # Where each new pixel is read.
    taps, weights = [], []
    for row, column in ((np.floor(y) + down, np.floor(x) + right) for down in (0, 1) for right in (0, 1)):
        is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        taps.append(np.where(is_inside, row * width + column, 0))
        weights.append(is_inside * (1 - np.abs(y - row)) * (1 - np.abs(x - column)))
    pixels = np.stack(taps, axis=1).astype(np.int32)
    gathered = ops.reshape(ops.take(flat, pixels.reshape(-1), axis=1), (-1, *pixels.shape, flat.shape[-1]))
    return ops.sum(gathered * np.stack(weights, axis=1).astype(np.float32)[..., np.newaxis], axis=2)
