"""Cross-validation folds: equal shares of each class, and copies of an image on one side."""

import hashlib
from collections.abc import Sequence

import numpy as np

from digits.console import BadInput, some_of

HELD_OUT_SHARE = 0.1
"""Share of the rows that validate when there is one fold."""
Pairs = list[tuple[np.ndarray, np.ndarray]]
"""For each fold the rows to train on and those to validate, int64, ascending."""


def split_folds(
    labels: np.ndarray,
    folds: int,
    seed: int,
    groups: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> Pairs:
    """Split rows into folds with equal class shares.

    With two folds or more each row validates exactly once. One fold is one stratified 90/10 split.

    Args:
        labels: the classes, integers (n,).
        folds: how many pairs, from 1 to the number of images of the rarest class.
        seed: 0 to 2**32 - 1; the same seed gives the same folds.
        groups: int (n,); rows of one group are never on both sides. None: each row for itself.
        names: of the classes, for messages; None: their numbers.

    Raises:
        BadInput: if there are fewer images of a class than folds.
    """
    # It takes a second, which the commands that split nothing are spared.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

    classes, positions = np.unique(labels, return_inverse=True)
    counts = check_classes(positions, folds, groups, classes.astype(str).tolist())
    splitter = StratifiedKFold(max(folds, 2), shuffle=True, random_state=seed)
    if groups is not None:
        splits = min(10, int(counts.min())) if folds == 1 else folds
        splitter = StratifiedGroupKFold(splits, shuffle=True, random_state=seed)
    elif folds == 1:
        splitter = StratifiedShuffleSplit(1, test_size=HELD_OUT_SHARE, random_state=seed)
    pairs = list(splitter.split(np.empty((len(labels), 0)), labels, groups))[:folds]
    check_sides(pairs, labels, names)
    return [(np.sort(train).astype(np.int64), np.sort(validation).astype(np.int64)) for train, validation in pairs]


def check_sides(pairs: Pairs, labels: np.ndarray, names: Sequence[str] | None = None) -> None:
    """Refuse folds of labels (n,) of which one has no image of a class, to train on or to validate."""
    for fold, pair in enumerate(pairs, start=1):
        for rows, side in zip(pair, ("train on", "validate"), strict=True):
            missing = np.setdiff1d(labels, labels[rows])
            if len(missing):
                of_class = 1 + np.flatnonzero(labels == missing[0])
                name = names[missing[0]] if names else missing[0]
                raise BadInput(
                    f"folds: expected each class on both sides of a fold, found none of the {len(of_class)} images of "
                    f"class {name} (rows {some_of(of_class.tolist())}) to {side} in fold {fold}",
                    fix="Correct mistyped labels, give more images of it (a larger --limit), or use other --folds",
                )


def check_classes(
    labels: np.ndarray, folds: int, groups: np.ndarray | None, classes: Sequence[str], ids: np.ndarray | None = None
) -> np.ndarray:
    """Refuse training images that cannot give each fold, and the rest beside it, one of each class.

    `labels` (n,) are positions among the classes, `ids` (n,) name the images in the message (None: row numbers from 1).
    Returns how many different images there are of each class, int (c,).
    """
    distinct = labels if groups is None else np.unique(np.stack([groups, labels]), axis=1)[1]
    counts = np.bincount(distinct, minlength=len(classes))
    if groups is not None and (groups == groups[0]).all():
        raise BadInput(f"training images: expected different ones, found {len(labels):,} that are all the same")
    rarest, least = int(counts.argmin()), max(folds, 2)
    fewer_folds = ", or use fewer --folds" if folds > 2 else ""
    if counts[rarest] < least:
        rows = np.flatnonzero(labels == rarest)
        names = some_of((rows + 1 if ids is None else ids[rows]).tolist())
        raise BadInput(
            f"training images: --folds {folds} needs at least {least} different images of each class, found "
            f"{counts[rarest]} of class {classes[rarest]} ({names})",
            fix=f"Correct mistyped labels, or give more images of it (a larger --limit){fewer_folds}",
        )
    if folds == 1 and np.ceil(counts.sum() * HELD_OUT_SHARE) < len(classes):
        raise BadInput(
            f"training images: expected at least {10 * len(classes)} images to hold out a tenth, found {counts.sum()}",
            fix="Use more --folds, or more images (a larger --limit)",
        )
    return counts


def group_copies(images: np.ndarray) -> np.ndarray | None:
    """Return numbers int (n,) that equal images share, the first row of each, or None where all images differ."""
    first: dict[bytes, int] = {}
    groups = np.array([first.setdefault(image_digest(image), row) for row, image in enumerate(images)])
    return groups if len(first) < len(images) else None


def image_digest(image: np.ndarray) -> bytes:
    """Return the sha256 of an image's bytes, which of large images takes less memory than these."""
    return hashlib.sha256(image.tobytes()).digest()
