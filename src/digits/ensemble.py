"""Many networks' probabilities into one, row by row."""

from collections.abc import Sequence

import numpy as np

from digits.competition import CLASSES
from digits.errors import BadInput
from digits.runs import Part


def mean(
    members: Sequence[np.ndarray], weights: Sequence[float] | None = None, *, logarithmic: bool = False
) -> np.ndarray:
    """Return the weighted mean float32 (n, 10) of the members' probabilities, each (n, 10) over the same rows.

    Args:
        members: what each says.
        weights: how much each counts, of any sum; None: all the same.
        logarithmic: average the logarithms, which lets one sure "no" weigh more, and normalise again.

    Raises:
        BadInput: if the members are of different rows, or weights are negative, all 0, or not one for each.
    """
    shapes = {member.shape for member in members}
    if len(shapes) != 1:
        raise BadInput(f"A blend takes probabilities of the same rows; these are of shapes {sorted(shapes)}.")
    shares = np.ones(len(members)) if weights is None else np.asarray(weights, float)
    if len(shares) != len(members) or (shares < 0).any() or not shares.sum() > 0:
        raise BadInput(f"Expected {len(members)} weights from 0 up, not all 0; got {list(shares)}.")
    stacked = np.stack([np.log(np.clip(member, 1e-7, 1)) if logarithmic else member for member in members])
    blended = np.tensordot(shares / shares.sum(), stacked.astype(np.float64), axes=1)
    if logarithmic:
        blended = np.exp(blended)
        blended /= blended.sum(axis=1, keepdims=True)
    return blended.astype(np.float32)


def out_of_fold(parts: Sequence[Part], rows: int) -> np.ndarray:
    """Return each training row's probabilities float32 (rows, 10) by the networks that never saw it; NaN where none.

    The members of a fold are averaged; folds never meet, for a row is held out once.
    """
    probabilities = np.full((rows, CLASSES), np.nan, np.float32)
    for fold in sorted({part.fold for part in parts}):
        members = [part for part in parts if part.fold == fold]
        said = mean([part.validation_probabilities for part in members])
        probabilities[members[0].validation_rows] = said
    return probabilities


def test_mean(parts: Sequence[Part]) -> np.ndarray:
    """Return the mean probabilities float32 (t, 10) of the test images over all networks."""
    return mean([part.test_probabilities for part in parts])
