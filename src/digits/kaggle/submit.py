"""Submit once: check, upload, wait for the score, record."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from digits.console import BadInput, KaggleRefused, KitError
from digits.data.competition import DIGIT_RECOGNIZER, Competition, Form, find_competition
from digits.data.submission import content_hash, read_submission, tag_of, write_submission
from digits.files import display_path, file_lock, submissions_flag
from digits.kaggle.client import Kaggle, NoCredentials, UnreachableError, if_interrupted
from digits.kaggle.kernel import Push
from digits.kaggle.ledger import (
    TIME,
    Entry,
    age_of,
    confirmed,
    entry_of,
    figure,
    is_same,
    list_submissions,
    read_ledger,
    reconcile,
    record,
    title_of,
)
from digits.runs.checks import check_class_shares
from digits.runs.store import Run, all_runs, find_run, find_runs

LEAST_AGREEMENT = 0.95
"""Share of rows in which answers agree with earlier ones at least: two good models agree in about 99 of a hundred."""
LONGEST_MESSAGE = 200
"""Characters; Kaggle cuts long descriptions, and the tag comes last."""


@dataclass(frozen=True)
class Candidate:
    """A checked file: `notes` are for the user to read, `doubts` have to be accepted before it is sent."""

    file: Path
    labels: np.ndarray
    sha256: str
    run: Run | None
    notes: list[str]
    doubts: list[str]

    @property
    def tag(self) -> str:
        """What stands in the submission's description for the answers."""
        return tag_of(self.sha256)


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    message: str = ""
    again: bool = False
    yes: bool = False
    dry_run: bool = False
    wait_seconds: float = 600
    notebook: Push | None = None
    """The notebook's version whose output the file is: submitted instead of the file, for a code competition."""


def submission_file(run_or_file: str | None, submissions: Path, competition: Competition = DIGIT_RECOGNIZER) -> Path:
    """Return the submission that a user names: a file, a run by name or folder, or None for the newest."""
    if run_or_file is None or Path(run_or_file).is_file() or run_or_file.endswith((".csv", ".zip", ".gz")):
        return Path(run_or_file or submissions / competition.submission)
    return find_run(run_or_file, submissions).submission_path


def examine(
    file: Path, submissions: Path, ledger: list[Entry], competition: Competition = DIGIT_RECOGNIZER
) -> Candidate:
    """Check a file as Kaggle would, against its run, and for sense; no network.

    Raises:
        BadInput: where the file is broken, from another source than the competition's data, or leaked.
    """
    labels, all_rows = read_submission(file, None, competition), competition.test.rows
    sha256 = content_hash(labels)
    # A blend can come to the answers of one of its runs: the run in whose folder the file lies made it.
    runs = sorted(find_runs(submissions, sha256), key=lambda run: run.folder.resolve() != file.resolve().parent)
    for made_it in runs:
        _refuse_unfit(file, made_it, competition)
    if len(labels) != all_rows:
        read_submission(file, all_rows, competition)
    run = runs[0] if runs else None
    notes = [f"{display_path(file)}: {len(labels):,} rows{f', {title_of(run)}' if run else ''}"]
    doubts = []
    if run is None:
        notes.append(f"No run in {display_path(submissions)} made this file; nothing is known of its accuracy.")
        if competition.training_counts:
            shares = check_class_shares(labels, np.array(competition.training_counts))
            if not shares.passed:
                doubts.append(f"the answers' classes do not occur as often as in training ({shares.detail})")
    else:
        made = run.finished_record()
        doubts += [f"the run's check {check.name!r} failed: {check.detail}" for check in made.failed_checks]
        if any(data.name == "test.csv" and data.form in (Form.DIFFERENT, Form.OWN) for data in made.data.files):
            doubts.append("the test.csv that the run predicted is not the competition's, so the rows may not fit")
    compared = _differences(labels, sha256, submissions, ledger, competition)
    notes += [f"differs in {rows:,} of {all_rows:,} rows from {name}" for name, rows in compared[:1]]
    if compared and min(rows for _, rows in compared) > (1 - LEAST_AGREEMENT) * all_rows:
        name, rows = min(compared, key=lambda pair: pair[1])
        doubts.append(
            f"the answers agree with {name} in {1 - rows / all_rows:.1%} of the rows only, and with no other earlier "
            "ones in more; good answers agree in about 99 %. Rows in another order, or of other images?"
        )
    return Candidate(file, labels, sha256, run, notes, doubts)


def _refuse_unfit(file: Path, run: Run, competition: Competition) -> None:
    record, made = run.finished_record(), f"{display_path(file)} was made by run {run.name}"
    if record.source != "kaggle":
        raise BadInput(
            f"{made} from the data source {record.source!r}; expected 'kaggle'.\n"
            "Fetch the data (scripts/download.sh) and train on it: python src/train.py --source kaggle"
        )
    if (made_for := record.data.competition) not in (None, competition.slug):
        raise BadInput(
            f"{made} for {made_for}, not for {competition.slug}. Submit it there: scripts/submit.sh {run.name} "
            f"--competition {made_for}"
        )
    if record.leaked:
        raise BadInput(
            f"{made}, whose training saw test images: it is never sent.\n"
            "Train without the leak: python src/train.py --source kaggle"
        )


def _differences(
    labels: np.ndarray, sha256: str, submissions: Path, ledger: list[Entry], competition: Competition
) -> list[tuple[str, int]]:
    """Return in how many rows the answers differ from the last submission and from the reference runs, by name."""
    sent = [entry for entry in ledger if entry.status in ("pending", "complete") and entry.sha256 not in ("", sha256)]
    named = [
        (f"the last submission (run {entry.run}, public score {figure(entry.public_score, '.5f')})", run)
        for entry in sent[-1:]
        for run in find_runs(submissions, entry.sha256)[:1]
    ]
    named += [(f"the reference run {run.name}", run) for run in all_runs(submissions / "reference")]
    compared = []
    for name, run in named:
        try:
            made = run.finished_record()
            earlier = read_submission(run.submission_path, len(labels), competition)
        except BadInput:
            continue
        if made.source == "kaggle" and made.submission.sha256 != sha256:
            compared.append((name, int(np.count_nonzero(earlier != labels))))
    return compared


def submit(file: Path, submissions: Path, kaggle: Kaggle, options: Options, say: Callable[[str], None] = print) -> None:
    """Check a file, upload it, wait for its score and record it in `submissions`/ledger.csv.

    Raises:
        BadInput: the file is not to be sent. KaggleRefused: Kaggle does not take it. KitError: it failed, or it is not
        known whether it counted; the ledger then holds a row that `ledger.refresh` brings up to date.
    """
    competition = find_competition(kaggle.competition)
    ledger = submissions / competition.ledger
    candidate = examine(file, submissions, read_ledger(ledger), competition)
    for note in candidate.notes:
        say(note)
    for doubt in candidate.doubts:
        kaggle.tell(f"warning: {doubt}")
    if competition.notebooks_only and options.notebook is None:
        raise BadInput(
            f"not sent: {competition.slug} takes a notebook's output, not a file. Predict there with a "
            f"run's models; this prints the command that submits: scripts/publish.sh RUN{competition.flag}"
        )
    submissions.mkdir(parents=True, exist_ok=True)
    with file_lock(submissions / ".submit.lock"):
        if options.dry_run:
            kaggle = replace(kaggle, policy=replace(kaggle.policy, attempts=1))
        try:
            left, listed = _left_today(kaggle), list_submissions(kaggle)
        except KitError as error:
            refused = isinstance(error, KaggleRefused) and not isinstance(error, NoCredentials)
            if refused or not options.dry_run:
                raise
            say(f"Dry run: the file was checked, and Kaggle could not be asked: {error}")
            return
        entry = _earlier_attempt(candidate, ledger, listed, kaggle, options.again, say)
        if entry is None:
            say(left)
            taken = {known.tag for known in read_ledger(ledger) if known.settled}
            tags = (candidate.tag, *(f"{candidate.tag}-{number}" for number in range(2, len(taken) + 3)))
            tag = next(tag for tag in tags if tag not in taken)
            message = options.message or (title_of(candidate.run) if candidate.run else file.name)
            text = f"{message[:LONGEST_MESSAGE]} [{tag}]"
            if options.dry_run:
                say(f"Dry run: nothing was uploaded. The message would be: {text}")
                return
            _approve(candidate.doubts, options.yes)
            kaggle.tell(f"Submitting {options.notebook or display_path(file)} ...")
            interrupted = f"The submission may have counted. {_later(kaggle, submissions)}"
            with tempfile.TemporaryDirectory() as folder, if_interrupted(interrupted):
                # What was checked is sent: another run may have replaced the file since.
                sent = replace(candidate, file=Path(folder) / "submission.csv")
                ids = np.arange(len(sent.labels)) + competition.first_id
                write_submission(sent.file, ids, sent.labels, header=competition.header, classes=competition.classes)
                entry = _send(sent, text, tag, ledger, kaggle, options.notebook)
    _follow(entry, ledger, kaggle, options.wait_seconds, say)


def _earlier_attempt(
    candidate: Candidate,
    ledger: Path,
    listed: list[Entry],
    kaggle: Kaggle,
    again: bool,
    say: Callable[[str], None],
) -> Entry | None:
    """Return the entry of an attempt whose answer was lost but which Kaggle did record; None where the way is free.

    Raises:
        BadInput: the same answers were submitted before. KitError: they may be on their way.
    """

    lost = {entry.tag for entry in read_ledger(ledger) if entry.status == "unconfirmed"}
    for entry in reconcile(ledger, listed):
        if entry.sha256 != candidate.sha256 and entry.tag.partition("-")[0] != candidate.tag:
            continue
        if entry.status in ("pending", "complete") and entry.tag in lost:
            say(f"The earlier attempt was recorded by Kaggle (ref {entry.ref}); nothing is uploaded again.")
            return entry
        if entry.status in ("pending", "complete") and not again:
            score = "" if entry.public_score is None else f", public score {entry.public_score:.5f}"
            raise BadInput(
                f"the same answers were submitted before ({entry.time}, ref {entry.ref}{score}). To spend another "
                "submission on them: --again"
            )
        wait = kaggle.policy.unconfirmed_seconds - age_of(entry).total_seconds()
        if entry.status == "unconfirmed" and wait > 0:
            raise KitError(
                f"these answers were sent at {entry.time} and Kaggle does not list them yet; they may have counted. "
                f"Try again in {wait:.0f} s."
            )
    return None


def _left_today(kaggle: Kaggle) -> str:
    """Return how many submissions are left, in words; KaggleRefused where none is."""
    what, unknown = {"competition_name": kaggle.competition}, (400, 404, 500, 502, 503, 504)
    limits = kaggle.ask("competition_get_submission_limits", what, absent=unknown)
    if limits is None:
        return "warning: Kaggle does not say how many submissions are left today; it refuses one too many by itself."
    today, total, left = (limits.get(name, 0) for name in ("numToday", "numTotal", "numAllowedNow"))
    if left > 0:
        return f"Submissions left today: {left} ({today} made)."
    if not total:
        return "Submissions left today: Kaggle does not say before the first one."
    if limits.get("limitedByTotal"):
        raise KaggleRefused(f"no submissions are left in this competition ({total} made). See {kaggle.page}")
    now = datetime.now(UTC)
    reset = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    hours, minutes = divmod((reset - now).seconds // 60, 60)
    raise KaggleRefused(
        f"no submissions are left today ({today} made). The count starts again at midnight UTC, "
        f"{reset.astimezone():%H:%M %Z} here, in {hours} h {minutes} min."
    )


def _later(kaggle: Kaggle, submissions: Path) -> str:
    flags = find_competition(kaggle.competition).flag + submissions_flag(submissions)
    return f"Look later: scripts/submit.sh --status{flags}"


def _approve(doubts: list[str], yes: bool) -> None:
    """Let the user decide about doubts; BadInput where the answer is no, or there is nobody to ask."""
    if not doubts or yes:
        return
    if not sys.stdin.isatty():
        plural = "s" * (len(doubts) > 1)
        raise BadInput(f"not sent, because of the warning{plural} above. To send it all the same: --yes")
    if input("Send it all the same? [y/N] ").strip().lower() not in ("y", "yes"):
        raise BadInput("not sent.")


def _send(candidate: Candidate, text: str, tag: str, ledger: Path, kaggle: Kaggle, notebook: Push | None) -> Entry:
    """Upload, with a row in the ledger from before the first byte; return the row as Kaggle's list confirms it.

    After a lost answer nothing is sent again: Kaggle's list decides, and after it the user.
    """
    known = entry_of(candidate.run) if candidate.run else Entry(sha256=candidate.sha256)
    entry = replace(known, time=datetime.now(UTC).strftime(TIME), tag=tag, status="unconfirmed")
    record(ledger, entry)
    missing = "Kaggle accepted the submission but does not list it, which happens at the daily limit."
    try:
        what: dict = {"competition": kaggle.competition, "message": text, "quiet": True}
        if notebook:
            what |= {"file_name": "submission.csv", "kernel": notebook.name, "kernel_version": notebook.version}
            reply = kaggle.ask("competition_submit_code", what)
        else:
            reply = kaggle.ask("competition_submit", what | {"file_name": str(candidate.file)})
        entry = record(ledger, replace(entry, ref=str(reply.get("ref", ""))))
    except KitError as error:
        if not getattr(error, "maybe_submitted", False):
            record(ledger, replace(entry, status="failed", reason=str(error)))
            if isinstance(error, KaggleRefused):
                raise
            raise KitError(f"{error} Nothing was submitted.") from None
        kaggle.tell(f"{error} The submission may have arrived: looking for it in Kaggle's list.")
        missing = f"{error} The answer to the submission was lost, and Kaggle does not list it so far."

    def look() -> Entry | None:
        return next((row for row in list_submissions(kaggle) if is_same(entry, row)), None)

    try:
        row = kaggle.poll(look, kaggle.policy.listing_seconds, "Kaggle does not list it yet; looking again")
    except KitError as error:
        record(ledger, replace(entry, reason=str(error)))
        raise KitError(f"{error} The submission may have counted. {_later(kaggle, ledger.parent)}") from None
    if row is None:
        record(ledger, replace(entry, reason=missing))
        raise KitError(
            f"{missing} Nothing is sent a second time by itself. {_later(kaggle, ledger.parent)}\n"
            f"If it is neither there nor at {kaggle.page}/submissions, submit again."
        )
    return record(ledger, confirmed(entry, row))


def _follow(entry: Entry, ledger: Path, kaggle: Kaggle, wait_seconds: float, say: Callable[[str], None]) -> None:
    """Wait for the score, say it and record it."""
    say(f"Submitted as {entry.tag}, ref {entry.ref}.")

    def look() -> Entry | None:
        return next((row for row in list_submissions(kaggle) if row.ref == entry.ref and row.status != "pending"), None)

    later = _later(kaggle, ledger.parent)
    try:
        with if_interrupted(f"The submission is in. {later}"):
            row = kaggle.poll(look, wait_seconds, "Waiting for the score") if entry.status == "pending" else None
    except UnreachableError as error:
        raise KitError(f"The submission is in, but its score could not be fetched: {error} {later}") from None
    entry = record(ledger, confirmed(entry, row)) if row else entry
    if entry.status == "error":
        raise KitError(f"Kaggle could not score the submission (ref {entry.ref}): {entry.reason or 'no reason given'}")
    if entry.status == "pending":
        say(f"Not scored yet. {later}")
        return
    difference = figure(entry.difference, "+.1f")
    compared = (
        "" if entry.difference is None else f", {difference} standard errors from out-of-fold {entry.out_of_fold:.5f}"
    )
    say(f"Public score: {figure(entry.public_score, '.5f')}{compared}")
    say(f"Recorded in {display_path(ledger)}")
