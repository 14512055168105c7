"""Submit once: check, upload, wait for the score, record."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from digits.console import BadInput, KaggleRefused, KitError
from digits.data.competition import ROWS, content_hash, read_submission
from digits.files import display_path
from digits.kaggle.client import PAGE, Kaggle, Limits, Submission, UnreachableError, retry
from digits.kaggle.ledger import (
    TAG_DIGITS,
    TIME,
    Entry,
    age_of,
    confirmed,
    entry_of,
    figure,
    is_same,
    locked,
    read_ledger,
    reconcile,
    record,
    title_of,
)
from digits.runs.store import Run, find_runs

TRAINING_COUNTS = (4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188)
"""How often each digit is in the competition's train.csv."""
LARGEST_SHIFT = 0.015
"""Of a digit's share, between answers and training labels: six standard errors at 28,000 rows."""
LARGEST_CHANGE = 0.1
"""Share of rows that may differ from the last submission: two good models differ in about one of a hundred."""


@dataclass(frozen=True)
class Candidate:
    """A checked file: `notes` are for the user to read, `doubts` have to be accepted before it is sent."""

    file: Path
    sha256: str
    run: Run | None
    notes: list[str]
    doubts: list[str]


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
    notes = [f"{display_path(file)}: {len(labels):,} rows{f', {title_of(run)}' if run else ''}"]
    doubts = _shifted_shares(labels, run)
    if run is None:
        notes.append(
            f"warning: no run below {display_path(submissions)} made this file; nothing is known of its accuracy."
        )
    else:
        failed = run.finished_record().failed_checks
        doubts += [f"the run's check {check.name!r} failed: {check.detail}" for check in failed]
    sent = [entry for entry in ledger if entry.status in ("pending", "complete")]
    last = next((entry for entry in reversed(sent) if entry.sha256 not in ("", sha256)), None)
    changed = None if last is None else _changed_rows(labels, last, submissions)
    if changed is not None:
        score = "" if last.public_score is None else f", public score {last.public_score:.5f}"
        text = f"differs in {changed:,} of {ROWS:,} rows from the last submission (run {last.run}{score})"
        (doubts if changed > LARGEST_CHANGE * ROWS else notes).append(text)
    return Candidate(file, sha256, run, notes, doubts)


def _refuse_unfit(file: Path, run: Run) -> None:
    record = run.finished_record()
    if record.source != "kaggle":
        raise BadInput(
            f"{display_path(file)} was made by run {run.name} from the data source {record.source!r}; "
            "expected 'kaggle'.\n"
            "Fetch the data (scripts/download.sh) and train on it: python src/train.py --source kaggle"
        )
    if record.leaked:
        raise BadInput(
            f"{display_path(file)} was made by run {run.name}, whose training saw test images: it is never sent.\n"
            "Train without the leak: python src/train.py --source kaggle"
        )


def _shifted_shares(labels: np.ndarray, run: Run | None) -> list[str]:
    """Return a doubt for each digit whose share is far from its share in the training labels."""
    counts = run.finished_record().data.class_counts if run else TRAINING_COUNTS
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
            earlier = read_submission(run.folder / run.finished_record().submission.file)
        except BadInput:
            continue
        if content_hash(earlier) == last.sha256:
            return int(np.count_nonzero(earlier != labels))
    return None


LATER = "Look later: python src/submit.py --status"


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    message: str = ""
    again: bool = False
    yes: bool = False
    dry_run: bool = False
    wait_seconds: float = 600


def submit(file: Path, submissions: Path, kaggle: Kaggle, wishes: Options, say: Callable[[str], None] = print) -> None:
    """Check a file, upload it, wait for its score and record it in `submissions`/ledger.csv.

    Raises:
        BadInput: the file is not to be sent. KaggleRefused: Kaggle does not take it. KitError: it failed, or it is not
        known whether it counted; the ledger then holds a row that `standings.refresh` brings up to date.
    """
    ledger = submissions / "ledger.csv"
    candidate = examine(file, submissions, read_ledger(ledger))
    for note in candidate.notes:
        say(note)
    say(f"Credentials: {kaggle.log_in()}")
    submissions.mkdir(parents=True, exist_ok=True)
    with locked(submissions / ".submit.lock", seconds=0):
        limits, listed = kaggle.standing()
        entry = _earlier_attempt(candidate, ledger, listed, kaggle, wishes.again, say)
        if entry is None:
            say(_left_today(limits))
            tag = _free_tag(candidate, read_ledger(ledger))
            text = f"{wishes.message or (title_of(candidate.run) if candidate.run else file.name)} [{tag}]"
            for doubt in candidate.doubts:
                kaggle.tell(f"warning: {doubt}")
            if wishes.dry_run:
                say(f"Dry run: nothing was uploaded. The message would be: {text}")
                return
            _approve(candidate.doubts, wishes.yes)
            entry = _send(candidate, text, tag, ledger, kaggle, limits)
    _follow(entry, ledger, kaggle, wishes.wait_seconds, say)


def _earlier_attempt(
    candidate: Candidate,
    ledger: Path,
    listed: list[Submission],
    kaggle: Kaggle,
    again: bool,
    say: Callable[[str], None],
) -> Entry | None:
    """Return the entry of an attempt whose answer was lost but which Kaggle did record; None where the way is free.

    Raises:
        BadInput: the same answers were submitted before. KitError: they may be on their way.
    """
    lost = {entry.tag for entry in _same_answers(candidate, read_ledger(ledger)) if entry.status == "unconfirmed"}
    same = _same_answers(candidate, reconcile(ledger, listed))
    for entry in same:
        if entry.status in ("pending", "complete") and entry.tag in lost:
            say(f"The earlier attempt was recorded by Kaggle (ref {entry.ref}); nothing is uploaded again.")
            return entry
        if entry.status in ("pending", "complete") and not again:
            score = "" if entry.public_score is None else f", public score {entry.public_score:.5f}"
            raise BadInput(
                f"the same answers were submitted before ({entry.time}, ref {entry.ref}{score}). To spend another "
                "submission on them: --again"
            )
        wait = kaggle.patience.listing_seconds - age_of(entry).total_seconds()
        if entry.status == "unconfirmed" and wait > 0:
            raise KitError(
                f"these answers were sent at {entry.time} and Kaggle does not list them yet; they may have counted. "
                f"Try again in {wait:.0f} s."
            )
    return None


def _same_answers(candidate: Candidate, entries: list[Entry]) -> list[Entry]:
    tag = _tag(candidate)
    return [entry for entry in entries if entry.sha256 == candidate.sha256 or entry.tag.partition("-")[0] == tag]


def _tag(candidate: Candidate) -> str:
    return f"digits:{candidate.sha256[:TAG_DIGITS]}"


def _free_tag(candidate: Candidate, entries: list[Entry]) -> str:
    """Return the candidate's tag, numbered where Kaggle has submissions with it."""
    taken = {entry.tag for entry in entries if entry.settled}
    tag, number = _tag(candidate), 1
    while tag in taken:
        number += 1
        tag = f"{_tag(candidate)}-{number}"
    return tag


def _left_today(limits: Limits) -> str:
    """Say how many submissions are left; KaggleRefused where none is."""
    if not limits.known:
        return "Submissions left today: Kaggle does not say before the first one."
    if limits.num_allowed_now > 0:
        return f"Submissions left today: {limits.num_allowed_now} ({limits.num_today} made)."
    if limits.limited_by_total:
        raise KaggleRefused(f"no submissions are left in this competition ({limits.num_total} made). See {PAGE}")
    now = datetime.now(UTC)
    reset = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    hours, minutes = divmod((reset - now).seconds // 60, 60)
    raise KaggleRefused(
        f"no submissions are left today ({limits.num_today} made). The count starts again at midnight UTC, "
        f"{reset.astimezone():%H:%M %Z} here, in {hours} h {minutes} min."
    )


def _approve(doubts: list[str], yes: bool) -> None:
    """Let the user decide about doubts; BadInput where the answer is no, or there is nobody to ask."""
    if not doubts or yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(
            f"not sent, for {len(doubts)} doubt{'s' * (len(doubts) > 1)} (above). To send it all the same: --yes"
        )
    if input("Send it all the same? [y/N] ").strip().lower() not in ("y", "yes"):
        raise BadInput("not sent.")


def _send(candidate: Candidate, text: str, tag: str, ledger: Path, kaggle: Kaggle, limits: Limits) -> Entry:
    """Upload, with a row in the ledger from before the first byte; return the row as Kaggle's list confirms it."""
    known = entry_of(candidate.run) if candidate.run else Entry(sha256=candidate.sha256)
    entry = replace(known, time=datetime.now(UTC).strftime(TIME), tag=tag, status="unconfirmed")
    record(ledger, entry)
    try:
        entry = record(ledger, replace(entry, ref=_upload(candidate.file, text, entry, kaggle, limits)))
        row = _look(entry, kaggle)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted. The submission may have counted. {LATER}") from None
    except KitError as error:
        if entry.ref or getattr(error, "maybe_submitted", False):
            record(ledger, replace(entry, reason=str(error)))
            raise KitError(f"{error} The submission may have counted. {LATER}") from None
        record(ledger, replace(entry, status="failed", reason=str(error)))
        if isinstance(error, KaggleRefused):
            raise
        raise KitError(f"{error} Nothing was submitted.") from None
    if row is None:
        record(ledger, replace(entry, reason="accepted by Kaggle, but not in its list"))
        raise KitError(
            f"Kaggle accepted the submission but does not list it, which happens at the daily limit. {LATER}\n"
            f"Or look on the site: {PAGE}/submissions"
        )
    return record(ledger, confirmed(entry, row))


def _upload(file: Path, text: str, entry: Entry, kaggle: Kaggle, before: Limits) -> str:
    """Submit and return the ref, or "" where Kaggle tells none; after a lost answer, first look whether it arrived.

    Only where neither the list nor the day's count shows a trace is it sent once more.
    """

    def send() -> str:
        return retry(lambda: kaggle.submit(file, text), kaggle.patience, kaggle.tell)

    try:
        return send()
    except UnreachableError as error:
        if not error.maybe_submitted:
            raise
        kaggle.tell(f"{error} The submission may have arrived: looking for it in Kaggle's list.")
        try:
            row = _look(entry, kaggle)
            if row is not None:
                return row.ref
            if kaggle.standing()[0] != before:
                raise error
            kaggle.tell("It is neither in the list nor in today's count: sending it again.")
            return send()
        except KitError as second:
            raise UnreachableError(str(second), maybe_submitted=True) from None


def _look(entry: Entry, kaggle: Kaggle) -> Submission | None:
    """Look for a submission in Kaggle's list until it shows or patience ends."""
    until = time.monotonic() + kaggle.patience.listing_seconds
    while True:
        row = next((row for row in kaggle.submissions() if is_same(entry, row)), None)
        if row is not None or time.monotonic() >= until:
            return row
        kaggle.tell("Kaggle does not list it yet; looking again.")
        time.sleep(kaggle.patience.poll_seconds)


def _follow(entry: Entry, ledger: Path, kaggle: Kaggle, wait_seconds: float, say: Callable[[str], None]) -> None:
    """Wait for the score, say it and record it."""
    say(f"Submitted as {entry.tag}, ref {entry.ref}.")
    if entry.status == "pending" and wait_seconds:
        say(f"Waiting for the score, {wait_seconds:.0f} s at most.")
    until = time.monotonic() + wait_seconds
    try:
        while entry.status == "pending" and time.monotonic() < until:
            time.sleep(min(kaggle.patience.poll_seconds, max(0, until - time.monotonic())))
            row = next((row for row in kaggle.submissions() if row.ref == entry.ref), None)
            if row is not None:
                entry = confirmed(entry, row)
    except UnreachableError as error:
        raise KitError(f"The submission is in, but its score could not be fetched: {error} {LATER}") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted; the submission is in. {LATER}") from None
    record(ledger, entry)
    if entry.status == "error":
        raise KitError(f"Kaggle could not score the submission (ref {entry.ref}): {entry.reason or 'no reason given'}")
    if entry.status == "pending":
        say(f"Not scored yet. {LATER}")
        return
    difference = figure(entry.difference, "+.1f")
    compared = (
        "" if entry.difference is None else f", {difference} standard errors from out-of-fold {entry.out_of_fold:.5f}"
    )
    say(f"Public score: {figure(entry.public_score, '.5f')}{compared}")
    say(f"Recorded in {display_path(ledger)}")
