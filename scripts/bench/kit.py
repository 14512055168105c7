"""The kit itself, as the benchmark and the ablation run it."""

import dataclasses
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.reading import arrays, held_out_split
from digits.config import Recipe, Settings, Tta
from digits.model.backend import cpu_count, load_keras, prepare_process, resolve_precision
from digits.typed import read_as


class FirstBatchError(Exception):
    """Raised to stop a fit at its first batch."""


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


def first_batch(options: dict) -> dict:
    """Time from the start of this process to the end of the first batch, the CSVs cached before."""
    recipe = recipe_of(options)
    from digits.data import dataset
    from digits.data.folds import split_folds

    data = dataset.load("kaggle", Path(options["folder"]) / "csv")
    rows = split_folds(data.train.labels, folds=1, seed=0)[0][0]
    precision = _start(recipe, options)
    from digits.model.trainer import Trainer

    def stop(images):
        raise FirstBatchError

    fit = Trainer(recipe, recipe.networks[0], data.train.images[rows], data.train.labels[rows], (0,), precision)
    try:
        fit.run_epoch(stop)
    except FirstBatchError:
        return {"seconds": time.time() - options["started"]}
    raise RuntimeError("the fit ended without a batch")


def train(options: dict) -> dict:
    """Measure images a second over `epochs` epochs, after one to warm up."""
    recipe = recipe_of(options)
    precision = _start(recipe, options)
    from digits.model.trainer import Trainer

    images, labels, _, _ = held_out_split(options)
    epochs = options["epochs"]
    recipe = recipe.changed(epochs=epochs + 1)
    fit = Trainer(recipe, recipe.networks[0], images, labels, (options["seed"],), precision)
    fit.run_epoch()
    started = time.perf_counter()
    done = [fit.run_epoch() for _ in range(epochs)]
    seconds = time.perf_counter() - started
    return {
        "images_per_second": sum(epoch.images_per_second * epoch.seconds for epoch in done) / seconds,
    }


def fit(options: dict) -> dict:
    """Fit the recipe on nine tenths, and score the rest under each of the options' `ttas` (default: the recipe's).

    The seconds are of the whole fit, building and compiling included; loading Keras, reading and scoring are not.
    """
    recipe = recipe_of(options)
    precision = _start(recipe, options)
    from digits.model.predict import predict_probabilities
    from digits.model.trainer import Trainer
    from digits.runs import metrics

    images, labels, held_out, held_out_labels = held_out_split(options)
    started = time.perf_counter()
    fitted = Trainer(recipe, recipe.networks[0], images, labels, (options["seed"], 1, 1), precision)
    while fitted.epochs_done < recipe.epochs:
        fitted.run_epoch()
    network = fitted.finish()
    seconds = time.perf_counter() - started
    scores = []
    for tta in options.get("ttas", [dataclasses.asdict(recipe.tta)]):
        probabilities = predict_probabilities(network, held_out, Tta(**tta))
        accuracy = metrics.score(probabilities, held_out_labels).accuracy
        scores.append(
            {"tta": tta, "accuracy": accuracy, "log_loss": metrics.calibrated_log_loss(probabilities, held_out_labels)}
        )
    return {"seconds": seconds, "scores": scores, "trace": [[seconds, scores[0]["accuracy"]]]}


def predict(options: dict) -> dict:
    """Predict all test images, in a network with fresh weights, with the options' `tta`; compiling included."""
    recipe = recipe_of(options)
    precision = _start(recipe, options)
    from digits.model.networks import build_network
    from digits.model.predict import predict_probabilities

    _, _, images = arrays(options)
    network = build_network(recipe.networks[0], precision, recipe.dropout)
    started = time.perf_counter()
    probabilities = predict_probabilities(network, images, Tta(**options["tta"]))
    seconds = time.perf_counter() - started
    if probabilities.shape != (len(images), 10) or not np.isfinite(probabilities).all():
        raise RuntimeError(f"the kit predicted {probabilities.shape}")
    return {"seconds": seconds}


def memory(options: dict) -> dict:
    """Run a whole training command, data from the CSVs, and return the most memory that one of its processes held."""
    from digits.training.pipeline import train as train_all

    recipe = recipe_of(options).changed(folds=options["folds"])
    with tempfile.TemporaryDirectory() as folder:
        run = train_all(
            Settings(recipe=recipe, source="kaggle"),
            command="the benchmark",
            data_dir=Path(options["folder"]) / "csv",
            submissions=Path(folder),
        )
        record = run.record()
    return {"bytes": record.peak_memory_bytes, "seconds": record.seconds}
