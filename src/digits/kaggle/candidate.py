"""Whether a file is worth a submission: is it whole, which run made it, and does it make sense?"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.data.submission import ROWS, content_hash, read_submission
from digits.errors import BadInput
from digits.kaggle.ledger import Entry
from digits.paths import shown

TRAINING_COUNTS = (4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188)
"""How often each digit is in the competition's train.csv."""
LARGEST_SHIFT = 0.015
"""Of a digit's share, between answers and training labels: six standard errors at 28,000 rows."""
LARGEST_CHANGE = 0.1
"""Share of rows that may differ from the last submission: two good models differ in about one of a hundred."""


@dataclass(frozen=True)
class Run:
    """What run.json says of the run that made a file."""

    name: str
    folder: Path
    facts: dict

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return str(self.facts.get("recipe", {}).get("name", ""))

    @property
    def entry(self) -> Entry:
        """A row of the ledger with what the run knows."""
        out_of_fold = self.facts.get("out_of_fold") or {}
        return Entry(
            sha256=self.facts["submission"]["sha256"],
            run=self.name,
            recipe=self.recipe,
            folds=self.facts.get("settings", {}).get("folds"),
            out_of_fold=out_of_fold.get("accuracy"),
            standard_error=out_of_fold.get("standard_error"),
        )

    def __str__(self) -> str:
        entry = self.entry
        if entry.out_of_fold is None:
            return f"run {self.name}, recipe {self.recipe}"
        error = "" if entry.standard_error is None else f" ± {entry.standard_error:.4f}"
        return f"run {self.name}, recipe {self.recipe}, {entry.folds} folds, out-of-fold {entry.out_of_fold:.4f}{error}"


@dataclass(frozen=True)
class Candidate:
    """A checked file: `notes` are for the user to read, `doubts` have to be accepted before it is sent."""

    file: Path
    sha256: str
    run: Run | None
    notes: list[str]
    doubts: list[str]


def find_runs(submissions: Path, sha256: str) -> list[Run]:
    """Return the runs below `submissions` whose answers' hash begins with `sha256`, newest first."""
    runs = []
    for path in [*submissions.glob("*/run.json"), *submissions.glob("reference/*/run.json")]:
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts["submission"]["sha256"].startswith(sha256):
                runs.append((path.stat().st_mtime, Run(str(facts.get("run") or path.parent.name), path.parent, facts)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # an unfinished or foreign run made no file of ours
    return [run for _, run in sorted(runs, key=lambda dated: dated[0], reverse=True)]


def examine(file: Path, submissions: Path, ledger: list[Entry]) -> Candidate:
    """Check a file as Kaggle would, against its run, and for sense; no network.

    Raises:
        BadInput: where the file is broken, from another source than the competition's data, or leaked.
    """
    labels = read_submission(file, rows=None)
    sha256 = content_hash(labels)
    runs = find_runs(submissions, sha256)
    for run in runs:
        _refuse_unfit(file, run)
    if len(labels) != ROWS:
        read_submission(file)
    run = runs[0] if runs else None
    notes = [f"{shown(file)}: {len(labels):,} rows, {run}" if run else f"{shown(file)}: {len(labels):,} rows"]
    doubts = _shifted_shares(labels, run)
    if run is None:
        notes.append(f"warning: no run below {shown(submissions)} made this file; nothing is known of its accuracy.")
    else:
        failed = [check for check in run.facts.get("checks", []) if not check.get("passed", True)]
        doubts += [f"the run's check {check.get('name')!r} failed: {check.get('detail')}" for check in failed]
    sent = [entry for entry in ledger if entry.status in ("pending", "complete")]
    last = next((entry for entry in reversed(sent) if entry.sha256 not in ("", sha256)), None)
    changed = None if last is None else _changed_rows(labels, last, submissions)
    if changed is not None:
        score = "" if last.public_score is None else f", public score {last.public_score:.5f}"
        text = f"differs in {changed:,} of {ROWS:,} rows from the last submission (run {last.run}{score})"
        (doubts if changed > LARGEST_CHANGE * ROWS else notes).append(text)
    return Candidate(file, sha256, run, notes, doubts)


def _refuse_unfit(file: Path, run: Run) -> None:
    source = run.facts.get("source")
    if source != "kaggle":
        raise BadInput(
            f"{shown(file)} was made by run {run.name} from the data source {source!r}; expected 'kaggle'.\n"
            "Fetch the data (scripts/download.sh) and train on it: python src/train.py --source kaggle"
        )
    if run.facts.get("leaked"):
        raise BadInput(
            f"{shown(file)} was made by run {run.name}, whose training saw test images: it is never sent.\n"
            "Train without the leak: python src/train.py --source kaggle"
        )


def _shifted_shares(labels: np.ndarray, run: Run | None) -> list[str]:
    """Return a doubt for each digit whose share is far from its share in the training labels."""
    counts = (run.facts.get("data", {}).get("class_counts") if run else None) or TRAINING_COUNTS
    expected = np.asarray(counts, float) / sum(counts)
    found = np.bincount(labels, minlength=10) / len(labels)
    return [
        f"{found[digit]:.1%} of the answers are {digit}, of the training labels {expected[digit]:.1%}"
        for digit in np.flatnonzero(np.abs(found - expected) > LARGEST_SHIFT)
    ]


def _changed_rows(labels: np.ndarray, last: Entry, submissions: Path) -> int | None:
    """Return in how many rows the file of an earlier submission differs, or None where it is gone."""
    for run in find_runs(submissions, last.sha256):
        try:
            earlier = read_submission(run.folder / run.facts["submission"].get("file", "submission.csv"))
        except BadInput:
            continue
        if content_hash(earlier) == last.sha256:
            return int(np.count_nonzero(earlier != labels))
    return None
