"""Accuracy, log-loss, AUC and macro-F1, each with its standard error, and tests of significance."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from digits.config import Metric

TESTS = {
    Metric.ACCURACY: "McNemar",
    Metric.LOG_LOSS: "paired z-test",
    Metric.AUC: "paired DeLong",
    Metric.MACRO_F1: "paired delta method",
}
"""How two sets of predictions are compared."""
METHODS = {Metric.LOG_LOSS: "of the rows' losses", Metric.AUC: "DeLong", Metric.MACRO_F1: "delta method"}
"""How the standard errors of other metrics than the accuracy are computed; see `influences`."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well labels were predicted."""

    accuracy: float  # The share of correct rows, 0-1.
    standard_error: float  # Of the metric's value: how much it varies from one sample of as many rows to another.
    wrong: int
    rows: int
    log_loss: float  # In nats.
    metric: Metric = Metric.ACCURACY
    other_value: float | None = None  # The metric's value where that is not the accuracy.

    @property
    def value(self) -> float:
        """The metric's value."""
        values = {Metric.ACCURACY: self.accuracy, Metric.LOG_LOSS: self.log_loss}
        return values.get(self.metric, self.other_value or 0.0)

    @property
    def merit(self) -> float:
        """The value, of the log-loss its negative: the higher, the better."""
        return self.metric.sign * self.value

    @property
    def decimals(self) -> int:
        """How many to show, of the accuracy in percent: one more of 10,000 rows and more."""
        few = {Metric.ACCURACY: 2}.get(self.metric, 4)
        return few + int(self.rows >= 10_000)

    def figure(self, number: float) -> str:
        """Return a number as values of the metric are shown: 99.626%, or 0.9863."""
        kind = {Metric.ACCURACY: "%"}.get(self.metric, "f")
        return f"{number:.{self.decimals}{kind}}"

    @property
    def text(self) -> str:
        """The metric's value and its standard error: 99.626% ± 0.030%."""
        return f"{self.figure(self.value)} ± {self.figure(self.standard_error)}"

    @property
    def short(self) -> str:
        """The metric's value with the fewest decimals: 99.63%, or 0.9863."""
        return dataclasses.replace(self, rows=0).figure(self.value)

    @property
    def method(self) -> str:
        """How the standard error of another metric than the accuracy is computed; see `influences`."""
        return METHODS.get(self.metric, "")

    @property
    def details(self) -> str:
        """What stands beside the value: errors, and accuracy and log-loss where these are not the metric."""
        errors, loss = f"({self.wrong:,} of {self.rows:,} wrong)", f"log-loss {self.log_loss:.4f}"
        parts = [f"({self.method})", f"accuracy {self.accuracy:.2%} {errors}", loss]
        shown = {Metric.ACCURACY: [errors, loss], Metric.LOG_LOSS: parts[:2]}
        return ", ".join(shown.get(self.metric, parts))


def score(probabilities: np.ndarray, labels: np.ndarray, metric: Metric = Metric.ACCURACY) -> Score:
    """Score probabilities (n, classes) against labels (n,), at least one.

    The accuracy's standard error is of a binomial share. Where all rows are correct, or none, half a row is counted as
    otherwise: the share itself would give 0.
    """
    rows, wrong = len(labels), int((probabilities.argmax(axis=1) != labels).sum())
    share = min(max(wrong, 0.5), rows - 0.5) / rows
    scored = Score(
        accuracy=(rows - wrong) / rows,
        standard_error=math.sqrt(share * (1 - share) / rows),
        wrong=wrong,
        rows=rows,
        log_loss=log_loss(probabilities, labels),
    )
    if metric is Metric.ACCURACY:
        return scored
    value, by_row = influences(probabilities, labels, metric)
    error = float(by_row.std()) / math.sqrt(rows)
    return dataclasses.replace(scored, standard_error=error, metric=metric, other_value=value)


def influences(probabilities: np.ndarray, labels: np.ndarray, metric: Metric) -> tuple[float, np.ndarray]:
    """Return a metric's value, and how much each row moves it, float64 (n,) with the mean 0.

    Their standard deviation over √n is the value's standard error, that of the differences of two sets of predictions
    the error of their difference. For the AUC that is DeLong's (DeLong et al. 1988; by ranks: Sun & Xu 2014), of more
    classes than two for the mean of each against the others; for the macro-F1 the delta method (Takahashi et al. 2022).
    """
    truth = labels[:, None] == np.arange(probabilities.shape[1])
    if metric is Metric.AUC:
        by_row = _auc_by_row(probabilities, truth)
    elif metric is Metric.MACRO_F1:
        predicted = probabilities.argmax(axis=1)[:, None] == np.arange(probabilities.shape[1])
        occur = (truth | predicted).any(axis=0)
        truth, predicted = truth[:, occur], predicted[:, occur]
        counts = truth.mean(axis=0) + predicted.mean(axis=0)
        f1 = 2 * (truth & predicted).mean(axis=0) / counts
        moved = (2 * (truth & predicted) - f1 * (truth.astype(float) + predicted)) / counts
        return float(f1.mean()), moved.mean(axis=1)
    elif metric is Metric.LOG_LOSS:
        by_row = -np.log(np.clip(probabilities[truth], 1e-7, 1))
    else:
        by_row = (probabilities.argmax(axis=1) == labels).astype(float)
    return float(by_row.mean()), by_row - by_row.mean()


def _auc_by_row(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return numbers float64 (n,) whose mean is the AUC, of the classes that occur each against the others.

    A row's is the share of the rows of the other kind that it is ordered rightly with, weighted by the kinds' sizes.
    """
    from scipy import stats

    count = len(truth)
    occur = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    if not len(occur):
        return np.full(count, 0.5)  # One class only: there is nothing to order.
    if truth.shape[1] == 2:
        occur = occur[-1:]  # Two classes have the same.
    total = np.zeros(count)
    for label in occur:
        positive = truth[:, label]
        own, ranks = np.empty(count), stats.rankdata(probabilities[:, label].astype(np.float64))
        for kind in (positive, ~positive):
            own[kind] = stats.rankdata(probabilities[kind, label])
        others = np.where(positive, (~positive).sum(), positive.sum())
        placed = (ranks - own) / others
        placed = np.where(positive, placed, 1 - placed)
        auc = placed[positive].mean()
        share = np.where(positive, positive.mean(), 1 - positive.mean())
        total += auc + (placed - auc) / share
    return total / len(occur)


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


def loss(probabilities: np.ndarray, labels: np.ndarray, metric: Metric) -> float:
    """Return what settings are chosen by, the lower the better: 1 less AUC or macro-F1, or calibrated log-loss."""
    if metric in (Metric.AUC, Metric.MACRO_F1):
        return 1 - influences(probabilities, labels, metric)[0]
    return calibrated_log_loss(probabilities, labels)


@dataclass(frozen=True)
class ExpectedScore:
    """The public score that an out-of-fold one predicts, and its 95 % interval."""

    middle: float
    low: float
    high: float


def expected_score(out_of_fold: Score, rows: int) -> ExpectedScore:
    """Predict the metric's value on a test set of `rows` from the out-of-fold one.

    Both sets are samples, so both standard errors count. That the submission averages all folds' networks, and so is a
    little better than any one of them, is not included.
    """
    value, most = out_of_fold.value, {Metric.LOG_LOSS: math.inf}.get(out_of_fold.metric, 1.0)
    half = 1.96 * (out_of_fold.standard_error * math.sqrt(1 + out_of_fold.rows / rows))
    return ExpectedScore(value, max(0.0, value - half), min(most, value + half))


@dataclass(frozen=True)
class Comparison:
    """Two sets of predictions of the same rows."""

    only_first_right: int
    only_second_right: int
    both_wrong: int
    rows: int
    metric: Metric
    difference: float  # The second's value less the first's.
    standard_error: float  # Of the difference, the rows being paired.
    p_value: float  # How often two equally good models would differ at least so much.

    @property
    def text(self) -> str:
        """The difference and its standard error, of accuracies in percentage points."""
        if self.metric is Metric.ACCURACY:
            return f"{100 * self.difference:+.3f} ± {100 * self.standard_error:.3f}"
        return f"{self.difference:+.5f} ± {self.standard_error:.5f}"

    @property
    def unit(self) -> str:
        """That of the text, in words."""
        return {Metric.ACCURACY: " percentage points"}.get(self.metric, f" in {self.metric.text}")

    @property
    def is_second_better(self) -> bool:
        """Whether the second has the better value."""
        return self.metric.sign * self.difference > 0


def compare(first: np.ndarray, second: np.ndarray, labels: np.ndarray, metric: Metric) -> Comparison:
    """Compare probabilities (n, classes) of rows of the classes `labels`: accuracies by McNemar's exact test (1947).

    The others by how the difference moves with each row, see `influences`.
    """
    from scipy import stats

    first_right, second_right = first.argmax(axis=1) == labels, second.argmax(axis=1) == labels
    counts = first_right & ~second_right, ~first_right & second_right, ~first_right & ~second_right
    b, c, both_wrong = (int(rows.sum()) for rows in counts)
    (before, moved_before), (after, moved_after) = (influences(each, labels, metric) for each in (first, second))
    error = float((moved_after - moved_before).std()) / math.sqrt(len(labels))
    if metric is Metric.ACCURACY:
        p_value = float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0
    else:
        p_value = float(2 * stats.norm.sf(abs(after - before) / error)) if error else float(after == before)
    return Comparison(b, c, both_wrong, len(labels), metric, after - before, error, p_value)
