import numpy as np
import pytest

from digits.console import BadInput
from digits.data.folds import split_folds

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 20)


@pytest.mark.parametrize("folds", [2, 3, 5, 20])
def test_each_row_is_validated_exactly_once(folds):
    pairs = split_folds(LABELS, folds, seed=0)
    assert len(pairs) == folds
    assert sorted(np.concatenate([validation for _, validation in pairs])) == list(range(len(LABELS)))
    for train, validation in pairs:
        assert sorted([*train, *validation]) == list(range(len(LABELS)))
        assert train.dtype == validation.dtype == np.int64


def test_each_fold_has_the_class_shares_of_the_whole():
    for _, validation in split_folds(LABELS, 5, seed=3):
        assert np.bincount(LABELS[validation]).tolist() == [4] * 10


def test_one_fold_is_one_stratified_split_of_nine_to_one():
    [(train, validation)] = split_folds(LABELS, 1, seed=0)
    assert np.bincount(LABELS[validation]).tolist() == [2] * 10
    assert sorted([*train, *validation]) == list(range(len(LABELS)))
    assert train.dtype == np.int64


@pytest.mark.parametrize("folds", [1, 4])
def test_the_same_seed_gives_the_same_folds_and_another_seed_others(folds):
    first, again, other = (split_folds(LABELS, folds, seed)[0][1].tolist() for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize("folds", [0, -1, 2.5, "5", True, None])
def test_a_number_of_folds_that_is_none_is_refused(folds):
    with pytest.raises(BadInput, match="expected a whole number from 1 up"):
        split_folds(LABELS, folds, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, "7", None])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(BadInput, match="seed: expected a whole number"):
        split_folds(LABELS, 5, seed)


def test_more_folds_than_images_of_a_digit_are_refused():
    with pytest.raises(
        BadInput, match="--folds 21 needs at least 21 different images of each class, found 20 of class 0"
    ):
        split_folds(LABELS, 21, seed=0)


def test_too_few_images_for_one_fold_are_refused():
    with pytest.raises(BadInput, match="at least 100 images to hold out a tenth, found 20"):
        split_folds(np.arange(20) % 10, 1, seed=0)
    with pytest.raises(BadInput, match="needs at least 2 different images of each class, found 1 of class 0") as caught:
        split_folds(np.arange(10), 1, seed=0)
    assert "fewer --folds" not in str(caught.value)


def test_a_class_too_rare_to_be_held_out_is_refused_by_its_name_and_rows():
    with pytest.raises(BadInput, match=r"found none of the 2 images of class O \(rows 1, 2\) to validate"):
        split_folds(np.array([0] * 2 + [1] * 9), 1, seed=0, names=("O", "1"))


@pytest.mark.parametrize("folds", [1, 2])
def test_no_labels_are_refused(folds):
    with pytest.raises(BadInput, match="found none"):
        split_folds(np.empty(0, np.uint8), folds, seed=0)
