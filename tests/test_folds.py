import numpy as np
import pytest

from digits.console import BadInput
from digits.data.folds import split_folds

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 20)


@pytest.mark.parametrize(("folds", "of_each"), [pytest.param(1, 2, id="a split of nine to one"), (5, 4)])
def test_each_fold_has_the_class_shares_of_the_whole(folds, of_each):
    pairs = split_folds(LABELS, folds, seed=3)
    assert len(pairs) == folds
    for train, validation in pairs:
        assert np.bincount(LABELS[validation]).tolist() == [of_each] * 10
        assert train.dtype == validation.dtype == np.int64


@pytest.mark.parametrize("folds", [1, 4])
def test_the_same_seed_gives_the_same_folds_and_another_seed_others(folds):
    first, again, other = (split_folds(LABELS, folds, seed)[0][1].tolist() for seed in (7, 7, 8))
    assert first == again
    assert first != other


FEW = "needs at least {} different images of each class, found {} of class 0"


@pytest.mark.parametrize(
    ("labels", "folds", "seed", "message"),
    [
        pytest.param(LABELS, 21, 0, "--folds 21 " + FEW.format(21, 20), id="more folds than images"),
        pytest.param(np.arange(20) % 10, 1, 0, "at least 100 images to hold out a tenth, found 20", id="20 images"),
        pytest.param(np.arange(10), 1, 0, r"^((?!fewer --folds).)*" + FEW.format(2, 1) + r"((?!fewer --folds).)*$",
                     id="one of each"),
        pytest.param(np.array([0] * 2 + [1] * 9), 1, 0, r"none of the 2 images of class O \(rows 1, 2\) to validate",
                     id="a rare class"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_refused(labels, folds, seed, message):
    with pytest.raises(BadInput, match=message):
        split_folds(labels, folds, seed, names=("O", *"123456789") if len(labels) == 11 else None)
