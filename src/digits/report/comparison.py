"""Finished runs side by side: on the rows that they held out, and on the test images."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from digits.console import BadInput, KitError
from digits.data.competition import Form
from digits.report.analysis import RunData, gather, name_of
from digits.runs import blend, metrics
from digits.runs.metrics import Score
from digits.runs.record import FinishedRecord
from digits.runs.store import Run


@dataclass(frozen=True)
class Agreement:
    """In how many test rows another run, of this name and out-of-fold score, predicts the same."""

    name: str
    score: Score
    same: int
    rows: int


def agreement(data: RunData, other: Run) -> Agreement | None:
    """Compare the predictions with another run's; None where those are of other images, or it is not finished."""
    try:
        record = other.finished_record()
        if not same_test_images(record, data.record):
            return None
        predictions = other.predictions()
    except (KitError, OSError):
        return None
    same = int((data.predictions == predictions).sum())
    return Agreement(name_of(other), record.out_of_fold, same, len(predictions))


def same_test_images(first: FinishedRecord, second: FinishedRecord) -> bool:
    """Return whether two runs predicted the same images, in the same order and into the same classes."""
    if first.source != second.source or first.test.rows != second.test.rows or first.data.names != second.data.names:
        return False
    file, other = first.data.files[-1], second.data.files[-1]
    are_kaggles = {file.form, other.form} <= {Form.IDENTICAL, Form.SAME_CONTENT}
    return file.name == other.name and (are_kaggles or file.sha256 == other.sha256)


@dataclass(frozen=True)
class Pair:
    """Two runs on the rows that both held out, and on the test images."""

    first: RunData
    second: RunData
    held_out: metrics.Comparison | None  # None where they share no held-out row.
    changed: int | None  # Test predictions that differ; None where the test images are not the same.

    @property
    def better(self) -> RunData | None:
        """The run that is significantly better; None where neither is, or it cannot be tested."""
        if self.held_out is None or self.held_out.p_value >= 0.05:
            return None
        return self.second if self.held_out.is_second_better else self.first


@dataclass(frozen=True)
class Compared:
    """Runs side by side, and each two of them in their order."""

    runs: list[RunData]
    pairs: list[Pair]
    rows: np.ndarray
    """Training rows int (k,) that all held out and on which they disagree, the most confident disagreement first."""
    test_rows: np.ndarray  # Test rows int (k,) on which they disagree, likewise.


def compare(runs: Sequence[Run], data_dir: Path | None = None) -> Compared:
    """Compare finished runs on the rows that they held out, and on the test images.

    Raises BadInput if a run is not finished or given twice, or two have neither training nor test images in common.
    """
    blend.check_different(runs, "A comparison takes different runs")
    gathered = [gather(run, data_dir=data_dir) for run in runs]
    pairs = [_pair(first, second) for first, second in combinations(gathered, 2)]
    rows = test_rows = np.array([], int)
    if all(pair.held_out for pair in pairs):
        rows = np.array(sorted(set.intersection(*(set(data.scored.tolist()) for data in gathered))), int)
        rows = _by_confidence(rows, [data.out_of_fold[rows] for data in gathered])
    if all(pair.changed is not None for pair in pairs):
        certain = np.eye(len(gathered[0].record.data.names), dtype=np.float32)
        test = [certain[data.predictions] if data.test is None else data.test for data in gathered]
        test_rows = _by_confidence(np.arange(len(test[0])), test)
    return Compared(gathered, pairs, rows, test_rows)


def _by_confidence(rows: np.ndarray, probabilities: list[np.ndarray]) -> np.ndarray:
    """Return the rows on which not all predict the same: first where two that differ are both confident."""
    surest = np.zeros(len(rows))
    for first, second in combinations(probabilities, 2):
        differing = first.argmax(axis=1) != second.argmax(axis=1)
        both = np.minimum(first.max(axis=1), second.max(axis=1))
        surest = np.maximum(surest, np.where(differing, both, 0))
    order = np.argsort(-surest, kind="stable")
    return rows[order[surest[order] > 0]]


def _pair(first: RunData, second: RunData) -> Pair:
    changed = held_out = None
    if same_test_images(first.record, second.record):
        changed = int((first.predictions != second.predictions).sum())
    train = second.train if first.train is None else first.train
    rows = np.intersect1d(first.scored, second.scored)
    if first.record.has_data_of(second.record) and train is not None and len(rows):
        before, after = (data.out_of_fold[rows] for data in (first, second))
        held_out = metrics.compare(before, after, train.labels[rows], first.record.out_of_fold.metric)
    if held_out is None and changed is None:
        raise BadInput(f"Runs {first.name} and {second.name} have nothing in common to compare", fix=first.missing)
    return Pair(first, second, held_out, changed)
