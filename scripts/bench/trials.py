"""Fit recipes with the same seeds and splits, so that their differences are pairs, and keep every fit."""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from bench.measuring import Thing, paired_effect, run_thing
from digits.config import Recipe, Tta
from digits.console import table
from digits.model.backend import backend_name, resolve_precision
from digits.runs.identity import MODEL_CODE, code_hashes
from digits.training.workers import Slots

FIRST_SPLIT = 101
"""The split of seed 0; the recipes' figures are of split 0."""


def training_of(recipe: Recipe) -> Recipe:
    """Return the recipe without what matters only after training, so that variants of prediction share their fits."""
    return recipe.changed(
        name="", base="", tta=Tta(), evaluate_every=0, folds=1, members=1, precision=resolve_precision(recipe.precision)
    )


def state_of_code() -> str:
    """Return a hash of the modules on which a fit depends, as they are now."""
    return json.dumps(code_hashes(MODEL_CODE))


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
    return table(headers, lines, left=("",))
