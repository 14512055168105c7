"""Figures of a finished run: PNG files in its folder, and SVG for the report's page."""

import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from digits.data import dataset
from digits.data.competition import CLASSES
from digits.model.warps import draw_warps, ink_margins
from digits.paths import written_whole
from digits.recipes import Augmentation
from digits.report import charts, findings
from digits.report.pictures import warped
from digits.runs import ensemble, scoring
from digits.runs.runs import Part, Run

GALLERY, GALLERY_COLUMNS = 50, 10
SAMPLES, VIEWS = 6, 8


def draw_all(run: Run, source: dataset.Source, parts: Sequence[Part]) -> list[Path]:
    """Draw a run's figures as PNG into its folder and return where they are.

    Args:
        run: with run.json and its recipe in it.
        source: the digits that it was trained on.
        parts: what its networks said.
    """
    known = ensemble.out_of_fold(parts, len(source.train.labels))
    scored = np.flatnonzero(~np.isnan(known[:, 0]))
    probabilities, labels = known[scored], source.train.labels[scored]
    predicted = np.bincount(ensemble.test_mean(parts).argmax(axis=1), minlength=CLASSES)
    augmentation = augmentation_of(run.facts())
    ends = [
        scoring.accuracy(part.validation_probabilities, source.train.labels[part.validation_rows]) for part in parts
    ]
    with matplotlib.rc_context(charts.STYLE):
        figures = {
            "learning-curves": _learning_curves(parts, [end.value for end in ends]),
            "confusion-matrix": panel(charts.draw_confusion, findings.confusion(probabilities, labels), size=(6.4, 6)),
            "class-shares": panel(charts.draw_class_shares, source.facts["class_counts"], predicted, size=(7, 3.8)),
            "calibration": panel(
                charts.draw_calibration, findings.calibration(probabilities, labels)[0], size=(7, 3.8)
            ),
            "mistakes": mistakes_gallery(source.train.images[scored], labels, probabilities),
            "augmentation": augmented_samples(source.train, augmentation),
        }
        return [_save(figure, run.folder / f"{name}.png") for name, figure in figures.items()]


def augmentation_of(facts: dict) -> Augmentation:
    """Return the augmentation that run.json tells of, as far as this version knows its settings."""
    names = {field.name for field in dataclasses.fields(Augmentation)}
    told = facts.get("recipe", {}).get("augmentation") or {}
    return Augmentation(**{name: value for name, value in told.items() if name in names})


def _save(figure: Figure, path: Path) -> Path:
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def panel(draw: Callable, *arguments, size: tuple[float, float] = (5, 3.4)) -> Figure:
    """Return a figure of one drawing."""
    figure = Figure(figsize=size)
    draw(figure.subplots(), *arguments)
    return figure


def _learning_curves(parts: Sequence[Part], ends: Sequence[float]) -> Figure:
    figure = Figure(figsize=(10.4, 3.8))
    left, right = figure.subplots(1, 2)
    charts.draw_errors(left, parts, ends)
    charts.draw_losses(right, parts)
    return figure


def svg(draw: Callable, *arguments, name: str, title: bool = False, size: tuple[float, float] = (5, 3.4)) -> str:
    """Return a drawing as an <svg> element for a page: its colours are the page's variables, its ids begin with `name`.

    Args:
        draw: what draws on axes.
        arguments: for `draw`.
        name: letters and dashes, unique in the page.
        title: whether to keep the title, which a page's own heading mostly says.
        size: in inches, at which the text has the page's size.
    """
    with matplotlib.rc_context(charts.STYLE):
        figure = panel(draw, *arguments, size=size)
        if not title:
            figure.axes[0].set_title("", loc="left")
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    body = text.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>", "", body[body.index("<svg") :], flags=re.S)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r' (?:width|height)="[\d.]+pt"', "", body, count=2)
    body = body.replace("'DejaVu Sans', sans-serif", "inherit").replace("'DejaVu Sans'", "inherit")
    for colour, variable in charts.CSS.items():
        body = body.replace(colour, f"var({variable})")
    return body


def mistakes_gallery(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Return the wrong answers on images uint8 (m, 28, 28), labels (m,), probabilities (m, 10): the surest first."""
    wrong = findings.mistakes(probabilities, labels)
    shown = wrong[:GALLERY]
    if not len(shown):
        return _gallery([], [], 1, "No mistake out of fold")
    said = probabilities[shown].argmax(axis=1)
    sure = [f"{min(int(100 * value), 99)} %" for value in probabilities[shown].max(axis=1)]
    captions = [f"{label} → {answer}  {share}" for label, answer, share in zip(labels[shown], said, sure, strict=True)]
    number = f"The {len(shown)} most confident of {len(wrong):,}" if len(shown) < len(wrong) else f"All {len(wrong)}"
    title = f"{number} mistakes out of fold: given label → answer, and how sure"
    return _gallery(images[shown], captions, GALLERY_COLUMNS, title)


def augmented_samples(digits: dataset.Digits, augmentation: Augmentation) -> Figure:
    """Return some digits as they are, and as the augmentation may draw them in training."""
    images = digits.images[np.linspace(0, len(digits.images) - 1, SAMPLES, dtype=int)]
    views = np.stack([images, *augmented(images, augmentation, VIEWS)], axis=1)
    captions = ["as it is", *[""] * (len(images) * (VIEWS + 1) - 1)]
    title = (
        "Training digits, and what the network sees of them" if augmentation.any else "Training digits, not augmented"
    )
    return _gallery(views.reshape(-1, *images.shape[1:]), captions, VIEWS + 1, title)


def _gallery(images: Sequence[np.ndarray], captions: Sequence[str], columns: int, title: str) -> Figure:
    """Return a figure of captioned images, drawn as one picture, for axes cost more than images."""
    rows = -(-len(images) // columns)
    width, height, side = 42, 42, 28
    canvas = np.zeros((max(rows * height, 1), columns * width), np.uint8)
    figure = Figure(figsize=(1.08 * columns, 1.08 * rows + 0.45), layout="none")
    top = 1 - 0.45 / figure.get_figheight()
    axes = figure.add_axes((0, 0, 1, top))
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        y, x = (number // columns) * height + 11, (number % columns) * width + 7
        canvas[y : y + side, x : x + side] = image
        axes.text(x + side / 2 - 0.5, y - 2.5, caption, ha="center", va="bottom", fontsize=8.5)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=255, aspect="auto")
    axes.axis("off")
    figure.text(0.13 / figure.get_figwidth(), (1 + top) / 2, title, fontsize=11.5, fontweight="bold", va="center")
    return figure


def augmented(images: np.ndarray, augmentation: Augmentation, views: int) -> list[np.ndarray]:
    """Return so many random views uint8 (n, 28, 28) of the images, with the warps that training draws."""
    random, margins = np.random.default_rng(0), ink_margins(images)
    return [warped(images, draw_warps(random, margins, augmentation)) for _ in range(views)]
