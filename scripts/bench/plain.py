"""What a user could run instead of the kit, in plain Keras."""

import math
import time
from collections.abc import Callable

import numpy as np

from bench.data import held_out_split
from digits.model.backend import backend_name


def scaled(images: np.ndarray) -> np.ndarray:
    """Return images uint8 as the float32 in 0-1 of every tutorial."""
    return images.astype("float32") / 255


def original_network():
    """Build the CNN of the original README, as it stands there."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def keras_augmentation(recipe) -> list:
    """Return Keras's own layers for the recipe's augmentation; they take images in 0-1."""
    from keras import layers

    augmentation, blank = recipe.augmentation, {"fill_mode": "constant", "fill_value": 0.0}
    shift, slant = augmentation.shift_pixels / 28, math.tan(math.radians(augmentation.shear_degrees))
    return [
        layers.RandomRotation(augmentation.rotation_degrees / 360, **blank),
        layers.RandomTranslation(shift, shift, **blank),
        layers.RandomZoom(augmentation.zoom, augmentation.zoom, **blank),
        layers.RandomShear(x_factor=slant, **blank),
    ]


def network_of(recipe, augmented: bool):
    """Build the recipe's network of Keras's own layers for images in 0-1, with Keras's augmentation before it."""
    import keras
    from keras import layers

    from digits.model.networks import build_network, plain

    inner = plain(build_network(recipe.networks[0], (28, 28, 1), dropout=recipe.dropout))
    images = x = keras.Input((28, 28, 1))
    for layer in keras_augmentation(recipe) if augmented else []:
        x = layer(x)
    network = keras.Model(images, inner(layers.Rescaling(255.0)(x)))
    return compiled(network)


def compiled(network):
    """Return a network compiled as every tutorial does; by XLA on JAX only."""
    jit = backend_name() == "jax"
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
    return network


def batches(tensors: tuple, targets: np.ndarray, batch_size: int):
    """Return shuffled batches as a tf.data.Dataset whose autotuning is off.

    Its thread sleeps, twice as long each time, before it lets go of a dataset (TensorFlow 2.21).
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    tensors, targets = tuple(tf.constant(tensor) for tensor in tensors), tf.constant(targets)

    def gather(rows):
        chosen = tuple(tf.gather(tensor, rows) for tensor in tensors)
        return chosen if len(chosen) > 1 else chosen[0], tf.gather(targets, rows)

    count = len(targets)
    return tf.data.Dataset.range(count).shuffle(count).batch(batch_size).map(gather).prefetch(2).with_options(options)


def train(options: dict) -> dict:
    """Measure images a second over `epochs` epochs of `model.fit`, after one epoch to warm up.

    "augmented": with Keras's augmentation layers in the model; "autotune": arrays go into `fit` as they are, else
    through `batches`.
    """
    recipe = options["recipe"]
    images, labels, _, _ = held_out_split(options)
    floats = scaled(images)
    network = network_of(recipe, options["augmented"])

    def fit(epochs):
        if options["autotune"]:
            network.fit(floats, labels, batch_size=recipe.batch_size, epochs=epochs, verbose=0)
        else:
            network.fit(batches((floats,), labels, recipe.batch_size), epochs=epochs, shuffle=False, verbose=0)

    fit(1)
    started = time.perf_counter()
    fit(options["epochs"])
    seconds = time.perf_counter() - started
    return {"images_per_second": options["epochs"] * len(images) / seconds}


class Tracer:
    """Scores a network after each epoch; `trace` holds (seconds, accuracy), the seconds without those of scoring."""

    def __init__(self, started: float, score: Callable[[], float]):
        self.started, self.score, self.paused = started, score, 0.0
        self.trace: list[list[float]] = []

    def add(self, *_) -> None:
        """Score."""
        now = time.perf_counter()
        self.trace.append([now - self.started - self.paused, self.score()])
        self.paused += time.perf_counter() - now

    def callback(self):
        """Return it as a callback of `fit`."""
        import keras

        return keras.callbacks.LambdaCallback(on_epoch_end=self.add)


def accuracy_of(network, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of `network`, batch by batch, since `predict` would wait for its dataset's thread."""
    slices = [slice(start, start + 500) for start in range(0, len(labels), 500)]
    right = [(network.predict_on_batch(images[rows]).argmax(axis=1) == labels[rows]).sum() for rows in slices]
    return int(sum(right)) / len(labels)


def original(options: dict) -> dict:
    """Run the original README's script: Adam, batches of 32, `epochs` epochs, float arrays into `model.fit`."""
    import keras

    keras.utils.set_random_seed(options["seed"])
    images, labels, held_out, held_out_labels = held_out_split(options)
    images, held_out = scaled(images), scaled(held_out)
    started = time.perf_counter()
    network = compiled(original_network())
    tracer = Tracer(started, lambda: accuracy_of(network, held_out, held_out_labels))
    network.fit(images, labels, batch_size=32, epochs=options["epochs"], verbose=0, callbacks=[tracer.callback()])
    return {"seconds": time.perf_counter() - started - tracer.paused, "trace": tracer.trace}


def deotte(options: dict) -> dict:
    """Run Deotte's recipe for `epochs` of its 45 epochs, in his favour: his four image operations are one fused affine.

    His network with Keras's own norms; Adam at 1e-3·0.95^epoch; batches of 64; rotation ±10°, zoom and shifts ±.1; and
    autotuning off, so that nothing is measured but the recipe.
    """
    import keras

    from digits.config import Augmentation
    from digits.model.augment import draw_transforms, ink_margins
    from digits.model.networks import AffineTransform, build_network, plain

    keras.utils.set_random_seed(options["seed"])
    random = np.random.default_rng(options["seed"])
    images, labels, held_out, held_out_labels = held_out_split(options)
    margins, ranges = ink_margins(images), Augmentation(rotation_degrees=10, shift_pixels=2.8, zoom=0.1)
    started = time.perf_counter()
    network = plain(build_network("deotte", images.shape[1:]))
    tracer = Tracer(started, lambda: accuracy_of(network, held_out, held_out_labels))
    inputs = keras.Input((28, 28, 1), dtype="uint8"), keras.Input((8,))
    model = compiled(keras.Model(inputs, network(AffineTransform()(*inputs))))
    for epoch in range(options["epochs"]):
        model.optimizer.learning_rate = 1e-3 * 0.95**epoch
        transforms = draw_transforms(random, margins, images.shape[1:3], ranges)
        settings = {"epochs": 1, "verbose": 0, "callbacks": [tracer.callback()]}
        if backend_name() == "tensorflow":
            model.fit(batches((images, transforms), labels, 64), shuffle=False, **settings)
        else:
            model.fit([images, transforms], labels, batch_size=64, **settings)
    return {"seconds": time.perf_counter() - started - tracer.paused, "trace": tracer.trace}
