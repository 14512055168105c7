import numpy as np
import pytest

from digits.console import BadInput
from digits.runs import averaging, blend
from digits.runs.store import FoldResult


def made_part(fold, rows, probabilities, member=1):
    test = np.full((3, 10), 0.1, np.float32)
    return FoldResult(fold, member, "compact", np.array(rows), np.array(probabilities, np.float32), test, [], 0.0, 0)


def sure(*digits):
    return np.eye(10, dtype=np.float32)[list(digits)]


def test_weights_count_by_their_share_and_the_mean_of_one_member_is_that_member():
    assert np.array_equal(averaging.mean([sure(3, 4)]), sure(3, 4))
    blended = averaging.mean([sure(1), sure(2)], [3, 1])
    assert blended[0, 1:3] == pytest.approx([0.75, 0.25])


def test_a_logarithmic_mean_is_a_distribution_and_lets_a_sure_no_weigh_more():
    first = np.array([[0.6, 0.4] + [0.0] * 8], np.float32)
    second = np.array([[0.0, 1.0] + [0.0] * 8], np.float32)
    blended = averaging.mean([first, second], logarithmic=True)
    assert blended.sum() == pytest.approx(1)
    assert blended[0, 1] > averaging.mean([first, second])[0, 1]


@pytest.mark.parametrize(
    ("members", "weights", "message"),
    [
        *(([sure(1), sure(2)], weights, "Expected 2 weights") for weights in ([1], [0, 0], [1, -1], [1, 2, 3])),
        ([sure(1), sure(1, 2)], None, "same rows"),
    ],
    ids=["too few", "all 0", "negative", "too many", "other rows"],
)
def test_weights_that_make_no_sense_and_members_of_different_rows_are_refused(members, weights, message):
    with pytest.raises(BadInput, match=message):
        averaging.mean(members, weights)


def test_out_of_fold_averages_members_and_leaves_unseen_rows_empty():
    parts = [made_part(1, [0, 2], sure(5, 6)), made_part(1, [0, 2], sure(5, 7), member=2), made_part(2, [3], sure(1))]
    probabilities = averaging.out_of_fold(parts, rows=5)
    assert probabilities[0, 5] == 1
    assert probabilities[2, 6] == probabilities[2, 7] == 0.5
    assert probabilities[3, 1] == 1
    assert np.isnan(probabilities[[1, 4]]).all()


def test_averaging_is_worth_what_the_average_thinks_of_the_rows_in_which_a_fold_says_otherwise():
    sides = np.zeros((2, 2, 10), np.float32)
    sides[0, 0, [1, 2]], sides[1, 0, [1, 2]] = (0.8, 0.2), (0.4, 0.6)  # together 1: 0.6, 2: 0.4
    sides[:, 1, 7] = 1  # both say 7
    parts = [
        FoldResult(fold, 1, "compact", np.array([fold]), side[:1], side, [], 0.0, 0)
        for fold, side in enumerate(sides, 1)
    ]
    assert averaging.averaging_gain(parts) == pytest.approx((0.6 - 0.4) / 4)
    assert averaging.averaging_gain(parts[:1]) == 0


def noisy(labels, wrong, seed):
    """Return probabilities that are sure of the label but in `wrong` rows, where they are unsure between two others."""
    random = np.random.default_rng(seed)
    probabilities = np.full((len(labels), 10), 0.01, np.float32)
    said = labels.copy()
    rows = random.choice(len(labels), wrong, replace=False)
    said[rows] = (said[rows] + 1) % 10
    probabilities[np.arange(len(labels)), said] = 0.91
    return probabilities


def test_greedy_weights_prefer_the_better_member_and_sum_to_one():
    labels = np.arange(1000) % 10
    weights = blend.greedy_weights([noisy(labels, 300, 0), noisy(labels, 20, 1)], labels)
    assert weights.sum() == pytest.approx(1)
    assert weights[1] > 0.8


def test_the_nested_blend_is_not_flattered_by_a_member_that_only_guessed_well():
    # Of many members that guess, the best on these rows is so by luck alone: blended honestly, that luck is gone.
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 400)
    members = [random.dirichlet(np.ones(10), 400).astype(np.float32) for _ in range(40)]
    chosen = averaging.mean(members, blend.greedy_weights(members, labels))
    honest = blend.nested_blend(members, labels)
    share = lambda said: float((said.argmax(axis=1) == labels).mean())  # noqa: E731
    assert share(chosen) > share(honest)
    assert abs(share(honest) - 0.1) < 0.06


def test_disagreement_counts_the_rows_in_which_two_differ():
    assert averaging.disagreement([np.array([1, 2, 3]), np.array([1, 5, 6])]).tolist() == [[0, 2], [2, 0]]
