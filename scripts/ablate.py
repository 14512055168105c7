"""Change one setting of a recipe at a time and measure the effect: `python scripts/ablate.py --json FILE`.

Each variant is trained with the seeds of the recipe itself, so their differences are pairs. Each seed has a 90/10 split
of its own, none of them the split of the recipes' figures. The log-loss, after temperature scaling, resolves smaller
effects than the accuracy. Everything is kept in --json, and not repeated while settings, data and code are the same.
--few trains on 8,400 images and scores 16,800, which resolves smaller effects in less time; what holds for few images
need not hold for all.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src")]

from bench import trials
from bench.data import prepare
from bench.measuring import describe_run
from digits.config import Recipe, load_recipe, set_values
from digits.console import BadInput, entry_point, typed_command
from digits.files import atomic_write
from digits.training.workers import share_machine


def variants(recipe: Recipe) -> dict[str, str]:
    """Return what is tried, in the order of the table: the `--set` of each variant by its name."""

    every = ("rotation_degrees", "shift_pixels", "zoom", "shear_degrees")

    def augmentation(factor: float, *names: str) -> str:
        values = ((name, getattr(recipe.augmentation, name)) for name in names or every)
        return " ".join(f"augmentation.{name}={factor * value}" for name, value in values)

    no_tta = "tta.shift_pixels=0 tta.rotation_degrees=0"
    return {
        "no augmentation": augmentation(0),
        "no rotation": augmentation(0, "rotation_degrees"),
        "no shift": augmentation(0, "shift_pixels"),
        "no zoom": augmentation(0, "zoom"),
        "no shear": augmentation(0, "shear_degrees"),
        "augmentation × 0.5": augmentation(0.5),
        "augmentation × 1.5": augmentation(1.5),
        "shifts may lose ink": "augmentation.keep_ink=false",
        "last epoch clean": "clean_epochs=1",
        "no weight averaging": "ema=0",
        "no weight decay": "weight_decay=0",
        "no label smoothing": "label_smoothing=0",
        "no dropout": "dropout=0",
        "dropout": "dropout=1",
        "label smoothing 0.1": "label_smoothing=0.1",
        "no TTA": no_tta,
        "TTA: shifts": f"{no_tta} tta.shift_pixels=1",
        "TTA: rotations": f"{no_tta} tta.rotation_degrees=5",
        "TTA: shifts and rotations": "tta.shift_pixels=1 tta.rotation_degrees=5",
        "TTA: augmented copies at half weight": "tta.weight=0.5",
        "Nesterov SGD at learning rate 0.1": "optimizer=sgd learning_rate=0.1 weight_decay=0",
        "Adam": "optimizer=adam weight_decay=0",
        "Muon": "optimizer=muon",
        "exponential schedule": f"schedule=exponential decay={0.01 ** (1 / recipe.epochs)}",
        "constant rate, a quarter of the maximum": f"schedule=constant learning_rate={recipe.learning_rate / 4}",
        "warm-up half as long": f"warm_up={recipe.warm_up / 2}",
        "maximum learning rate × 0.5": f"learning_rate={recipe.learning_rate / 2}",
        "maximum learning rate × 2": f"learning_rate={recipe.learning_rate * 2}",
        "batch 128": "batch_size=128",
        "batch 512": "batch_size=512",
        "float32": "precision=float32",
        "bfloat16": "precision=mixed_bfloat16",
        **{f"the network {name}": f"networks={name}" for name in ("vgg", "deotte", "late48", "late64")},
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".", allow_abbrev=False)
    add = parser.add_argument
    add("--recipe", default="quick", metavar="NAME", help="recipe to change: a name or a TOML file (default: quick)")
    add("--seeds", type=int, default=3, metavar="N", help="networks trained of each variant (default: 3)")
    add("--epochs", type=int, metavar="N", help="times through the data (default: the recipe's)")
    add("--only", metavar="NAME,…", help="variants, by name (default: all; --list shows them)")
    add("--set", nargs="+", action="append", metavar="KEY=VALUE", help="a variant of your own; may be repeated")
    add("--list", action="store_true", help="show the variants and what they set, and do nothing else")
    add("--jobs", type=int, metavar="J", help="networks trained at a time (default: one per CPU core)")
    add("--few", action="store_true", help="train on a fifth of the images and score two others")
    add("--data-dir", type=Path, metavar="DIR", help="its data, else the sample (default: data/)")
    add("--json", type=Path, metavar="FILE", help="keep every score here, and resume from there")
    add("--small", action="store_true", help="a few images of the sample: shows only that it works")
    return parser.parse_args(argv)


def chosen(recipe: Recipe, only: str | None, own: Sequence[Sequence[str]] | None = None) -> dict[str, Recipe]:
    """Return the recipe and its variants, by name: `own` lists of KEY=VALUE, else those of `only`, else all.

    Raises BadInput for an unknown name or a setting that cannot be.
    """
    known = {" ".join(words): shlex.join(words) for words in own} if own else variants(recipe)
    asked = [name.strip() for name in only.split(",")] if only else list(known)
    if unknown := [name for name in asked if name not in known]:
        raise BadInput(f"--only {unknown[0]!r}: expected names from --list.")
    changed = {name: set_values(recipe, shlex.split(words)) for name, words in known.items() if name in asked}
    for name, variant in changed.items():
        trials.check_variant(variant, recipe, name)
    return {"the recipe as it is": recipe} | changed


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, keep it, and show the effects."""
    flags = parse(argv)
    for flag in ("seeds", "epochs", "jobs"):
        value = getattr(flags, flag)
        if value is not None and value < 1:
            raise BadInput(f"--{flag} {value}: expected a number from 1 up.")
    base = load_recipe(flags.recipe).changed(epochs=flags.epochs)
    if flags.list:
        print("\n".join(f"{name}: {words}" for name, words in variants(base).items()))
        return
    recipes = chosen(base, flags.only, flags.set)
    kept = json.loads(flags.json.read_text(encoding="utf-8")) if flags.json and flags.json.exists() else {"cells": {}}
    run = describe_run(typed_command("scripts/ablate.py", argv))

    def keep(rows: Sequence[dict] = ()) -> None:
        if flags.json:
            with atomic_write(flags.json) as temporary:
                content = {"run": run, "recipe": base.name, "epochs": base.epochs, "rows": rows, "cells": kept["cells"]}
                temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="ablate-") as folder:
        data = prepare(Path(folder), flags.data_dir, small=flags.small)
        state = f"{data.sha256} {trials.state_of_code()}"
        if flags.few:
            state += " few"
        common = {"folder": folder, "state": state, "few": flags.few, "metric": data.metric}
        trials.check_networks(recipes.values(), data)
        slots = share_machine(len(recipes) * flags.seeds, flags.jobs)
        trials.fit_missing(recipes, flags.seeds, kept["cells"], common, slots, keep)
    rows = trials.effects(recipes, flags.seeds, kept["cells"], state)
    keep(rows)
    split = "one fifth trains and two are scored" if flags.few else "a 90/10 split"
    print(f"\n{base.name}, {base.epochs} epochs, n = {flags.seeds} seeds, for each {split}; {data.description}")
    print(f"\n{trials.render(rows, data.loss)}")
    print("\n± is the standard error over the seeds and their splits.")


if __name__ == "__main__":
    sys.exit(main())
