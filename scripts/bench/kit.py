"""The kit itself, as the benchmark, the ablation and the search run it."""

import dataclasses
import os
import time

from bench.data import held_out_split
from digits.config import Metric, Recipe, Tta
from digits.model.backend import cpu_count, load_keras, prepare_process, resolve_precision
from digits.typed import read_as


def recipe_of(options: dict) -> Recipe:
    """Return the recipe that stands in the options as `dataclasses.asdict` gave it."""
    return read_as(Recipe, options["recipe"], "the options")


def _start(recipe: Recipe, options: dict) -> str:
    """Load Keras as the kit does, and return the precision.

    The options' `threads` and `environment` are its share of the machine, as in `workers.Slots`; else it has all.
    """
    os.environ.update(options.get("environment", {}))
    prepare_process(options.get("threads", cpu_count()), deterministic=False)
    load_keras()
    return resolve_precision(recipe.precision)


def train(options: dict) -> dict:
    """Measure images per second over `epochs` epochs, after one to warm up."""
    recipe = recipe_of(options)
    precision = _start(recipe, options)
    from digits.model.trainer import Trainer

    images, labels, _, _ = held_out_split(options)
    recipe = recipe.changed(epochs=options["epochs"] + 1)
    trainer = Trainer(recipe, recipe.networks[0], images, labels, (options["seed"],), precision)
    trainer.run_epoch()
    started = time.perf_counter()
    epochs = [trainer.run_epoch() for _ in range(options["epochs"])]
    seconds = time.perf_counter() - started
    return {"images_per_second": sum(epoch.images_per_second * epoch.seconds for epoch in epochs) / seconds}


def fit(options: dict) -> dict:
    """Train the recipe on nine tenths, and score the rest under each of the options' `ttas` (default: the recipe's).

    The seconds are of the whole fit, building and compiling included; loading Keras, reading and scoring are not.
    """
    recipe = recipe_of(options)
    precision = _start(recipe, options)
    from digits.model.predict import predict_probabilities
    from digits.model.trainer import Trainer
    from digits.runs import metrics

    images, labels, held_out, held_out_labels = held_out_split(options)
    started = time.perf_counter()
    trainer = Trainer(recipe, recipe.networks[0], images, labels, (options["seed"], 1, 1), precision)
    while trainer.epochs_done < recipe.epochs:
        trainer.run_epoch()
    network = trainer.finish()
    seconds = time.perf_counter() - started
    scores = []
    for tta in options.get("ttas", [dataclasses.asdict(recipe.tta)]):
        probabilities = predict_probabilities(network, held_out, Tta(**tta))
        accuracy = metrics.score(probabilities, held_out_labels).accuracy
        loss = metrics.loss(probabilities, held_out_labels, Metric(options.get("metric", "accuracy")))
        scores.append({"tta": tta, "accuracy": accuracy, "loss": loss})
    return {"seconds": seconds, "scores": scores, "trace": [[seconds, scores[0]["accuracy"]]]}
