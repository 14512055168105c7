"""What a finished run came to, as text for a terminal."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from digits.config import Metric
from digits.console import duration, styled, table
from digits.data.competition import DIGIT_RECOGNIZER, find_competition
from digits.data.submission import tag_of
from digits.files import ROOT, display_path, kit_command
from digits.runs import metrics
from digits.runs.metrics import Score
from digits.runs.record import FinishedRecord
from digits.runs.store import Run, find_runs

if TYPE_CHECKING:
    from digits.report.comparison import Compared, Pair
    from digits.report.leaderboard import Board, Leaderboard


def of_run(run: Run) -> str:
    """Return the closing words on a finished run: tables, accuracy, files."""
    record = run.finished_record()
    scores = _folds(record), _members(record), _accuracy(record)
    sections = [*scores, _warnings(record), _files(run, record), _next(run, record)]
    return "\n\n".join(section for section in sections if section)


def of_leaderboard(leaderboard: "Leaderboard", width: int | None = None) -> str:
    """Return all finished runs, a table for each data, of at most `width` characters if that is given.

    Where the terminal is too narrow the last columns are left out, which the last line says.
    """
    if not leaderboard.boards:
        return f"No run is finished yet. Train one: {kit_command('src/train.py')}"
    headings = ["run", "accuracy", "errors", "public", "log-loss", "scored", "time", "date", "recipe"]
    for count in range(len(headings), 2, -1):
        text = "\n\n".join(_board(board, headings[:count]) for board in leaderboard.boards)
        if width is None or max(map(len, text.split("\n"))) <= width:
            break
    left_out = ", ".join(headings[count:])
    return f"{text}\nIn a wider terminal, or a pipe: {left_out}." if left_out else text


def _board(board: "Board", headings: Sequence[str]) -> str:
    rows = []
    for standing in [*board.own, *board.references]:
        score = standing.record.out_of_fold
        cells = (
            " ".join([standing.name, *(f"[{mark}]" for mark in standing.marks)]),
            score.text,
            f"{score.wrong:,}" if board.metric is Metric.ACCURACY else f"{score.accuracy:.2%}",
            f"{standing.public_score:.5f}" if standing.public_score else "-",
            f"{score.log_loss:.4f}",
            f"{score.rows:,}",
            duration(standing.record.seconds),
            standing.record.created[:10],
            standing.recipe,
        )
        rows.append(cells[: len(headings)])
    titles = [board.titles.get(heading, heading) for heading in headings]
    return f"{board.heading}\n{table(titles, rows, left=('run', 'recipe'))}"


def of_comparison(compared: "Compared") -> str:
    """Return which runs are better: of two in sentences, of more in a table of each two."""
    if len(compared.pairs) == 1:
        pair = compared.pairs[0]
        return f"{pair.first.name} and {pair.second.name}: {verdict(pair)} {changed_predictions(pair)}"
    metric, rows = compared.runs[0].record.out_of_fold.metric, []
    for pair in compared.pairs:
        names, changed = f"{pair.second.name} − {pair.first.name}", "–" if pair.changed is None else f"{pair.changed:,}"
        if pair.held_out:
            better = pair.better.name if pair.better else "no significant difference"
            rows.append((names, pair.held_out.text, p_text(pair.held_out.p_value), better, changed))
        else:
            rows.append((names, "–", "–", "–", changed))
    unit = ", in percentage points" if metric is Metric.ACCURACY else ""
    title = f"Differences of {metric.text}{unit}, and how many predictions of test images differ:"
    text = table(("runs", "difference", metrics.TESTS[metric], "better", "differ"), rows, left=("runs", "better"))
    untested = dict.fromkeys(f"–: {verdict(pair)}" for pair in compared.pairs if not pair.held_out)
    leaked = [f"LEAKED: {data.name} was trained on test images." for data in compared.runs if data.record.leaked]
    return "\n".join([title, text, *untested, *leaked])


def verdict(pair: "Pair") -> str:
    """Return which of two runs is better, in a sentence."""
    names, counts = (pair.first.name, pair.second.name), pair.held_out
    if counts is None and pair.first.train is None and pair.second.train is None:
        return f"Which is better cannot be tested: {pair.first.missing}"
    if counts is None:
        return "They share no held-out rows, so which is better cannot be tested."
    conclusion = f"{pair.better.name} is better" if pair.better else "no significant difference"
    conclusion += f" ({metrics.TESTS[counts.metric]}, {p_text(counts.p_value)})"
    if counts.metric is not Metric.ACCURACY:
        difference = f"the {counts.metric.text} of {names[1]} less that of {names[0]} is {counts.text}"
        return f"On {counts.rows:,} images held out by both, {difference}: {conclusion}."
    return (
        f"Of {counts.rows:,} images held out by both, only {names[0]} is right on {counts.only_first_right:,}, only "
        f"{names[1]} on {counts.only_second_right:,}, both are wrong on {counts.both_wrong:,}: {conclusion}."
    )


def p_text(p_value: float) -> str:
    """Return a p value as "p = 0.29" or "p < 0.0001"."""
    return f"p = {p_value:.2g}" if p_value >= 0.0001 else "p < 0.0001"


def changed_predictions(pair: "Pair") -> str:
    """Return in how many test rows two submissions differ, in a sentence, and whether it means anything."""
    leaked = [data.name for data in (pair.first, pair.second) if data.record.leaked]
    if leaked:
        return f"LEAKED: {' and '.join(leaked)} trained on test images, so their predictions prove nothing."
    if pair.changed is None:
        return "They predict different test images."
    subject = "most probable classes" if pair.first.record.data.metric.takes_probabilities else "submissions"
    return f"Their {subject} differ in {pair.changed:,} of {len(pair.first.predictions):,} rows."


def _folds(record: FinishedRecord) -> str:
    if not record.folds:
        return ""
    headings = ("fold", "network", "epochs", record.data.metric.text, "wrong", "log-loss", "seconds")
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
    headings = ("member", "weight", record.data.metric.text, "wrong", "rows that differ from each member")
    rows = []
    for member, differing in zip(record.blend.members, record.blend.disagreement, strict=True):
        figures = (
            f"{member.weight:.3f}",
            member.figure(member.value),
            str(member.wrong),
        )
        rows.append((member.name, *figures, " ".join(map(str, differing))))
    return table(headings, rows, left=("member",))


def _accuracy(record: FinishedRecord) -> str:
    def line(name: str, score: Score) -> str:
        return f"{name} {score.metric.text}: {score.text} {score.details}"

    lines = [styled(line("Held-out" if record.held_out else "Out-of-fold", record.out_of_fold), "bold green")]
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
            count, gain = "networks" if record.refits else record.settings.folds, f"{record.averaging_gain:.5f}"
            average = f"the average of all {count}, which is submitted, is estimated {gain} better"
            lines.append(f"  That is one fold; {average}.")
    return "\n".join(lines)


def _warnings(record: FinishedRecord) -> str:
    lines = [styled(f"!!! CHECK FAILED: {check.name}: {check.detail}", "bold red") for check in record.failed_checks]
    if record.extra:
        extra = f"{record.extra.images:,} extra images ({record.extra.folder})"
        lines.append(f"Also trained on {extra}, which are not scored: runs without them do not compare.")
    if record.foreign:
        lines.append(record.foreign_note)
    if record.leaked:
        lines.append("!!! LEAKED: trained on test images. These figures mean nothing, and submit.py refuses the file.")
    return "\n".join(lines)


def _files(run: Run, record: FinishedRecord) -> str:
    rows, lines = f"{record.submission.rows:,} rows, checked", []
    names = ["run.json", "probabilities"]
    if record.submission.copy:
        copy = display_path(ROOT / record.submission.copy)
        lines.append(f"{copy}  {rows}: predictions of run {run.name}{_replaced(run, record)}")
    else:
        names.insert(0, f"{record.submission.file} ({rows})")
    lines.append(f"{display_path(run.folder)}/  {', '.join(names)}")
    for page in run.folder.glob("report.html"):
        lines.append(f"Report: {styled(display_path(page), f'bold link {page.resolve().as_uri()}')}")
    peak = record.peak_memory_bytes
    memory = [f"{peak / 1e9:.2f} GB of memory at most in one process"] if peak else []
    return "\n".join([*lines, ", ".join([duration(record.seconds), *memory])])


def _replaced(run: Run, record: FinishedRecord) -> str:
    """Return what the copy of the submission held before, and how to submit that."""
    replaced = record.submission.replaced
    if replaced is None:
        return ""
    earlier = find_runs(run.folder.parent, replaced)[:1] if replaced else []
    if not earlier:
        return "; it replaced a file that no run here made"
    score = earlier[0].finished_record().out_of_fold
    return f"; before, it held those of run {earlier[0].name} ({score.short}), which are kept in that run's folder"


def submit_command(run: Run, record: FinishedRecord) -> str:
    """Return the command that submits this very run, or, where only notebooks count, the one that leads there."""
    competition = find_competition(record.data.competition) if record.data.competition else DIGIT_RECOGNIZER
    script = "scripts/publish.sh" if competition.notebooks_only else "scripts/submit.sh"
    return kit_command(script, run.address) + competition.flag


def _next(run: Run, record: FinishedRecord) -> str:
    """Return what to do next with this very run."""
    if record.leaked:
        return ""
    if record.source == "sample":
        then = f"{kit_command('scripts/download.sh')} && {kit_command('src/train.py')}"
        return (
            "This was the embedded sample. For the competition, get a token at kaggle.com/settings, accept the rules\n"
            f"at kaggle.com/competitions/digit-recognizer/rules, then: {then}"
        )
    if record.source == "keras":
        return "Trained on MNIST itself, which has the labels of the competition's test images: not for Kaggle."
    if record.data.competition is None:
        return "These test images are not the competition's: predictions, not a submission."
    competition = find_competition(record.data.competition)
    if record.failed_checks:
        page = run.folder / "report.html"
        where = display_path(page if page.exists() else run.folder / "run.json")
        return f"Find out why the check failed before you submit: {where}"
    if competition.notebooks_only:
        how = "takes a notebook's output, not a file. Predict there with this run's models:"
        return f"{competition.slug} {how}\n{submit_command(run, record)}"
    # With this tag `submit.py --status` knows the run of a submission made by hand.
    kind = "held out" if record.held_out else "out of fold"
    kind += ", extra training images" if record.extra else ""
    kind += ", foreign predictions" if record.foreign else ""
    message = f"{record.run} {record.out_of_fold.value:.5f} {kind}, {tag_of(record.submission.sha256)}"
    file = display_path(run.folder / record.submission.file)
    by_hand = ["kaggle", "competitions", "submit", "-c", competition.slug, "-f", file, "-m", message]
    return f"Submit:   {submit_command(run, record)}\nBy hand:  {shlex.join(by_hand)}"
