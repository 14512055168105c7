"""Train one network epoch by epoch: optimizer, learning-rate schedule, weight averaging, checkpoints."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from digits.config import SCHEDULES, Recipe
from digits.console import BadInput, TrainingFailedError
from digits.files import BrokenFileError, display_path, read_npz, write_npz
from digits.model.augment import draw_transforms, identity_transforms, ink_margins
from digits.model.backend import backend_name
from digits.model.networks import all_layers, augmented_model, build_network, in_halves


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak` during the share `warm_up` of the steps, then cosine decay to 0 (Smith 2018).

    Keras's `CosineDecay` with its warm-up differs in float32's last bit, which would change results.
    """

    def __init__(self, peak: float, steps: int, warm_up: float):
        self.peak, self.steps, self.warm_up = peak, steps, warm_up

    def __call__(self, step):
        """Return the learning rate at `step`, counted from 0."""
        done = (keras.ops.cast(step, "float32") + 1) / (self.steps + 1)
        rising = done / self.warm_up
        fallen = keras.ops.clip((done - self.warm_up) / (1 - self.warm_up), 0, 1)
        return self.peak * keras.ops.minimum(rising, (1 + keras.ops.cos(math.pi * fallen)) / 2)

    def get_config(self):
        """Return the constructor's arguments."""
        return {"peak": self.peak, "steps": self.steps, "warm_up": self.warm_up}


def learning_rates(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """Return the learning rate of `recipe`, or its schedule over steps.

    Raises:
        ValueError: for an unknown schedule.
    """
    schedules = keras.optimizers.schedules
    match recipe.schedule:
        case "constant":
            return recipe.learning_rate
        case "one-cycle":
            return OneCycle(recipe.learning_rate, recipe.epochs * steps_per_epoch, recipe.warm_up)
        case "exponential":
            return schedules.ExponentialDecay(recipe.learning_rate, steps_per_epoch, recipe.decay, staircase=True)
    raise ValueError(f"Unknown schedule {recipe.schedule!r}; expected one of {', '.join(SCHEDULES)}.")


def build_optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of `recipe`; where it averages weights, `put_averages(variables)` assigns the averages.

    Raises:
        ValueError: for an unknown optimizer.
        BadInput: for one that this version of Keras does not have.
    """
    names = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "muon": "Muon"}
    if recipe.optimizer not in names:
        raise ValueError(f"Unknown optimizer {recipe.optimizer!r}; expected one of {', '.join(names)}.")
    optimizer_class = getattr(keras.optimizers, names[recipe.optimizer], None)
    if optimizer_class is None:  # Muon came with Keras 3.10; Kaggle's image may be older.
        raise BadInput(f"Keras {keras.__version__} has no {names[recipe.optimizer]}. Use --set optimizer=adamw")
    settings: dict = {"weight_decay": recipe.weight_decay or None}
    if recipe.optimizer in ("adamw", "muon"):
        settings["weight_decay"] = recipe.weight_decay
    if recipe.optimizer == "sgd":
        settings |= {"momentum": 0.9, "nesterov": True}
    if recipe.ema:
        optimizer_class = _averaging(optimizer_class)
        settings |= {"use_ema": True, "ema_momentum": recipe.ema}
    return optimizer_class(learning_rates(recipe, steps_per_epoch), **settings)


def _averaging(optimizer_class: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    class Averaging(optimizer_class):
        """Keras's moving average of the weights, with warm-up, assigned to the weights on request only.

        Keras itself has no warm-up, and assigns the averages at the end of every `fit`, which here is every epoch.
        """

        @property
        def ema_momentum(self):
            step = keras.ops.cast(self.iterations, "float32")
            return keras.ops.minimum(self._final_momentum, (1 + step) / (10 + step))

        @ema_momentum.setter
        def ema_momentum(self, momentum):
            self._final_momentum = momentum

        def finalize_variable_values(self, var_list):
            """Leave the weights as they are at the end of `fit`."""

        def put_averages(self, variables):
            """Replace the weights by their averages."""
            super().finalize_variable_values(variables)

    return Averaging


RECALIBRATION_BATCHES = 20
SMALLEST_HALVED = 64
"""Batches of fewer images are not halved: batch norm sees a half."""
STEPS_PER_EXECUTION = 8
"""Batches that TensorFlow trains on before it returns to Python: 3 to 7 % faster on two cores."""


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The figures of one epoch of training."""

    epoch: int
    """From 1."""
    accuracy: float
    """On the augmented training images, while the weights change."""
    loss: float
    learning_rate: float
    seconds: float
    images_per_second: float
    held_out_accuracy: float | None = None
    """With the weights as they are then, without test-time augmentation."""
    held_out_rows: int | None = None
    """How many held-out images that is of; None in runs of earlier versions: of all."""


class Trainer:
    """A network in training, whose whole state can be saved and loaded.

    Every epoch draws its order and its affine transforms from (seed, epoch), so a resumed training sees the batches of
    an uninterrupted one.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: str,
        images: np.ndarray,
        labels: np.ndarray,
        seed: tuple[int, ...],
        precision: str = "float32",
    ):
        """Build a network, named as in `build_network`, and its optimizer, to train in float32 or mixed_bfloat16.

        Images are uint8 (n, height, width, channels), labels uint8 (n,), each class at least once. The non-negative
        integers of `seed` determine every random choice.
        """
        self.recipe, self.seed, self.epochs_done = recipe, seed, 0
        self.history: list[Epoch] = []
        self._batch_size = min(recipe.batch_size, len(images))
        self._margins, self._size = ink_margins(images), images.shape[1:3]
        targets = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
        self._feed = _feed(images, targets, self._batch_size)
        self._class_weights = _class_weights(recipe, labels)

        keras.utils.set_random_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        self.network = build_network(
            network, images.shape[1:], precision, recipe.dropout, recipe.sources, classes=targets.shape[1]
        )
        self._augmented = augmented_model(self.network, recipe.augmentation)
        self._model = in_halves(self._augmented) if self._batch_size >= SMALLEST_HALVED else self._augmented
        self._optimizer = build_optimizer(recipe, steps_per_epoch=len(images) // self._batch_size)
        self._optimizer.build(self._model.trainable_variables)
        inputs = keras.Input(images.shape[1:], dtype="uint8")
        self._scorer = keras.Model(inputs, self.network(inputs))
        self._model.compile(
            self._optimizer,
            keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],  # Given by name, the step is traced twice.
            steps_per_execution=STEPS_PER_EXECUTION if backend_name() == "tensorflow" else 1,
            jit_compile=backend_name() == "jax",  # XLA slows TensorFlow four times on a CPU; JAX is nothing without it.
        )

    @property
    def images_per_epoch(self) -> int:
        """How many images an epoch has, in whole batches."""
        return len(self._margins) // self._batch_size * self._batch_size

    def run_epoch(self, on_batch: Callable[[int], None] = lambda images: None) -> Epoch:
        """Train for one epoch, calling `on_batch` with the number of images every few batches.

        Raises:
            TrainingFailedError: if the loss is no longer a finite number.
        """
        started = time.perf_counter()
        random = np.random.default_rng((*self.seed, self.epochs_done))
        order = random.permutation(len(self._margins))[: self.images_per_epoch]
        reported = 0

        def report(batch, logs):
            nonlocal reported
            done = min((batch + 1) * self._batch_size, self.images_per_epoch)
            on_batch(done - reported)
            reported = done

        logs = self._model.fit(
            self._feed(order, self._draw_transforms(random, order)),
            shuffle=False,
            initial_epoch=self.epochs_done,
            epochs=self.epochs_done + 1,
            verbose=0,
            class_weight=self._class_weights,
            callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=report)],
        ).history
        seconds = time.perf_counter() - started
        self.epochs_done += 1
        loss = logs["loss"][-1]
        if not math.isfinite(loss):
            raise TrainingFailedError(
                f"the loss was {loss} in epoch {self.epochs_done}: the learning rate may be too high"
            )
        rate = float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))
        return Epoch(self.epochs_done, logs["accuracy"][-1], loss, rate, seconds, len(order) / seconds)

    def _draw_transforms(self, random: np.random.Generator, order: np.ndarray) -> np.ndarray:
        clean = self.epochs_done >= self.recipe.epochs - self.recipe.clean_epochs
        if clean or not self.recipe.augmentation.any:
            return self._identity_transforms(len(order))
        return draw_transforms(random, self._margins[order], self._size, self.recipe.augmentation)

    def _identity_transforms(self, count: int) -> np.ndarray:
        return identity_transforms(count, self._model.input_shape[1][1])

    def score(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Return the accuracy, with the current weights, on images uint8 (n, height, width, channels) in whole batches.

        With as many images each time nothing is traced twice, and none is padded, so that a few cost little.
        """
        size = min(self._batch_size, len(images))
        batches = range(0, len(images) // size * size, size)
        predicted = [self._scorer.predict_on_batch(images[start : start + size]).argmax(axis=1) for start in batches]
        return float((np.concatenate(predicted) == labels[: len(predicted) * size]).mean())

    def finish(self) -> keras.Model:
        """Return the trained network, with its averaged weights where the recipe averages."""
        if self.recipe.ema:
            self._optimizer.put_averages(self._model.trainable_variables)
            self._recalibrate_batch_norm()
        return self.network

    def _recalibrate_batch_norm(self) -> None:
        """Set batch norm's moments to those of the averaged weights, on clean images (Izmailov et al. 2018)."""
        norms = [layer for layer in all_layers(self.network) if isinstance(layer, keras.layers.BatchNormalization)]
        momenta = [layer.momentum for layer in norms]
        random = np.random.default_rng((*self.seed, self.recipe.epochs))
        order = random.permutation(len(self._margins))
        order = order[: min(RECALIBRATION_BATCHES, len(order) // self._batch_size) * self._batch_size]
        for seen, (inputs, _) in enumerate(self._feed(order, self._identity_transforms(len(order)))):
            for layer in norms:
                layer.momentum = seen / (seen + 1)  # So the moving average is the mean of all batches so far.
            self._augmented(inputs, training=True)
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum

    def save(self, path: Path) -> None:
        """Write the whole state: weights, optimizer, averages, random states, history."""
        values = {f"variable_{i}": keras.ops.convert_to_numpy(value) for i, value in enumerate(self._variables())}
        history = json.dumps([dataclasses.asdict(epoch) for epoch in self.history])
        write_npz(path, values | {"epochs_done": self.epochs_done, "history": history})

    def load(self, path: Path) -> None:
        """Restore the state that `save` wrote.

        Raises:
            BrokenFileError: if the file is damaged or of another network; the state is unchanged then.
        """
        state, variables = read_npz(path), self._variables()
        try:
            values = [state.pop(f"variable_{number}") for number in range(len(variables))]
            history = [Epoch(**epoch) for epoch in json.loads(str(state.pop("history")))]
            epochs_done = int(state.pop("epochs_done"))
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenFileError(f"{display_path(path)} is not a checkpoint ({error!r}).") from None
        if state or [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
            raise BrokenFileError(f"{display_path(path)} is a checkpoint of another network.")
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self.epochs_done, self.history = epochs_done, history

    def _variables(self) -> list[keras.Variable]:
        return [*self._augmented.variables, *self._optimizer.variables]


def _class_weights(recipe: Recipe, labels: np.ndarray) -> dict[int, float] | None:
    """Return the weight of an image's loss by its class: all classes count alike, and the mean is 1; None: none."""
    if recipe.class_weights == "none":
        return None
    counts = np.bincount(labels)
    return dict(enumerate((len(labels) / (len(counts) * counts)).tolist()))


def _feed(images: np.ndarray, targets: np.ndarray, batch_size: int) -> Callable:
    """Return a function of (order int (m,), transforms float32 (m, 8 or 10)) that gives the batches of one epoch."""
    if backend_name() != "tensorflow":
        return lambda order, transforms: _IndexedBatches(images, targets, order, transforms, batch_size)
    import tensorflow as tf

    images, targets = tf.constant(images), tf.constant(targets)
    options = tf.data.Options()
    # Its thread sleeps for up to as long as the epoch took before it lets go of the dataset (TensorFlow 2.21).
    options.autotune.enabled = False

    def gather(chosen, transforms):
        return (tf.gather(images, chosen), transforms), tf.gather(targets, chosen)

    def feed(order, transforms):
        batches = order.reshape(-1, batch_size), transforms.reshape(-1, batch_size, transforms.shape[1])
        return tf.data.Dataset.from_tensor_slices(batches).map(gather).prefetch(2).with_options(options)

    return feed


class _IndexedBatches(keras.utils.PyDataset):
    """Batches for the backends that take NumPy arrays: JAX and torch."""

    def __init__(self, images, targets, order, transforms, batch_size):
        super().__init__()
        self._arrays, self._order, self._transforms, self._batch_size = (images, targets), order, transforms, batch_size

    def __len__(self):
        return len(self._order) // self._batch_size

    def __getitem__(self, index):
        rows = slice(index * self._batch_size, (index + 1) * self._batch_size)
        images, targets = (array[self._order[rows]] for array in self._arrays)
        return (images, self._transforms[rows]), targets
