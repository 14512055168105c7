"""The charts of runs: as PNG files for slides and READMEs, and as SVG for the pages."""

import base64
import contextlib
import io
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from digits.config import Augmentation
from digits.data.dataset import Dataset, Split
from digits.data.image_form import ImageForm
from digits.files import atomic_write
from digits.model.augment import apply_transforms, draw_transforms, ink_margins
from digits.report import analysis
from digits.report.analysis import Calibration, RunData
from digits.runs.store import FoldResult, Run

if TYPE_CHECKING:
    from digits.kaggle.ledger import Entry

INK, MUTED, GRID, PAPER = "#1f2430", "#5d6675", "#dfe3ea", "#ffffff"
BLUE, ORANGE = "#2266b0", "#c2570c"
"""They differ for all kinds of colour vision, and in lightness for print."""
RUN_COLORS = BLUE, ORANGE, "#2a9d63", "#a259b5", "#8a8f2c", "#d1477a"
"""Of the runs of a comparison."""
DARK = {INK: "#e7e9ee", MUTED: "#a3acbb", GRID: "#373e4b", PAPER: "#1b1f27", BLUE: "#74b0f4", ORANGE: "#f59a52"}
"""The same in dark mode."""
HEAT = LinearSegmentedColormap.from_list("heat", [PAPER, "#fbd9b5", ORANGE])
STYLE: Any = {
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "text.parse_math": False,  # A class may be called "$\\frac$".
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "digits",
}
SIZE = (4.6, 3.3)
"""Inches: text of 11 points stays 11 pixels high where a chart is 330 pixels wide."""


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Draw in the kit's style, whatever a matplotlibrc says; no warning where the font lacks the letters of a class."""
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def svg(draw: Callable, *arguments, size: tuple[float, float] = SIZE) -> str:
    """Return what `draw` draws, less the title, as a data URI of an SVG that follows the reader's dark mode."""
    with _style():
        figure = panel(draw, *arguments, size=size)
        figure.axes[0].set_title("", loc="left")
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    rules = "".join(
        f'[style*="{attribute}: {light}"]{{{attribute}:{dark}!important}}'
        for light, dark in DARK.items()
        for attribute in ("fill", "stroke")
    )
    style = f"<style>@media screen and (prefers-color-scheme:dark){{{rules}}}</style>"
    body = text.getvalue().replace("<defs>", f"{style}<defs>", 1)
    return "data:image/svg+xml;base64," + base64.b64encode(body[body.index("<svg") :].encode()).decode()


def panel(draw: Callable, *arguments, size: tuple[float, float] = SIZE) -> Figure:
    """Return a figure of one chart."""
    figure = Figure(figsize=size)
    draw(figure.subplots(), *arguments)
    return figure


def _legend_below(axes: Axes) -> None:
    lines = axes.get_legend_handles_labels()  # In one row, so that charts side by side are of one height.
    axes.figure.legend(*lines, loc="outside lower left", ncols=3, columnspacing=1, handlelength=1.4)


def _points_with_errors(axes: Axes, x: np.ndarray, y: np.ndarray, errors: np.ndarray, label: str) -> None:
    axes.errorbar(x, y, yerr=errors, label=label, fmt="o", color=BLUE, markersize=6, capsize=3, elinewidth=1.2)


def log_ticks(low: float, high: float) -> list[float]:
    """Return at least two and at most seven round values for a logarithmic axis from `low` to `high`, both above 0."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    if len(ticks) < 2:  # The values are nearly the same.
        ticks = [float(f"{value:.2g}") for value in (low, high)]
    return ticks[:: -(-len(ticks) // 7)]


def _log_axis(axes: Axes, values: Sequence[float], unit: str = "") -> None:
    """Make the y axis logarithmic, with plain figures."""
    axes.set(yscale="log", ylim=(min(values) / 1.4, max(values) * 1.4))
    ticks = log_ticks(*axes.get_ylim())
    axes.set_yticks(ticks, [f"{tick:g}{unit}" for tick in ticks])
    axes.set_yticks([], minor=True)


def _curves(
    axes: Axes, results: Sequence[FoldResult], name: str, scale: Callable, label: str = "training", color: str = BLUE
) -> list[float]:
    """Draw a value of the epochs that have it, a thin line a network, a thick one for their mean; return all values."""
    values: dict[int, list[float]] = {}
    for result in results:
        line = {epoch["epoch"]: scale(epoch[name]) for epoch in result.history if epoch.get(name) is not None}
        axes.plot(list(line), list(line.values()), color=color, alpha=0.3 if len(results) < 10 else 0.1, linewidth=0.9)
        for epoch, value in line.items():
            values.setdefault(epoch, []).append(value)
    if values:
        most = max(map(len, values.values()))
        means = {epoch: float(np.mean(values[epoch])) for epoch in sorted(values) if len(values[epoch]) == most}
        marker = "o-" if len(means) == 1 else "-"
        axes.plot(list(means), list(means.values()), marker, color=color, linewidth=2.2, label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    return [value for line in values.values() for value in line]


def _percent_wrong(data: RunData) -> Callable[[float], float]:
    """Return a function from accuracies to error rates in percent, at least half an error: a logarithm has no 0."""
    least = 50 / max(analysis.rows_scored_after_epochs(data) or data.record.out_of_fold.rows, 1)
    return lambda accuracy: max(100 * (1 - accuracy), least)


def draw_errors_of_runs(axes: Axes, runs: Sequence[RunData]) -> None:
    """Draw the error rates of several runs by epoch: on held-out images where all scored these, else in training."""
    held_out = all(analysis.rows_scored_after_epochs(data) is not None for data in runs)
    name = "held_out_accuracy" if held_out else "accuracy"
    values = []
    for data, color in zip(runs, itertools.cycle(RUN_COLORS)):
        values += _curves(axes, data.results, name, _percent_wrong(data), data.name, color)
    _log_axis(axes, values, "%")
    axes.set(ylabel="errors, held-out" if held_out else "errors, training")
    columns = 2 if max(len(data.name) for data in runs) <= 16 else 1
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=columns)


def draw_errors(axes: Axes, data: RunData) -> None:
    """Draw the error rate by epoch: on training images, and on held-out images where they were scored."""
    percent = _percent_wrong(data)
    values = _curves(axes, data.results, "accuracy", percent)
    values += _curves(axes, data.results, "held_out_accuracy", percent, "held-out", ORANGE)
    finals = [percent(fold.accuracy) for fold in data.record.folds]
    epochs = [fold.epochs for fold in data.record.folds]
    axes.plot(epochs, finals, "D", color=ORANGE, markersize=6, markeredgecolor=PAPER, label="final")
    _log_axis(axes, values + finals, "%")
    axes.set(title="Error rate by epoch", ylabel="errors")
    _legend_below(axes)


def draw_losses(axes: Axes, data: RunData) -> None:
    """Draw the training loss by epoch."""
    values = _curves(axes, data.results, "loss", lambda loss: max(loss, 1e-6))
    _log_axis(axes, values)
    axes.set(title="Training loss by epoch", ylabel="loss")
    _legend_below(axes)


def draw_confusion(axes: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    """Draw a confusion matrix of counts int (classes, classes), true by row; only the errors are coloured."""
    errors = counts - np.diag(np.diag(counts))
    axes.imshow(np.sqrt(errors / max(errors.max(), 1)), cmap=HEAT, vmin=0, vmax=1)
    for true, predicted in np.argwhere(counts):
        count = counts[true, predicted]
        color, size = INK, 11
        if true == predicted:
            color, size = MUTED, 9
        elif count > 0.6 * errors.max():
            color = PAPER
        text = f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
        axes.text(predicted, true, text, ha="center", va="center", fontsize=size, color=color)
    _class_ticks(axes.xaxis, names)
    axes.set_yticks(range(len(names)), names)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(False)
    axes.grid(which="minor")
    axes.tick_params(which="minor", length=0)
    title = f"Confusion matrix: {errors.sum():,} errors in {counts.sum():,}"
    axes.set(title=title, xlabel="predicted", ylabel="true")


def _class_ticks(axis, names: Sequence[str]) -> None:
    """Name the classes, upright where the names would run into each other."""
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    axis.set_ticks(range(len(names)), names, rotation=90 if len("  ".join(names)) > 40 else 0)


def draw_class_shares(axes: Axes, training: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> None:
    """Draw each class's share of the predictions beside its share of the training labels, counts (classes,) of both."""
    trained, answered = np.asarray(training), np.asarray(predicted)
    expected = trained / trained.sum()
    error = 1.96 * np.sqrt(expected * (1 - expected) * (1 / trained.sum() + 1 / answered.sum()))
    positions = np.arange(len(names))
    axes.bar(positions, 100 * expected, color=MUTED, alpha=0.45, width=0.72, label="training labels")
    shares = 100 * answered / answered.sum()
    _points_with_errors(axes, positions, shares, 100 * error, "predictions ± 95%")
    _class_ticks(axes.xaxis, names)
    axes.yaxis.set_major_formatter("{x:g}%")
    axes.set_ylim(bottom=0)
    axes.grid(axis="x", visible=False)
    axes.set(title="Class distribution", xlabel="class")
    _legend_below(axes)


def draw_calibration(axes: Axes, calibration: Calibration) -> None:
    """Draw, for each bin of confidence, the mean confidence and the accuracy."""
    bins, positions = calibration.bins, np.arange(len(calibration.bins))
    accuracy = np.array([each.accuracy for each in bins])
    low, high = np.array([each.interval for each in bins]).T
    confidence = [100 * each.confidence for each in bins]
    axes.plot(positions, confidence, "_", color=ORANGE, markersize=20, markeredgewidth=2.5, label="mean confidence")
    errors = 100 * np.clip([accuracy - low, high - accuracy], 0, None)
    _points_with_errors(axes, positions, 100 * accuracy, errors, "accuracy ± 95%")
    axes.set_xticks(positions, [each.name for each in bins], rotation=30 if len(bins) > 5 else 0)
    lowest = min([*(100 * low), *confidence])
    axes.set(xlim=(-0.6, len(bins) - 0.4), ylim=(10 * (lowest // 10), 100 + 0.05 * (100 - lowest)))
    axes.yaxis.set_major_formatter(PercentFormatter())
    axes.grid(axis="x", visible=False)
    axes.set(title="Calibration", xlabel="confidence (%)")
    _legend_below(axes)


def draw_public_scores(axes: Axes, entries: "Sequence[Entry]", highlighted: str = "") -> None:
    """Draw out-of-fold accuracy against public score, with standard errors and names; one run may be highlighted."""
    points = [
        (100 * entry.out_of_fold, 100 * entry.public_score, entry)
        for entry in entries
        if entry.out_of_fold is not None and entry.public_score is not None
    ]
    points.sort(key=lambda point: point[0])
    for accuracy, score, entry in points:
        test_error = np.sqrt(score * (100 - score) / (entry.rows or np.inf))
        axes.errorbar(
            accuracy, score, xerr=100 * (entry.standard_error or 0), yerr=test_error,
            fmt="o", markersize=6, color=ORANGE if entry.run == highlighted else BLUE, capsize=2, elinewidth=1,
        )  # fmt: skip
    ends = np.array([axes.get_xlim(), axes.get_ylim()])
    for number, (accuracy, score, entry) in enumerate(points):
        x, align = (-7, "right") if accuracy > ends[0].mean() else (7, "left")  # A name stays inside the figure.
        axes.annotate(
            entry.run or entry.time[:10], (accuracy, score), (x, (7, -14)[number % 2]), textcoords="offset points",
            ha=align, color=INK, fontsize=11,
        )  # fmt: skip
    line = [ends.min(), ends.max()]
    axes.plot(line, line, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    for axis, ticks in ((axes.xaxis, 4), (axes.yaxis, 5)):
        axis.set_major_locator(MaxNLocator(ticks))
        axis.set_major_formatter(PercentFormatter())
    axes.set(xlim=ends[0], ylim=ends[1], xlabel="out-of-fold accuracy", ylabel="public score")
    axes.set_title("Out-of-fold accuracy and public score")


GALLERY = 30
SAMPLES, COPIES = 6, 6
LONGEST = 14
"""Letters of a class's name in a caption."""


def draw_all(run: Run, dataset: Dataset | None = None) -> list[Path]:
    """Draw a finished run's figures as PNG into its folder and return where they are.

    Without its images (`dataset`, or what its record names) there are only learning curves and class shares.

    Raises:
        BadInput: if the run is not finished.
    """
    data = analysis.gather(run, dataset)
    record, names = data.record, data.record.data.names
    with _style():
        figures = {"class-shares": panel(draw_class_shares, record.data.class_counts, record.test.class_counts, names)}
        if data.results:
            figures["learning-curves"] = learning_curves(data)
        if data.train is not None and len(data.labels):
            predicted = data.probabilities.argmax(axis=1)
            augmentation = record.recipe.augmentation if record.recipe else Augmentation()
            figures |= {
                "confusion-matrix": panel(
                    draw_confusion, analysis.confusion(predicted, data.labels, len(names)), names, size=(5.4, 5.2)
                ),
                "calibration": panel(draw_calibration, analysis.calibration(data.probabilities, data.labels)),
                "mistakes": mistakes_gallery(data),
                "augmentation": augmented_samples(data.train, augmentation, record.data.form),
            }
        for name, figure in figures.items():
            with atomic_write(run.folder / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png")
    return [run.folder / f"{name}.png" for name in figures]


def learning_curves(data: RunData) -> Figure:
    """Return the error rate and the loss by epoch in one figure."""
    figure = Figure(figsize=(8.4, 3.6))
    left, right = np.asarray(figure.subfigures(1, 2))
    draw_errors(left.subplots(), data)
    draw_losses(right.subplots(), data)
    return figure


def mistakes_gallery(data: RunData, columns: int = 6) -> Figure:
    """Return the wrong predictions on the held-out images, the most confident first."""
    assert data.train is not None
    probabilities, names = data.probabilities, data.record.data.names
    wrong = analysis.mistakes(probabilities, data.labels)
    shown, captions = wrong[:GALLERY], []
    short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    arrow = " → " if max(map(len, short)) <= 4 else "\n→ "
    for position in shown:
        true, predicted = data.labels[position], probabilities[position].argmax()
        confidence = min(int(100 * probabilities[position, predicted]), 99)
        captions.append(f"{short[true]}{arrow}{short[predicted]}  {confidence}%")
    number = f"The {GALLERY} most confident of {len(wrong):,}" if len(wrong) > GALLERY else f"All {len(wrong)}"
    title = f"{number} errors: true → predicted, confidence" if len(wrong) else "No errors"
    form = data.record.data.form or ImageForm()
    return _gallery(form.shown(data.train.images[data.scored[shown]]), captions, columns, title)


def augmented_samples(split: Split, augmentation: Augmentation, form: ImageForm | None = None) -> Figure:
    """Return some images as they are, and as the augmentation may draw them in training."""
    images = split.images[np.linspace(0, len(split.images) - 1, SAMPLES, dtype=int)]
    random = np.random.default_rng(0)
    margins, size = ink_margins(images), images.shape[1:3]
    drawn = [draw_transforms(random, margins, size, augmentation) for _ in range(COPIES)]
    copies = [apply_transforms(images, each, mirror_edges=augmentation.mirror_edges) for each in drawn]
    rows = np.stack([images, *copies], axis=1)
    captions = ["original", *[""] * (rows.shape[0] * rows.shape[1] - 1)]
    title = "Training images, augmented" if augmentation.any else "Training images, without augmentation"
    return _gallery((form or ImageForm()).shown(rows.reshape(-1, *images.shape[1:])), captions, COPIES + 1, title)


def _gallery(images: np.ndarray, captions: Sequence[str], columns: int, title: str) -> Figure:
    """Return a figure of captioned images uint8 (n, height, width, channels), drawn as one, for axes cost more."""
    (height, width, _), rows = images.shape[1:], max(-(-len(images) // columns), 1)
    size = 1.08 * columns, 1.08 * rows * height / width + 0.45
    figure = Figure(figsize=size, layout=PlaceHolderLayoutEngine(False, False))
    cell_height, cell_width = height * 3 // 2, width * 3 // 2
    canvas = np.full((rows * cell_height, columns * cell_width, 3), 255, np.uint8)
    axes = figure.add_axes((0, 0, 1, 0.93))
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, columns)
        y, x = row * cell_height + height * 2 // 5, column * cell_width + width // 4
        canvas[y : y + height, x : x + width] = image
        axes.text(
            x + width / 2 - 0.5,
            y - height / 11,
            caption,
            ha="center",
            va="bottom",
            fontsize=6.5 if "\n" in caption else 9.5,
        )
    axes.imshow(canvas, aspect="auto")
    axes.axis("off")
    figure.text(0.02, 0.965, title, fontsize=12, fontweight="bold", va="center")
    return figure
