"""What each part of the benchmark sets side by side."""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.measuring import Thing, first_reached, interleave, run_thing, spread
from digits.config import Recipe, Tta, load_recipe
from digits.files import ROOT
from digits.model.backend import backend_name, resolve_precision

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
    quick_epochs: tuple[int, ...] = field(default_factory=lambda: (1, 2, 3, load_recipe("quick").epochs))
    original_epochs: int = 10
    deotte_epochs: int = 12
    folds: int = 5
    torch_python: str = sys.executable
    """The interpreter that has PyTorch; "" for none."""
    standard_run: dict | None = None
    """The run.json of a finished `standard --folds 5`."""
    run: Callable[[Thing, dict], dict] = run_thing

    def measure(self, things: list[Thing], repeats: int) -> dict[str, list[dict]]:
        """Measure things in turn."""
        return interleave(things, repeats, {"folder": str(self.folder)}, self.run)


def _recipe(recipe: Recipe) -> dict:
    return {"recipe": dataclasses.asdict(recipe)}


def _side_by_side(plan: Plan, things: list[Thing], key: str, repeats: int, **facts) -> dict:
    """Return a part whose rows are the spreads of one measured value; the first row is the kit's."""
    results = plan.measure(things, repeats)
    rows = [{"label": label, **spread([result[key] for result in of])} for label, of in results.items()]
    return {"n": repeats, "value": key, "rows": rows, **facts}


def load(plan: Plan) -> dict:
    """Read train.csv and test.csv, all in the operating system's memory already."""
    things = [
        Thing("the kit, first read, checked", "reading.kit", {"forget": True}),
        Thing("the kit, read again", "reading.kit"),
        Thing("pandas.read_csv, defaults", "reading.pandas_defaults"),
        Thing("the files' bytes alone", "reading.only_bytes"),
    ]
    plan.run(things[-1], {"folder": str(plan.folder)})
    return _side_by_side(plan, things, "seconds", plan.repeats, title="read train.csv and test.csv, in seconds")


def startup(plan: Plan) -> dict:
    """Start: the help, and everything up to the first batch."""

    def command(label: str, *words: str) -> Thing:
        return Thing(label, "reading.command", {"words": [sys.executable, *words]})

    recipe = _recipe(load_recipe("quick"))
    backend = (
        "import os; os.environ.setdefault('KERAS_BACKEND', 'tensorflow'); os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'; "
    )
    things = [
        command("train.py --help", str(ROOT / "src" / "train.py"), "--help"),
        command("an empty Python", "-c", "pass"),
        command("import keras, alone", "-c", f"{backend}import keras"),
        Thing("the kit, until its first eight batches are done", "kit.first_batch", recipe),
        Thing("the original script, until then", "plain.first_batch"),
    ]
    plan.run(Thing("leave the cache", "reading.kit"), {"folder": str(plan.folder)})
    return _side_by_side(plan, things, "seconds", plan.repeats, title="start, in seconds")


def train(plan: Plan) -> dict:
    """Train one network at one batch size in several ways."""
    recipe = load_recipe("quick")
    options = {**_recipe(recipe.changed(precision="float32")), "epochs": plan.epochs}

    def fit(label: str, augmented: bool, autotune: bool) -> Thing:
        return Thing(label, "plain.train", {**options, "augmented": augmented, "autotune": autotune})

    things = [Thing("the kit, augmenting", "kit.train", options)]
    if resolve_precision("auto") != "float32":
        auto = {**_recipe(recipe.changed(precision="auto")), "epochs": plan.epochs}
        things.append(Thing(f"the kit, {resolve_precision('auto')}", "kit.train", auto))
    things += [fit("model.fit", False, True), fit("model.fit, Keras augmenting", True, True)]
    if backend_name() == "tensorflow":
        things += [
            fit("model.fit, no autotune", False, False),
            fit("model.fit, no autotune, Keras augmenting", True, False),
        ]
    if plan.torch_python:
        things += [
            Thing("PyTorch, float32", "pytorch.train", {**options, "bfloat16": False}, plan.torch_python),
            Thing("PyTorch, bfloat16", "pytorch.train", {**options, "bfloat16": True}, plan.torch_python),
        ]
    title = f"train the network {recipe.networks[0]}, batches of {recipe.batch_size}, in images a second"
    return _side_by_side(plan, things, "images_per_second", plan.repeats, title=title, more_is_better=True)


def accuracy(plan: Plan) -> dict:
    """Fit until enough of the held-out tenth is right: whole short fits of `quick`, the others checked each epoch."""
    quick = load_recipe("quick")
    things = [
        Thing(_named(epochs), "kit.fit", _recipe(quick.changed(epochs=epochs)))
        for epochs in sorted(set(plan.quick_epochs))
    ]
    things.append(Thing("the original script", "plain.original", {"epochs": plan.original_epochs}))
    if plan.deotte_epochs:
        things.append(Thing("Deotte's recipe", "plain.deotte", {"epochs": plan.deotte_epochs}))
    results = plan.measure(things, plan.seeds)
    rows = [_trace_row(label, of) for label, of in results.items()]
    part = {
        "title": "train until the held-out tenth is known, in seconds",
        "n": plan.seeds,
        "value": "seconds",
        "targets": list(TARGETS),
        "rows": rows,
    }
    deotte = [row for row in rows if row["label"] == "Deotte's recipe"]
    return part | (_against_fifteen(deotte[0], plan) if deotte else {})


def _named(epochs: int) -> str:
    return f"quick, {epochs} epoch{'s' * (epochs > 1)}"


def _trace_row(label: str, results: list[dict]) -> dict:
    """Return the row of one contestant: its whole fits, and when each seed's reached each target (None: never)."""
    traces = [result["trace"] for result in results]
    return {
        "label": label,
        **spread([result["seconds"] for result in results]),
        "accuracy": spread([trace[-1][1] for trace in traces]),
        "reached": {str(target): [first_reached(trace, target) for trace in traces] for target in TARGETS},
        "traces": traces,
    }


def _against_fifteen(deotte: dict, plan: Plan) -> dict:
    """Extrapolate Deotte's fifteen networks from the measured epochs, beside a finished run of `standard`."""
    an_epoch = deotte["median"] / plan.deotte_epochs
    facts = {"deotte_seconds_an_epoch": an_epoch, "deotte_whole_seconds": an_epoch * DEOTTE_EPOCHS * DEOTTE_NETWORKS}
    if plan.standard_run is not None:
        facts["standard"] = {
            "seconds": plan.standard_run["seconds"],
            "accuracy": plan.standard_run["out_of_fold"]["accuracy"],
        }
    return {"extrapolated": facts}


def predict(plan: Plan) -> dict:
    """Predict the test images once, in a process that has predicted nothing before."""
    recipe = load_recipe("quick")
    options = _recipe(recipe)
    tta = dataclasses.asdict(recipe.tta if recipe.tta != Tta() else Tta(shift_pixels=1))
    things = [
        Thing("the kit", "kit.predict", {**options, "tta": dataclasses.asdict(Tta())}),
        Thing("the kit, averaging shifted views", "kit.predict", {**options, "tta": tta}),
        Thing("model.predict, batches of 32 (default)", "plain.predict", {**options, "batch_size": 32}),
        Thing("model.predict, batches of 500", "plain.predict", {**options, "batch_size": 500}),
    ]
    return _side_by_side(plan, things, "seconds", plan.repeats, title="predict the test images, in seconds")


def memory(plan: Plan) -> dict:
    """Hold in memory: the most of any one process. Neither the epochs nor the repetitions change it much: one each."""
    options = {**_recipe(load_recipe("standard").changed(epochs=1)), "folds": plan.folds}
    things = [
        Thing(f"the kit, standard --folds {plan.folds}", "kit.memory", options),
        Thing("the original script, pandas", "plain.memory"),
    ]
    return _side_by_side(plan, things, "bytes", 1, title="the most memory of one process, in GB")


PARTS = {part.__name__: part for part in (load, startup, train, accuracy, predict, memory)}
