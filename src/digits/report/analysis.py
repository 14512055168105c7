"""What a finished run's probabilities tell: what is mistaken for what, how sure it was, and which labels look wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from digits.console import KitError
from digits.data import dataset
from digits.data.competition import CLASSES
from digits.runs import ensemble
from digits.runs.record import FinishedRecord, data_hash, data_summary
from digits.runs.store import FoldResult, Run

CONFIDENCE_EDGES = (0.0, 0.5, 0.7, 0.9, 0.95, 0.98, 0.99, 1.0)


@dataclass(frozen=True)
class RunData:
    """A finished run, and as much of its data as can still be had."""

    run: Run
    record: FinishedRecord
    parts: list[FoldResult]
    """The networks' own probabilities; none for a blend."""
    out_of_fold: np.ndarray
    """float32 (n, 10), NaN where a row was never held out."""
    test: np.ndarray
    """float32 (t, 10)."""
    train_digits: dataset.Split | None
    test_digits: dataset.Split | None
    missing: str = ""
    """Why digits are missing; empty where none is."""

    @property
    def scored(self) -> np.ndarray:
        """The numbers int (m,) of the rows that were held out."""
        return np.flatnonzero(~np.isnan(self.out_of_fold[:, 0]))

    @property
    def probabilities(self) -> np.ndarray:
        """What was said of the held-out rows, float32 (m, 10)."""
        return self.out_of_fold[self.scored]

    @property
    def labels(self) -> np.ndarray:
        """The given digits uint8 (m,) of the held-out rows."""
        return self.train_digits.labels[self.scored]


def gather(run: Run, source: dataset.Dataset | None = None, data_dir: Path | None = None) -> RunData:
    """Read a finished run, and its data from `source` or as its own settings say; `data_dir` is where they are now.

    Raises:
        BadInput: if the run is not finished.
        KitError: if its probabilities are missing or broken.
    """
    record = run.finished_record()
    arrays = run.probabilities()
    train, test, missing = _digits(record, source, data_dir, len(arrays[0]))
    return RunData(run, record, run.fold_results(), *arrays, train, test, missing)


def _digits(
    record: FinishedRecord, source: dataset.Dataset | None, data_dir: Path | None, rows: int
) -> tuple[dataset.Split | None, dataset.Split | None, str]:
    if source is None:
        try:
            source = record.load_data(data_dir)
        except (KitError, OSError, ImportError) as error:
            return None, None, f"The digits cannot be read again: {error}"
    if data_hash(source) == record.identity.get("data"):
        return source.train, source.test, ""
    data = data_summary(source)
    same_file = data.files[0].sha256 == record.data.files[0].sha256
    if same_file and len(source.train.images) == rows and data.class_counts == record.data.class_counts:
        return source.train, None, "The test images are not those that this run predicted, so none are shown."
    return None, None, "The data there are not those that this run was trained on, so no digits are shown."


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how often each digit (row) was taken for each (column), int (10, 10)."""
    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts


def mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the places int (k,) of the wrong answers among the rows, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]


def suspicious_labels(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the places int (k,) of rows whose given label looks wrong, the most suspicious first.

    Confident learning (Northcutt, Jiang & Chuang 2021): a row counts as another digit where it is given at least the
    probability that rows labelled so have on average. Networks err too: this is suspicion, and changes nothing.
    """
    thresholds = np.array(
        [
            probabilities[labels == digit, digit].mean() if (labels == digit).any() else np.inf
            for digit in range(CLASSES)
        ]
    )
    confident = np.where(probabilities >= thresholds, probabilities, 0)
    other = confident.argmax(axis=1)
    suspects = np.flatnonzero(confident.any(axis=1) & (other != labels))
    margin = probabilities[suspects, other[suspects]] - probabilities[suspects, labels[suspects]]
    return suspects[np.argsort(-margin, kind="stable")]


@dataclass(frozen=True)
class Bin:
    """The rows whose answers were about equally sure."""

    low: float
    high: float
    rows: int
    confidence: float
    """Their mean, 0-1."""
    right: float
    """The share of right answers, 0-1."""
    interval: tuple[float, float]
    """Wilson's 95 % interval of that share."""


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> tuple[list[Bin], float]:
    """Return the non-empty bins of confidence, and the expected calibration error over them, 0-1."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.clip(np.searchsorted(CONFIDENCE_EDGES, confidence, side="right") - 1, 0, len(CONFIDENCE_EDGES) - 2)
    bins = []
    for place in np.unique(places):
        here = places == place
        rows, hits = int(here.sum()), int(right[here].sum())
        interval = stats.binomtest(hits, rows).proportion_ci(method="wilson")
        low, high = CONFIDENCE_EDGES[place : place + 2]
        bins.append(Bin(low, high, rows, float(confidence[here].mean()), hits / rows, (interval.low, interval.high)))
    error = sum(part.rows * abs(part.right - part.confidence) for part in bins) / len(labels)
    return bins, error


@dataclass(frozen=True)
class Member:
    """One member over all its folds, or one fold's network, against the average."""

    name: str
    wrong: int | None
    rows: int
    others: tuple[int, ...]
    """In how many rows its answer differs from each voice's."""


def members(evidence: RunData) -> tuple[list[Member], str]:
    """Return what each member said by itself and what rows they are compared on; folds' networks where one member is.

    A fold's networks share no held-out rows, so these are compared on the test images.
    """
    blend = evidence.record.blend
    if blend:
        pairs = zip(blend.members, blend.disagreement, strict=True)
        return [Member(own.name, own.wrong, own.rows, tuple(row)) for own, row in pairs], "out-of-fold"
    members = sorted({part.member for part in evidence.parts})
    own = [[part for part in evidence.parts if part.member == member] for member in members]
    names = [f"member {parts[0].member}: {parts[0].network}" for parts in own]
    if len(members) > 1 and evidence.train_digits is not None:
        said = [ensemble.out_of_fold(parts, len(evidence.out_of_fold))[evidence.scored] for parts in own]
        return _voices(names, [one.argmax(axis=1) for one in said], evidence.labels), "out-of-fold"
    if len(members) > 1:
        return _voices(names, [ensemble.test_mean(parts).argmax(axis=1) for parts in own], None), "test"
    names = [part.label.replace("-", " ") for part in evidence.parts]
    return _voices(names, [part.test_probabilities.argmax(axis=1) for part in evidence.parts], None), "test"


def _voices(names: Sequence[str], answers: Sequence[np.ndarray], labels: np.ndarray | None) -> list[Member]:
    wrong = [None if labels is None else int((own != labels).sum()) for own in answers]
    rows = ensemble.disagreement(answers).tolist()
    return [Member(*values) for values in zip(names, wrong, map(len, answers), map(tuple, rows), strict=True)]


@dataclass(frozen=True)
class Agreement:
    """In how many rows two submissions for the same test images say the same."""

    name: str
    same: int
    rows: int
    accuracy: float | None
    """The other's out-of-fold accuracy."""


def agreement(evidence: RunData, other: Run) -> Agreement | None:
    """Compare the answers with another run's; None where those are of other images, or it is not finished."""
    try:
        record = other.finished_record()
        if test_images_of(record) != test_images_of(evidence.record):
            return None
        own, others = evidence.test.argmax(axis=1), other.answers()
    except (KitError, OSError):
        return None
    name = f"reference/{other.name}" if other.folder.parent.name == "reference" else other.name
    return Agreement(name, int((own == others).sum()), len(own), record.out_of_fold.accuracy)


def test_images_of(record: FinishedRecord) -> tuple:
    """Return what names the images that a run predicted: its source and its last file's name and hash."""
    file = record.data.files[-1]
    known = file.form in ("exact", "same data", "line ends changed")
    return record.source, file.name, "known" if known else file.sha256, record.test.rows
