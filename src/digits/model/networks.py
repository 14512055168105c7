"""The networks, the layers that make them faster on a CPU, and the augmentation in front of them."""

import functools
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from keras import layers

from digits.config import Augmentation
from digits.console import BadInput
from digits.model import custom
from digits.model.augment import AFFINE
from digits.model.backend import computes_halves

Shape = tuple[int, int, int]
"""Height, width and channels of an image."""
MOMENTUM = 0.9
"""Of the batch norms' moving moments: Keras's 0.99 takes hundreds of batches, more than a small run has."""


@keras.saving.register_keras_serializable("digits")
class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation that trains through TensorFlow's fused op, where TensorFlow is the backend.

    Keras computes the moments and the scaling in separate ops, which on two cores takes a tenth of the training time of
    `compact`. Elsewhere, and outside training, it is Keras's own layer; `plain` makes it that for saving.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise inputs (n, height, width, channels), in training by the batch's own moments."""
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


@keras.saving.register_keras_serializable("digits")
class ByteDropout(layers.Dropout):
    """Dropout that draws a random byte for each value, where TensorFlow is the backend, instead of a float.

    Keras's own takes twice as long on a CPU. The rate is rounded to a multiple of 1/256. Elsewhere, and outside
    training, it is Keras's own layer; `plain` makes it that for saving.
    """

    def call(self, inputs, training=False):
        """Set values of inputs (n, ...) to 0 at random in training, and scale the others so that the mean stays."""
        if not training or not self.rate or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training)
        import tensorflow as tf

        threshold, size = round(self.rate * 256), tf.size(inputs)
        words = tf.random.stateless_uniform(
            [(size + 3) // 4], tf.cast(self.seed_generator.next(), tf.int32), minval=None, maxval=None, dtype=tf.int32
        )
        random_bytes = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], tf.shape(inputs))
        kept = tf.cast(random_bytes >= threshold, inputs.dtype)
        return inputs * (kept * (256 / (256 - threshold)))


_KERAS_LAYERS = {FusedBatchNormalization: layers.BatchNormalization, ByteDropout: layers.Dropout}


def plain(network: keras.Model) -> keras.Model:
    """Turn the network's layers of this kit into Keras's own, which predict the same and load without it."""
    for layer in all_layers(network):
        layer.__class__ = _KERAS_LAYERS.get(type(layer), type(layer))
    return network


def _images(shape: Shape):
    """Return the input and the same scaled from 0-255 to 0-1."""
    images = keras.Input(shape, name="images_0_to_255")
    return images, layers.Rescaling(1 / 255, name="scale")(images)


def _classifier(name: str, images, logits) -> keras.Model:
    # Probabilities in float32 also where the layers compute in bfloat16.
    return keras.Model(images, layers.Softmax(dtype="float32", name="probabilities")(logits), name=name)


def _block(x, filters: int, kernel: int, *, padding: str = "valid", pool: bool = False, norm: bool = True):
    """Convolve, pool, normalise, rectify: pooling first spares the others three quarters of their work."""
    x = layers.Conv2D(filters, kernel, padding=padding, use_bias=not norm)(x)
    if pool:
        x = layers.MaxPooling2D(2)(x)
    if norm:
        x = FusedBatchNormalization(momentum=MOMENTUM)(x)
    return layers.ReLU()(x)


def seed(input_shape: Shape, classes: int) -> keras.Model:
    """Build the baseline's CNN: 693,962 weights, 0.9 M multiply-adds an image."""
    images, x = _images(input_shape)
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return _classifier("seed", images, layers.Dense(classes)(x))


def compact(input_shape: Shape, classes: int) -> keras.Model:
    """Build the smallest network that is still good: 283,498 weights, 6.4 M multiply-adds an image.

    Only the maps after a pool and the last are normalised: on two cores the others' norms cost a fifth of the time. The
    3×3 convolutions start as identities, which short trainings gain from.
    """
    images, x = _images(input_shape)
    x = ByteDropout(0.2)(_block(x, 32, 5, pool=True))
    x = _block(x, 64, 3, norm=False)
    x = ByteDropout(0.2)(_block(x, 64, 3, pool=True))
    x = _block(x, 128, 3, padding="same", norm=False)
    x = _block(x, 128, 3)
    x = ByteDropout(0.4)(layers.Flatten()(x))
    network = _classifier("compact", images, layers.Dense(classes)(x))
    for layer in network.layers:
        if isinstance(layer, layers.Conv2D) and layer.kernel_size == (3, 3):
            _start_as_identity(layer)
    return network


def _start_as_identity(layer: layers.Conv2D) -> None:
    """Let a convolution's first filters pass their input channels on at first (dirac initialisation; Jordan 2024)."""
    weights = layer.get_weights()
    kernel = weights[0]
    height, width, channels, filters = kernel.shape
    passed = np.arange(min(channels, filters))
    kernel[..., passed] = 0
    kernel[height // 2, width // 2, passed, passed] = 1
    layer.set_weights(weights)


def vgg(input_shape: Shape, classes: int) -> keras.Model:
    """Build pairs of 3×3 convolutions (Simonyan & Zisserman 2014): 308,266 weights, 13.3 M multiply-adds an image."""
    images, x = _images(input_shape)
    for filters in (32, 64):
        x = _block(x, filters, 3)
        x = ByteDropout(0.2)(_block(x, filters, 3, pool=True))
    for _ in range(2):
        x = _block(x, 128, 3, padding="same")
    x = ByteDropout(0.4)(layers.Flatten()(x))
    return _classifier("vgg", images, layers.Dense(classes)(x))


def deotte(input_shape: Shape, classes: int) -> keras.Model:
    """Build the CNN of Chris Deotte's "25 Million Images!" (Kaggle 2018): 327,242 weights, 15.2 M multiply-adds.

    ReLU stands before the norm, and strides where others pool.
    """
    images, x = _images(input_shape)
    for filters in (32, 64):
        for kernel, strides, padding in ((3, 1, "valid"), (3, 1, "valid"), (5, 2, "same")):
            x = layers.Conv2D(filters, kernel, strides=strides, padding=padding, activation="relu")(x)
            x = FusedBatchNormalization()(x)
        x = ByteDropout(0.4)(x)
    x = layers.Conv2D(128, 4, activation="relu")(x)
    x = FusedBatchNormalization()(x)
    x = ByteDropout(0.4)(layers.Flatten()(x))
    return _classifier("deotte", images, layers.Dense(classes)(x))


def _late(name: str, widths: Sequence[int], input_shape: Shape, classes: int) -> keras.Model:
    """Build pairs of 3×3 convolutions (Simonyan & Zisserman 2014), each pooled only after its second.

    Every convolution is normalised; the dense layer sees the maximum and the mean of the last maps, as in Matuzas 2020.
    """
    images, x = _images(input_shape)
    for filters in widths[:-1]:
        x = _block(x, filters, 3, padding="same")
        x = ByteDropout(0.2)(_block(x, filters, 3, padding="same", pool=True))
    for _ in range(2):
        x = _block(x, widths[-1], 3, padding="same")
    x = layers.Concatenate()([layers.GlobalMaxPooling2D()(x), layers.GlobalAveragePooling2D()(x)])
    return _classifier(name, images, layers.Dense(classes)(ByteDropout(0.6)(x)))


def late48(input_shape: Shape, classes: int) -> keras.Model:
    """Build a VGG that is pooled late: 649,786 weights, 65.4 M multiply-adds an image."""
    return _late("late48", (48, 96, 192), input_shape, classes)


def late64(input_shape: Shape, classes: int) -> keras.Model:
    """Build `late48` with 64, 128 and 256 filters: 1,152,074 weights, 116.1 M multiply-adds an image."""
    return _late("late64", (64, 128, 256), input_shape, classes)


def resnet(input_shape: Shape, classes: int) -> keras.Model:
    """Build a residual network (He et al. 2016) for photographs: 1,093,274 weights, 44.0 M multiply-adds an image.

    A stage has half the side and twice the filters of the one before; the last normalisation of each residual starts at
    0 (Goyal et al. 2017), so that it is the identity at first. The first convolution sees the whole image: with pooling
    after it, Fashion-MNIST had 0.8 percentage points less. It takes images from 8 pixels on.
    """
    images, x = _images(input_shape)
    is_large = min(input_shape[:2]) > 40  # 64 pixels would take five times as long as 28.
    x = _block(x, 16, 3, padding="same", pool=is_large)
    for filters in (48, 96, 192):
        x = _block(x, filters, 3, padding="same", pool=min(x.shape[1:3]) > 4)
        residual = _block(x, filters, 3, padding="same")
        residual = layers.Conv2D(filters, 3, padding="same", use_bias=False)(residual)
        residual = FusedBatchNormalization(momentum=MOMENTUM, gamma_initializer="zeros")(residual)
        x = layers.ReLU()(layers.Add()([x, residual]))
    x = layers.Concatenate()([layers.GlobalMaxPooling2D()(x), layers.GlobalAveragePooling2D()(x)])
    return _classifier("resnet", images, layers.Dense(classes)(ByteDropout(0.4)(x)))


NETWORKS: dict[str, Callable[[Shape, int], keras.Model]] = {
    build.__name__: build for build in (seed, compact, vgg, deotte, late48, late64, resnet)
}


def all_layers(network: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of a network, those inside its layers too."""
    return network._flatten_layers(include_self=False)


def build_network(
    name: str,
    input_shape: Shape,
    precision: str = "float32",
    dropout: float = 1.0,
    sources: Mapping[str, str] | None = None,
    *,
    classes: int = 10,
) -> keras.Model:
    """Build a network with fresh weights, in float32 or mixed_bfloat16; `dropout` is a factor on its dropout rates.

    Its name is one of NETWORKS, or FILE.py:FUNCTION, with the text of FILE.py in `sources`.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        build = functools.partial(_own_network, name, sources or {}) if ":" in name else NETWORKS[name]
        network = build(input_shape, classes)
    except ValueError:
        if ":" in name:
            raise
        size = f"{input_shape[1]} × {input_shape[0]} pixels"
        fix = "Use --recipe photo, or larger images: --image-size 28"
        raise BadInput(f"the network {name} cannot take images of {size}", fix=fix) from None
    finally:
        keras.config.set_dtype_policy(before)
    for layer in all_layers(network):
        if isinstance(layer, layers.Dropout):
            layer.rate *= dropout
    return network


def _own_network(name: str, sources: Mapping[str, str], input_shape: Shape, classes: int) -> keras.Model:
    """Return what the user's function builds, as a model of one input and one output.

    Raises:
        BadInput: if it is not a Keras model, or has several outputs.
    """
    network = custom.load_function(name, sources)(input_shape, classes)
    if not isinstance(network, keras.Model):
        raise BadInput(f"{name}: expected a function that returns a keras.Model, found {type(network).__name__}.")
    if not network.built:
        network.build((None, *input_shape))
    has_one_output = isinstance(getattr(network, "output", None), keras.KerasTensor)
    if not has_one_output and not isinstance(network, keras.Sequential):
        # A model class of the user's own, which knows no shapes, or outputs in a list or dict.
        images = keras.Input(input_shape, name="images_0_to_255")
        outputs = keras.tree.flatten(network(images))
        if len(outputs) != 1:
            raise BadInput(f"{name}: expected one output, the probabilities, found {len(outputs)}.")
        network = keras.Model(images, outputs[0], name=f"{network.name}_with_one_output")
    last = network
    while isinstance(last, keras.Model):
        last = last.layers[-1]
    last.dtype_policy = "float32"  # Probabilities also where the other layers compute in bfloat16.
    return network


@keras.saving.register_keras_serializable("digits")
class AffineTransform(keras.layers.Layer):
    """Transform images uint8 (n, height, width, channels) by float32 (n, 8), bilinearly; float32 in 0-255.

    One native op for the whole batch on TensorFlow; on JAX and torch, Keras's own gather.
    """

    def __init__(self, *, mirror_edges: bool = False, **settings):
        """Make the layer; what comes in from outside is 0, or with `mirror_edges` the mirrored image."""
        super().__init__(dtype="float32", autocast=False, **settings)
        self.fill_mode = "reflect" if mirror_edges else "constant"

    def call(self, images, transforms):
        """Return the transformed images."""
        return keras.ops.image.affine_transform(
            keras.ops.cast(images, "float32"),
            transforms,
            interpolation="bilinear",
            fill_mode=self.fill_mode,
            fill_value=0.0,
        )


class _Halves(keras.layers.Layer):
    """Compute the halves of a batch by the same model, each in batch norms of its own."""

    def __init__(self, model: keras.Model):
        super().__init__(autocast=False)
        self.model = model

    def call(self, *inputs):
        """Return the model's outputs of the whole batch."""
        middle = keras.ops.shape(inputs[0])[0] // 2
        halves = ([part[:middle] for part in inputs], [part[middle:] for part in inputs])
        return keras.ops.concatenate([self.model(half[0] if len(half) == 1 else half) for half in halves])


def in_halves(model: keras.Model) -> keras.Model:
    """Return a model that computes the halves of its batches at the same time, where the process has threads for that.

    Two threads that share each op train `compact` on 3,930 images a second, with an op each on 4,600 (two cores of an
    Intel Xeon with AVX-512, batches of 128, November 2026).
    """
    if not computes_halves():
        return model
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in model.inputs]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], _Halves(model)(*inputs))


def augmented_model(network: keras.Model, augmentation: Augmentation | None = None) -> keras.Model:
    """Return a model of (images uint8, transforms) that applies these, as `augment.draw_transforms` draws them, first.

    Transforms are float32 (n, 8), or (n, 10) where `augmentation` changes brightness or contrast.
    """
    augmentation = augmentation or Augmentation()
    columns = AFFINE + 2 if augmentation.changes_tones else AFFINE
    images = keras.Input(network.input_shape[1:], dtype="uint8")
    transforms = keras.Input((columns,), dtype="float32")
    affine = AffineTransform(mirror_edges=augmentation.mirror_edges)
    if not augmentation.changes_tones:
        return keras.Model([images, transforms], network(affine(images, transforms)))
    moved = affine(images, transforms[:, :AFFINE])
    factor, summand = (keras.ops.reshape(transforms[:, column], (-1, 1, 1, 1)) for column in (AFFINE, AFFINE + 1))
    return keras.Model([images, transforms], network(keras.ops.clip(moved * factor + summand, 0, 255)))
