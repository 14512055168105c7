"""Optimizers and learning-rate schedules, by the names that recipes use."""

import math

import keras

from digits.recipes import Recipe


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly to the peak for `warm_up` of the steps, then fall along half a cosine to 0 (Smith 2018)."""

    def __init__(self, peak: float, steps: int, warm_up: float):
        self.peak, self.steps, self.warm_up = peak, steps, warm_up

    def __call__(self, step):
        """Return the rate at `step`, counted from 0."""
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
        ValueError: for a schedule that is none of ours.
    """
    schedules = keras.optimizers.schedules
    match recipe.schedule:
        case "constant":
            return recipe.learning_rate
        case "one-cycle":
            return OneCycle(recipe.learning_rate, recipe.epochs * steps_per_epoch, recipe.warm_up)
        case "exponential":
            return schedules.ExponentialDecay(recipe.learning_rate, steps_per_epoch, recipe.decay, staircase=True)
        case "steps":
            # Full rate for 13 of 20 epochs, a tenth for 3, a hundredth for the rest (Matuzas 2020).
            ends = [round(recipe.epochs * share / 20) * steps_per_epoch - 1 for share in (13, 16)]
            return schedules.PiecewiseConstantDecay(ends, [recipe.learning_rate * share for share in (1.0, 0.1, 0.01)])
    raise ValueError(f"Unknown schedule {recipe.schedule!r}; expected constant, one-cycle, exponential or steps.")


def build_optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of `recipe`; where it averages weights, `put_averages(variables)` puts them in place.

    Raises:
        ValueError: for an optimizer that is none of ours.
    """
    classes = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "sgd": keras.optimizers.SGD,
        "muon": keras.optimizers.Muon,
    }
    if recipe.optimizer not in classes:
        raise ValueError(f"Unknown optimizer {recipe.optimizer!r}; expected one of {', '.join(classes)}.")
    optimizer_class = classes[recipe.optimizer]
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
        """Keras's moving average of the weights, warmed up, and put in place when asked for.

        Keras itself has no warm-up, and puts the average in place at the end of every `fit`, which here is every epoch.
        """

        @property
        def ema_momentum(self):
            step = keras.ops.cast(self.iterations, "float32")
            return keras.ops.minimum(self._most_momentum, (1 + step) / (10 + step))

        @ema_momentum.setter
        def ema_momentum(self, momentum):
            self._most_momentum = momentum

        def finalize_variable_values(self, var_list):
            """Leave the weights as they are."""

        def put_averages(self, variables):
            """Replace the weights by their averages."""
            super().finalize_variable_values(variables)

    return Averaging
