"""One Keras model for a whole ensemble: uint8 images in, mean probabilities out, test-time augmentation included."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from digits.config import Tta
from digits.model.networks import AffineTransform
from digits.model.predict import tta_transforms

TAPS = 4
"""Pixels of the image that a pixel of a bilinearly transformed image is made of."""


@dataclass(frozen=True)
class EnsembleMember:
    """Networks that are averaged equally, their test-time augmentation, and their weight in the ensemble."""

    networks: Sequence[keras.Model]
    tta: Tta
    weight: float = 1.0


def in_float32(network: keras.Model, name: str | None = None) -> keras.Model:
    """Return the network's twin that computes in float32, weights included, whatever precision it was trained in."""

    def copy(layer):
        return layer.__class__.from_config(layer.get_config() | {"dtype": "float32"})

    twin = keras.models.clone_model(network, clone_function=copy)
    twin.set_weights(network.get_weights())
    return keras.Model(twin.input, twin.output, name=name)


def serving_model(members: Sequence[EnsembleMember], *, logarithmic: bool = False) -> keras.Model:
    """Return a model from images uint8 (n, height, width), 0 background to 255, to probabilities float32 (n, classes).

    It is made of Keras's own layers and operations alone, in float32, so that it loads and converts without this kit.
    An augmented view is a gather with fixed indices and weights: converters know that, but not an affine transform.

    Args:
        members: what is averaged.
        logarithmic: average the logarithms of the members' probabilities.
    """
    height, width, _ = members[0].networks[0].input_shape[1:]
    images = keras.Input((height, width), dtype="uint8", name="images_0_to_255")
    flat = ops.reshape(ops.cast(images, "float32"), (-1, height * width))
    views: dict[Tta, keras.KerasTensor] = {}
    total, weights, count = None, sum(member.weight for member in members), 0
    for member in members:
        transforms = tta_transforms(member.tta)
        if member.tta not in views:
            transformed = [flat, *(_transformed(flat, view, height, width) for view in transforms[1:])]
            views[member.tta] = ops.reshape(ops.concatenate(transformed, axis=0), (-1, height, width, 1))
        shares = np.full(len(transforms), member.tta.weight, np.float32)
        shares[0] = 1
        by_network = []
        for network in member.networks:
            count += 1  # Names must be unique in a model.
            probabilities = in_float32(network, f"network_{count}")(views[member.tta])
            by_view = ops.reshape(probabilities, (len(transforms), -1, probabilities.shape[-1]))
            by_network.append(sum(by_view[index] * float(share) for index, share in enumerate(shares / shares.sum())))
        mean = sum(by_network[1:], by_network[0]) / len(by_network)
        share = float(member.weight / weights)
        weighted = (ops.log(ops.clip(mean, 1e-7, 1.0)) if logarithmic else mean) * share
        total = weighted if total is None else total + weighted
    outputs = (
        keras.layers.Softmax(name="probabilities")(total)
        if logarithmic
        else keras.layers.Identity(name="probabilities")(total)
    )
    return keras.Model(images, outputs, name="digits")


def _transformed(flat, view: np.ndarray, height: int, width: int):
    """Return images float32 (n, height × width) after one affine transform float32 (8,), as `AffineTransform` does it.

    What a transform makes of each single pixel says of which pixels, in which shares, each new pixel consists.
    """
    pixels = height * width
    single = np.eye(pixels, dtype=np.float32).reshape(pixels, height, width, 1)
    matrix = ops.convert_to_numpy(AffineTransform()(single, np.repeat(view[np.newaxis], pixels, axis=0)))
    matrix = matrix.reshape(pixels, pixels).T
    taps = np.argsort(-matrix, axis=1, kind="stable")[:, :TAPS]
    weights = np.take_along_axis(matrix, taps, axis=1)
    gathered = ops.reshape(ops.take(flat, taps.reshape(-1).astype(np.int32), axis=1), (-1, pixels, TAPS))
    return ops.sum(gathered * weights, axis=2)
