"""Confident predictions of a run as labels of test images."""

from dataclasses import dataclass

import numpy as np

from digits.console import BadInput
from digits.runs.averaging import test_mean
from digits.runs.record import PseudoLabelsUsed
from digits.runs.store import REFIT, Run

LEAST_CONFIDENCE = 0.9
"""The least probability at which the prediction of a test image becomes its pseudo-label."""


@dataclass(frozen=True)
class PseudoLabels:
    """For each fold, and for refits, which test images join training, int (p,), and with which labels, uint8 (p,)."""

    run: str
    threshold: float
    by_fold: dict[int, tuple[np.ndarray, np.ndarray]]
    test_rows: int

    def used(self) -> PseudoLabelsUsed:
        """Return their record."""
        shares = {str(fold): round(len(rows) / self.test_rows, 4) for fold, (rows, _) in self.by_fold.items()}
        return PseudoLabelsUsed(self.run, self.threshold, shares)


def pseudo_labels_of(run: Run, identity: dict, threshold: float = LEAST_CONFIDENCE) -> PseudoLabels:
    """Take the confident predictions of a finished run.

    Fold k gets only the predictions of the run's networks of fold k, which never saw fold k's rows: so the out-of-fold
    accuracy of the new run, of this `identity`, stays honest. That needs the same folds of the same data. Networks
    trained on all data get the predictions of all networks. Raises BadInput if the runs' data or folds differ, or the
    earlier one is not finished or lacks a fold.
    """
    record, results, flag = run.finished_record(), run.fold_results(), f"--pseudo-labels {run.name}"
    keys = "data", "fold_seed", "recipe.folds", "folds"
    if different := [key for key in keys if record.identity.get(key) != identity.get(key)]:
        needed = "Expected the same folds of the same data, or a fold's own labels would leak into its training"
        raise BadInput(f"{flag}: its {', '.join(different)} differ", fix=needed)
    folds = list(range(1, identity["recipe.folds"] + 1))
    if missing := set(folds) - {result.fold for result in results}:
        raise BadInput(f"{flag}: it has no network of fold {min(missing)} yet; resume it first.")
    if identity.get("recipe.refit"):
        folds.append(REFIT)
    by_fold = {}
    for fold in folds:
        probabilities = test_mean([result for result in results if fold in (REFIT, result.fold)])
        rows = np.flatnonzero(probabilities.max(axis=1) >= threshold)
        by_fold[fold] = rows, probabilities[rows].argmax(axis=1).astype(np.uint8)
    return PseudoLabels(run.name, threshold, by_fold, len(probabilities))
