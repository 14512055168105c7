"""What the probabilities of a finished run show: errors, calibration, possible label errors, members, settings."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from digits import config
from digits.config import Options
from digits.console import KitError
from digits.data.dataset import Dataset, LabelledSplit, Split
from digits.files import REFERENCE
from digits.runs import averaging, metrics
from digits.runs.identity import data_hash
from digits.runs.metrics import Score
from digits.runs.record import FinishedRecord
from digits.runs.store import PACKED, FoldResult, Run

CONFIDENCE_EDGES = (0.0, 0.5, 0.7, 0.9, 0.95, 0.98, 0.99, 1.0)
"""Finer towards 1: nine of ten predictions of a good run are above 0.99."""


def name_of(run: Run) -> str:
    """Return a run's name; that of a reference run, one of the committed ones, begins with reference/."""
    return f"{REFERENCE.name}/{run.name}" if run.folder.parent.name == REFERENCE.name else run.name


@dataclass(frozen=True)
class RunData:
    """A finished run, and as much of its data as there is."""

    run: Run
    record: FinishedRecord
    results: list[FoldResult]  # Of the single networks; none for a blend.
    out_of_fold: np.ndarray
    """float32 (n, classes), NaN where a row was never held out; n is 0 where only the submission is there."""
    test: np.ndarray | None
    """float32 (t, classes); None where only the submission is there, as for some reference runs."""
    predictions: np.ndarray  # The submitted labels uint8 (t,).
    train: LabelledSplit | None
    test_images: Split | None
    missing: str = ""  # Why images are missing; empty where none is.

    @property
    def name(self) -> str:
        """The run's name, see `name_of`."""
        return name_of(self.run)

    @property
    def scored(self) -> np.ndarray:
        """The numbers int (m,) of the training rows that were held out."""
        return np.flatnonzero(~np.isnan(self.out_of_fold[:, 0]))

    @property
    def probabilities(self) -> np.ndarray:
        """Of the held-out rows, float32 (m, classes)."""
        return self.out_of_fold[self.scored]

    @property
    def labels(self) -> np.ndarray:
        """Of the held-out rows, uint8 (m,); empty without the images."""
        return np.empty(0, np.uint8) if self.train is None else self.train.labels[self.scored]


def gather(run: Run, dataset: Dataset | None = None, data_dir: Path | None = None) -> RunData:
    """Read a finished run, and its data from `dataset` or where its record says; `data_dir` is where they are now.

    Raises BadInput if the run is not finished, or its probabilities are damaged.
    """
    record = run.finished_record()
    if any((run.folder / name).exists() for name in ("out_of_fold.npy", "test_probabilities.npy", PACKED)):
        out_of_fold, test = run.probabilities()
        predictions = test.argmax(axis=1).astype(np.uint8)
    else:
        out_of_fold, test = np.empty((0, len(record.data.names)), np.float32), None
        predictions = run.predictions()
    train, test_images, missing = _images(record, dataset, data_dir)
    return RunData(run, record, run.fold_results(), out_of_fold, test, predictions, train, test_images, missing)


def _images(
    record: FinishedRecord, dataset: Dataset | None, data_dir: Path | None
) -> tuple[LabelledSplit | None, Split | None, str]:
    if dataset is None:
        try:
            dataset = record.load_data(data_dir)
        except (KitError, OSError, ImportError) as error:
            return None, None, f"The images cannot be read: {error}"
    if data_hash(dataset) == record.identity.get("data"):
        return dataset.train, dataset.test, ""
    data = dataset.summary
    if data.files[0].sha256 == record.data.files[0].sha256 and data.class_counts == record.data.class_counts:
        return dataset.train, None, "The test images are not those that this run predicted, so none are shown."
    return None, None, "The data are not those that this run was trained on, so no images are shown."


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return how often each class (row) was predicted as each (column), int (classes, classes)."""
    return np.bincount(labels.astype(int) * classes + predicted, minlength=classes**2).reshape(classes, classes)


def mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the positions int (k,) of the wrong predictions among the rows, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]


def suspicious_labels(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the positions int (k,) of rows whose given label may be wrong, the most suspicious first.

    Confident learning (Northcutt, Jiang & Chuang 2021): a row counts as another class where it is given at least the
    probability that rows labelled so have on average. Networks err too: this changes nothing.
    """
    thresholds = np.full(probabilities.shape[1], np.inf)
    for label in np.unique(labels):
        thresholds[label] = probabilities[labels == label, label].mean()
    confident = np.where(probabilities >= thresholds, probabilities, 0)
    other = confident.argmax(axis=1)
    wrong = probabilities.argmax(axis=1) != labels
    suspects = np.flatnonzero(confident.any(axis=1) & (other != labels) & wrong)
    margin = probabilities[suspects, other[suspects]] - probabilities[suspects, labels[suspects]]
    return suspects[np.argsort(-margin, kind="stable")]


@dataclass(frozen=True)
class Bin:
    """The rows whose confidence is from `low` to `high`, its mean, and their accuracy with Wilson's 95 % interval."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]

    @property
    def name(self) -> str:
        """The range of confidence, in percent."""
        return f"{100 * self.low:g}–{100 * self.high:g}" if self.high < 1 else f"≥ {100 * self.low:g}"


@dataclass(frozen=True)
class Calibration:
    """How well confidence matches accuracy: the bins that are not empty, and the expected calibration error, 0-1."""

    bins: list[Bin]
    error: float
    overconfident: bool


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Compare confidence and accuracy of probabilities (n, classes) under labels (n,)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    numbers = np.clip(np.searchsorted(CONFIDENCE_EDGES, confidence, side="right") - 1, 0, len(CONFIDENCE_EDGES) - 2)
    bins = []
    for number in np.unique(numbers):
        members = numbers == number
        rows, hits = int(members.sum()), int(right[members].sum())
        interval = stats.binomtest(hits, rows).proportion_ci(method="wilson")
        low, high = CONFIDENCE_EDGES[number : number + 2]
        mean = float(confidence[members].mean())
        bins.append(Bin(low, high, rows, mean, hits / rows, (interval.low, interval.high)))
    error = sum(each.rows * abs(each.accuracy - each.confidence) for each in bins) / len(labels)
    return Calibration(bins, error, bool(confidence.mean() > right.mean()))


@dataclass(frozen=True)
class MemberScore:
    """One member of an ensemble over all its folds, beside the others."""

    name: str
    score: Score
    differs: list[int]  # In how many rows its prediction differs from each member's.
    weight: float | None = None


def rows_scored_after_epochs(data: RunData) -> int | None:
    """Return how many held-out images were scored after an epoch; 0: all, None: no epoch was scored."""
    epochs = [epoch for result in data.results for epoch in result.history]
    rows = [epoch.get("held_out_rows") or 0 for epoch in epochs if epoch.get("held_out_accuracy") is not None]
    return max(rows, default=None)


def members(data: RunData) -> list[MemberScore]:
    """Return the members of a run or a blend on the held-out rows; none without labels, or for a single member."""
    if blend := data.record.blend:
        return [
            MemberScore(member.name, member, differs, member.weight)
            for member, differs in zip(blend.members, blend.disagreement, strict=True)
        ]
    groups: dict[int, list[FoldResult]] = {}
    for result in data.results:
        groups.setdefault(result.member, []).append(result)
    if len(groups) < 2 or not len(data.labels):
        return []
    rows, scored = len(data.out_of_fold), data.scored
    predicted = [averaging.out_of_fold(results, rows)[scored] for results in groups.values()]
    disagreement = averaging.disagreement([probabilities.argmax(axis=1) for probabilities in predicted]).tolist()
    scores = [metrics.score(probabilities, data.labels, data.record.out_of_fold.metric) for probabilities in predicted]
    return [
        MemberScore(results[0].network, score, differs)
        for results, score, differs in zip(groups.values(), scores, disagreement, strict=True)
    ]


@dataclass(frozen=True)
class Setting:
    """A setting of a run."""

    name: str
    value: Any
    usual: Any  # The recipe's own value, or a flag's default.
    meaning: str

    @property
    def is_changed(self) -> bool:
        """Whether the run differs from its recipe in it."""
        return self.value != self.usual


def settings_of(record: FinishedRecord) -> list[Setting]:
    """Return the fields of a run's recipe, and the options of its command beside it."""
    settings = []
    if record.recipe:
        base = config.reference(record.recipe) or record.recipe
        usual, fields = config.flat(base), config.fields()
        values = config.flat(record.recipe).items()
        settings = [Setting(key, value, usual[key], fields[key].meaning) for key, value in values]
    for field in dataclasses.fields(Options):
        value = getattr(record.settings, field.name)
        settings.append(Setting(field.name, value, field.default, field.metadata.get("meaning", "")))
    return settings
