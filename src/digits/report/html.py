"""The pages: the report of a run, the comparison of several, and the leaderboard of all."""

import base64
import contextlib
import datetime
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np
from PIL import Image

from digits.console import KitError, duration
from digits.data.competition import DIGIT_RECOGNIZER, find_competition
from digits.data.dataset import Dataset, Split
from digits.files import REFERENCE, atomic_write
from digits.report import analysis, charts, summary
from digits.report.analysis import Calibration, RunData
from digits.report.charts import svg
from digits.report.comparison import Agreement, Compared, agreement
from digits.report.leaderboard import leaderboard, scored_entries
from digits.runs.record import FinishedRecord
from digits.runs.store import Run, all_runs

if TYPE_CHECKING:
    from digits.kaggle.ledger import Entry

REPORT, INDEX = "report.html", "index.html"
MOST_MISTAKES, MOST_SUSPECTS, MOST_RUNS, MOST_COMPARED, MOST_UNSURE, SAMPLES = 240, 60, 8, 120, 24, 8


@dataclass(frozen=True)
class Answer:
    """What a run predicts of an image."""

    run: str
    label: int
    name: str
    """The class's."""
    confidence: float | None
    """0-1; None for a run of which only the submission is there."""
    is_right: bool | None
    """None where the true class is not known."""


@dataclass(frozen=True)
class Card:
    """One image in a gallery."""

    picture: str
    """A data URI."""
    true: int | None
    true_name: str
    answers: list[Answer]
    row: str
    """Which row of which file it is."""
    bars: list[float]
    """The first run's probability of each class, in percent."""
    axis: str
    """The classes' names under the bars, where each is one letter."""
    title: str
    """The bars in words."""


Predictions = Sequence[tuple[RunData, np.ndarray | None]]
"""Runs with their probabilities float32 (n, classes) of all images; None where only the submission is there."""


def cards(images: Split, rows: Iterable[int], by_run: Predictions, file: str) -> list[Card]:
    """Return the cards of the rows, numbers from 0, of `images`; `file` is what their place is called."""
    names = by_run[0][0].record.data.names
    axis = "".join(names) if len(names) <= 10 and all(len(name) == 1 for name in names) else ""
    return [_card(images, row, by_run, file, axis) for row in rows]


def _card(images: Split, row: int, by_run: Predictions, file: str, axis: str) -> Card:
    names = by_run[0][0].record.data.names
    true = None if images.labels is None else int(images.labels[row])
    answers = []
    for data, probabilities in by_run:
        label = int(data.answers[row] if probabilities is None else probabilities[row].argmax())
        confidence = None if probabilities is None else float(probabilities[row, label])
        answers.append(Answer(data.name, label, names[label], confidence, None if true is None else label == true))
    first = by_run[0][1]
    bars = [] if first is None else [100 * float(share) for share in first[row]]
    likely = sorted(zip(bars, names, strict=False), reverse=True)[:3]
    return Card(
        picture=data_uri(images.images[row]),
        true=true,
        true_name="" if true is None else names[true],
        answers=answers,
        row=f"{file} {images.ids[row]}",
        bars=bars,
        axis=axis,
        title=", ".join(f"{name}: {share:.0f}%" for share, name in likely if share >= 0.5),
    )


def percent(value: float, decimals: int = 2) -> str:
    """Return 0.99644 as "99.64%", and never 100% for what is less."""
    text = f"{100 * value:.{decimals}f}"
    if value < 1 and float(text) >= 100:
        text = f">{100 - 10**-decimals}"
    return f"{text}%"


def date(created: str) -> str:
    """Return an ISO 8601 time as "2026-11-23 04:11 UTC"."""
    try:
        return f"{datetime.datetime.fromisoformat(created).astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return created


def render(template: str, **values: object) -> str:
    """Fill a template in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "duration": duration, "date": date}
    environment.filters |= {name: getattr(summary, name) for name in ("verdict", "changed_answers", "p_text")}
    environment.filters["thousands"] = lambda number: f"{number:,}"
    return environment.get_template(template).render(**values)


def write_page(template: str, path: Path, **values: object) -> Path:
    """Fill a template in and write it to `path`."""
    text = render(template, **values)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def build_report(
    run: Run, dataset: Dataset | None = None, data_dir: Path | None = None, reference: Path = REFERENCE
) -> Path:
    """Write report.html into a finished run's folder and return where it is.

    Args:
        run: its folder's neighbours are the runs, and the ledger, that it is compared with.
        dataset: its data, if they are at hand; else they are loaded as its record says, and where they are gone the
            page says so and does without.
        data_dir: where the data are now, if not where they were.
        reference: the folder of the committed runs.

    Raises:
        BadInput: if the run is not finished.
    """
    data = analysis.gather(run, dataset, data_dir)
    record, folder = data.record, submissions_of(run)
    augmentation = run.folder / "augmentation.png"
    path = write_page(
        "report.html.jinja",
        run.folder / REPORT,
        data=data,
        record=record,
        names=record.data.names,
        kind="Held-out" if record.held_out else "Out-of-fold",
        decimals=record.out_of_fold.decimals,
        passed=[check for check in record.checks if check.passed],
        members=analysis.members(data),
        tta=_tta(record),
        curves=_curves(data),
        shares=svg(charts.draw_class_shares, record.data.class_counts, record.test.class_counts, record.data.names),
        augmentation=png_uri(augmentation.read_bytes()) if augmentation.exists() else "",
        errors=_errors(data),
        unsure=_unsure(data),
        samples=_samples(data),
        others=_others(data, folder, reference),
        settings=analysis.recipe_settings(record.recipe) + analysis.option_settings(record.settings),
        details=_details(record),
        index=os.path.relpath(folder / INDEX, run.folder),
        submit_command=summary.submit_command(run, record),
    )
    with contextlib.suppress(KitError):  # `report.py` without a run names a broken ledger.
        build_leaderboard(folder, reference)
    return path


def submissions_of(run: Run) -> Path:
    """Return the folder of all runs that a run, or reference run, is in."""
    folder = run.folder.parent
    return folder.parent if folder.name == REFERENCE.name else folder


def _curves(data: RunData) -> list[tuple[str, str]]:
    if not data.results:
        return []
    drawn = {"Error rate by epoch": charts.draw_errors, "Training loss by epoch": charts.draw_losses}
    return [(title, svg(draw, data)) for title, draw in drawn.items()]


def _tta(record: FinishedRecord) -> tuple[int, int] | None:
    """Held-out errors without and with test-time augmentation, where it was used."""
    pairs = [(fold.wrong_without_tta, fold.wrong) for fold in record.folds if fold.wrong_without_tta is not None]
    return (sum(without for without, _ in pairs), sum(wrong for _, wrong in pairs)) if pairs else None


@dataclass(frozen=True)
class ErrorSections:
    """What the labels of the held-out images show."""

    confusion: list[list[int]]
    recall: list[float]
    precision: list[float]
    most_confused: int
    """The largest number of errors of one kind."""
    mistakes: list[Card]
    mistakes_in_all: int
    suspects: list[Card]
    suspects_in_all: int
    calibration: Calibration
    calibration_chart: str


def _errors(data: RunData) -> ErrorSections | None:
    """Return the sections about errors; None without labels or held-out rows."""
    if data.train is None or not len(data.scored):
        return None
    train, probabilities, labels = data.train, data.probabilities, data.labels
    wrong, suspects = analysis.mistakes(probabilities, labels), analysis.suspicious_labels(probabilities, labels)
    calibration = analysis.calibration(probabilities, labels)
    counts = analysis.confusion(probabilities.argmax(axis=1), labels, len(data.record.data.names))
    file = data.record.data.files[0].name if data.record.source == "kaggle" else "training image"

    def gallery(positions: np.ndarray) -> list[Card]:
        return cards(train, data.scored[positions].tolist(), [(data, data.out_of_fold)], file)

    return ErrorSections(
        confusion=counts.tolist(),
        recall=(np.diag(counts) / np.maximum(counts.sum(axis=1), 1)).tolist(),
        precision=(np.diag(counts) / np.maximum(counts.sum(axis=0), 1)).tolist(),
        most_confused=int((counts - np.diag(np.diag(counts))).max()),
        mistakes=gallery(wrong[:MOST_MISTAKES]),
        mistakes_in_all=len(wrong),
        suspects=gallery(suspects[:MOST_SUSPECTS]),
        suspects_in_all=len(suspects),
        calibration=calibration,
        calibration_chart=svg(charts.draw_calibration, calibration),
    )


def _unsure(data: RunData) -> list[Card]:
    """Return the least confident predictions of test images."""
    if data.test_images is None or data.test is None:
        return []
    rows = np.argsort(data.test.max(axis=1), kind="stable")[:MOST_UNSURE]
    return cards(data.test_images, rows.tolist(), [(data, data.test)], "test image")


def _samples(data: RunData) -> list[tuple[str, str]]:
    """Return, by predicted class, its name and a picture of some of its test images."""
    if data.test_images is None:
        return []
    random, samples = np.random.default_rng(0), []
    for label, name in enumerate(data.record.data.names):
        rows = np.flatnonzero(data.answers == label)
        rows = np.sort(random.choice(rows, min(SAMPLES, len(rows)), replace=False))
        if len(rows):
            samples.append((name, data_uri(np.hstack(list(data.test_images.images[rows])))))
    return samples


@dataclass(frozen=True)
class Others:
    """A run beside other submissions."""

    agreements: list[Agreement]
    entries: "list[Entry]"
    """This run's rows of its competition's ledger."""
    public_scores: str
    """The chart of all scored submissions in it; empty where there is none."""
    ledger_error: str = ""


def _others(data: RunData, submissions: Path, reference: Path) -> Others:
    references = [Run(file.parent) for file in sorted(reference.glob("*/run.json"))]
    newest = all_runs(submissions)[::-1][: 4 * MOST_RUNS]
    groups = [[agreement(data, run) for run in runs if run.folder != data.run.folder] for runs in (references, newest)]
    agreements = [*filter(None, groups[0]), *[other for other in groups[1] if other][:MOST_RUNS]]
    competition = find_competition(data.record.data.competition or DIGIT_RECOGNIZER.slug)
    try:
        entries = scored_entries(submissions, [competition])
    except KitError as error:
        return Others(agreements, [], "", str(error))
    own = [entry for entry in entries if entry.sha256 == data.record.submission.sha256]
    return Others(agreements, own, _public_scores(entries, data.run.name))


def _public_scores(entries: "Iterable[Entry]", highlighted: str = "", size: tuple[float, float] = charts.SIZE) -> str:
    """Return the chart of the submissions whose out-of-fold accuracy is known; empty where there is none."""
    drawn = [entry for entry in entries if entry.out_of_fold is not None]
    return svg(charts.draw_public_scores, drawn, highlighted, size=size) if drawn else ""


@dataclass(frozen=True)
class Detail:
    """A fact about a run."""

    name: str
    value: str
    is_code: bool = False


def _details(record: FinishedRecord) -> list[Detail]:
    """Return how and where the run was made."""
    machine, peak, files = record.machine, record.peak_memory_bytes, record.data.files
    details = [
        Detail("Command", record.command, is_code=True),
        Detail("Began", date(record.created)),
        Detail("Duration", duration(record.seconds)),
        Detail("Peak memory", f"{peak / 1e9:.2f} GB in one process" if peak else ""),
        Detail("Backend", record.backend or ""),
        Detail("Precision", record.identity.get("precision", "")),
        Detail("Versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
        Detail("Commit", record.git or "", is_code=True),
        Detail("Data", "; ".join(file.line for file in files)),
        Detail("SHA-256 of the data", "; ".join(f"{file.name} {file.sha256}" for file in files), is_code=True),
        Detail("SHA-256 of the predictions", record.submission.sha256, is_code=True),
    ]
    if machine:
        details[4:4] = [
            Detail("Processor", f"{machine.processor}, {machine.processors} CPU cores available"),
            Detail("System", machine.system),
            Detail("Networks at a time", str(machine.networks_at_a_time or "")),
        ]
    return [detail for detail in details if detail.value]


def build_comparison(compared: Compared) -> Path:
    """Write the page about several runs into the folder of all runs and return where it is."""
    runs = compared.runs
    folder = submissions_of(runs[0].run)
    train = next((data.train for data in runs if data.train is not None), None)
    test = next((data.test_images for data in runs if data.test_images is not None), None)
    galleries = []
    if train is not None and len(compared.rows):
        by_run: Predictions = [(data, data.out_of_fold) for data in runs]
        shown = cards(train, compared.rows[:MOST_COMPARED], by_run, "training image")
        galleries.append(("Held-out images on which they disagree", len(compared.rows), shown))
    if test is not None and len(compared.test_rows):
        by_run = [(data, data.test) for data in runs]
        shown = cards(test, compared.test_rows[:MOST_COMPARED], by_run, "test image")
        galleries.append(("Test images with different answers", len(compared.test_rows), shown))
    pages = [data.run.folder / REPORT for data in runs]
    return write_page(
        "comparison.html.jinja",
        folder / f"compare-{'-'.join(data.run.name for data in runs)[:200]}.html",
        compared=compared,
        links=[os.path.relpath(page, folder) if page.exists() else "" for page in pages],
        names=runs[0].record.data.names,
        galleries=galleries,
        missing=runs[0].missing,
        settings=_different_settings(runs),
        index=INDEX,
    )


def _different_settings(runs: list[RunData]) -> list[tuple[str, list[str]]]:
    """Return the settings in which runs differ, with the value of each; empty where a run does not have one."""
    by_run = []
    for data in runs:
        settings = analysis.recipe_settings(data.record.recipe) + analysis.option_settings(data.record.settings)
        by_run.append({setting.name: setting.value for setting in settings})
    keys = dict.fromkeys(key for settings in by_run for key in settings)
    rows = [(key, [settings.get(key, "") for settings in by_run]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def build_leaderboard(submissions: Path, reference: Path = REFERENCE) -> Path:
    """Write index.html, all finished runs in the order of their accuracy, and return where it is.

    Raises:
        KitError: if a ledger cannot be read.
    """
    return write_page(
        "leaderboard.html.jinja",
        submissions / INDEX,
        leaderboard=leaderboard(submissions, reference),
        public_scores=_public_scores(scored_entries(submissions), size=(6.4, 4.4)),
    )


def data_uri(image: np.ndarray) -> str:
    """Return an image uint8 (h, w), 0 paper to 255 ink, as a data URI of a PNG with dark ink on white."""
    png = io.BytesIO()
    Image.fromarray(255 - image).save(png, format="PNG", optimize=True)
    return png_uri(png.getvalue())


def png_uri(png: bytes) -> str:
    """Return a PNG file's bytes as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
