"""What a finished run came to, as text for a terminal."""

import shlex
from collections.abc import Sequence

from digits.console import duration, table
from digits.data.competition import DIGIT_RECOGNIZER, find_competition
from digits.data.submission import tag_of
from digits.files import ROOT, SUBMISSIONS, display_path
from digits.report.analysis import Standing
from digits.runs.metrics import Score
from digits.runs.record import FinishedRecord
from digits.runs.store import Run


def of_run(run: Run) -> str:
    """Return the closing words on a finished run: tables, accuracy, files."""
    record = run.finished_record()
    scores = _folds(record), _members(record), _accuracy(record)
    sections = [*scores, _warnings(record), _files(run, record), _next(run, record)]
    return "\n\n".join(section for section in sections if section)


def of_leaderboard(standings: Sequence[Standing], width: int | None = None) -> str:
    """Return the runs in the order of their accuracy as a table of at most `width` characters, if that is given.

    Where the terminal is too narrow the last columns are left out, which is said below the table.
    """
    if not standings:
        return "No run is finished yet: python src/train.py makes one."
    headings = ["run", "accuracy", "errors", "public", "log-loss", "scored", "time", "date", "recipe"]
    rows = []
    for one in standings:
        score = one.record.out_of_fold
        rows.append(
            (
                one.name + " LEAKED" * one.record.leaked,
                score.text,
                f"{score.wrong:,}",
                f"{one.public_score:.5f}" if one.public_score else "-",
                f"{score.log_loss:.4f}",
                f"{score.rows:,}",
                duration(one.record.seconds),
                one.record.created[:10],
                one.recipe,
            )
        )
    for count in range(len(headings), 2, -1):
        text = table(headings[:count], [row[:count] for row in rows], left=("run", "recipe"))
        if width is None or max(map(len, text.split("\n"))) <= width:
            break
    left_out = ", ".join(headings[count:])
    return f"{text}\nIn a wider terminal, or a pipe: {left_out}." if left_out else text


def _folds(record: FinishedRecord) -> str:
    if not record.folds:
        return ""
    headings = ("fold", "network", "epochs", "accuracy", "wrong", "log-loss", "seconds")
    rows = []
    for fold in record.folds:
        name = str(fold.fold) + (f".{fold.member}" if record.settings.members > 1 else "")
        figures = fold.text, str(fold.wrong), f"{fold.log_loss:.4f}", f"{fold.seconds:.0f}"
        rows.append((name, fold.network, str(fold.epochs), *figures))
    for refit in record.refits:
        rows.append((f"refit {refit.number}", refit.network, str(refit.epochs), "–", "–", "–", f"{refit.seconds:.0f}"))
    return table(headings, rows, left=("network",))


def _members(record: FinishedRecord) -> str:
    if record.blend is None:
        return ""
    headings = ("member", "weight", "accuracy", "wrong", "rows in which it differs from the others")
    rows = []
    for member, differing in zip(record.blend.members, record.blend.disagreement, strict=True):
        figures = f"{member.weight:.3f}", f"{member.accuracy:.3%}", str(member.wrong)
        rows.append((member.name, *figures, " ".join(map(str, differing))))
    return table(headings, rows, left=("member",))


def _accuracy(record: FinishedRecord) -> str:
    def line(name: str, score: Score) -> str:
        return f"{name} accuracy: {score.text} ({score.wrong:,} of {score.rows:,} wrong), log-loss {score.log_loss:.4f}"

    lines = [line("Held-out" if record.held_out else "Out-of-fold", record.out_of_fold)]
    if record.blend:
        lines.append(f"  (blend by {record.blend.out_of_fold_by})")
    if record.refits:
        lines.append(f"  {record.refit_note}")
    if record.test.score:
        lines.append(line("Test", record.test.score))
    if record.is_submittable:
        score = record.expected_score
        lines.append(f"Expected on Kaggle: {score.middle:.5f}, 95 % between {score.low:.5f} and {score.high:.5f}")
        if record.averaging_gain:
            count = "networks" if record.refits else record.settings.folds
            lines.append(
                f"  That is one fold; the average of all {count}, which is submitted, is better "
                f"by {record.averaging_gain:.5f}, as far as its own probabilities tell."
            )
    return "\n".join(lines)


def _warnings(record: FinishedRecord) -> str:
    lines = [f"!!! CHECK FAILED: {check.name}: {check.detail}" for check in record.failed_checks]
    if record.extra:
        lines.append(
            f"Trained on {record.extra.images:,} extra images, too ({record.extra.folder}). They are not in the score, "
            "but it does not compare with runs without them."
        )
    if record.leaked:
        lines.append("!!! LEAKED: trained on test images. These figures mean nothing, and submit.py refuses the file.")
    return "\n".join(lines)


def _files(run: Run, record: FinishedRecord) -> str:
    peak, rows = record.peak_memory_bytes, f"{record.submission.rows:,} rows, checked"
    lines = [f"{display_path(ROOT / record.submission.copy)}  {rows}"] if record.submission.copy else []
    page = ", report.html" if (run.folder / "report.html").exists() else ""
    return "\n".join(
        [
            *lines,
            f"{display_path(run.folder)}/  {'' if lines else f'{record.submission.file} ({rows}), '}run.json, "
            f"probabilities{page}",
            f"{duration(record.seconds)}{f', {peak / 1e9:.2f} GB at most in one process' if peak else ''}",
        ]
    )


def submit_command(run: Run, record: FinishedRecord) -> str:
    """Return the command that submits this very run, or, where only notebooks count, the one that leads there."""
    competition = find_competition(record.data.competition) if record.data.competition else DIGIT_RECOGNIZER
    name = run.name if run.folder.parent == SUBMISSIONS else display_path(run.folder)
    return f"scripts/{'publish' if competition.notebooks_only else 'submit'}.sh {shlex.quote(name)}{competition.flag}"


def _next(run: Run, record: FinishedRecord) -> str:
    """Return what to do next with this very run."""
    if record.leaked:
        return ""
    if record.source == "sample":
        return (
            "This was the embedded sample. For the competition, get a token at kaggle.com/settings, accept the rules\n"
            "at kaggle.com/competitions/digit-recognizer/rules, then: scripts/download.sh && python src/train.py"
        )
    if record.source == "keras":
        return "Trained on MNIST itself, whose digits are the competition's answers: not for Kaggle."
    if record.data.competition is None:
        return "These test images are not the competition's: predictions, not a submission."
    competition = find_competition(record.data.competition)
    if record.failed_checks:
        page = run.folder / "report.html"
        where = display_path(page if page.exists() else run.folder / "run.json")
        return f"Find out why the check failed before you submit: {where}"
    if competition.notebooks_only:
        return (
            f"{competition.slug} takes a notebook's output, not a file. Predict there with this run's models:\n"
            f"{submit_command(run, record)}"
        )
    # With this tag `submit.py --status` knows the run of a submission made by hand.
    kind = "held out" if record.held_out else "out of fold"
    kind += ", extra training images" if record.extra else ""
    message = f"{record.run} {record.out_of_fold.accuracy:.5f} {kind}, {tag_of(record.submission.sha256)}"
    file = display_path(run.folder / record.submission.file)
    by_hand = ["kaggle", "competitions", "submit", "-c", competition.slug, "-f", file, "-m", message]
    return f"Submit:   {submit_command(run, record)}\nBy hand:  {shlex.join(by_hand)}"
