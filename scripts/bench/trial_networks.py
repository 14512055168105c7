"""Variants of the network compact that the ablation tries, as a user's own networks."""

from collections.abc import Callable

import keras
from keras import layers

from digits.model.networks import NETWORKS, FusedBatchNormalization, plain


def _rebuilt(network: keras.Model, change: Callable) -> keras.Model:
    """Return a fresh twin of a chain of layers; `change(layer, following)` gives the list that replaces a layer."""
    chain = network.layers[1:]
    images = x = keras.Input(network.input_shape[1:], name="images")
    for layer, following in zip(chain, [*chain[1:], None], strict=True):
        for replacement in change(layer, following):
            x = replacement(x)
    return keras.Model(images, x, name=network.name)


def every_norm(input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Build compact with batch norm after each convolution."""

    def change(layer, following):
        again = layer.__class__.from_config(layer.get_config())
        bare = isinstance(layer, layers.Conv2D | layers.MaxPooling2D) and isinstance(following, layers.ReLU)
        return [again, FusedBatchNormalization()] if bare else [again]

    return _rebuilt(NETWORKS["compact"](input_shape, classes), change)


def keras_norms(input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Build compact with Keras's own batch norm and dropout."""
    return plain(NETWORKS["compact"](input_shape, classes))
