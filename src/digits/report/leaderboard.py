"""All finished runs, grouped by the data that they were trained on, the best first."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from digits.config import Metric, describe_changes
from digits.console import BadInput
from digits.data.competition import COMPETITIONS
from digits.files import REFERENCE
from digits.report.analysis import name_of
from digits.runs.record import FinishedRecord
from digits.runs.store import Run, all_runs

if TYPE_CHECKING:
    from digits.kaggle.ledger import Entry

SOURCES = {"kaggle": "custom data", "keras": "MNIST", "sample": "embedded sample"}
"""What data are called that are no competition's."""


@dataclass(frozen=True)
class Standing:
    """A line of the leaderboard."""

    run: Run
    record: FinishedRecord
    public_score: float | None
    page: str  # The URL of its report, relative to the folder of all runs; empty where there is none.

    @property
    def name(self) -> str:
        """The run's name, see `name_of`."""
        return name_of(self.run)

    @property
    def marks(self) -> list[str]:
        """What to know before believing or comparing its figures."""
        failed = len(self.record.failed_checks)
        failed_checks = "1 failed check" if failed == 1 else f"{failed} failed checks"
        marks = {"LEAKED": self.record.leaked, "extra images": self.record.extra, failed_checks: failed}
        marks["foreign predictions"] = len(self.record.foreign)
        return [mark for mark, applies in marks.items() if applies]

    @property
    def recipe(self) -> str:
        """The recipe's name and what differs from it; of a blend, its members and their weights."""
        changes = ""
        if self.record.blend:
            changes = " + ".join(f"{member.weight:.2g} {member.name}" for member in self.record.blend.members)
        elif self.record.recipe:
            changes = describe_changes(self.record.recipe)
        return ": ".join(filter(None, (self.record.recipe_name, changes)))


@dataclass(frozen=True)
class Board:
    """The runs whose figures can be compared, for they are of the same competition and training images."""

    title: str
    images: int
    own: list[Standing]
    references: list[Standing]
    metric: Metric = Metric.ACCURACY

    @property
    def heading(self) -> str:
        """Title, number of images, and the metric where that is not the accuracy."""
        metric = "" if self.metric is Metric.ACCURACY else f", by {self.metric.text}"
        return f"{self.title}, {self.images:,} training images{metric}"

    @property
    def titles(self) -> dict[str, str]:
        """What columns have instead of accuracy and errors where the metric is another."""
        return {} if self.metric is Metric.ACCURACY else {"accuracy": self.metric.text, "errors": "accuracy"}


@dataclass(frozen=True)
class Leaderboard:
    """Everything that there is to choose from."""

    boards: list[Board]  # Those with own runs first, of a competition, of the most images.
    unfinished: list[str]
    comparisons: dict[str, str]  # The URLs of the comparison pages, by their names.


def leaderboard(submissions: Path, reference: Path = REFERENCE) -> Leaderboard:
    """Return all runs in the folder `submissions`, and the committed ones in `reference`.

    Raises KitError if a ledger cannot be read.
    """
    scores = {entry.sha256: entry.public_score for entry in scored_entries(submissions)}
    references = [Run(path.parent) for path in sorted(reference.glob("*/run.json"))]
    groups: dict[tuple, list[Standing]] = {}
    unfinished = []
    for run in [*references, *all_runs(submissions)]:
        try:
            record = run.finished_record()
        except BadInput:
            unfinished.append(name_of(run))
            continue
        page = link_to(run.folder / "report.html", submissions)
        standing = Standing(run, record, scores.get(record.submission.sha256), page)
        groups.setdefault(_data_of(record), []).append(standing)
    boards = []
    for (title, _, images, metric), standings in groups.items():
        standings.sort(key=lambda standing: (standing.record.leaked, -standing.record.out_of_fold.merit))
        own = [standing for standing in standings if standing.run not in references]
        other = [standing for standing in standings if standing.run in references]
        boards.append(Board(title, images, own, other, metric))
    boards.sort(key=lambda board: (bool(board.own), board.title in COMPETITIONS, board.images), reverse=True)
    comparisons = sorted(submissions.glob("compare-*.html"), key=lambda path: path.stat().st_mtime, reverse=True)
    return Leaderboard(boards, unfinished, {path.stem: link_to(path, submissions) for path in comparisons})


def link_to(page: Path, folder: Path) -> str:
    """Return the URL of a page, relative to a folder; empty where there is none."""
    if not page.exists():
        return ""
    return quote(Path(os.path.relpath(page.resolve(), folder.resolve())).as_posix())


def _data_of(record: FinishedRecord) -> tuple[str, str, int, Metric]:
    """Return the title of the data, the hash of a training file that is no competition's, the images, the metric."""
    images, metric = sum(record.data.class_counts), record.out_of_fold.metric
    if record.data.competition:
        return record.data.competition, "", images, metric
    return SOURCES.get(record.source, record.source), record.data.files[0].sha256, images, metric


def scored_entries(submissions: Path, ledgers: str = "ledger*.csv") -> "list[Entry]":
    """Return the rows of the ledgers of such names that have a public score."""
    from digits.kaggle.ledger import read_ledger

    entries = [entry for path in sorted(submissions.glob(ledgers)) for entry in read_ledger(path)]
    return [entry for entry in entries if entry.public_score is not None]
