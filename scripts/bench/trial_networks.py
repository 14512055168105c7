"""Variants of the kit's networks that the ablation tries: chains of layers, with one kind put in or left out."""

from collections.abc import Callable

NAMES = ("compact with every norm", "compact with Keras norms")


def register() -> None:
    """Add the variants to the kit's networks, in this process."""
    from digits.model import networks

    networks.NETWORKS.update(zip(NAMES, (_with_every_norm, _with_keras_norms), strict=True))


def _rebuilt(network, change: Callable):
    """Return a fresh twin of a chain of layers; `change(layer, following)` gives the list that replaces a layer."""
    import keras

    chain = network.layers[1:]
    images = x = keras.Input(network.input_shape[1:], name="images")
    for layer, following in zip(chain, [*chain[1:], None], strict=True):
        for replacement in change(layer, following):
            x = replacement(x)
    return keras.Model(images, x, name=network.name)


def _again(layer):
    return layer.__class__.from_config(layer.get_config())


def _with_every_norm():
    from keras import layers

    from digits.model.networks import FusedBatchNormalization, compact

    def change(layer, following):
        bare = isinstance(layer, layers.Conv2D | layers.MaxPooling2D) and isinstance(following, layers.ReLU)
        return [_again(layer), FusedBatchNormalization()] if bare else [_again(layer)]

    return _rebuilt(compact(), change)


def _with_keras_norms():
    from digits.model.networks import compact, plain

    return plain(compact())
