"""The pages: the report of a run, the comparison of several, and the leaderboard of all."""

import base64
import contextlib
import datetime
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from PIL import Image

from digits import config
from digits.console import KitError, duration
from digits.data.competition import DIGIT_RECOGNIZER, find_competition
from digits.data.dataset import Dataset, Split
from digits.files import REFERENCE, atomic_write
from digits.report import analysis, charts
from digits.report.analysis import Compared, RunData
from digits.report.charts import svg
from digits.report.summary import submit_command
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
    """0-1; None for a reference run, which has only answers."""


@dataclass(frozen=True)
class Card:
    """One image in a gallery."""

    picture: str
    """A data URI."""
    true: int | None
    true_name: str
    answers: list[Answer]
    place: str
    """Which row of which file it is."""
    bars: list[float]
    """The first run's probability of each class, in percent."""
    axis: str
    """The classes' names under the bars, where each is one letter."""
    title: str
    """The bars in words."""


def cards(
    images: Split, rows: Iterable[int], by_run: Sequence[tuple[RunData, np.ndarray | None]], file: str
) -> list[Card]:
    """Return the cards of rows of `images`.

    Args:
        images: where the images are.
        rows: their numbers, from 0.
        by_run: each run with its probabilities float32 (n, classes) of all images; None: it has only answers.
        file: what to call the place they come from.
    """
    names = by_run[0][0].record.data.names
    axis = "".join(names) if len(names) <= 10 and all(len(name) == 1 for name in names) else ""
    made = []
    for row in rows:
        answers = []
        for data, probabilities in by_run:
            label = int(data.answers[row] if probabilities is None else probabilities[row].argmax())
            confidence = None if probabilities is None else float(probabilities[row, label])
            answers.append(Answer(data.name, label, names[label], confidence))
        first = by_run[0][1]
        bars = [] if first is None else [100 * float(share) for share in first[row]]
        likely = sorted(zip(bars, names, strict=False), reverse=True)[:3]
        true = None if images.labels is None else int(images.labels[row])
        made.append(
            Card(
                data_uri(images.images[row]),
                true,
                "" if true is None else names[true],
                answers,
                f"{file} {images.ids[row]}",
                bars,
                axis,
                ", ".join(f"{name}: {share:.0f}%" for share, name in likely if share >= 0.5),
            )
        )
    return made


def percent(value: float, decimals: int = 2) -> str:
    """Return 0.99644 as "99.64%", and never 100% for what is less."""
    text = f"{100 * value:.{decimals}f}"
    return f"{text if value >= 1 or float(text) < 100 else '>' + str(100 - 10**-decimals)}%"


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
    record = data.record
    submissions = run.folder.parents[1] if data.is_reference else run.folder.parent
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
        agreements=_agreements(data, submissions, reference),
        settings=_settings(record),
        details=_details(record),
        index="../" * (1 + data.is_reference) + INDEX,
        submit_command=submit_command(data.run, record),
        **_submitted(data, submissions),
        **_errors(data),
        **_test(data),
    )
    if not data.is_reference:
        with contextlib.suppress(KitError):  # `report.py` without a run names a broken ledger.
            build_leaderboard(submissions, reference)
    return path


def _curves(data: RunData) -> list[tuple[str, str]]:
    if not data.results:
        return []
    final = [(fold.epochs, fold.accuracy) for fold in data.record.folds]
    return [
        ("Error rate by epoch", svg(charts.draw_errors, data.results, final)),
        ("Training loss by epoch", svg(charts.draw_losses, data.results)),
    ]


def _tta(record: FinishedRecord) -> tuple[int, int] | None:
    """Held-out errors without and with test-time augmentation, where it was used."""
    folds = [fold for fold in record.folds if fold.wrong_without_tta is not None]
    return (sum(fold.wrong_without_tta or 0 for fold in folds), sum(fold.wrong for fold in folds)) if folds else None


def _errors(data: RunData) -> dict[str, Any]:
    """Confusion, errors, label errors and calibration, which need the labels and the images."""
    if data.train is None or not len(data.scored):
        return {"confusion": None}
    probabilities, scored = data.probabilities, data.scored
    labels, predicted = data.train.labels[scored], probabilities.argmax(axis=1)
    wrong, suspects = analysis.mistakes(probabilities, labels), analysis.suspicious_labels(probabilities, labels)
    bins, error = analysis.calibration(probabilities, labels)
    counts = analysis.confusion(predicted, labels, len(data.record.data.names))

    def gallery(places: np.ndarray) -> list[Card]:
        file = data.record.data.files[0].name if data.record.source == "kaggle" else "training image"
        return cards(data.train, scored[places], [(data, data.out_of_fold)], file) if data.train else []

    return {
        "confusion": counts.tolist(),
        "recall": (np.diag(counts) / np.maximum(counts.sum(axis=1), 1)).tolist(),
        "precision": (np.diag(counts) / np.maximum(counts.sum(axis=0), 1)).tolist(),
        "most_confused": int((counts - np.diag(np.diag(counts))).max()),
        "mistakes": gallery(wrong[:MOST_MISTAKES]),
        "errors": len(wrong),
        "suspects": gallery(suspects[:MOST_SUSPECTS]),
        "suspects_in_all": len(suspects),
        "calibration": svg(charts.draw_calibration, bins),
        "bins": bins,
        "calibration_error": error,
        "overconfident": sum(one.rows * (one.confidence - one.accuracy) for one in bins) > 0,
    }


def _test(data: RunData) -> dict[str, Any]:
    """The least certain test images, and samples of each class's answers."""
    if data.test_images is None:
        return {"unsure": [], "samples": []}
    unsure: list[Card] = []
    if data.test is not None:
        rows = np.argsort(data.test.max(axis=1), kind="stable")[:MOST_UNSURE]
        unsure = cards(data.test_images, rows.tolist(), [(data, data.test)], "test image")
    random, samples = np.random.default_rng(0), []
    for label, name in enumerate(data.record.data.names):
        rows = np.flatnonzero(data.answers == label)
        rows = np.sort(random.choice(rows, min(SAMPLES, len(rows)), replace=False))
        if len(rows):
            samples.append((name, data_uri(np.hstack(list(data.test_images.images[rows])))))
    return {"unsure": unsure, "samples": samples}


def _agreements(data: RunData, submissions: Path, reference: Path) -> list[analysis.Agreement]:
    others = [other for other in reversed(all_runs(submissions)) if other.folder != data.run.folder]
    kept = [Run(file.parent) for file in sorted(reference.glob("*/run.json"))]
    references = [analysis.agreement(data, other) for other in kept if other.folder != data.run.folder]
    found = [analysis.agreement(data, other) for other in others[: 4 * MOST_RUNS]]
    return [one for one in references if one] + [one for one in found if one][:MOST_RUNS]


def _submitted(data: RunData, submissions: Path) -> dict[str, Any]:
    """This run's rows of its competition's ledger, and the chart of all scored submissions in it."""
    competition = find_competition(data.record.data.competition or DIGIT_RECOGNIZER.slug)
    try:
        entries = analysis.scored_entries(submissions, [competition])
    except KitError as error:
        return {"entries": [], "public_scores": "", "ledger_error": str(error)}
    own = [entry for entry in entries if entry.sha256 == data.record.submission.sha256]
    return {"entries": own, "public_scores": _public_scores(entries, data.run.name), "ledger_error": ""}


def _public_scores(entries: "Iterable[Entry]", this: str = "", size: tuple[float, float] = charts.SIZE) -> str:
    """The chart of the submissions whose out-of-fold accuracy is known; empty where there is none."""
    points = [
        (entry.run or entry.time[:10], entry.out_of_fold, entry.standard_error or 0.0, entry.public_score, entry.rows)
        for entry in entries
        if entry.out_of_fold is not None
    ]
    return svg(charts.draw_public_scores, points, this, size=size) if points else ""


def _settings(record: FinishedRecord) -> list[tuple[str, str, str]]:
    """The settings as name, value, and the recipe's own value where it differs."""
    rows = []
    if record.recipe:
        base = config.reference(record.recipe)
        changed = config.differences(record.recipe, base) if base else {}
        for key, value in config.flat(record.recipe).items():
            rows.append((key, _text(value), _text(changed[key][0]) if key in changed else ""))
    defaults = {"seed": 0, "fold_seed": 0, "source": "auto", "deterministic": False, "allow_leak": False}
    for key, value in vars(record.settings).items():
        if key not in ("folds", "members") and value is not None and value != defaults.get(key):
            rows.append((key, _text(value), ""))
    return rows


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _details(record: FinishedRecord) -> list[tuple[str, str]]:
    """How and where the run was made, as names and texts."""
    machine, peak, files = record.machine, record.peak_memory_bytes, record.data.files
    named = {
        "Command": record.command,
        "Began": date(record.created),
        "Duration": duration(record.seconds),
        "Peak memory": f"{peak / 1e9:.2f} GB in one process" if peak else "",
        "Processor": f"{machine.processor}, {machine.processors} available" if machine else "",
        "System": machine.system if machine else "",
        "Networks at a time": _text(machine.networks_at_a_time) if machine and machine.networks_at_a_time else "",
        "Backend": record.backend or "",
        "Precision": record.identity.get("precision", ""),
        "Versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "Commit": record.git or "",
        "Data": "; ".join(file.line for file in files),
        "SHA-256 of the data": "; ".join(f"{file.name} {file.sha256}" for file in files),
        "SHA-256 of the answers": record.submission.sha256,
    }
    return [(name, value) for name, value in named.items() if value]


def build_comparison(compared: Compared) -> Path:
    """Write the page about several runs into the folder of all runs and return where it is."""
    first = compared.runs[0]
    submissions = first.run.folder.parents[1] if first.is_reference else first.run.folder.parent
    train = next((one.train for one in compared.runs if one.train is not None), None)
    test = next((one.test_images for one in compared.runs if one.test_images is not None), None)
    galleries = []
    if train is not None and len(compared.rows):
        by_run = [(one, one.out_of_fold) for one in compared.runs]
        shown = cards(train, compared.rows[:MOST_COMPARED], by_run, "training image")
        galleries.append(("Held-out images on which they disagree", len(compared.rows), shown))
    if test is not None and len(compared.test_rows):
        by_run = [(one, one.test) for one in compared.runs]
        shown = cards(test, compared.test_rows[:MOST_COMPARED], by_run, "test image")
        galleries.append(("Test images with different answers", len(compared.test_rows), shown))
    return write_page(
        "comparison.html.jinja",
        submissions / ("compare-" + "-".join(one.run.name for one in compared.runs)[:200] + ".html"),
        compared=compared,
        names=first.record.data.names,
        galleries=galleries,
        missing=first.missing,
        index=INDEX,
    )


def build_leaderboard(submissions: Path, reference: Path = REFERENCE) -> Path:
    """Write index.html, all finished runs in the order of their accuracy, and return where it is.

    Raises:
        KitError: if a ledger cannot be read.
    """
    standings, unfinished = analysis.leaderboard(submissions, reference)
    return write_page(
        "leaderboard.html.jinja",
        submissions / INDEX,
        standings=standings,
        sources=len({one.data for one in standings}),
        unfinished=unfinished,
        public_scores=_public_scores(analysis.scored_entries(submissions), size=(6.4, 4.4)),
    )


def data_uri(image: np.ndarray) -> str:
    """Return an image uint8 (h, w), 0 paper to 255 ink, as a data URI of a PNG with dark ink on white."""
    png = io.BytesIO()
    Image.fromarray(255 - image).save(png, format="PNG", optimize=True)
    return png_uri(png.getvalue())


def png_uri(png: bytes) -> str:
    """Return a PNG file's bytes as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
