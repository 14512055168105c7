"""What was submitted and how it scored, in submissions/ledger.csv."""

import contextlib
import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from digits.config import Metric
from digits.console import BadInput, counted, table
from digits.data.competition import COMPETITIONS, ROWS
from digits.data.submission import TAG_DIGITS, TAG_PREFIX
from digits.files import atomic_write, display_path, file_lock
from digits.kaggle.client import Kaggle
from digits.runs.store import Run, find_runs

LOCK_SECONDS = 10
PAGE_SIZE = 100
LONGEST_LIST = 2000
TAG = re.compile(rf"({TAG_PREFIX}([0-9a-f]{{{TAG_DIGITS}}})(?:-\d+)?)\]?\s*$")
"""At the end of a submission's description: the first digits of its predictions' hash, numbered if sent again.
Elsewhere in it stand the user's own words, which may name another submission."""
TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Entry:
    """One submission.

    `standard_error` is of the out-of-fold accuracy, of another metric that of the difference to the public score.
    `status`: unconfirmed (on its way, or its answer was lost), pending, complete, error (Kaggle could not score it),
    failed (Kaggle never recorded it, so it cost nothing). `time` is UTC; what is not known is empty or None.
    """

    time: str = ""
    sha256: str = ""
    run: str = ""
    recipe: str = ""
    folds: int | None = None
    out_of_fold: float | None = None
    standard_error: float | None = None
    public_score: float | None = None
    tag: str = ""
    ref: str = ""
    status: str = ""
    reason: str = ""
    metric: Metric = Metric.ACCURACY
    rows: int = ROWS  # Of the test set, 0 where that is not known; not a column.

    @property
    def difference(self) -> float | None:
        """Public score minus out-of-fold score in standard errors of that difference, the test's own error included.

        The public score is taken as measured on all test rows, which Kaggle does not promise.
        """
        if self.public_score is None or self.out_of_fold is None or self.standard_error is None or not self.rows:
            return None
        error = self.standard_error
        if self.metric is Metric.ACCURACY:
            error = math.hypot(error, math.sqrt(self.out_of_fold * (1 - self.out_of_fold) / self.rows))
        return (self.public_score - self.out_of_fold) / error if error else None

    @property
    def settled(self) -> bool:
        """Whether Kaggle's list held this submission."""
        return self.status not in ("unconfirmed", "failed")


def entry_of(run: Run) -> Entry:
    """Return a row of the ledger with what a finished run's record holds."""
    record = run.finished_record()
    score, error = record.out_of_fold, record.out_of_fold.standard_error
    if score.metric is not Metric.ACCURACY:
        error *= math.sqrt(1 + score.rows / record.submission.rows)
    return Entry(
        sha256=record.submission.sha256,
        run=record.run,
        recipe=record.recipe_name,
        folds=record.settings.folds,
        out_of_fold=score.value,
        standard_error=error,
        metric=score.metric,
        rows=record.submission.rows,
    )


def title_of(run: Run) -> str:
    """Return a finished run's name, recipe and accuracy in words."""
    record = run.finished_record()
    score = record.out_of_fold
    folds = counted(record.settings.folds, "fold")
    metric = "" if score.metric is Metric.ACCURACY else f"{score.metric.text} "
    accuracy = f"{folds}, out-of-fold {metric}{score.value:.4f} ± {score.standard_error:.4f}"
    extra = f", trained on {record.extra.images} extra images" if record.extra else ""
    return f"run {record.run}, recipe {record.recipe_name}, {accuracy}{extra}"


def list_submissions(kaggle: Kaggle, pages: int = LONGEST_LIST // PAGE_SIZE) -> list[Entry]:
    """Return that many pages of Kaggle's list, newest first: ref, time, status, score, reason, tag of the message."""
    entries: dict[str, Entry] = {}
    for page in range(1, pages + 1):
        before = len(entries)
        arguments = {"competition": kaggle.competition.slug, "page_number": page, "page_size": PAGE_SIZE}
        rows = kaggle.ask("competition_submissions", arguments) or []
        named = [row for row in rows if row and row.get("ref")]
        if len(named) < len(rows):
            kaggle.log(f"warning: Kaggle's list has {len(rows) - len(named)} entries without a ref: left out.")
        entries |= {str(row["ref"]): _listed_entry(row) for row in named}
        if len(rows) < PAGE_SIZE or len(entries) == before:
            break
    return list(entries.values())


def _listed_entry(row: dict[str, Any]) -> Entry:
    """Return a row of Kaggle's list as an entry."""
    row = {name: str(value) for name, value in row.items() if value is not None}
    score, tag = None, TAG.search(row.get("description", ""))
    with contextlib.suppress(ValueError):
        score = float(row.get("publicScore", ""))
    return Entry(
        ref=row["ref"],
        time=f"{row['date'][:19]}Z" if "date" in row else "",
        tag=tag[1] if tag else "",
        status=row.get("status", "pending").lower(),
        public_score=score,
        reason=row.get("errorDescription", ""),
    )


NUMBERS: dict[str, type] = {"folds": int, "out_of_fold": float, "standard_error": float, "public_score": float}
COLUMNS = [column.name for column in fields(Entry) if column.name != "rows"]
COLUMNS.insert(COLUMNS.index("public_score") + 1, "difference")


def read_ledger(path: Path) -> list[Entry]:
    """Return the ledger's rows, oldest first, none where there is no ledger yet; BadInput names the wrong line."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise BadInput(f"{display_path(path)}: not a text file. Move it away, and a new ledger is started.") from None
    rows = csv.DictReader(io.StringIO(text), restkey="more")
    if rows.fieldnames not in (COLUMNS, COLUMNS[:-1]):  # Earlier ledgers have no metric.
        raise BadInput(
            f"{display_path(path)}, line 1: expected the columns {','.join(COLUMNS)}\n"
            f"found {','.join(rows.fieldnames or [])}. Put them back, or move the file away."
        )
    tested = _test_rows(path)
    try:
        return [_entry(row, tested) for row in rows]
    except (TypeError, ValueError, csv.Error) as error:
        where = f"{display_path(path)}, line {rows.line_num + isinstance(error, csv.Error)}"
        raise BadInput(f"{where}: {error}. Correct the line, or move the file away.") from None


def _test_rows(ledger: Path) -> int:
    """Return how many test images the competition of a ledger has, as known or by its newest submission."""
    known = {known.ledger: known.test_rows or 0 for known in COMPETITIONS.values()}
    newest = ledger.with_name(ledger.name.removeprefix("ledger-"))
    if ledger.name in known or newest == ledger or not newest.is_file():
        return known.get(ledger.name, 0)
    return newest.read_bytes().count(b"\n") - 1


def _entry(row: dict[str, str], rows: int) -> Entry:
    row = {"metric": "accuracy"} | row
    if "more" in row or None in row.values():
        raise ValueError(f"expected {len(COLUMNS)} columns")
    numbers: dict[str, Any] = {name: kind(row[name]) if row[name] else None for name, kind in NUMBERS.items()}
    del row["difference"]
    return Entry(**row | numbers | {"metric": Metric(row["metric"])}, rows=rows)


def _row(entry: Entry) -> dict[str, str]:
    row = {name: getattr(entry, name) for name in COLUMNS}
    row["difference"] = None if entry.difference is None else f"{entry.difference:.2f}"
    # A row is one line, whatever Kaggle's message was: line ends within it become spaces.
    return {name: "" if value is None else " ".join(str(value).split()) for name, value in row.items()}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[list[Entry]]:
    """Yield the ledger's rows for changing, alone among all processes; what is in the list at the end is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(path.with_name(f".{path.name}.lock"), LOCK_SECONDS):
        entries = read_ledger(path)
        before = list(entries)
        yield entries
        if entries != before:
            with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                table.writeheader()
                table.writerows(_row(entry) for entry in entries)


def record(path: Path, entry: Entry) -> Entry:
    """Put an entry into the ledger, as `place` does, and return it."""
    with opened(path) as entries:
        place(entries, entry)
    return entry


def place(entries: list[Entry], entry: Entry) -> None:
    """Put an entry in the place of the one with its ref, or of an unsettled one with its tag, or at the end."""
    for index, other in enumerate(entries):
        if (entry.ref and other.ref == entry.ref) or (entry.tag and other.tag == entry.tag and not other.settled):
            entries[index] = entry
            return
    entries.append(entry)


def reconcile(ledger: Path, listed: list[Entry]) -> list[Entry]:
    """Write what Kaggle's list says into the ledger, new rows for what it does not hold yet; return all rows."""
    with opened(ledger) as entries:
        for row in reversed(listed):
            known = next((entry for entry in entries if is_same(entry, row)), None)
            if known is None:  # Made elsewhere; a tag in its description may name its run.
                tag = TAG.fullmatch(row.tag)
                runs = find_runs(ledger.parent, tag[2]) if tag else []
                known = replace(entry_of(runs[0]), tag=row.tag, time=row.time) if runs else row
            place(entries, confirmed(known, row))
        return list(entries)


def refresh(submissions: Path, kaggle: Kaggle) -> list[Entry]:
    """Bring the ledger up to date with all of Kaggle's list; return its rows, the best score first."""
    ledger = submissions / kaggle.competition.ledger
    reconcile(ledger, list_submissions(kaggle))
    enough = timedelta(seconds=kaggle.policy.unconfirmed_seconds)
    with opened(ledger) as entries:
        for entry in list(entries):
            if entry.status == "unconfirmed" and age_of(entry) > enough:
                place(entries, replace(entry, status="failed", reason="not in Kaggle's list"))
        return sorted(entries, key=lambda entry: -1 if entry.public_score is None else entry.public_score, reverse=True)


def confirmed(entry: Entry, row: Entry) -> Entry:
    """Return the entry with what Kaggle's list says of it."""
    return replace(entry, ref=row.ref, status=row.status, public_score=row.public_score, reason=row.reason)


def is_same(entry: Entry, row: Entry) -> bool:
    """Say whether a row of Kaggle's list is this entry: by its ref, and until it is settled also by its tag."""
    return row.ref == entry.ref or bool(row.tag and row.tag == entry.tag and not entry.settled)


def age_of(entry: Entry) -> timedelta:
    """Return how long ago an entry was made."""
    try:
        return datetime.now(UTC) - datetime.strptime(entry.time, TIME).replace(tzinfo=UTC)
    except ValueError:
        return timedelta.max


def figure(number: float | None, form: str) -> str:
    """Return a number in a format, or a dash for None."""
    return "-" if number is None else format(number, form)


def ledger_table(entries: list[Entry]) -> str:
    """Return entries as a table to print."""
    rows = [
        (
            figure(entry.public_score, ".5f"),
            figure(entry.out_of_fold, ".5f"),
            figure(entry.difference, "+.1f"),
            entry.time.removesuffix("Z").replace("T", " "),
            entry.ref or "-",
            entry.status,
            (entry.run or "(by hand)") + (f": {entry.reason}" if entry.reason else ""),
        )
        for entry in entries
    ]
    headings = ("public", "out-of-fold", "diff/se", "submitted (UTC)", "ref", "status", "run")
    return table(headings, rows, left=headings[3:])
