"""Change one thing at a time of a recipe and see what it is worth: `python scripts/ablate.py --json FILE`.

Each variant is fitted with the seeds that the recipe itself is fitted with, so their differences are pairs. Each seed
has a 90/10 split of its own, and none the split on which the kit shows its recipes: what is chosen here is chosen on
other digits than those of the figure that is shown. The log-loss, at the temperature that suits each fit best, is a
finer ruler than the accuracy of a few thousand digits. Every fit is kept in --json when it is done and not run again
while its settings are the same. --few is for a machine with little time: it trains on 8,400 digits and scores 16,800,
so that small effects are told from chance; but what holds for few digits need not hold for all.
"""

import argparse
import dataclasses
import hashlib
import json
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src")]

from bench import tables, trial_networks
from bench.measuring import Thing, describe_run, paired_effect, run_thing
from benchmark import prepare_data
from digits.config import (
    NETWORKS,
    Recipe,
    Tta,
    load_recipe,
    recipe_names,
)
from digits.console import (
    BadInput,
    entry_point,
)
from digits.files import (
    DATA,
    atomic_write,
)
from digits.model.backend import (
    backend_name,
    resolve_precision,
)
from digits.runs.record import MODEL_CODE, code_hashes
from digits.training.workers import (
    Slots,
    share_machine,
)

FIRST_SPLIT = 101
"""The split of seed 0; the recipes' figures are of split 0."""


def _augmented(**settings: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, augmentation=replace(recipe.augmentation, **settings))


def _stretched(factor: float) -> Callable[[Recipe], Recipe]:
    names = ("rotation_degrees", "shift_pixels", "zoom", "shear_degrees")
    return lambda recipe: _augmented(**{name: factor * getattr(recipe.augmentation, name) for name in names})(recipe)


def _set(**settings) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, **settings)


def _exponential(recipe: Recipe) -> Recipe:
    """Fall by the same factor each epoch, to a hundredth in the end."""
    return replace(recipe, schedule="exponential", decay=0.01 ** (1 / recipe.epochs))


VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "no augmentation": _stretched(0),
    "no rotation": _augmented(rotation_degrees=0),
    "no shift": _augmented(shift_pixels=0),
    "no zoom": _augmented(zoom=0),
    "no shear": _augmented(shear_degrees=0),
    "augmentation × 0.5": _stretched(0.5),
    "augmentation × 1.5": _stretched(1.5),
    "shifts may lose ink": _augmented(keep_ink=False),
    "last epoch clean": _set(clean_epochs=1),
    "no weight averaging": _set(ema=0.0),
    "no weight decay": _set(weight_decay=0.0),
    "no label smoothing": _set(label_smoothing=0.0),
    "no dropout": _set(dropout=0.0),
    "dropout": _set(dropout=1.0),
    "label smoothing 0.1": _set(label_smoothing=0.1),
    "no TTA": _set(tta=Tta()),
    "TTA: shifts": _set(tta=Tta(shift_pixels=1)),
    "TTA: rotations": _set(tta=Tta(rotation_degrees=5)),
    "TTA: shifts and rotations": _set(tta=Tta(shift_pixels=1, rotation_degrees=5)),
    "TTA: views half as heavy": lambda recipe: replace(recipe, tta=replace(recipe.tta, weight=0.5)),
    "Nesterov SGD at a peak of 0.1": _set(optimizer="sgd", learning_rate=0.1, weight_decay=0.0),
    "Adam": _set(optimizer="adam", weight_decay=0.0),
    "Muon": _set(optimizer="muon"),
    "exponential schedule": _exponential,
    "constant rate at a quarter of the peak": lambda recipe: replace(
        recipe, schedule="constant", learning_rate=recipe.learning_rate / 4
    ),
    "warm-up half as long": lambda recipe: replace(recipe, warm_up=recipe.warm_up / 2),
    "peak rate × 0.5": lambda recipe: replace(recipe, learning_rate=recipe.learning_rate / 2),
    "peak rate × 2": lambda recipe: replace(recipe, learning_rate=recipe.learning_rate * 2),
    "batch 128": _set(batch_size=128),
    "batch 512": _set(batch_size=512),
    "float32": _set(precision="float32"),
    "bfloat16": _set(precision="mixed_bfloat16"),
    **{f"the network {name}": _set(networks=(name,)) for name in ("vgg", "deotte", "late48", "late64")},
    **{f"the network {name}": _set(networks=(name,)) for name in trial_networks.NAMES},
}
"""What is tried, in the order of the table: each changes the one thing that its name says, and leaves the rest."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition(":")[0] + ".",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--recipe", choices=recipe_names(), default="quick", help="what is changed, one thing at a time")
    add("--seeds", type=int, default=3, metavar="N", help="fits of each variant")
    add("--epochs", type=int, metavar="N", help="(default: the recipe's)")
    add("--only", metavar="NAME,…", help="variants, by name (default: all; --list shows them)")
    add("--list", action="store_true", help="show the names of the variants, and do nothing else")
    add("--jobs", type=int, metavar="J", help="fits at a time (default: what the machine can)")
    add("--few", action="store_true", help="train on a fifth of the digits and score two others")
    add("--data-dir", type=Path, default=DATA, metavar="DIR", help="with the competition's files; else the sample")
    add("--json", type=Path, metavar="FILE", help="keep every fit here, and go on from there")
    add("--small", action="store_true", help="a few images of the sample: shows only that it works")
    return parser.parse_args(argv)


def chosen(only: str | None) -> list[str]:
    """Return the names of the variants asked for, in the order of the table.

    Raises:
        BadInput: for a name that is none.
    """
    asked = list(VARIANTS) if only is None else [name.strip() for name in only.split(",")]
    unknown = [name for name in asked if name not in VARIANTS]
    if unknown:
        raise BadInput(f"--only {unknown[0]!r}: expected names from --list.")
    return [name for name in VARIANTS if name in asked]


def training_of(recipe: Recipe) -> Recipe:
    """Return the recipe without what matters only after training, so that variants of prediction share their fits."""
    return recipe.changed(
        name="", tta=Tta(), evaluate_every=0, folds=1, members=1, precision=resolve_precision(recipe.precision)
    )


def state_of_code() -> str:
    """Return a hash of the modules on which a fit depends, as they are now."""
    return json.dumps(code_hashes(NETWORKS, MODEL_CODE))


def cell_key(recipe: Recipe, seed: int, state: str) -> str:
    """Return the name of a fit in the JSON: one for all recipes that train alike, in one `state` of data and code."""
    whole = [dataclasses.asdict(training_of(recipe)), seed, FIRST_SPLIT, state, backend_name()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:20]


def score_of(cell: dict | None, tta: Tta) -> dict:
    """Return a kept fit's score under `tta`, empty if it has none."""
    scores = cell["scores"] if cell else []
    return next((score for score in scores if Tta(**score["tta"]) == tta), {})


def missing_fits(recipes: dict[str, Recipe], seeds: int, cells: dict, state: str) -> dict[str, tuple[Thing, int]]:
    """Return the fits that `cells` does not hold yet, seed by seed: what to run and its seed, by their key."""
    missing: dict[str, tuple[Thing, int]] = {}
    for seed in range(seeds):
        for name, recipe in recipes.items():
            key = cell_key(recipe, seed, state)
            # All predictions that share this fit are scored with it.
            ttas = [each.tta for each in recipes.values() if cell_key(each, seed, state) == key]
            if key in missing or all(score_of(cells.get(key), tta) for tta in ttas):
                continue
            options = {
                "recipe": dataclasses.asdict(recipe),
                "ttas": [dataclasses.asdict(tta) for tta in dict.fromkeys(ttas)],
            }
            missing[key] = Thing(name, "kit.fit", options), seed
    return missing


def fit_missing(
    recipes: dict[str, Recipe], seeds: int, cells: dict, common: dict, slots: Slots, keep: Callable[[], None]
) -> None:
    """Fit what `cells` does not hold yet, each in a fresh process and as many at a time as there are `slots`.

    Each is put into `cells` when it is done, and `keep` is called.

    Raises:
        KitError: if a fit failed.
    """
    acquire = slots.acquirer()

    def fit(thing: Thing, seed: int) -> dict:
        with acquire() as environment:
            settings = {"seed": seed, "split": FIRST_SPLIT + seed, "threads": slots.threads[0]}
            return run_thing(thing, {**common, **settings, "environment": environment})

    missing = missing_fits(recipes, seeds, cells, common["state"])
    with ThreadPoolExecutor(slots.at_a_time) as pool:
        fits = {pool.submit(fit, *work): (key, *work) for key, work in missing.items()}
        try:
            for done in as_completed(fits):
                key, thing, seed = fits[done]
                result = done.result()
                cells[key] = {
                    "seconds": result["seconds"],
                    "scores": result["scores"],
                    "name": thing.label,
                    "seed": seed,
                }
                first = result["scores"][0]
                print(
                    f"  seed {seed}, {thing.label}: {first['accuracy']:.2%}, log-loss {first['log_loss']:.4f}, "
                    f"{result['seconds']:.0f} s",
                    flush=True,
                )
                keep()
        finally:
            pool.shutdown(cancel_futures=True)


def effects(recipes: dict[str, Recipe], seeds: int, cells: dict, state: str) -> list[dict]:
    """Return a row a variant: its means, and its paired differences to the first, the recipe as it is."""
    rows: list[dict] = []
    first = next(iter(recipes.values()))
    baseline: dict[str, list[float]] = {}
    for name, recipe in recipes.items():
        kept = [cells[cell_key(recipe, seed, state)] for seed in range(seeds)]
        values = {key: [score_of(cell, recipe.tta)[key] for cell in kept] for key in ("accuracy", "log_loss")}
        values["seconds"] = [cell["seconds"] for cell in kept]
        baseline = baseline or values
        same = bool(rows) and training_of(recipe) == training_of(first) and recipe.tta == first.tta
        row = {"name": name, "same_as_recipe": same}
        for key, measured in values.items():
            effect, error = paired_effect(measured, baseline[key])
            row[key] = {"values": measured, "mean": statistics.mean(measured), "effect": effect, "error": error}
        rows.append(row)
    return rows


def render(rows: list[dict]) -> str:
    """Return the effects as a table."""

    def effect(row: dict, key: str, factor: float, digits: int) -> str:
        if row["same_as_recipe"]:
            return "the same"
        error = row[key]["error"]
        tail = "" if error is None else f" ± {factor * error:.{digits}f}"
        return f"{factor * row[key]['effect']:+.{digits}f}{tail}"

    lines = []
    for number, row in enumerate(rows):
        means = [
            f"{row['accuracy']['mean']:.2%}",
            f"{1000 * row['log_loss']['mean']:.1f}",
            f"{row['seconds']['mean']:.0f}",
        ]
        changes = ["", ""] if number == 0 else [effect(row, "accuracy", 100, 2), effect(row, "log_loss", 1000, 1)]
        lines.append([row["name"], means[0], changes[0], means[1], changes[1], means[2]])
    headers = ["", "accuracy", "effect (points)", "calibrated log-loss × 1000", "effect", "seconds"]
    return tables.table(headers, lines)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Fit what is missing, keep it, and show the effects."""
    flags = parse(argv)
    if flags.list:
        print("\n".join(VARIANTS))
        return
    names = chosen(flags.only)
    for flag in ("seeds", "epochs", "jobs"):
        value = getattr(flags, flag)
        if value is not None and value < 1:
            raise BadInput(f"--{flag} {value}: expected a number from 1 up.")
    base = load_recipe(flags.recipe).changed(epochs=flags.epochs)
    recipes = {"the recipe as it is": base} | {name: VARIANTS[name](base) for name in names}
    kept = json.loads(flags.json.read_text(encoding="utf-8")) if flags.json and flags.json.exists() else {"cells": {}}
    words = sys.argv[1:] if argv is None else argv
    run = describe_run(shlex.join(["python", "scripts/ablate.py", *words]))

    def keep(rows: Sequence[dict] = ()) -> None:
        if flags.json:
            with atomic_write(flags.json) as temporary:
                content = {"run": run, "recipe": base.name, "epochs": base.epochs, "rows": rows, "cells": kept["cells"]}
                temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="ablate-") as folder:
        data = prepare_data(Path(folder), flags.data_dir, flags.small)
        state = f"{data} {state_of_code()}{' few' * flags.few}"
        common = {"folder": folder, "state": state, "few": flags.few}
        slots = share_machine(len(recipes) * flags.seeds, flags.jobs)
        fit_missing(recipes, flags.seeds, kept["cells"], common, slots, keep)
    rows = effects(recipes, flags.seeds, kept["cells"], state)
    keep(rows)
    split = "one fifth trains and two are scored" if flags.few else "a 90/10 split"
    print(f"\n{base.name}, {base.epochs} epochs, n = {flags.seeds} seeds, for each {split}; {data}\n\n{render(rows)}")
    print("\n± is the standard error over the seeds and their splits.")


if __name__ == "__main__":
    sys.exit(main())
