"""What the probabilities of finished runs tell: mistakes, calibration, label errors, differences between runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from digits.config import describe_differences
from digits.console import BadInput, KitError
from digits.data.competition import COMPETITIONS, Competition, Form
from digits.data.dataset import Dataset, LabelledSplit, Split
from digits.files import REFERENCE
from digits.runs import averaging, blend, metrics
from digits.runs.identity import data_hash
from digits.runs.record import FinishedRecord
from digits.runs.store import PACKED, FoldResult, Run, all_runs

if TYPE_CHECKING:
    from digits.kaggle.ledger import Entry

CONFIDENCE_EDGES = (0.0, 0.5, 0.7, 0.9, 0.95, 0.98, 0.99, 1.0)


@dataclass(frozen=True)
class RunData:
    """A finished run, and as much of its data as there is."""

    run: Run
    record: FinishedRecord
    results: list[FoldResult]
    """Of the single networks; none for a blend."""
    out_of_fold: np.ndarray | None
    """float32 (n, classes), NaN where a row was never held out; None for a reference run, which has only answers."""
    test: np.ndarray | None
    """float32 (t, classes); None for a reference run."""
    answers: np.ndarray
    """The submitted labels uint8 (t,)."""
    train: LabelledSplit | None
    test_images: Split | None
    missing: str = ""
    """Why images are missing; empty where none is."""

    @property
    def name(self) -> str:
        """The run's name; that of a reference run says so."""
        return f"reference/{self.run.name}" if self.is_reference else self.run.name

    @property
    def is_reference(self) -> bool:
        """Whether this is one of the committed runs."""
        return self.run.folder.parent.name == REFERENCE.name

    @property
    def scored(self) -> np.ndarray:
        """The numbers int (m,) of the training rows that were held out."""
        return np.array([], int) if self.out_of_fold is None else np.flatnonzero(~np.isnan(self.out_of_fold[:, 0]))

    @property
    def probabilities(self) -> np.ndarray:
        """Of the held-out rows, float32 (m, classes)."""
        return np.empty((0, len(self.record.data.names))) if self.out_of_fold is None else self.out_of_fold[self.scored]


def gather(run: Run, dataset: Dataset | None = None, data_dir: Path | None = None) -> RunData:
    """Read a finished run, and its data from `dataset` or where its record says; `data_dir` is where they are now.

    Raises:
        BadInput: if the run is not finished, or its probabilities are damaged.
    """
    record = run.finished_record()
    out_of_fold = test = None
    if any((run.folder / name).exists() for name in ("out_of_fold.npy", "test_probabilities.npy", PACKED)):
        out_of_fold, test = run.probabilities()
    answers = run.answers() if test is None else test.argmax(axis=1).astype(np.uint8)
    train, test_images, missing = _images(record, dataset, data_dir)
    return RunData(run, record, run.fold_results(), out_of_fold, test, answers, train, test_images, missing)


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
    summary = dataset.summary
    if summary.files[0].sha256 == record.data.files[0].sha256 and summary.class_counts == record.data.class_counts:
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
    classes = range(probabilities.shape[1])
    thresholds = [probabilities[labels == c, c].mean() if (labels == c).any() else np.inf for c in classes]
    confident = np.where(probabilities >= np.array(thresholds), probabilities, 0)
    other = confident.argmax(axis=1)
    suspects = np.flatnonzero(confident.any(axis=1) & (other != labels))
    margin = probabilities[suspects, other[suspects]] - probabilities[suspects, labels[suspects]]
    return suspects[np.argsort(-margin, kind="stable")]


@dataclass(frozen=True)
class Bin:
    """The rows whose predictions were about equally confident."""

    low: float
    high: float
    rows: int
    confidence: float
    """Their mean, 0-1."""
    accuracy: float
    """0-1."""
    interval: tuple[float, float]
    """Wilson's 95 % interval of the accuracy."""

    @property
    def name(self) -> str:
        """The range of confidence, in percent."""
        return f"{100 * self.low:g}–{100 * self.high:g}" if self.high < 1 else f"≥ {100 * self.low:g}"


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> tuple[list[Bin], float]:
    """Return the non-empty bins of confidence, and the expected calibration error over them, 0-1."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    numbers = np.clip(np.searchsorted(CONFIDENCE_EDGES, confidence, side="right") - 1, 0, len(CONFIDENCE_EDGES) - 2)
    bins = []
    for number in np.unique(numbers):
        here = numbers == number
        rows, hits = int(here.sum()), int(right[here].sum())
        interval = stats.binomtest(hits, rows).proportion_ci(method="wilson")
        low, high = CONFIDENCE_EDGES[number : number + 2]
        bins.append(Bin(low, high, rows, float(confidence[here].mean()), hits / rows, (interval.low, interval.high)))
    return bins, sum(one.rows * abs(one.accuracy - one.confidence) for one in bins) / len(labels)


@dataclass(frozen=True)
class MemberScore:
    """One member over all its folds, or one fold's network, beside the others."""

    name: str
    wrong: int | None
    rows: int
    differs: tuple[int, ...]
    """In how many rows its prediction differs from each member's."""
    weight: float | None = None


def members(data: RunData) -> list[MemberScore]:
    """Return the members of a run or a blend, compared on the out-of-fold rows where they share them, else on test.

    The networks of different folds share no held-out row; they are compared on the test images, without a score.
    """
    if data.record.blend:
        pairs = zip(data.record.blend.members, data.record.blend.disagreement, strict=True)
        return [MemberScore(one.name, one.wrong, one.rows, tuple(row), one.weight) for one, row in pairs]
    numbers = sorted({result.member for result in data.results})
    labels = None
    if len(numbers) < 2:
        names = [result.label.replace("-", " ") for result in data.results]
        predicted = [result.test_probabilities.argmax(axis=1) for result in data.results]
    else:
        by_member = [[result for result in data.results if result.member == number] for number in numbers]
        names = [f"member {own[0].member}: {own[0].network}" for own in by_member]
        if data.train is None or data.out_of_fold is None:
            predicted = [averaging.test_mean(own).argmax(axis=1) for own in by_member]
        else:
            rows, labels = len(data.out_of_fold), data.train.labels[data.scored]
            predicted = [averaging.out_of_fold(own, rows)[data.scored].argmax(axis=1) for own in by_member]
    differs = averaging.disagreement(predicted).tolist()
    return [
        MemberScore(name, None if labels is None else int((own != labels).sum()), len(own), tuple(row))
        for name, own, row in zip(names, predicted, differs, strict=True)
    ]


@dataclass(frozen=True)
class Agreement:
    """In how many test rows two runs have the same answer."""

    name: str
    same: int
    rows: int
    accuracy: float
    """The other's, out of fold."""


def agreement(data: RunData, other: Run) -> Agreement | None:
    """Compare the answers with another run's; None where those are of other images, or it is not finished."""
    try:
        record = other.finished_record()
        if test_images_of(record) != test_images_of(data.record):
            return None
        answers = other.answers()
    except (KitError, OSError):
        return None
    name = f"reference/{other.name}" if other.folder.parent.name == REFERENCE.name else other.name
    return Agreement(name, int((data.answers == answers).sum()), len(answers), record.out_of_fold.accuracy)


def test_images_of(record: FinishedRecord) -> tuple:
    """Return what names the images that a run predicted: its source, and its last file's name and hash."""
    file = record.data.files[-1]
    known = file.form in (Form.IDENTICAL, Form.SAME_CONTENT)
    return record.source, file.name, "known" if known else file.sha256, record.test.rows


@dataclass(frozen=True)
class Pair:
    """Two runs on the rows that both held out, and on the test images."""

    first: RunData
    second: RunData
    held_out: metrics.Comparison | None
    """None where they share no held-out row."""
    changed: int | None
    """Test answers that differ; None where the test images are not the same."""

    @property
    def verdict(self) -> str:
        """Which is better, in a sentence."""
        names, counts = (self.first.name, self.second.name), self.held_out
        if counts is None:
            return "They share no held-out rows, so which is better cannot be tested."
        better = names[counts.only_second_right > counts.only_first_right]
        p = f"p = {counts.p_value:.2g}" if counts.p_value >= 0.0001 else "p < 0.0001"
        told = (
            f"Of {counts.rows:,} rows that both held out, only {names[0]} is right in {counts.only_first_right:,}, "
            f"only {names[1]} in {counts.only_second_right:,}, both are wrong in {counts.both_wrong:,}"
        )
        if counts.p_value < 0.05:
            return f"{told}: {better} is better (McNemar, {p})."
        return f"{told}: not significant (McNemar, {p})."

    @property
    def answers(self) -> str:
        """How many test answers differ, in a sentence, and whether it means anything."""
        leaked = [one.name for one in (self.first, self.second) if one.record.leaked]
        if leaked:
            return f"LEAKED: {' and '.join(leaked)} trained on test images, so their answers prove nothing."
        if self.changed is None:
            return "They predict different test images."
        return f"Their submissions differ in {self.changed:,} of {len(self.first.answers):,} rows."


@dataclass(frozen=True)
class Compared:
    """Runs side by side."""

    runs: list[RunData]
    pairs: list[Pair]
    rows: np.ndarray
    """Training rows int (k,) that all held out and on which they disagree, the most confident disagreement first."""
    test_rows: np.ndarray
    """Test rows int (k,) on which they disagree, likewise."""


def compare(runs: Sequence[Run], data_dir: Path | None = None) -> Compared:
    """Compare finished runs on the rows that they held out, and on the test images.

    Raises:
        BadInput: if a run is not finished or given twice, or two have neither training nor test images in common.
    """
    blend.check_different(runs, "A comparison takes different runs")
    gathered = [gather(run, data_dir=data_dir) for run in runs]
    pairs = [_pair(one, other) for number, one in enumerate(gathered) for other in gathered[number + 1 :]]
    rows = test_rows = np.array([], int)
    if all(pair.held_out for pair in pairs):
        common = set.intersection(*(set(one.scored.tolist()) for one in gathered))
        rows = np.array(sorted(common), int)
        rows = _by_confidence(rows, [_at(one.out_of_fold, rows) for one in gathered])
    if all(pair.changed is not None for pair in pairs):
        test = [np.eye(256, dtype=np.float32)[one.answers] if one.test is None else one.test for one in gathered]
        test_rows = _by_confidence(np.arange(len(test[0])), test)
    return Compared(gathered, pairs, rows, test_rows)


def _at(probabilities: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    assert probabilities is not None  # A run without any shares no held-out row.
    return probabilities[rows]


def _by_confidence(rows: np.ndarray, probabilities: list[np.ndarray]) -> np.ndarray:
    """Return the rows on which not all predict the same: first where two that differ are both confident."""
    predicted = np.stack([one.argmax(axis=1) for one in probabilities])
    confidence = np.stack([one.max(axis=1) for one in probabilities])
    surest = np.zeros(len(rows))
    for number in range(len(predicted)):
        for other in range(number):
            both = np.minimum(confidence[number], confidence[other])
            surest = np.maximum(surest, np.where(predicted[number] != predicted[other], both, 0))
    differing = np.flatnonzero(surest)
    return rows[differing[np.argsort(-surest[differing], kind="stable")]]


def _pair(first: RunData, second: RunData) -> Pair:
    changed = verdict = None
    if test_images_of(first.record) == test_images_of(second.record):
        changed = int((first.answers != second.answers).sum())
    train = first.train if first.train is not None else second.train
    if first.record.identity.get("data") == second.record.identity.get("data") and train is not None:
        rows = np.intersect1d(first.scored, second.scored)
        if len(rows):
            predicted = [_at(one.out_of_fold, rows).argmax(axis=1) for one in (first, second)]
            verdict = metrics.mcnemar(predicted[0], predicted[1], train.labels[rows])
    if verdict is None and changed is None:
        raise BadInput(
            f"Runs {first.name} and {second.name} have nothing in common to compare. {first.missing}".rstrip()
        )
    return Pair(first, second, verdict, changed)


@dataclass(frozen=True)
class Standing:
    """A line of the leaderboard of one's own runs."""

    run: Run
    record: FinishedRecord
    name: str
    recipe: str
    """Its name, and what differs from it."""
    public_score: float | None
    data: str
    """Its source, and how many training images it has."""
    page: str
    """The report's path from the folder of all runs; empty where there is none."""


def leaderboard(submissions: Path, reference: Path = REFERENCE) -> tuple[list[Standing], list[str]]:
    """Return all finished runs, the best first, the reference runs among them, and the names of the others.

    Raises:
        KitError: if a ledger cannot be read.
    """
    scores = {entry.sha256: entry.public_score for entry in scored_entries(submissions)}
    standings, others = [], []
    kept = [Run(path.parent) for path in sorted(reference.glob("*/run.json"))]
    for run in [*all_runs(submissions), *kept]:
        try:
            record = run.finished_record()
        except BadInput:
            others.append(run.name)
            continue
        differences = describe_differences(record.recipe) if record.recipe else ""
        if record.blend:
            differences = " + ".join(f"{member.weight:.2g} {member.name}" for member in record.blend.members)
        name = f"reference/{run.name}" if run in kept else run.name
        page = run.folder / "report.html"
        standings.append(
            Standing(
                run,
                record,
                name,
                f"{record.recipe_name}: {differences.partition(' in ')[2] or differences}" if differences else
                record.recipe_name,
                scores.get(record.submission.sha256),
                f"{record.data.competition or record.source}, {sum(record.data.class_counts):,}",
                f"{name}/report.html" if page.exists() and page.resolve().is_relative_to(submissions.resolve()) else "",
            )
        )  # fmt: skip
    standings.sort(key=lambda one: (one.record.leaked, -one.record.out_of_fold.accuracy))
    return standings, others


def scored_entries(submissions: Path, competitions: Iterable[Competition] = COMPETITIONS.values()) -> "list[Entry]":
    """Return the rows of the competitions' ledgers that have a public score."""
    from digits.kaggle.ledger import read_ledger

    entries = [entry for competition in competitions for entry in read_ledger(submissions / competition.ledger)]
    return [entry for entry in entries if entry.public_score is not None]
