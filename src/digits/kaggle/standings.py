"""The ledger held against Kaggle's list: rows brought up to date, submissions made by hand added, best first."""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from digits.kaggle.candidate import find_runs
from digits.kaggle.kaggle_cli import Kaggle, Submission
from digits.kaggle.ledger import Entry, opened, place

TAG = re.compile(r"digits:([0-9a-f]{12})(?:-\d+)?")
"""In a submission's description: the first digits of its answers' hash, numbered where they are sent again."""
TAG_DIGITS = 12
TIME = "%Y-%m-%dT%H:%M:%SZ"


def refresh(submissions: Path, kaggle: Kaggle) -> list[Entry]:
    """Bring the ledger up to date with all of Kaggle's list and return its rows, best first."""
    kaggle.log_in()
    ledger = submissions / "ledger.csv"
    reconcile(ledger, kaggle.submissions(everything=True))
    patience = timedelta(seconds=kaggle.patience.listing_seconds)
    with opened(ledger) as entries:
        for entry in list(entries):
            if entry.status == "unconfirmed" and age_of(entry) > patience:
                place(entries, replace(entry, status="failed", reason="not in Kaggle's list"))
        return best_first(entries)


def best_first(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries by public score, the best first, those without one last."""
    return sorted(entries, key=lambda entry: -1 if entry.public_score is None else entry.public_score, reverse=True)


def table(entries: list[Entry]) -> str:
    """Return entries as a table to print."""
    rows = [("public", "out-of-fold", "diff/se", "submitted (UTC)", "ref", "status", "run")]
    rows += [
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
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def reconcile(ledger: Path, listed: list[Submission]) -> list[Entry]:
    """Write what Kaggle's list says into the ledger, new rows for what it does not hold yet; return all rows."""
    with opened(ledger) as entries:
        for row in reversed(listed):
            known = next((entry for entry in entries if is_same(entry, row)), None)
            if known is None:
                known = _entry_of_stranger(row, ledger.parent)
            place(entries, confirmed(known, row))
        return list(entries)


def _entry_of_stranger(row: Submission, submissions: Path) -> Entry:
    """Return an entry for a submission made elsewhere; a tag in its description may tell its run."""
    tag = TAG.search(row.description)
    runs = find_runs(submissions, tag[1]) if tag else []
    return replace(runs[0].entry if runs else Entry(), tag=tag[0] if tag else "", time=row.time)


def confirmed(entry: Entry, row: Submission) -> Entry:
    """Return the entry with what Kaggle's list says of it."""
    return replace(entry, ref=row.ref, status=row.status, public_score=row.public_score, reason=row.reason)


def is_same(entry: Entry, row: Submission) -> bool:
    """Say whether a row of Kaggle's list is this entry: by its ref, and until it is settled also by its tag."""
    found = TAG.search(row.description)
    return row.ref == entry.ref or bool(found and found[0] == entry.tag and not entry.settled)


def age_of(entry: Entry) -> timedelta:
    """Return how long ago an entry was made."""
    try:
        return datetime.now(UTC) - datetime.strptime(entry.time, TIME).replace(tzinfo=UTC)
    except ValueError:
        return timedelta.max


def figure(number: float | None, form: str) -> str:
    """Return a number in a format, or a dash for None."""
    return "-" if number is None else format(number, form)
