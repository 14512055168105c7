"""Accuracy, log-loss and tests of significance, and sanity checks of a finished run."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well labels were predicted."""

    accuracy: float
    """The share of correct rows, 0-1."""
    standard_error: float
    """Of the accuracy, as that of a binomial share: how much it varies from one sample of as many rows to another.

    Where all rows are correct, or none, half a row is counted as otherwise: the share itself would give 0.
    """
    wrong: int
    rows: int
    log_loss: float
    """In nats."""

    @property
    def decimals(self) -> int:
        """How many to show of the accuracy in percent."""
        return 3 if self.rows >= 10_000 else 2

    @property
    def text(self) -> str:
        """The accuracy and its standard error: 99.626% ± 0.030%."""
        return f"{self.accuracy:.{self.decimals}%} ± {self.standard_error:.{self.decimals}%}"


def score(probabilities: np.ndarray, labels: np.ndarray) -> Score:
    """Score probabilities (n, classes) against labels (n,), at least one."""
    rows = len(labels)
    wrong = int((probabilities.argmax(axis=1) != labels).sum())
    share = min(max(wrong, 0.5), rows - 0.5) / rows
    return Score(
        accuracy=(rows - wrong) / rows,
        standard_error=math.sqrt(share * (1 - share) / rows),
        wrong=wrong,
        rows=rows,
        log_loss=log_loss(probabilities, labels),
    )


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood in nats of labels (n,) under probabilities (n, classes)."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(chosen, 1e-7, 1)).mean())


def calibrated_log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the log-loss of probabilities (n, classes) at the temperature that makes it least (Guo et al. 2017).

    Label smoothing makes networks too modest and dropout less so, which moves the plain log-loss more than what they
    know does: two ways to train are compared by this one.
    """
    from scipy import optimize, special

    logarithms = np.log(np.clip(probabilities.astype(np.float64), 1e-9, 1))

    def loss(temperature: float) -> float:
        scaled = logarithms / temperature
        return float((special.logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean())

    return float(optimize.minimize_scalar(loss, bounds=(0.1, 10), method="bounded").fun)


@dataclass(frozen=True)
class ExpectedScore:
    """The public score that an out-of-fold accuracy predicts, and its 95 % interval."""

    middle: float
    low: float
    high: float


def expected_score(out_of_fold: Score, rows: int) -> ExpectedScore:
    """Predict the accuracy on a test set of `rows` from the out-of-fold one.

    Both sets are samples, so both standard errors count. That the submission averages all folds' networks, and so is a
    little better than any one of them, is not included.
    """
    share = out_of_fold.accuracy
    error = out_of_fold.standard_error * math.sqrt(1 + out_of_fold.rows / rows)
    return ExpectedScore(share, max(0.0, share - 1.96 * error), min(1.0, share + 1.96 * error))


@dataclass(frozen=True)
class Comparison:
    """Two sets of predictions of the same rows."""

    only_first_right: int
    only_second_right: int
    both_wrong: int
    rows: int
    p_value: float
    """McNemar's exact test: how often two equally good models would differ at least so much."""

    @property
    def difference(self) -> float:
        """The second's accuracy less the first's."""
        return (self.only_second_right - self.only_first_right) / self.rows

    @property
    def standard_error(self) -> float:
        """Of the difference, the rows being paired."""
        share = (self.only_first_right + self.only_second_right) / self.rows
        return math.sqrt((share - self.difference**2) / self.rows)


def mcnemar(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> Comparison:
    """Compare the predictions `first` and `second`, classes (n,), of rows of the classes `labels` (McNemar 1947)."""
    from scipy import stats

    first_right, second_right = first == labels, second == labels
    b, c = int((first_right & ~second_right).sum()), int((~first_right & second_right).sum())
    p_value = float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0
    return Comparison(b, c, int((~first_right & ~second_right).sum()), len(labels), p_value)
