"""The networks, by name: each takes images (n, 28, 28, 1) with values 0-255 and gives probabilities float32 (n, 10)."""

from collections.abc import Callable

import keras
from keras import layers

from digits.competition import CLASSES, SIDE

INPUT_SHAPE = (SIDE, SIDE, 1)


@keras.saving.register_keras_serializable("digits")
class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation that trains through TensorFlow's fused op, where TensorFlow is the backend.

    Keras computes the moments and the scaling one by one, which on two cores costs a compact network a tenth of its
    time. Elsewhere, and outside training, it is Keras's own layer; `plain` turns it into that before a model is saved.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise inputs (n, height, width, channels) by the batch's own moments in training, else by the moving ones."""
        if not training or keras.backend.backend() != "tensorflow" or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            tf.cast(inputs, tf.float32),
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)


def plain(network: keras.Model) -> keras.Model:
    """Return the same network, weights included, built of Keras's own layers alone, so that it loads without this kit."""

    def own(layer):
        if isinstance(layer, FusedBatchNormalization):
            return layers.BatchNormalization.from_config(layer.get_config())
        return layer.__class__.from_config(layer.get_config())

    twin = keras.models.clone_model(network, clone_function=own)
    twin.set_weights(network.get_weights())
    return twin


def _input(scale: float = 1 / 255, offset: float = 0.0):
    images = keras.Input(INPUT_SHAPE, name="images")
    return images, layers.Rescaling(scale, offset, name="scale")(images)


def _network(name: str, images, logits_or_features, *, head: bool = True, **dense) -> keras.Model:
    logits = layers.Dense(CLASSES, **dense)(logits_or_features) if head else logits_or_features
    # Probabilities in float32 also where the layers compute in bfloat16.
    return keras.Model(images, layers.Softmax(dtype="float32", name="probabilities")(logits), name=name)


def seed_network() -> keras.Model:
    """Build the CNN of the README that this kit grew from: 693,962 weights, 1.4 M multiply-adds an image."""
    images, x = _input()
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return _network("seed", images, x)


def _stage(x, filters: int, kernel: int, *, padding: str = "valid", pool: bool = False, norm: bool = True):
    """Convolve, pool, normalise, rectify: pooling first spares three quarters of the other two (the maximum commutes with ReLU)."""
    x = layers.Conv2D(filters, kernel, padding=padding, use_bias=not norm)(x)
    if pool:
        x = layers.MaxPooling2D(2)(x)
    if norm:
        x = FusedBatchNormalization()(x)
    return layers.ReLU()(x)


def compact(width: int = 1, norm: bool = True) -> keras.Model:
    images, x = _input()
    w = width
    x = _stage(x, 24, 5, pool=True, norm=norm)
    x = _stage(x, int(48 * w), 3, norm=norm)
    x = _stage(x, int(64 * w), 3, pool=True, norm=norm)
    x = _stage(x, int(128 * w), 3, padding="same", norm=norm)
    x = _stage(x, int(128 * w), 3, norm=norm)
    x = layers.Flatten()(x)
    return _network("compact", images, x)


NETWORKS: dict[str, Callable[[], keras.Model]] = {"seed": seed_network, "compact": compact}


def build_network(name: str, precision: str = "float32") -> keras.Model:
    """Build the network `name` with fresh weights; `precision` is float32 or mixed_bfloat16."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return NETWORKS[name]()
    finally:
        keras.config.set_dtype_policy(before)
