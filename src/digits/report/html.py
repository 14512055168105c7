"""The pages: the report of a run, the comparison of several, and the leaderboard of all."""

import base64
import contextlib
import datetime
import io
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np

from digits.config import Metric
from digits.console import KitError, duration
from digits.data.competition import DIGIT_RECOGNIZER, find_competition
from digits.data.dataset import Dataset, Split
from digits.data.image_files import as_image
from digits.data.image_form import ImageForm
from digits.files import REFERENCE, atomic_write
from digits.report import analysis, charts, summary
from digits.report.analysis import Calibration, RunData
from digits.report.charts import svg
from digits.report.comparison import Agreement, Compared, agreement
from digits.report.layers import Layers, read_layers
from digits.report.leaderboard import leaderboard, link_to, scored_entries
from digits.runs import metrics
from digits.runs.metrics import Score
from digits.runs.store import Run, all_runs

if TYPE_CHECKING:
    from digits.kaggle.ledger import Entry

REPORT, INDEX = "report.html", "index.html"
MOST_MISTAKES, MOST_SUSPECTS, MOST_RUNS, MOST_COMPARED, MOST_UNSURE, SAMPLES = 240, 60, 8, 120, 24, 8


@dataclass(frozen=True)
class Prediction:
    """What a run predicts of an image."""

    run: str
    label: int
    name: str
    confidence: float | None  # 0-1; None for a run of which only the submission is there.
    is_right: bool | None


@dataclass(frozen=True)
class Card:
    """One image in a gallery."""

    picture: str
    true: int | None
    true_name: str
    predictions: list[Prediction]
    row: str
    bars: list[float]  # The first run's probability of each class, in percent.
    axis: str  # The classes' names under the bars, where each is one letter.
    title: str


RunProbabilities = Sequence[tuple[RunData, np.ndarray | None]]
"""Runs with their probabilities float32 (n, classes); None where only the submission is there."""


def cards(images: Split, rows: np.ndarray, by_run: RunProbabilities, file: str) -> list[Card]:
    """Return the cards of the rows, numbers from 0, of `images`; `file` is what their place is called."""
    data, first = by_run[0]
    names, form = data.record.data.names, data.record.data.form or ImageForm()
    axis = "".join(names) if len(names) <= 10 and all(len(name) == 1 for name in names) else ""
    shown = []
    for row in rows.tolist():
        true = None if images.labels is None else int(images.labels[row])
        predictions = [_predict(data, probabilities, row, true) for data, probabilities in by_run]
        bars = [] if first is None else (100 * first[row]).tolist()
        likely = sorted(zip(bars, names, strict=False), reverse=True)[:3]
        title = ", ".join(f"{name}: {share:.0f}%" for share, name in likely if share >= 0.5)
        true_name = "" if true is None else names[true]
        place = f"{file} {images.ids[row]}"
        picture = data_uri(form.shown(images.images[row]))
        shown.append(Card(picture, true, true_name, predictions, place, bars, axis, title))
    return shown


def _files(data: RunData) -> tuple[str, str]:
    """Return what the cards of training and of test images call their source: the CSV file, where it is one."""
    first, last = data.record.data.files[0].name, data.record.data.files[-1].name
    return (
        first if first.endswith(".csv") else "training image",
        last if last.endswith(".csv") else "test image",
    )


def _predict(data: RunData, probabilities: np.ndarray | None, row: int, true: int | None) -> Prediction:
    if probabilities is None:
        label, confidence = int(data.predictions[row]), None
    else:
        label = int(probabilities[row].argmax())
        confidence = float(probabilities[row, label])
    is_right = None if true is None else label == true
    return Prediction(data.name, label, data.record.data.names[label], confidence, is_right)


def percent(value: float, decimals: int = 2) -> str:
    """Return 0.99644 as "99.64%", and never 100% for what is less."""
    text = f"{100 * value:.{decimals}f}"
    if value < 1 and float(text) >= 100:
        text = f">{100 - 10**-decimals}"
    return f"{text}%"


def figure(number: float, score: Score) -> str:
    """Return a number as the values of a score's metric are shown; see `percent`."""
    return percent(number, score.decimals) if score.metric is Metric.ACCURACY else score.figure(number)


def date(created: str) -> str:
    """Return an ISO 8601 time as "2026-11-23 04:11 UTC"."""
    try:
        return f"{datetime.datetime.fromisoformat(created).astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return created


def setting_text(value: Any) -> str:
    """Return a setting's value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def render(template: str, **values: object) -> str:
    """Fill a template in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": percent, "figure": figure, "duration": duration, "date": date}
    environment.filters |= {name: getattr(summary, name) for name in ("verdict", "changed_predictions", "p_text")}
    environment.filters |= {"setting": setting_text, "thousands": lambda number: f"{number:,}"}
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

    The run is compared with the runs and the ledger beside it, and with the committed runs in the folder `reference`.
    Its data are `dataset`, else loaded from `data_dir`, else from where its record says. Raises BadInput if the run is
    not finished.
    """
    data = analysis.gather(run, dataset, data_dir)
    record, folder = data.record, submissions_of(run)
    augmentation = run.folder / "augmentation.png"
    curves = {"Error rate by epoch": charts.draw_errors, "Training loss by epoch": charts.draw_losses}
    scored, ledger_error = _scored(data, folder)
    path = write_page(
        "report.html.jinja",
        run.folder / REPORT,
        data=data,
        record=record,
        names=record.data.names,
        members=analysis.members(data),
        scored_rows=analysis.rows_scored_after_epochs(data),
        curves=[(title, svg(draw, data)) for title, draw in curves.items() if data.results],
        shares=svg(charts.draw_class_shares, record.data.class_counts, record.test.class_counts, record.data.names),
        networks=_networks(data),
        augmentation=png_uri(augmentation.read_bytes()) if augmentation.exists() else "",
        errors=_errors(data),
        unsure=_unsure(data),
        samples=_samples(data),
        agreements=_agreements(data, folder, reference),
        entries=[entry for entry in scored if entry.sha256 == record.submission.sha256],
        public_scores=_public_scores(scored, run.name),
        ledger_error=ledger_error,
        settings=analysis.settings_of(record),
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


@dataclass(frozen=True)
class ErrorSections:
    """What the labels of the held-out images show."""

    confusion: list[list[int]]
    recall: list[float]
    precision: list[float]
    most_confused: int
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

    def gallery(positions: np.ndarray) -> list[Card]:
        return cards(train, data.scored[positions], [(data, data.out_of_fold)], _files(data)[0])

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


def _networks(data: RunData) -> dict[str, list[Layers]]:
    """Return the layers of a run's different networks by their names, as far as its models are there."""
    networks, classes = {}, len(data.record.data.names)
    for name, fold in {fold.network: fold for fold in reversed(data.record.folds)}.items():
        with contextlib.suppress(OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError):
            networks[name] = read_layers(data.run.model_path(fold.fold, fold.member), classes)
    return networks


def _unsure(data: RunData) -> list[Card]:
    """Return the least confident predictions of test images."""
    if data.test_images is None or data.test is None:
        return []
    rows = np.argsort(data.test.max(axis=1), kind="stable")[:MOST_UNSURE]
    return cards(data.test_images, rows, [(data, data.test)], _files(data)[1])


def _samples(data: RunData) -> dict[str, str]:
    """Return pictures of some of the test images of each predicted class, by its name."""
    samples, form = {}, data.record.data.form or ImageForm()
    for label, name in enumerate(data.record.data.names):
        rows = np.flatnonzero(data.predictions == label)[:SAMPLES]
        if data.test_images is not None and len(rows):
            samples[name] = data_uri(form.shown(np.hstack(list(data.test_images.images[rows]))))
    return samples


def _agreements(data: RunData, submissions: Path, reference: Path) -> list[Agreement]:
    """Return the agreement with all reference runs, and with the newest other runs on the same test images."""
    references = [Run(file.parent) for file in sorted(reference.glob("*/run.json"))]
    newest = all_runs(submissions)[::-1][: 4 * MOST_RUNS]
    others = [agreement(data, run) for run in (*references, *newest) if run.folder != data.run.folder]
    return [other for other in others if other][: len(references) + MOST_RUNS]


def _scored(data: RunData, submissions: Path) -> tuple["list[Entry]", str]:
    """Return the scored submissions of the run's competition; else why the ledger cannot be read."""
    competition = find_competition(data.record.data.competition or DIGIT_RECOGNIZER.slug)
    try:
        return scored_entries(submissions, competition.ledger), ""
    except KitError as error:
        return [], str(error)


def _public_scores(entries: "Iterable[Entry]", highlighted: str = "", size: tuple[float, float] = charts.SIZE) -> str:
    """Return the chart of the submissions whose out-of-fold accuracy is known; empty where there is none."""
    drawn = [entry for entry in entries if entry.out_of_fold is not None and entry.metric is Metric.ACCURACY]
    return svg(charts.draw_public_scores, drawn, highlighted, size=size) if drawn else ""


def build_comparison(compared: Compared) -> Path:
    """Write the page about several runs into the folder of all runs and return where it is."""
    runs = compared.runs
    folder = submissions_of(runs[0].run)
    train = next((data.train for data in runs if data.train is not None), None)
    test = next((data.test_images for data in runs if data.test_images is not None), None)
    trained = [data for data in runs if data.results]
    held_out: RunProbabilities = [(data, data.out_of_fold) for data in runs]
    predicted: RunProbabilities = [(data, data.test) for data in runs]
    kinds = (
        ("Held-out images on which they disagree", _files(runs[0])[0], train, compared.rows, held_out),
        ("Test images with different predictions", _files(runs[0])[1], test, compared.test_rows, predicted),
    )
    galleries = [
        (title, len(rows), cards(images, rows[:MOST_COMPARED], by_run, file))
        for title, file, images, rows, by_run in kinds
        if images is not None and len(rows)
    ]
    return write_page(
        "comparison.html.jinja",
        folder / f"compare-{'-'.join(data.run.name for data in runs)[:200]}.html",
        compared=compared,
        links=[link_to(data.run.folder / REPORT, folder) for data in runs],
        names=runs[0].record.data.names,
        galleries=galleries,
        missing=runs[0].missing,
        test=metrics.TESTS[runs[0].record.out_of_fold.metric],
        settings=_different_settings(runs),
        curves=svg(charts.draw_errors_of_runs, trained, size=(4.6, 3.6)) if len(trained) > 1 else "",
        index=INDEX,
    )


def _different_settings(runs: list[RunData]) -> list[tuple[str, list[Any]]]:
    """Return the settings in which runs differ, with the value of each, None where a run does not have one."""
    by_run = [{setting.name: setting.value for setting in analysis.settings_of(data.record)} for data in runs]
    keys = dict.fromkeys(key for settings in by_run for key in settings)
    rows = [(key, [settings.get(key) for settings in by_run]) for key in keys]
    recorded = {key: [settings[key] for settings in by_run if key in settings] for key in keys}  # A blend has few.
    return [(key, values) for key, values in rows if any(value != recorded[key][0] for value in recorded[key])]


def build_leaderboard(submissions: Path, reference: Path = REFERENCE) -> Path:
    """Write index.html, all finished runs in the order of their accuracy, and return where it is.

    Raises KitError if a ledger cannot be read.
    """
    return write_page(
        "leaderboard.html.jinja",
        submissions / INDEX,
        leaderboard=leaderboard(submissions, reference),
        public_scores=_public_scores(scored_entries(submissions), size=(6.4, 4.4)),
    )


def data_uri(image: np.ndarray) -> str:
    """Return an image uint8 (h, w, channels) as a data URI of a PNG."""
    png = io.BytesIO()
    as_image(image).save(png, format="PNG", optimize=True)
    return png_uri(png.getvalue())


def png_uri(png: bytes) -> str:
    """Return a PNG file's bytes as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
