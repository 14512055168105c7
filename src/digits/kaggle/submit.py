"""Submit once: check, upload, wait for the score, record."""

import contextlib
import math
import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from digits.console import BadInput, KaggleRefused, KitError, error_context, explain
from digits.data.competition import Competition
from digits.data.submission import SubmissionForm, content_hash, read_submission, tag_of, write_submission
from digits.files import display_path, file_lock, kit_command, submissions_flag
from digits.kaggle import ledger
from digits.kaggle.client import Kaggle, MissingCredentialsError, UnreachableError, if_interrupted
from digits.kaggle.kernel import Push
from digits.kaggle.ledger import Entry, figure, list_submissions, read_ledger, title_of
from digits.runs.checks import check_class_shares
from digits.runs.record import FinishedRecord
from digits.runs.store import Run, all_runs, find_run, find_runs, submission_form

LEAST_AGREEMENT = 0.95
"""Share of rows in which predictions agree with earlier ones at least: two good models agree in about 99 %."""
WORSE_ERRORS = 2
"""By so many standard errors of the difference another run has to be better for a doubt: less is chance."""
LONGEST_MESSAGE = 200
"""Characters; Kaggle cuts long descriptions, and the tag comes last."""


@dataclass(frozen=True)
class Candidate:
    """A checked file: `notes` are for the user to read, `doubts` have to be accepted before it is sent."""

    file: Path
    form: SubmissionForm
    predictions: np.ndarray  # As `read_submission` returns them.
    entry: Entry  # What the ledger will say of it.
    title: str  # Of its run, else of the file.
    notes: list[str]
    doubts: list[str]


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    message: str = ""
    again: bool = False
    yes: bool = False
    dry_run: bool = False
    wait_seconds: float = 600
    notebook: Push | None = None  # The version whose output the file is: it is submitted, for a code competition.


def submission_file(run_or_file: str | None, submissions: Path, competition: Competition) -> Path:
    """Return the submission that a user names: a file, a run by name or folder, or None for the newest."""
    if run_or_file is None or Path(run_or_file).is_file() or run_or_file.endswith((".csv", ".zip", ".gz")):
        return Path(run_or_file or submissions / competition.submission)
    run = find_run(run_or_file, submissions)
    _refuse_unfit(file := run.submission_path, run, competition)
    return file


def examine(file: Path, submissions: Path, entries: list[Entry], competition: Competition) -> Candidate:
    """Check a file as Kaggle would, against its run, and for sense; no network.

    Raises BadInput where the file is broken, from another source than the competition's data, or leaked.
    """
    train = competition.training_commands if competition.flag else kit_command("src/train.py")
    with error_context(fix=f"Make one with the competition's data: {train}"):
        form = submission_form(competition, submissions)
        predictions = read_submission(file, None, form)
    labels, sha256 = form.labels(predictions), content_hash(predictions)
    all_rows = competition.test_rows or len(labels)
    # A blend can come to the predictions of one of its runs: the file is of the run in whose folder it lies.
    runs = sorted(find_runs(submissions, sha256), key=lambda run: run.folder.resolve() != file.resolve().parent)
    for run in runs:
        _refuse_unfit(file, run, competition)
    if len(labels) != all_rows:
        with error_context(fix=f"Make one with the competition's data: {train}"):
            read_submission(file, all_rows, form)
    if runs:
        entry, title = ledger.entry_of(runs[0]), title_of(runs[0])
        doubts = _doubts_of(runs[0], submissions, competition)
        notes = [f"{display_path(file)}: {len(labels):,} rows, {title}"]
    else:
        entry, title, doubts = Entry(sha256=sha256), file.name, []
        notes = [f"{display_path(file)}: {len(labels):,} rows. No run in {display_path(submissions)} made this file."]
        if competition.training_counts:
            counts = np.array(competition.training_counts)
            shares = check_class_shares(np.bincount(labels, minlength=len(form.classes)), counts)
            if not shares.passed:
                doubts.append(f"the predicted classes do not occur as often as in training ({shares.detail})")
    compared = _differences(predictions, form, submissions, entries)
    notes += [f"differs in {rows:,} of {all_rows:,} rows from {name}" for name, rows in compared[:1]]
    if compared and min(rows for _, rows in compared) > (1 - LEAST_AGREEMENT) * all_rows:
        name, rows = min(compared, key=lambda pair: pair[1])
        doubts.append(
            f"the predictions agree with {name} in {1 - rows / all_rows:.1%} of the rows only, and with no other "
            "earlier ones in more; good ones agree in about 99 %. Rows in another order, or of other images?"
        )
    return Candidate(file, form, predictions, entry, title, notes, doubts)


def _refuse_unfit(file: Path, run: Run, competition: Competition) -> None:
    record, made = run.finished_record(), f"{display_path(file)} was made by run {run.name}"
    if record.source != "kaggle":
        raise BadInput(
            f"{made} from the data source {record.source!r}; expected 'kaggle'.\n"
            f"Fetch the data and train on it: {competition.training_commands}"
        )
    if (made_for := record.data.competition) not in (None, competition.slug):
        raise BadInput(
            f"{made} for {made_for}, not for {competition.slug}. Submit it there: "
            f"{kit_command('scripts/submit.sh', run.address, '--competition', made_for)}"
        )
    if record.leaked:
        again = f"Train without the leak: {competition.training_commands}"
        raise BadInput(f"{made}, whose training saw test images: it is never sent.\n{again}")


def _doubts_of(run: Run, submissions: Path, competition: Competition) -> list[str]:
    """Return what speaks against a run's submission."""
    record = run.finished_record()
    doubts = [f"the run's check {check.name!r} failed: {check.detail}" for check in record.failed_checks]
    if any(data.name == "test.csv" and not data.form.may_be_kaggles for data in record.data.files):
        doubts.append("the test.csv that the run predicted is not the competition's, so the rows may not fit")
    if better := _better_run(record, submissions):
        score, best = record.out_of_fold, better.finished_record().out_of_fold
        flags = f"{competition.flag}{submissions_flag(submissions)}"
        doubts.append(
            f"run {better.name} is better: {best.short} out-of-fold, run {run.name} {score.short}. "
            f"Submit that: {kit_command('scripts/submit.sh', better.name)}{flags}"
        )
    return doubts


def _better_run(record: FinishedRecord, submissions: Path) -> Run | None:
    """Return the best run that could be submitted instead, where it is better by more than chance."""
    best, score = None, record.out_of_fold
    merit = -math.inf
    for run in all_runs(submissions):
        with contextlib.suppress(BadInput):
            rival = run.finished_record()
            fits = rival.source == record.source and rival.data.competition == record.data.competition
            fits = fits and rival.out_of_fold.metric is score.metric
            error = math.hypot(rival.out_of_fold.standard_error, score.standard_error)
            is_better = rival.out_of_fold.merit > max(merit, score.merit + WORSE_ERRORS * error)
            if fits and is_better and not rival.leaked and not rival.failed_checks:
                best, merit = run, rival.out_of_fold.merit
    return best


def _differences(
    predictions: np.ndarray, form: SubmissionForm, submissions: Path, entries: list[Entry]
) -> list[tuple[str, int]]:
    """Return in how many rows the predictions differ from the last submission and from the reference runs, by name."""
    labels, sha256 = form.labels(predictions), content_hash(predictions)
    sent = [entry for entry in entries if entry.status in ("pending", "complete") and entry.sha256 not in ("", sha256)]
    named = [
        (f"the last submission (run {entry.run}, public score {figure(entry.public_score, '.5f')})", run)
        for entry in sent[-1:]
        for run in find_runs(submissions, entry.sha256)[:1]
    ]
    named += [(f"the reference run {run.name}", run) for run in all_runs(submissions / "reference")]
    compared = []
    for name, run in named:
        with contextlib.suppress(BadInput):
            record = run.finished_record()
            if record.source == "kaggle" and record.submission.sha256 != sha256:
                earlier = form.labels(read_submission(run.submission_path, len(labels), form))
                compared.append((name, int(np.count_nonzero(earlier != labels))))
    return compared


def submit(file: Path, submissions: Path, kaggle: Kaggle, options: Options) -> None:
    """Check a file, upload it, wait for its score and record it in `submissions`/ledger.csv.

    Raises BadInput if the file is not to be sent; KaggleRefused if Kaggle does not take it; KitError if it failed, or
    it is not known whether it counted; the ledger then holds a row that `ledger.refresh` brings up to date.
    """
    competition = kaggle.competition
    if options.dry_run:
        kaggle = replace(kaggle, policy=replace(kaggle.policy, attempts=1))
    candidate = examine(file, submissions, read_ledger(submissions / competition.ledger), competition)
    for note in candidate.notes:
        print(note)
    for doubt in candidate.doubts:
        kaggle.log(f"warning: {doubt}")
    if competition.notebooks_only and options.notebook is None:
        publish = kit_command("scripts/publish.sh", "RUN") + competition.flag
        raise BadInput(
            f"not sent: {competition.slug} takes a notebook's output, not a file. Predict there with a "
            f"run's models; this prints the command that submits: {publish}"
        )
    submissions.mkdir(parents=True, exist_ok=True)
    attempt = _Attempt(candidate, submissions, kaggle, options)
    with file_lock(submissions / ".submit.lock"):
        try:
            left, listed = _left_today(kaggle), list_submissions(kaggle)
        except KitError as error:
            if isinstance(error, MissingCredentialsError):
                error.fix = f"Or upload {display_path(file)} in a browser: {kaggle.page}/submit"
            refused = isinstance(error, KaggleRefused) and not isinstance(error, MissingCredentialsError)
            if refused or not options.dry_run:
                raise
            print(f"Dry run: the file was checked, and Kaggle could not be asked: {error}")
            return
        entry = attempt.earlier(listed)
        if entry is None:
            print(left)
            tag = attempt.free_tag()
            text = f"{(options.message or candidate.title)[:LONGEST_MESSAGE]} [{tag}]"
            if options.dry_run:
                print(f"Dry run: nothing was uploaded. The message would be: {text}")
                return
            _approve(candidate.doubts, options.yes)
            with if_interrupted(f"The submission may have counted. {attempt.later}"):
                entry = attempt.send(text, tag)
    attempt.follow(entry)


def _left_today(kaggle: Kaggle) -> str:
    """Return how many submissions are left, in words; KaggleRefused where none is."""
    arguments, unknown = {"competition_name": kaggle.competition.slug}, (400, 404, 500, 502, 503, 504)
    limits = kaggle.ask("competition_get_submission_limits", arguments, absent=unknown)
    if limits is None:
        return "warning: Kaggle does not say how many submissions are left today; it refuses one too many by itself."
    today, total, left = (limits.get(name, 0) for name in ("numToday", "numTotal", "numAllowedNow"))
    if left > 0:
        return f"Submissions left today: {left} ({today} made)."
    if not total:
        return "Submissions left today: Kaggle does not say before the first one."
    reset = datetime.combine(datetime.now(UTC) + timedelta(days=1), datetime.min.time(), UTC)
    raise KaggleRefused(
        f"no submissions are left ({today} made today, {total} in all). The day's count starts again at midnight UTC, "
        f"{reset.astimezone():%H:%M %Z} here. See {kaggle.page}/submissions"
    )


def _approve(doubts: list[str], yes: bool) -> None:
    """Let the user decide about doubts; BadInput where the answer is no, or there is nobody to ask."""
    if not doubts or yes:
        return
    if not sys.stdin.isatty():
        raise BadInput("not sent, because of what is warned of above. To send it all the same: --yes")
    if input("Send it all the same? [y/N] ").strip().lower() not in ("y", "yes"):
        raise BadInput("not sent.")


@dataclass(frozen=True)
class _Attempt:
    """The submission of one candidate."""

    candidate: Candidate
    submissions: Path
    kaggle: Kaggle
    options: Options

    @property
    def ledger(self) -> Path:
        return self.submissions / self.kaggle.competition.ledger

    @property
    def later(self) -> str:
        """The command that brings the ledger up to date, in words."""
        return f"Look later: {kit_command('scripts/submit.sh', '--status')}{self.kaggle.flags(self.submissions)}"

    def free_tag(self) -> str:
        """Return the predictions' tag, numbered where they were sent before."""
        taken = {entry.tag for entry in read_ledger(self.ledger) if entry.settled}
        tag = tag_of(self.candidate.entry.sha256)
        numbered = [f"{tag}-{number}" for number in range(2, len(taken) + 3)]
        return next(free for free in [tag, *numbered] if free not in taken)

    def earlier(self, listed: list[Entry]) -> Entry | None:
        """Return the entry of an attempt whose answer was lost but which Kaggle did record; None where the way is free.

        Answers that were submitted before, or may be on their way, are refused.
        """
        lost = {entry.tag for entry in read_ledger(self.ledger) if entry.status == "unconfirmed"}
        tag = tag_of(self.candidate.entry.sha256)
        for entry in ledger.reconcile(self.ledger, listed):
            if entry.sha256 != self.candidate.entry.sha256 and entry.tag.partition("-")[0] != tag:
                continue
            if entry.status in ("pending", "complete") and entry.tag in lost:
                print(f"The earlier attempt was recorded by Kaggle (ref {entry.ref}); nothing is uploaded again.")
                return entry
            if entry.status in ("pending", "complete") and not self.options.again:
                score = "" if entry.public_score is None else f", public score {entry.public_score:.5f}"
                earlier = f"{entry.time}, ref {entry.ref}{score}"
                raise BadInput(
                    f"the same predictions were submitted before ({earlier}). To send them once more: --again"
                )
            wait = self.kaggle.policy.unconfirmed_seconds - ledger.age_of(entry).total_seconds()
            if entry.status == "unconfirmed" and wait > 0:
                raise KitError(
                    f"these predictions were sent at {entry.time} and may have counted, though Kaggle does not list "
                    f"them yet. Try again in {wait:.0f} s."
                )
        return None

    def send(self, text: str, tag: str) -> Entry:
        """Upload, with a row in the ledger from before the first byte; return the row as Kaggle's list confirms it.

        After a lost answer nothing is sent again: Kaggle's list decides, and after it the user.
        """
        now = datetime.now(UTC).strftime(ledger.TIME)
        entry = replace(self.candidate.entry, time=now, tag=tag, status="unconfirmed")
        ledger.record(self.ledger, entry)
        self.kaggle.log(f"Submitting {self.options.notebook or display_path(self.candidate.file)} ...")
        missing = "Kaggle accepted the submission but does not list it, which happens at the daily limit."
        try:
            reply = self._upload(text)
        except KitError as error:
            if not (isinstance(error, UnreachableError) and error.maybe_submitted):
                self._record(replace(entry, status="failed", reason=str(error)), str(error))
                error.fix = error.fix or "Nothing was submitted."
                raise
            self.kaggle.log(f"{error} The submission may have arrived: looking for it in Kaggle's list.")
            missing = f"{error} The answer to the submission was lost, and Kaggle does not list it so far."
        else:
            entry = replace(entry, ref=str(reply.get("ref", "")))
            self._record(entry, f"Kaggle accepted the submission (ref {entry.ref}).")
        return self._listed(entry, missing)

    def _upload(self, text: str) -> dict:
        arguments: dict = {"competition": self.kaggle.competition.slug, "message": text, "quiet": True}
        if notebook := self.options.notebook:
            arguments |= {"file_name": "submission.csv", "kernel": notebook.name, "kernel_version": notebook.version}
            return self.kaggle.ask("competition_submit_code", arguments)
        with tempfile.TemporaryDirectory() as folder:
            # What was checked is sent: another run may have replaced the file since.
            file, form, predictions = Path(folder) / "submission.csv", self.candidate.form, self.candidate.predictions
            ids = np.arange(len(predictions)) + (form.first_id or 0) if form.ids is None else np.array(form.ids)
            write_submission(file, ids, predictions, form)
            return self.kaggle.ask("competition_submit", arguments | {"file_name": str(file)})

    def _listed(self, entry: Entry, missing: str) -> Entry:
        """Return the entry as Kaggle's list confirms it; `missing` is the error where it does not."""
        row = None
        try:
            row = self._poll(entry, self.kaggle.policy.listing_seconds, "Kaggle does not list it yet; looking again")
        except KitError as error:
            missing = f"{error} The submission may have counted."
        if row is None:
            self._record(replace(entry, reason=missing), missing)
            raise KitError(
                f"{missing} Nothing is sent a second time by itself. {self.later}\n"
                f"If it is neither there nor at {self.kaggle.page}/submissions, submit again."
            )
        return self._record(ledger.confirmed(entry, row), f"The submission is in (ref {row.ref}).")

    def _poll(self, entry: Entry, seconds: float, waiting: str, is_scored: bool = False) -> Entry | None:
        """Wait for the entry in Kaggle's list, or for its score."""

        def look() -> Entry | None:
            rows = [row for row in list_submissions(self.kaggle, pages=1) if ledger.is_same(entry, row)]
            return next((row for row in rows if not is_scored or row.status != "pending"), None)

        return self.kaggle.poll(look, seconds, waiting)

    def _record(self, entry: Entry, fact: str) -> Entry:
        """Record an entry after the upload; `fact` stays known where the ledger cannot be written."""
        try:
            return ledger.record(self.ledger, entry)
        except OSError as error:
            raise KitError(f"{fact} The ledger could not be written ({explain(error)}). {self.later}") from None

    def follow(self, entry: Entry) -> None:
        """Wait for the score, print it and record it."""
        fact = f"The submission is in (ref {entry.ref})."
        print(f"Submitted as {entry.tag}, ref {entry.ref}.")
        if entry.status == "pending":
            try:
                with if_interrupted(f"{fact} {self.later}"):
                    row = self._poll(entry, self.options.wait_seconds, "Waiting for the score", is_scored=True)
            except UnreachableError as error:
                raise KitError(f"{fact} Its score could not be fetched: {error} {self.later}") from None
            if row is None:
                print(f"Not scored yet. {self.later}")
                return
            entry = self._record(ledger.confirmed(entry, row), fact)
        if entry.status == "error":
            reason = entry.reason or "no reason given"
            raise KitError(f"Kaggle could not score the submission (ref {entry.ref}): {reason}")
        difference = ""
        if entry.difference is not None:
            difference = f", {entry.difference:+.1f} standard errors from out-of-fold {entry.out_of_fold:.5f}"
        print(f"Public score: {figure(entry.public_score, '.5f')}{difference}")
        print(f"Recorded in {display_path(self.ledger)}")
