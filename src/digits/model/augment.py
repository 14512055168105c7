"""The layer that warps digits, one fused op which the warps of `warps` go through, before any network."""

import keras

from digits.data.competition import SIDE


@keras.saving.register_keras_serializable("digits")
class Warp(keras.layers.Layer):
    """Apply warps float32 (n, 8) to images uint8 (n, 28, 28, 1), bilinearly, empty outside; gives float32 in 0-255.

    One native op for the whole batch on TensorFlow; on JAX and torch, Keras's own gather.
    """

    def __init__(self, **settings):
        super().__init__(dtype="float32", autocast=False, **settings)

    def call(self, images, warps):
        """Return the warped images."""
        return keras.ops.image.affine_transform(
            keras.ops.cast(images, "float32"), warps, interpolation="bilinear", fill_mode="constant", fill_value=0.0
        )


def warped_model(network: keras.Model) -> keras.Model:
    """Return a model of (images uint8, warps float32 (n, 8)) that warps the images and hands them to `network`."""
    images, warps = keras.Input((SIDE, SIDE, 1), dtype="uint8"), keras.Input((8,), dtype="float32")
    return keras.Model([images, warps], network(Warp()(images, warps)))
