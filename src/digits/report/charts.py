"""The charts of runs: as PNG files for slides and READMEs, and as SVG for the pages."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from digits.config import Augmentation
from digits.data.dataset import Dataset, Split
from digits.files import atomic_write
from digits.model.augment import apply_transforms, draw_transforms, ink_margins
from digits.report import analysis
from digits.report.analysis import Bin, RunData
from digits.runs.store import FoldResult, Run

INK, MUTED, GRID, PAPER = "#1f2430", "#5d6675", "#dfe3ea", "#ffffff"
BLUE, ORANGE = "#2266b0", "#c2570c"
"""Told apart by all kinds of colour vision, and by lightness in print."""
DARK = {INK: "#e7e9ee", MUTED: "#a3acbb", GRID: "#373e4b", PAPER: "#1b1f27", BLUE: "#74b0f4", ORANGE: "#f59a52"}
"""The same in dark mode."""
HEAT = LinearSegmentedColormap.from_list("heat", [PAPER, "#fbd9b5", ORANGE])
STYLE: Any = {
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "text.color": INK,
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
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "digits",
}
SIZE = (4.6, 3.3)
"""Inches: text of 11 points stays 11 pixels high where a chart is 330 pixels wide."""


def svg(draw: Callable, *arguments, size: tuple[float, float] = SIZE) -> str:
    """Return a chart without its title as a data URI of an SVG that follows the reader's dark mode.

    Args:
        draw: what draws on axes.
        arguments: for `draw`.
        size: in inches.
    """
    with matplotlib.rc_context(STYLE):
        figure = panel(draw, *arguments, size=size)
        figure.axes[0].set_title("", loc="left")
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    style = f"<style>@media screen and (prefers-color-scheme:dark){{{rules}}}</style>"
    body = text.getvalue().replace("<defs>", f"{style}<defs>", 1)
    return "data:image/svg+xml;base64," + base64.b64encode(body[body.index("<svg") :].encode()).decode()


def panel(draw: Callable, *arguments, size: tuple[float, float] = SIZE) -> Figure:
    """Return a figure of one chart."""
    figure = Figure(figsize=size)
    draw(figure.subplots(), *arguments)
    return figure


def _percent_axis(axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))


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


def _log_axis(axes: Axes, values: Sequence[float], form: Callable[[float], str]) -> None:
    """Make the y axis logarithmic, with plain figures."""
    low, high = min(values) / 1.4, max(values) * 1.4
    ticks = log_ticks(low, high)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [form(tick) for tick in ticks])
    axes.set_yticks([], minor=True)


def _curves(axes: Axes, results: Sequence[FoldResult], name: str, scale: Callable) -> list[float]:
    """Draw a value of the epochs, a thin line a network, a thick one for their mean; return all that was drawn."""
    lines = [[scale(epoch[name]) for epoch in result.history] for result in results]
    for line in lines:
        axes.plot(range(1, len(line) + 1), line, color=BLUE, alpha=0.3, linewidth=0.9)
    shortest = min(map(len, lines))
    mean = np.mean([line[:shortest] for line in lines], axis=0)
    axes.plot(range(1, shortest + 1), mean, "o-" if shortest == 1 else "-", color=BLUE, linewidth=2.2, label="training")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return [value for line in lines for value in line]


def draw_errors(axes: Axes, results: Sequence[FoldResult], final: Sequence[tuple[int, float]]) -> None:
    """Draw the error rate by epoch: on training images, and on held-out images where they were scored.

    Args:
        axes: where.
        results: the networks.
        final: of each finished network its epochs, and its accuracy on its held-out images, 0-1.
    """

    def percent(accuracy: float) -> float:
        return max(100 * (1 - accuracy), 0.005)

    values = _curves(axes, results, "accuracy", percent)
    scored = [
        (epoch["epoch"], percent(epoch["held_out_accuracy"]))
        for result in results
        for epoch in result.history
        if epoch.get("held_out_accuracy") is not None
    ]
    if scored:
        epochs = sorted({epoch for epoch, _ in scored})
        means = [float(np.mean([error for at, error in scored if at == epoch])) for epoch in epochs]
        axes.plot(epochs, means, "o-", color=ORANGE, linewidth=2.2, markersize=5, label="held-out, during training")
        values += means
    epochs, ends = [at for at, _ in final], [percent(accuracy) for _, accuracy in final]
    axes.plot(epochs, ends, "D", color=ORANGE, markersize=6, markeredgecolor=PAPER, label="held-out, final")
    _log_axis(axes, values + ends, lambda tick: f"{tick:g}%")
    axes.set_title("Error rate by epoch")
    axes.set_ylabel("errors")
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)


def draw_losses(axes: Axes, results: Sequence[FoldResult]) -> None:
    """Draw the training loss by epoch."""
    values = _curves(axes, results, "loss", lambda loss: max(loss, 1e-6))
    _log_axis(axes, values, lambda tick: f"{tick:g}")
    axes.set_title("Training loss by epoch")
    axes.set_ylabel("loss")


def draw_confusion(axes: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    """Draw a confusion matrix of counts int (classes, classes), true by row; only the errors are coloured."""
    classes = len(counts)
    errors = np.where(np.eye(classes, dtype=bool), 0, counts)
    axes.imshow(np.sqrt(errors / max(errors.max(), 1)), cmap=HEAT, vmin=0, vmax=1)
    for true, predicted in np.argwhere(counts):
        right = true == predicted
        dark = not right and errors[true, predicted] > 0.6 * errors.max()
        count = counts[true, predicted]
        axes.text(
            predicted, true, f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k", ha="center", va="center",
            fontsize=9 if right else 11, color=MUTED if right else PAPER if dark else INK,
        )  # fmt: skip
    axes.set_xticks(range(classes), names)
    axes.set_yticks(range(classes), names)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(False)
    axes.grid(which="minor")
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"Confusion matrix: {errors.sum():,} errors in {counts.sum():,}")


def draw_class_shares(axes: Axes, training: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> None:
    """Draw each class's share of the predictions beside its share of the training labels, counts (classes,) of both."""
    counts, answers = np.asarray(training), np.asarray(predicted)
    expected = counts / counts.sum()
    error = 1.96 * np.sqrt(expected * (1 - expected) * (1 / counts.sum() + 1 / answers.sum()))
    places = np.arange(len(names))
    axes.bar(places, 100 * expected, color=GRID, width=0.72, label="training labels")
    axes.errorbar(
        places, 100 * answers / answers.sum(), yerr=100 * error, fmt="o", color=BLUE, markersize=6, capsize=3,
        elinewidth=1.2, label="predictions ± 95%",
    )  # fmt: skip
    axes.set_xticks(places, names)
    _percent_axis(axes.yaxis)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("class")
    axes.set_title("Class distribution")
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)


def draw_calibration(axes: Axes, bins: Sequence[Bin]) -> None:
    """Draw, for each bin of confidence, the mean confidence and the accuracy."""
    places = np.arange(len(bins))
    accuracy = np.array([one.accuracy for one in bins])
    low, high = np.array([one.interval for one in bins]).T
    axes.plot(
        places, [100 * one.confidence for one in bins], "_", color=ORANGE, markersize=20, markeredgewidth=2.5,
        label="mean confidence",
    )  # fmt: skip
    axes.errorbar(
        places, 100 * accuracy, yerr=100 * np.clip([accuracy - low, high - accuracy], 0, None), fmt="o", color=BLUE,
        markersize=6, capsize=3, elinewidth=1.2, label="accuracy ± 95%",
    )  # fmt: skip
    axes.set_xticks(places, [one.name for one in bins], rotation=30 if len(bins) > 5 else 0)
    axes.set_xlim(-0.6, len(bins) - 0.4)
    axes.set_ylim(0, 105)
    _percent_axis(axes.yaxis)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("confidence (%)")
    axes.set_title("Calibration")
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)


def draw_public_scores(axes: Axes, submissions: Sequence[tuple[str, float, float, float, int]], this: str = "") -> None:
    """Draw out-of-fold accuracy against public score, each with its standard error, and each point's name.

    Args:
        axes: where.
        submissions: name, out-of-fold accuracy, its standard error and public score of each, shares 0-1, and the rows
            of its test set.
        this: the name of the one to highlight.
    """
    ordered = sorted(submissions, key=lambda one: one[1])
    for name, accuracy, error, score, rows in ordered:
        axes.errorbar(
            100 * accuracy, 100 * score, xerr=100 * error, yerr=100 * np.sqrt(score * (1 - score) / rows), fmt="o",
            color=ORANGE if name == this else BLUE, markersize=6, capsize=2, elinewidth=1,
        )  # fmt: skip
    ends = np.array([axes.get_xlim(), axes.get_ylim()])
    for number, (name, accuracy, _, score, _) in enumerate(ordered):
        is_right = 100 * accuracy > ends[0].mean()  # Its name would run past the edge.
        axes.annotate(
            name, (100 * accuracy, 100 * score), (-7 if is_right else 7, 7 if number % 2 == 0 else -14),
            textcoords="offset points", ha="right" if is_right else "left", color=INK, fontsize=11,
        )  # fmt: skip
    line = [ends.min(), ends.max()]
    axes.plot(line, line, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    _percent_axis(axes.xaxis)
    _percent_axis(axes.yaxis)
    axes.set_xlim(ends[0])
    axes.set_ylim(ends[1])
    axes.set_xlabel("out-of-fold accuracy")
    axes.set_ylabel("public score")
    axes.set_title("Out-of-fold accuracy and public score")


GALLERY, GALLERY_COLUMNS = 30, 6
SAMPLES, VIEWS = 6, 6


def draw_all(run: Run, dataset: Dataset | None = None) -> list[Path]:
    """Draw a finished run's figures as PNG into its folder and return where they are.

    Without its images (`dataset`, or what its record names) there are only learning curves and class shares.

    Raises:
        BadInput: if the run is not finished.
    """
    data = analysis.gather(run, dataset)
    record, names = data.record, data.record.data.names
    with matplotlib.rc_context(STYLE):
        figures = {"class-shares": panel(draw_class_shares, record.data.class_counts, record.test.class_counts, names)}
        if data.results:
            figures["learning-curves"] = _learning_curves(data)
        if data.train is not None and len(data.scored):
            images, labels = data.train.images[data.scored], data.train.labels[data.scored]
            probabilities = data.probabilities
            counts = analysis.confusion(probabilities.argmax(axis=1), labels, len(names))
            augmentation = record.recipe.augmentation if record.recipe else Augmentation()
            figures |= {
                "confusion-matrix": panel(draw_confusion, counts, names, size=(5.4, 5.2)),
                "calibration": panel(draw_calibration, analysis.calibration(probabilities, labels)[0]),
                "mistakes": mistakes_gallery(images, labels, probabilities, names),
                "augmentation": augmented_samples(data.train, augmentation),
                "overview": overview(images, labels, probabilities, names),
            }
        return [_save(figure, run.folder / f"{name}.png") for name, figure in figures.items()]


def _save(figure: Figure, path: Path) -> Path:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _learning_curves(data: RunData) -> Figure:
    figure = Figure(figsize=(8.4, 3.6))
    left, right = figure.subplots(1, 2)
    draw_errors(left, data.results, [(fold.epochs, fold.accuracy) for fold in data.record.folds])
    draw_losses(right, data.results)
    return figure


def mistakes_gallery(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str], columns: int = 6
) -> Figure:
    """Return the wrong predictions on images uint8 (m, side, side), labels (m,): the most confident first."""
    figure = Figure(
        figsize=(1.08 * columns, 1.08 * (GALLERY // columns) + 0.45), layout=PlaceHolderLayoutEngine(False, False)
    )
    wrong = analysis.mistakes(probabilities, labels)
    shown = wrong[:GALLERY]
    number = f"The {len(shown)} most confident of {len(wrong):,}" if len(shown) < len(wrong) else f"All {len(wrong)}"
    title = f"{number} errors: true → predicted, confidence" if len(wrong) else "No errors"
    _gallery(figure, images[shown], _captions(shown, labels, probabilities, names), columns, title)
    return figure


def _captions(shown: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> list[str]:
    predicted, confidence = probabilities[shown].argmax(axis=1), probabilities[shown].max(axis=1)
    return [
        f"{names[true]} → {names[guess]}  {min(int(100 * sure), 99)}%"
        for true, guess, sure in zip(labels[shown], predicted, confidence, strict=True)
    ]


def overview(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> Figure:
    """Return one picture of a run: the most confident errors beside the confusion matrix."""
    figure = Figure(figsize=(11, 5.2))
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(1.12, 1)))
    shown = analysis.mistakes(probabilities, labels)[:20]
    captions = _captions(shown, labels, probabilities, names)
    _gallery(left, images[shown], captions, 5, "The most confident errors: true → predicted, confidence", rows=4)
    draw_confusion(right.subplots(), analysis.confusion(probabilities.argmax(axis=1), labels, len(names)), names)
    return figure


def augmented_samples(digits: Split, augmentation: Augmentation) -> Figure:
    """Return some images as they are, and as the augmentation may draw them in training."""
    images = digits.images[np.linspace(0, len(digits.images) - 1, SAMPLES, dtype=int)]
    views = np.stack([images, *augmented(images, augmentation, VIEWS)], axis=1)
    captions = ["original", *[""] * (len(images) * (VIEWS + 1) - 1)]
    title = "Training images, augmented" if augmentation.any else "Training images, without augmentation"
    figure = Figure(figsize=(1.08 * (VIEWS + 1), 1.08 * SAMPLES + 0.45), layout=PlaceHolderLayoutEngine(False, False))
    _gallery(figure, views.reshape(-1, *images.shape[1:]), captions, VIEWS + 1, title)
    return figure


def augmented(images: np.ndarray, augmentation: Augmentation, views: int) -> list[np.ndarray]:
    """Return so many random views uint8 (n, side, side) of the images, as training draws them."""
    random, margins = np.random.default_rng(0), ink_margins(images)
    return [apply_transforms(images, draw_transforms(random, margins, augmentation)) for _ in range(views)]


def _gallery(
    figure, images: Sequence[np.ndarray] | np.ndarray, captions: Sequence[str], columns: int, title: str, rows: int = 0
) -> None:
    """Draw captioned images into a figure, as one image, for axes cost more than images."""
    side = len(images[0]) if len(images) else 28
    rows = max(rows, -(-len(images) // columns), 1)
    width, height = side * 3 // 2, side * 3 // 2
    canvas = np.zeros((rows * height, columns * width), np.uint8)
    axes = figure.add_axes((0, 0, 1, 0.93))
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        y, x = (number // columns) * height + side * 2 // 5, (number % columns) * width + side // 4
        canvas[y : y + side, x : x + side] = image
        axes.text(x + side / 2 - 0.5, y - side / 11, caption, ha="center", va="bottom", fontsize=9.5)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=255, aspect="auto")
    axes.axis("off")
    figure.text(0.02, 0.965, title, fontsize=12, fontweight="bold", va="center")
