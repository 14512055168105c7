"""The kit itself, as the benchmark, the ablation and the search run it, each function in a worker process."""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.data import held_out_split
from digits.config import Metric, Recipe
from digits.model.backend import resolve_precision
from digits.model.engine import load_engine
from digits.runs import metrics


def train(options: dict) -> dict:
    """Measure images per second over `epochs` epochs, after one to warm up."""
    recipe: Recipe = options["recipe"].changed(epochs=options["epochs"] + 1)
    images, labels, _, _ = held_out_split(options)
    precision = resolve_precision(recipe.precision)
    trainer = load_engine().Trainer(recipe, recipe.networks[0], images, labels, (options["seed"],), precision)
    trainer.run_epoch()
    started = time.perf_counter()
    epochs = [trainer.run_epoch() for _ in range(options["epochs"])]
    seconds = time.perf_counter() - started
    return {"images_per_second": sum(epoch.images_per_second * epoch.seconds for epoch in epochs) / seconds}


def run_command(options: dict) -> dict:
    """Run a checkout's train.py with `words`, from the command to the checked submission and the report.

    The split's seed is `split` + seed, so each repetition holds out another tenth. The seconds are of the command.
    """
    checkout, name = Path(options["checkout"]), f"benchmark-{time.time_ns()}"
    command = [sys.executable, str(checkout / "src" / "train.py"), "--run", name, *options["words"]]
    command += ["--fold-seed", str(options["split"] + options["seed"]), "--out", f"{options['folder']}/submission.csv"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    run = checkout / "submissions" / name
    score = json.loads((run / "run.json").read_text(encoding="utf-8"))["out_of_fold"]
    shutil.rmtree(run)
    return {"seconds": seconds, "wrong": score["wrong"], "rows": score["rows"]}


def fit(options: dict) -> dict:
    """Train the recipe on nine tenths, and score the rest under each of the options' `ttas` (default: the recipe's).

    The seconds are of the whole fit, building and compiling included; loading Keras, reading and scoring are not.
    """
    recipe: Recipe = options["recipe"]
    engine, precision = load_engine(), resolve_precision(recipe.precision)
    images, labels, held_out, held_out_labels = held_out_split(options)
    started = time.perf_counter()
    trainer = engine.Trainer(recipe, recipe.networks[0], images, labels, (options["seed"], 1, 1), precision)
    while trainer.epochs_done < recipe.epochs:
        trainer.run_epoch()
    network = trainer.finish()
    seconds = time.perf_counter() - started
    scores = []
    for tta in options.get("ttas", [recipe.tta]):
        probabilities = engine.predict_probabilities(network, held_out, tta)
        accuracy = metrics.score(probabilities, held_out_labels).accuracy
        loss = metrics.loss(probabilities, held_out_labels, options.get("metric", Metric.ACCURACY))
        scores.append({"tta": dataclasses.asdict(tta), "accuracy": accuracy, "loss": loss})
    return {"seconds": seconds, "scores": scores, "trace": [[seconds, scores[0]["accuracy"]]]}
