"""Which rows train and which validate, fold by fold."""

import numpy as np
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

from digits.errors import BadInput

HELD_OUT_SHARE = 0.1
"""Share of the rows that validate when there is one fold."""
MORE = "Use more --folds, or more images (a larger --limit)"


def split_folds(labels: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into folds with equal class shares: pairs of (train indices, validation indices), int64, ascending.

    With two folds or more each row validates exactly once. One fold is one stratified 90/10 split.

    Args:
        labels: the digits, integers (n,).
        folds: how many pairs, from 1 to the number of images of the rarest class.
        seed: 0 to 2**32 - 1; the same seed gives the same folds.

    Raises:
        BadInput: if there are fewer images of a class than folds, or a number is out of range.
    """
    if isinstance(folds, bool) or not isinstance(folds, int | np.integer) or folds < 1:
        raise BadInput(f"folds: expected a whole number from 1 up, found {folds!r}. Use for example --folds 5")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise BadInput(f"seed: expected a whole number from 0 to 4294967295, found {seed!r}. Use for example --seed 0")
    labels = np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    _check_counts(classes, counts, int(folds))
    if folds == 1:
        splitter = StratifiedShuffleSplit(n_splits=1, test_size=HELD_OUT_SHARE, random_state=seed)
    else:
        splitter = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    pairs = list(splitter.split(np.empty((len(labels), 0)), labels))
    _check_held_out(labels, pairs[0][1], classes)
    return [(np.sort(train).astype(np.int64), np.sort(validation).astype(np.int64)) for train, validation in pairs]


def _check_counts(classes: np.ndarray, counts: np.ndarray, folds: int) -> None:
    """Refuse labels of which a fold would get none."""
    if len(classes) == 0:
        raise BadInput("folds: expected labelled images, found none. Give a training file with rows")
    if len(classes) == 1 and folds == 1:
        raise BadInput(f"folds: expected images of several digits, found only {classes[0]}. Give a whole training file")
    rarest = int(counts.argmin())
    least = max(folds, 2)
    if counts[rarest] < least:
        raise BadInput(
            f"folds: {folds} fold{'s need' if folds > 1 else ' needs'} at least {least} images of each digit, found "
            f"{counts[rarest]} of digit {classes[rarest]}. Use fewer folds, or more images (a larger --limit)"
        )
    if folds == 1 and np.ceil(counts.sum() * HELD_OUT_SHARE) < len(classes):
        raise BadInput(
            f"folds: expected at least {10 * len(classes)} images to hold out a tenth, found {counts.sum()}. {MORE}"
        )


def _check_held_out(labels: np.ndarray, held_out: np.ndarray, classes: np.ndarray) -> None:
    """Refuse a split whose validation rows lack a digit: one fold of very uneven classes."""
    missing = np.setdiff1d(classes, labels[held_out])
    if len(missing):
        count = np.count_nonzero(labels == missing[0])
        raise BadInput(
            f"folds: expected each digit in the tenth held out, found {count} images of digit {missing[0]}. {MORE}"
        )
