import numpy as np
import pytest

from digits.config import Metric
from digits.runs import metrics
from made_run import SCORE


def test_accuracy_counts_the_rows_whose_largest_probability_is_the_label_and_its_error_is_the_binomial_one():
    probabilities = np.eye(10, dtype=np.float32)[[1, 2, 3, 4]]
    score = metrics.score(probabilities, np.array([1, 2, 3, 9]))
    assert (score.accuracy, score.wrong, score.rows) == (0.75, 1, 4)
    labels = np.arange(10_000) % 10
    answers = np.where(np.arange(10_000) < 25, labels + 1, labels) % 10
    assert metrics.score(np.eye(10)[answers], labels).standard_error == pytest.approx(0.0004994, abs=1e-6)


@pytest.mark.parametrize("right", [True, False])
def test_without_an_error_or_without_a_right_answer_the_standard_error_is_not_zero(right):
    """Ninety right answers do not show that the next is right: half an error, or half a right answer, is counted."""
    labels = np.arange(90) % 10
    score = metrics.score(np.eye(10)[labels if right else (labels + 1) % 10], labels)
    assert score.accuracy == right
    assert score.standard_error == pytest.approx(0.0078, abs=1e-4)
    expected = metrics.expected_score(score, 90)
    assert 0 < expected.high - expected.low < 0.03


def test_the_calibrated_log_loss_does_not_mind_how_modest_a_network_is():
    random = np.random.default_rng(0)
    scores = random.normal(size=(2000, 10)) * 2
    labels = np.array([random.choice(10, p=np.exp(row) / np.exp(row).sum()) for row in scores])

    def said(temperature):
        powers = np.exp(scores / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    modest, right, boastful = (metrics.calibrated_log_loss(said(temperature), labels) for temperature in (2.5, 1, 0.5))
    assert modest == pytest.approx(right, abs=1e-4)
    assert boastful == pytest.approx(right, abs=1e-4)
    assert right == pytest.approx(metrics.log_loss(said(1), labels), abs=2e-3)
    assert metrics.log_loss(said(2.5), labels) > right + 0.05
    assert metrics.log_loss(np.eye(10)[[0]], np.array([1])) == pytest.approx(-np.log(1e-7)), "bounded"


def test_the_expected_score_is_less_sure_than_the_out_of_fold_accuracy():
    expected = metrics.expected_score(SCORE, 28_000)
    assert expected.low < expected.middle == SCORE.accuracy < expected.high
    assert expected.high - expected.low > 2 * 1.96 * SCORE.standard_error


def test_mcnemar_looks_only_at_rows_on_which_one_of_two_is_right():
    labels = np.zeros(100, int)
    first, second = np.zeros(100, int), np.zeros(100, int)
    first[:3] = 1
    second[3:18] = 1
    first[50] = second[50] = 5
    found = metrics.compare(np.eye(10)[first], np.eye(10)[second], labels, Metric.ACCURACY)
    assert (found.only_first_right, found.only_second_right, found.both_wrong) == (15, 3, 1)
    assert found.p_value == pytest.approx(0.00754, abs=1e-4)
    assert metrics.compare(np.eye(10), np.eye(10), np.arange(10), Metric.ACCURACY).p_value == 1.0
