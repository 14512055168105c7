"""Many networks' probabilities into one, row by row."""

from collections.abc import Sequence

import numpy as np

from digits.data.competition import CLASSES
from digits.data.folds import split_folds
from digits.errors import BadInput
from digits.runs.runs import Part


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


def averaging_gain(parts: Sequence[Part]) -> float:
    """Return by how much the average of all folds is likely better on the test images than one fold, as a share, 0-1.

    Out of fold, one fold's networks are judged alone, while the submission averages all. No label says what that is
    worth, but the average does: where a fold answers something else, it is the chance of the average's answer less
    that of the fold's, both as the average sees them. A rough estimate: in three trials on held-out digits the gain was
    3.1, 1.9 and 0.4 times of it.
    """
    folds = sorted({part.fold for part in parts})
    said = [mean([part.test_probabilities for part in parts if part.fold == fold]) for fold in folds]
    together = mean(said)
    rows = np.arange(len(together))
    return float(np.mean([together.max(axis=1) - together[rows, own.argmax(axis=1)] for own in said]))


def greedy_weights(members: Sequence[np.ndarray], labels: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Choose weights float64 (m,) that sum to 1 by forward selection with replacement (Caruana et al. 2004).

    Each round adds the member that lowers the log-loss of the mean most; the blend starts from the equal mean of all,
    so that one round's luck does not decide.

    Args:
        members: out-of-fold probabilities, each (n, 10), of the same rows.
        labels: the rows' digits (n,).
        rounds: how many members are added.
    """
    chances = np.stack([member[np.arange(len(labels)), labels] for member in members]).astype(np.float64)
    counts = np.ones(len(members))
    total = chances.sum(axis=0)
    for _ in range(rounds):
        with_each = (total + chances) / (counts.sum() + 1)
        best = int(np.log(np.clip(with_each, 1e-7, 1)).sum(axis=1).argmax())
        counts[best] += 1
        total += chances[best]
    return counts / counts.sum()


def nested_blend(members: Sequence[np.ndarray], labels: np.ndarray, seed: int = 0, folds: int = 5) -> np.ndarray:
    """Return the probabilities float32 (n, 10) of a greedy blend whose weights for a row never saw that row's label.

    Weights found on some rows are applied to the others, in turn: so the accuracy of what comes back is an honest
    figure for a blend by `greedy_weights`, which the blend's accuracy on its own rows is not.
    """
    blended = np.empty_like(members[0])
    for chosen, unseen in split_folds(labels, folds, seed):
        weights = greedy_weights([member[chosen] for member in members], labels[chosen])
        blended[unseen] = mean([member[unseen] for member in members], weights)
    return blended


def disagreement(answers: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many rows each pair of answers, digits (n,), differs in: int (m, m)."""
    return np.array([[int((first != second).sum()) for second in answers] for first in answers])
