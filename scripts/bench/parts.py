"""What each part of the benchmark compares."""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.measuring import Thing, first_reached, interleave, run_thing, spread
from digits.config import Recipe, Tta, load_recipe
from digits.files import ROOT
from digits.model.backend import backend_name, resolve_precision
from digits.runs.record import FinishedRecord

TARGETS = (0.986, 0.99, 0.995)
"""The original script's final accuracy, and two on the way to ours."""
DEOTTE_EPOCHS, DEOTTE_NETWORKS = 45, 15


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    folder: Path
    """Holds the data, as `reading.prepare` left it."""
    repeats: int = 5
    seeds: int = 3
    epochs: int = 2
    """Of the part train, after one to warm up."""
    quick_epochs: tuple[int, ...] = (1, 2, 3, 8)
    original_epochs: int = 10
    deotte_epochs: int = 12
    folds: int = 5
    torch_python: str = sys.executable
    """The interpreter that has PyTorch; "" for none."""
    standard_run: FinishedRecord | None = None
    """Of a run of `standard`."""
    run: Callable[[Thing, dict], dict] = run_thing

    def compare(self, title: str, key: str, things: list[Thing], repeats: int | None = None, **facts) -> dict:
        """Return a part whose rows are the spreads of a measured value, taken in turns; the kit's is first."""
        repeats = repeats or self.repeats
        results = interleave(things, repeats, {"folder": str(self.folder)}, self.run)
        rows = [{"label": label, **spread([result[key] for result in of])} for label, of in results.items()]
        return {"title": title, "n": repeats, "value": key, "rows": rows, **facts}


def _options(recipe: Recipe, **more) -> dict:
    return {"recipe": dataclasses.asdict(recipe), **more}


def load(plan: Plan) -> dict:
    """Read train.csv and test.csv, all in the operating system's memory already."""
    only_bytes = Thing("the files' bytes alone", "reading.only_bytes")
    plan.run(only_bytes, {"folder": str(plan.folder)})
    things = [
        Thing("the kit, first read, checked", "reading.kit", {"forget": True}),
        Thing("the kit, read again", "reading.kit"),
        Thing("pandas.read_csv, defaults", "reading.pandas_defaults"),
        only_bytes,
    ]
    return plan.compare("read train.csv and test.csv, in seconds", "seconds", things)


def startup(plan: Plan) -> dict:
    """Start: the help, and everything up to the first batch."""
    plan.run(Thing("leave the cache", "reading.kit"), {"folder": str(plan.folder)})
    keras = "import os; os.environ.setdefault('KERAS_BACKEND', 'tensorflow'); import keras"
    commands = {
        "train.py --help": [str(ROOT / "src" / "train.py"), "--help"],
        "an empty Python": ["-c", "pass"],
        "import keras, alone": ["-c", keras],
    }
    things = [Thing(label, "reading.command", {"words": [sys.executable, *of]}) for label, of in commands.items()]
    things += [
        Thing("the kit, until its first eight batches are done", "kit.first_batch", _options(load_recipe("quick"))),
        Thing("the original script, until then", "plain.first_batch"),
    ]
    return plan.compare("start, in seconds", "seconds", things)


def train(plan: Plan) -> dict:
    """Train one network at one batch size in several ways."""
    recipe = load_recipe("quick")
    options = _options(recipe.changed(precision="float32"), epochs=plan.epochs)
    things = [Thing("the kit, augmenting", "kit.train", options)]
    if (precision := resolve_precision("auto")) != "float32":
        automatic = _options(recipe.changed(precision="auto"), epochs=plan.epochs)
        things.append(Thing(f"the kit, {precision}", "kit.train", automatic))
    ways = {"model.fit": (False, True), "model.fit, Keras augmenting": (True, True)}
    if backend_name() == "tensorflow":
        ways |= {"model.fit, no autotune": (False, False), "model.fit, no autotune, Keras augmenting": (True, False)}
    for label, (augmented, autotune) in ways.items():
        things.append(Thing(label, "plain.train", {**options, "augmented": augmented, "autotune": autotune}))
    for bfloat16 in (False, True) if plan.torch_python else ():
        label = f"PyTorch, {'bfloat16' if bfloat16 else 'float32'}"
        things.append(Thing(label, "pytorch.train", {**options, "bfloat16": bfloat16}, plan.torch_python))
    title = f"train the network {recipe.networks[0]}, batches of {recipe.batch_size}, in images a second"
    return plan.compare(title, "images_per_second", things, more_is_better=True)


def accuracy(plan: Plan) -> dict:
    """Train to an accuracy on the held-out tenth: whole short fits of `quick`, the others scored after each epoch."""
    quick = load_recipe("quick")
    things = [
        Thing(f"quick, {epochs} epoch{'s' * (epochs > 1)}", "kit.fit", _options(quick.changed(epochs=epochs)))
        for epochs in sorted(set(plan.quick_epochs))
    ]
    things.append(Thing("the original script", "plain.original", {"epochs": plan.original_epochs}))
    if plan.deotte_epochs:
        things.append(Thing("Deotte's recipe", "plain.deotte", {"epochs": plan.deotte_epochs}))
    results = interleave(things, plan.seeds, {"folder": str(plan.folder)}, plan.run)
    rows = [_accuracy_row(label, of) for label, of in results.items()]
    part = {
        "title": "train to an accuracy on the held-out tenth, in seconds",
        "n": plan.seeds,
        "value": "seconds",
        "targets": list(TARGETS),
        "rows": rows,
    }
    return part | ({"extrapolated": extrapolated(rows[-1]["median"], plan)} if plan.deotte_epochs else {})


def _accuracy_row(label: str, results: list[dict]) -> dict:
    """Return the row of one contestant: its whole fits, and when each seed's reached each target (None: never)."""
    traces = [result["trace"] for result in results]
    return {
        "label": label,
        **spread([result["seconds"] for result in results]),
        "accuracy": spread([trace[-1][1] for trace in traces]),
        "reached": {str(target): [first_reached(trace, target) for trace in traces] for target in TARGETS},
        "traces": traces,
    }


def extrapolated(deotte_seconds: float, plan: Plan) -> dict:
    """Extrapolate Deotte's fifteen networks from the measured epochs, beside a finished run of `standard`."""
    an_epoch = deotte_seconds / plan.deotte_epochs
    facts: dict = {
        "deotte_seconds_an_epoch": an_epoch, "deotte_whole_seconds": an_epoch * DEOTTE_EPOCHS * DEOTTE_NETWORKS,
    }  # fmt: skip
    if run := plan.standard_run:
        facts["standard"] = {"seconds": run.seconds, "accuracy": run.out_of_fold.accuracy}
    return facts


def predict(plan: Plan) -> dict:
    """Predict the test images once, in a process that has predicted nothing before."""
    recipe = load_recipe("quick")
    tta = recipe.tta if recipe.tta != Tta() else Tta(shift_pixels=1)
    options = _options(recipe)
    things = [
        Thing("the kit", "kit.predict", {**options, "tta": dataclasses.asdict(Tta())}),
        Thing("the kit, averaging shifted views", "kit.predict", {**options, "tta": dataclasses.asdict(tta)}),
        Thing("model.predict, batches of 32 (default)", "plain.predict", {**options, "batch_size": 32}),
        Thing("model.predict, batches of 500", "plain.predict", {**options, "batch_size": 500}),
    ]
    return plan.compare("predict the test images, in seconds", "seconds", things)


def memory(plan: Plan) -> dict:
    """Hold in memory: the peak of any one process. Neither epochs nor repetitions change it much: one each."""
    options = _options(load_recipe("standard").changed(epochs=1), folds=plan.folds)
    things = [
        Thing(f"the kit, standard --folds {plan.folds}", "kit.memory", options),
        Thing("the original script, pandas", "plain.memory"),
    ]
    return plan.compare("peak memory of one process, in GB", "bytes", things, repeats=1)


PARTS = {part.__name__: part for part in (load, startup, train, accuracy, predict, memory)}
