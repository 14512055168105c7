"""Fit recipes with the same seeds and splits, so that their differences are pairs, and keep every fit."""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Callable, Iterable

from bench import kit
from bench.data import Prepared
from bench.measuring import FIRST_SPLIT, Contestant, in_slots, measure, paired_effect
from digits.config import Recipe, Tta, differences
from digits.console import BadInput, counted, progress_bar, table
from digits.model import check
from digits.model.backend import backend_name, cpu_count, resolve_precision
from digits.runs.identity import MODEL_CODE, code_hashes
from digits.training.workers import Slots, Worker

UNUSED = {"folds": 1, "members": 1, "refit": 0, "evaluate_every": 0}
"""The fields of a recipe that do not change one network's fit."""


def check_variant(recipe: Recipe, base: Recipe, flag: str) -> None:
    """Check that a fit of one network shows what differs between two recipes; BadInput if it does not."""
    changed = differences(recipe, base)
    unused = [key for key in changed if key in UNUSED and not (key == "members" and "networks" in changed)]
    if unused:
        raise BadInput(f"{flag}: {unused[0]} does not change the fit of one network, which is what is measured here.")
    if "networks" in changed and len(recipe.networks) > 1:
        raise BadInput(f"{flag}: expected one network, found {len(recipe.networks)}: each fit trains one.")


def check_networks(recipes: Iterable[Recipe], data: Prepared) -> None:
    """Check the networks of the user's own files as train.py does before it trains; BadInput as there."""
    for recipe in {recipe.networks: recipe for recipe in recipes if recipe.sources}.values():
        shape = resolve_precision(recipe.precision), data.input_shape, data.classes
        Worker(cpu_count()).run(check.check_networks, recipe, *shape)


def training_of(recipe: Recipe) -> Recipe:
    """Return the recipe without what matters only after training, so that variants of prediction share their fits."""
    return recipe.changed(name="", base="", tta=Tta(), precision=resolve_precision(recipe.precision), **UNUSED)


def is_same(recipe: Recipe, other: Recipe) -> bool:
    """Return whether a fit of both gives the same score."""
    return training_of(recipe) == training_of(other) and recipe.tta == other.tta


def state_of_code() -> str:
    """Return a hash of the modules on which a fit depends, as they are now."""
    return json.dumps(code_hashes(MODEL_CODE))


def cell_key(recipe: Recipe, seed: int, state: str) -> str:
    """Return the name of a fit in the JSON: one for all recipes that train alike, in one `state` of data and code."""
    whole = [dataclasses.asdict(training_of(recipe)), seed, FIRST_SPLIT, state, backend_name()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:20]


def score_of(cell: dict | None, tta: Tta) -> dict:
    """Return a kept fit's score under `tta`, empty if it has none."""
    scores = (cell or {}).get("scores", ())
    return next((score for score in scores if Tta(**score["tta"]) == tta), {})


def fit_missing(
    recipes: dict[str, Recipe], seeds: int, cells: dict, common: dict, slots: Slots, keep: Callable[[], None]
) -> None:
    """Fit what `cells` does not hold yet, each in a fresh process and as many at a time as there are `slots`.

    Each is put into `cells` when it is done, and `keep` is called. Raises KitError if a fit failed.
    """
    missing: dict[str, tuple[Contestant, int]] = {}  # What to run and its seed, by their key.
    for seed in range(seeds):
        keys = {name: cell_key(recipe, seed, common["state"]) for name, recipe in recipes.items()}
        for name, key in keys.items():
            # All predictions that share this fit are scored with it.
            ttas = list(dict.fromkeys(recipes[other].tta for other in recipes if keys[other] == key))
            if key not in missing and not all(score_of(cells.get(key), tta) for tta in ttas):
                missing[key] = Contestant(name, kit.fit, {"recipe": recipes[name], "ttas": ttas}), seed

    def fit(key: str, share: dict) -> dict:
        contestant, seed = missing[key]
        return measure(contestant, {**common, "seed": seed, "split": FIRST_SPLIT + seed}, **share)

    def put(key: str, result: dict) -> None:
        contestant, seed = missing[key]
        cells[key] = result | {"name": contestant.label, "seed": seed}
        first = result["scores"][0]
        scores = f"{first['accuracy']:.2%}, loss {first['loss']:.4f}, {result['seconds']:.0f} s"
        print(f"  seed {seed}, {contestant.label}: {scores}", flush=True)
        count(1)
        keep()

    with progress_bar(lambda: f"{counted(len(missing), 'network')} to train", len(missing)) as count:
        in_slots(slots, fit, missing, put)


def effects(recipes: dict[str, Recipe], seeds: int, cells: dict, state: str) -> list[dict]:
    """Return a row a variant: its means, and its paired differences to the first, the recipe as it is."""
    rows: list[dict] = []
    first = next(iter(recipes.values()))
    baseline: dict[str, list[float]] = {}
    for name, recipe in recipes.items():
        kept = [cells[cell_key(recipe, seed, state)] for seed in range(seeds)]
        values = {key: [score_of(cell, recipe.tta)[key] for cell in kept] for key in ("accuracy", "loss")}
        values["seconds"] = [cell["seconds"] for cell in kept]
        baseline = baseline or values
        row = {"name": name, "same_as_recipe": bool(rows) and is_same(recipe, first)}
        for key, measured in values.items():
            effect, error = paired_effect(measured, baseline[key])
            row[key] = {"values": measured, "mean": statistics.mean(measured), "effect": effect, "error": error}
        rows.append(row)
    return rows


def render(rows: list[dict], loss: str = "calibrated log-loss") -> str:
    """Return the effects as a table; `loss` is what they are of, see `Prepared.loss`."""

    def effect(row: dict, key: str, factor: float, digits: int) -> str:
        if row["same_as_recipe"]:
            return "the same"
        error = row[key]["error"]
        tail = "" if error is None else f" ± {factor * error:.{digits}f}"
        return f"{factor * row[key]['effect']:+.{digits}f}{tail}"

    lines = []
    for number, row in enumerate(rows):
        changes = ["", ""] if number == 0 else [effect(row, "accuracy", 100, 2), effect(row, "loss", 1000, 1)]
        accuracy, mean_loss = f"{row['accuracy']['mean']:.2%}", f"{1000 * row['loss']['mean']:.1f}"
        seconds = f"{row['seconds']['mean']:.0f}"
        lines.append([row["name"], accuracy, changes[0], mean_loss, changes[1], seconds])
    headings = ["", "accuracy", "effect (points)", f"{loss} × 1000", "effect", "seconds"]
    return table(headings, lines, left=("",))
