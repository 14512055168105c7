"""Sanity checks of a finished run."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from digits.config import Metric

MOST_SHARE_DIFFERENCE = 0.1
"""Cramér's V of predicted and training classes; the reference runs have 0.008 to 0.012."""
MOST_CONFIDENCE_DIFFERENCE = 0.02
"""Between test and out-of-fold images; the reference runs have 0.0004 to 0.0011."""
MOST_ACCURACY_DIFFERENCE = 0.02
"""Between a network and the median of its run; in the reference runs best and worst are at most 0.0019 apart."""
MOST_STANDARD_ERRORS = 4  # By which either may differ, too, where there are few images.
EXPECTED_LEAST = 10  # A class of which fewer test images are expected may be missing among the predictions.


@dataclass(frozen=True)
class Check:
    """A check of a run, and its result."""

    name: str
    passed: bool
    detail: str


def failed_check(name: str, error: Exception) -> Check:
    """Return the check `name` that could not be made."""
    return Check(name, False, f"could not be checked: {error}")


def check_probabilities(probabilities: np.ndarray) -> Check:
    """Ask whether probabilities (n, classes) are numbers in 0-1 that sum to 1."""
    worst = float(np.abs(probabilities.sum(axis=1) - 1).max())
    good = bool(np.isfinite(probabilities).all() and (probabilities >= 0).all() and worst < 1e-3)
    return Check("probabilities sum to 1", good, f"the sum is off by {worst:.1e} at most")


def check_not_constant(probabilities: np.ndarray, training_counts: np.ndarray, metric: Metric) -> Check:
    """Ask whether all classes are predicted that are expected among so many images by their training counts (classes,).

    Where the metric takes probabilities (n, classes), they need not be the largest, but differ from row to row.
    """
    if metric.takes_probabilities:
        least = float(np.ptp(probabilities, axis=0).min())
        return Check("every class's probability varies", least > 0, f"the range of one is {least:.1e} at least")
    counts = np.bincount(probabilities.argmax(axis=1), minlength=len(training_counts))
    must_occur = training_counts * len(probabilities) >= EXPECTED_LEAST * training_counts.sum()
    detail = f"{np.count_nonzero(counts)} of {len(counts)} classes occur"
    return Check("every class is predicted", bool(counts[must_occur].all() and np.count_nonzero(counts) > 1), detail)


def check_class_shares(predicted_counts: np.ndarray, training_counts: np.ndarray) -> Check:
    """Ask whether the predicted class shares are the training labels', by Cramér's V of the two counts (classes,)."""
    from scipy import stats

    table = np.stack([predicted_counts, training_counts])
    table = table[:, table.sum(axis=0) > 0]
    strength = np.sqrt(stats.chi2_contingency(table).statistic / table.sum())
    return Check(
        "predicted class shares match the training labels",
        bool(strength < MOST_SHARE_DIFFERENCE),
        f"Cramér's V {strength:.3f}, expected < {MOST_SHARE_DIFFERENCE}",
    )


def check_confidence(out_of_fold: np.ndarray, test: np.ndarray) -> Check:
    """Ask whether test images are predicted as confidently as images held out of training."""
    confidences = [probabilities.max(axis=1) for probabilities in (out_of_fold, test)]
    held_out, new = (float(each.mean()) for each in confidences)
    noise = MOST_STANDARD_ERRORS * sum(float(each.var()) / len(each) for each in confidences) ** 0.5
    return Check(
        "test images are predicted as confidently as out-of-fold ones",
        abs(held_out - new) < max(MOST_CONFIDENCE_DIFFERENCE, noise),
        f"{held_out:.4f} out of fold, {new:.4f} on test",
    )


def check_learned(fold_accuracies: dict[str, float], rows: int = 10_000, largest_share: float = 0.1) -> Check:
    """Ask whether each network learned: it is far above chance, and not far below its fellows.

    An accuracy is of `rows`; the most frequent class has the `largest_share` of them.
    """
    median = float(np.median(list(fold_accuracies.values())))
    noise = MOST_STANDARD_ERRORS * (median * (1 - median) / rows) ** 0.5
    least = max(min(0.5, 5 * largest_share), median - max(MOST_ACCURACY_DIFFERENCE, noise))
    failed = ", ".join(name for name, accuracy in fold_accuracies.items() if accuracy < least)
    detail = f"did not: {failed}" if failed else f"median accuracy {median:.2%}"
    return Check("every network learned", not failed, detail)


def check_all_trained(trained: int, failures: Mapping[str, str]) -> Check:
    """Ask whether every network that the run should have came to its end."""
    by_reason = {reason: [name for name in failures if failures[name] == reason] for reason in failures.values()}
    reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
    detail = f"{reasons}. The same command with --run and this run's name tries again" if failures else f"all {trained}"
    return Check("every network was trained", not failures, detail)
