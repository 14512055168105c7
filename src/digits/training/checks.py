"""Does a finished run make sense? Each check says what it saw, and a failed one is never silent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from digits.data.competition import CLASSES
from digits.errors import KitError
from digits.model.backend import cpu_count, load_keras
from digits.recipes import Tta
from digits.training.processes import run_fresh

ROWS_PREDICTED_AGAIN = 100


@dataclass(frozen=True)
class Check:
    """One question asked of a run, and the answer."""

    name: str
    passed: bool
    detail: str


def check_probabilities(probabilities: np.ndarray) -> Check:
    """Ask whether probabilities (n, 10) are numbers in 0-1 that sum to 1."""
    worst = float(np.abs(probabilities.sum(axis=1) - 1).max())
    good = bool(np.isfinite(probabilities).all() and (probabilities >= 0).all() and worst < 1e-3)
    return Check("probabilities sum to 1", good, f"the sum is off by {worst:.1e} at most")


def check_not_constant(answers: np.ndarray) -> Check:
    """Ask whether all ten digits are among the answers (n,)."""
    found = len(np.unique(answers))
    return Check("every digit is predicted", found == CLASSES, f"{found} of {CLASSES} digits occur")


def check_class_shares(answers: np.ndarray, training_counts: np.ndarray) -> Check:
    """Ask whether the answers' class shares are those of the training labels, by Cramér's V of the two counts (10,)."""
    counts = np.bincount(answers, minlength=CLASSES)
    table = np.stack([counts, training_counts])
    table = table[:, table.sum(axis=0) > 0]
    strength = np.sqrt(stats.chi2_contingency(table).statistic / table.sum())
    return Check(
        "class shares like the training labels'", bool(strength < 0.1), f"Cramér's V {strength:.3f}, expected < 0.1"
    )


def check_confidence(out_of_fold: np.ndarray, test: np.ndarray) -> Check:
    """Ask whether the networks are as sure of the test images as of those they did not see in training."""
    known, new = (float(probabilities.max(axis=1).mean()) for probabilities in (out_of_fold, test))
    return Check(
        "as sure of the test images as out of fold",
        abs(known - new) < 0.02,
        f"{known:.4f} out of fold, {new:.4f} on test",
    )


def check_learned(fold_accuracies: dict[str, float]) -> Check:
    """Ask whether each network learned: it is far above chance, and not far below its fellows."""
    usual = float(np.median(list(fold_accuracies.values())))
    lost = [name for name, value in fold_accuracies.items() if value < 0.5 or value < usual - 0.02]
    return Check(
        "every network learned", not lost, f"did not: {', '.join(lost)}" if lost else f"median accuracy {usual:.2%}"
    )


def check_all_trained(trained: int, failures: Mapping[str, str]) -> Check:
    """Ask whether every network that the run should have came to its end."""
    names = {reason: [name for name in failures if failures[name] == reason] for reason in failures.values()}
    reasons = "; ".join(f"{', '.join(whose)}: {reason}" for reason, whose in names.items())
    detail = f"{reasons}. The same command with --run and this run's name tries again" if failures else f"all {trained}"
    return Check("every network was trained", not failures, detail)


def check_rows_in_order(
    models: Sequence[Path], images: np.ndarray, probabilities: np.ndarray, tta: Tta, *, deterministic: bool = False
) -> Check:
    """Ask whether the saved models, in a fresh process, say of some test images what is written for their rows.

    Args:
        models: the .keras files whose mean was taken.
        images: the test images uint8 (n, 28, 28).
        probabilities: what was written of them, float32 (n, 10).
        tta: the views whose mean was taken.
        deterministic: whether to compute the same bits each time.
    """
    name = "the saved models say the same of each row"
    rows = np.unique(np.linspace(0, len(images) - 1, ROWS_PREDICTED_AGAIN).astype(int))
    try:
        again = run_fresh(
            predict_saved, list(models), images[rows], tta, threads=cpu_count(), deterministic=deterministic
        )
    except KitError as error:
        return Check(name, False, f"it could not be asked: {error}")
    worst = np.abs(again - probabilities[rows]).max(axis=1)
    wrong = int((worst > 0.02).sum())  # bfloat16 on another number of threads moves them by some thousandths.
    detail = f"{len(rows)} rows predicted again, {wrong} of them otherwise; {worst.max():.0e} off at most"
    return Check(name, wrong == 0, detail)


def predict_saved(models: Sequence[Path], images: np.ndarray, tta: Tta, say: Callable[[str], None]) -> np.ndarray:
    """Return the mean probabilities float32 (n, 10) of saved models for images uint8 (n, 28, 28)."""
    load_keras()
    from digits.model.prediction import load_network, predict_probabilities

    return np.mean([predict_probabilities(load_network(model), images, tta) for model in models], axis=0)
