"""The parts of the benchmark: what each compares, and its results as text."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from bench import kit, plain
from bench.measuring import FIRST_SPLIT, Contestant, first_reached, middle, spread, take_turns
from digits.config import load_recipe
from digits.console import counted, table
from digits.files import ROOT
from digits.model.backend import backend_name, resolve_precision

TARGETS = (0.986, 0.99, 0.995)  # The original script's final accuracy, and two on the way to the kit's.
AS_KERAS = {"DIGITS_WHOLE_BATCHES": "1"}
"""What is not the kit's has TensorFlow's own threads."""
DEOTTE_EPOCHS, DEOTTE_NETWORKS = 45, 15


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    folder: Path  # With the data, as `data.prepare` left it.
    repeats: int = 5  # Of the part train.
    seeds: int = 3  # Of the part accuracy.
    epochs: int = 2  # Of the part train, after one to warm up.
    quick_epochs: tuple[int, ...] = (1, 2, 3, 8)
    original_epochs: int = 10
    deotte_epochs: int = 12
    words: tuple[str, ...] = ("--recipe", "quick", "--epochs", "3")  # Of the part command.
    against: Path | None = None  # Another checkout of the kit, for the part command.


def train(plan: Plan) -> dict:
    """Train one network at one batch size in several ways."""
    recipe = load_recipe("quick")
    options = {"recipe": recipe.changed(precision="float32"), "epochs": plan.epochs}
    contestants = [Contestant("the kit, augmenting", kit.train, options)]
    if (precision := resolve_precision("auto")) != "float32":
        automatic = options | {"recipe": recipe.changed(precision="auto")}
        contestants.append(Contestant(f"the kit, {precision}", kit.train, automatic))
    ways = {"model.fit": (False, True), "model.fit, Keras augmenting": (True, True)}
    if backend_name() == "tensorflow":
        ways |= {"model.fit, no autotune": (False, False), "model.fit, no autotune, Keras augmenting": (True, False)}
    for label, (augmented, autotune) in ways.items():
        way = options | {"augmented": augmented, "autotune": autotune}
        contestants.append(Contestant(label, plain.train, way, AS_KERAS))
    results = take_turns(contestants, plan.repeats, plan.folder)
    rows = [
        {"label": label, **spread([result["images_per_second"] for result in measured])}
        for label, measured in results.items()
    ]
    title = f"images per second in training the network {recipe.networks[0]}, batches of {recipe.batch_size}"
    return {"title": title, "n": plan.repeats, "rows": rows}


def accuracy(plan: Plan) -> dict:
    """Train to an accuracy on a held-out tenth: whole short fits of `quick`, the others scored after each epoch."""
    quick = load_recipe("quick")
    contestants = [
        Contestant(f"quick, {counted(epochs, 'epoch')}", kit.fit, {"recipe": quick.changed(epochs=epochs)})
        for epochs in sorted(set(plan.quick_epochs))
    ]
    contestants.append(Contestant("the original script", plain.original, {"epochs": plan.original_epochs}, AS_KERAS))
    if plan.deotte_epochs:
        contestants.append(Contestant("Deotte's recipe", plain.deotte, {"epochs": plan.deotte_epochs}, AS_KERAS))
    results = take_turns(contestants, plan.seeds, plan.folder)
    rows = [_reached(label, measured) for label, measured in results.items()]
    part: dict = {
        "title": "seconds of training to an accuracy on the held-out tenth",
        "n": plan.seeds,
        "targets": list(TARGETS),
        "rows": rows,
    }
    if plan.deotte_epochs:
        part["deotte_whole_seconds"] = rows[-1]["median"] / plan.deotte_epochs * DEOTTE_EPOCHS * DEOTTE_NETWORKS
    return part


def command(plan: Plan) -> dict:
    """Run whole commands, from their start to the checked submission, here and in another checkout."""
    checkouts = {"the kit": ROOT} | ({f"the kit in {plan.against}": plan.against} if plan.against else {})
    contestants = [
        Contestant(label, kit.run_command, {"checkout": str(path), "words": plan.words, "split": FIRST_SPLIT})
        for label, path in checkouts.items()
    ]
    results = take_turns(contestants, plan.repeats, plan.folder)
    rows = []
    for label, measured in results.items():
        wrong, scored = (sum(result[key] for result in measured) for key in ("wrong", "rows"))
        error = (wrong / scored * (1 - wrong / scored) / scored) ** 0.5
        seconds = spread([result["seconds"] for result in measured])
        rows.append({"label": label, **seconds, "wrong": wrong, "scored": scored, "error": error, "runs": measured})
    title = f"seconds of the whole command: train.py {shlex.join(plan.words)}, each time another tenth held out"
    return {"title": title, "n": plan.repeats, "rows": rows}


def _reached(label: str, results: list[dict]) -> dict:
    """Return the row of one contestant: its whole fits, and when each seed's reached each target (None: never)."""
    traces = [result["trace"] for result in results]
    return {
        "label": label,
        **spread([result["seconds"] for result in results]),
        "accuracy": spread([trace[-1][1] for trace in traces]),
        "reached": {str(target): [first_reached(trace, target) for trace in traces] for target in TARGETS},
        "traces": traces,
    }


PARTS = {"train": train, "accuracy": accuracy, "command": command}


def render(name: str, part: dict) -> str:
    """Return a part's title and table."""
    lines = [f"{name}: {part['title']} (n = {part['n']})"]
    if name != "accuracy":
        headings, digits = ["", "median", "min–max", "× the first"], 0 if name == "train" else 1
        cells = [_median_cells(row, part["rows"][0]["median"], digits) for row in part["rows"]]
        if name == "command":
            headings += ["accuracy", "wrong"]
            cells = [cell + _score_cells(row) for cell, row in zip(cells, part["rows"], strict=True)]
        return "\n".join([*lines, table(headings, cells, left=("",))])
    headings = ["", "training", "accuracy", "min–max", *(f"to {target:.1%}" for target in part["targets"])]
    lines += [table(headings, [_accuracy_cells(row, part["targets"]) for row in part["rows"]], left=("",)), ""]
    lines += [_ratio(part, target) for target in part["targets"]]
    if whole := part.get("deotte_whole_seconds"):
        lines.append(f"Deotte's 15 networks × 45 epochs, extrapolated: {whole / 3600:.1f} hours.")
    return "\n".join(lines)


def _median_cells(row: dict, first: float, digits: int) -> list[str]:
    median, low, high = (f"{row[key]:,.{digits}f}" for key in ("median", "low", "high"))
    return [row["label"], median, f"{low}–{high}", f"{row['median'] / first:.2f}"]


def _score_cells(row: dict) -> list[str]:
    accuracy = 1 - row["wrong"] / row["scored"]
    return [f"{accuracy:.3%} ± {row['error']:.3%}", f"{row['wrong']:,} of {row['scored']:,}"]


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _accuracy_cells(row: dict, targets: list[float]) -> list[str]:
    accuracy = row["accuracy"]
    cells = [row["label"], _seconds(row["median"]), f"{accuracy['median']:.2%}"]
    cells.append(f"{accuracy['low']:.2%}–{accuracy['high']:.2%}")
    for target in targets:
        reached = row["reached"][str(target)]
        seconds, count = middle(reached), len(reached) - reached.count(None)
        cells.append(f"{'–' if seconds == float('inf') else _seconds(seconds)} ({count}/{len(reached)})")
    return cells


def _ratio(part: dict, target: float) -> str:
    """Say how much longer the others take than the shortest `quick` whose mean accuracy reaches the target."""
    quicks = [row for row in part["rows"] if row["label"].startswith("quick")]
    means = {row["label"]: sum(row["accuracy"]["values"]) / part["n"] for row in quicks}
    enough = [row for row in quicks if means[row["label"]] >= target]
    if not enough:
        return f"To {target:.1%}: no mean of `quick` reached it."
    quick = min(enough, key=lambda row: row["median"])
    others = []
    for row in part["rows"][len(quicks) :]:
        seconds, more = middle(row["reached"][str(target)]), ""
        if seconds == float("inf"):
            seconds, more = row["median"], "more than "
        others.append(f"{row['label']} takes {more}{seconds / quick['median']:.1f} times as long")
    return f"To {target:.1%}: {quick['label']}, {_seconds(quick['median'])} s; {'; '.join(others)}."
