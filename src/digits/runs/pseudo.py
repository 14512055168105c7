"""Pseudo-labels: test images that an earlier run was sure of join training, without a fold's own labels leaking in."""

from dataclasses import dataclass

import numpy as np

from digits.errors import BadInput
from digits.runs import ensemble
from digits.runs.runs import Run

SURE = 0.9
"""The least probability at which a test image is taken for what it was called."""


@dataclass(frozen=True)
class PseudoLabels:
    """For each fold, from 1: which test images join its training, int (p,), and as what digits, uint8 (p,)."""

    run: str
    threshold: float
    by_fold: dict[int, tuple[np.ndarray, np.ndarray]]
    test_rows: int

    def facts(self) -> dict:
        """Return what run.json says of them."""
        shares = {str(fold): round(len(rows) / self.test_rows, 4) for fold, (rows, _) in self.by_fold.items()}
        return {"run": self.run, "threshold": self.threshold, "share_of_test_images": shares}


def from_run(run: Run, identity: dict, threshold: float = SURE) -> PseudoLabels:
    """Take the confident predictions of a finished run.

    Fold k gets only what the run's networks of fold k said, which never saw fold k's rows: so the out-of-fold accuracy
    of the new run stays honest. That needs the same folds of the same data.

    Args:
        run: the earlier run.
        identity: the new run's, whose data and folds must be the earlier one's.
        threshold: the least probability that counts as sure.

    Raises:
        BadInput: if the runs' data or folds differ, or the earlier one is not finished or lacks a fold.
    """
    facts = run.facts()
    parts = run.parts()
    wanted = ("data", "fold_seed", "recipe.folds")
    different = [key for key in wanted if facts["identity"].get(key) != identity[key]]
    if facts.get("status") != "finished" or different:
        reason = f"its {', '.join(different)} differ" if different else "it is not finished"
        raise BadInput(
            f"--pseudo-labels {run.name}: {reason}. Expected a finished run of the same folds of the same data, or a "
            f"fold's own labels would leak into its training."
        )
    by_fold = {}
    missing = set(range(1, identity["recipe.folds"] + 1)) - {part.fold for part in parts}
    if missing:
        raise BadInput(f"--pseudo-labels {run.name}: it has no network of fold {min(missing)} yet; go on with it.")
    for fold in range(1, identity["recipe.folds"] + 1):
        said = ensemble.mean([part.test_probabilities for part in parts if part.fold == fold])
        rows = np.flatnonzero(said.max(axis=1) >= threshold)
        by_fold[fold] = rows, said[rows].argmax(axis=1).astype(np.uint8)
    return PseudoLabels(run.name, threshold, by_fold, len(said))
