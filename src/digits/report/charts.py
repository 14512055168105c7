"""The charts of a run, for the report and as PNG files."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from digits.config import Augmentation
from digits.data import dataset
from digits.data.competition import CLASSES, ROWS
from digits.files import atomic_write
from digits.model.augment import apply_transforms, draw_transforms, ink_margins
from digits.report import analysis
from digits.report.analysis import Bin
from digits.runs import ensemble, metrics
from digits.runs.store import FoldResult, Run

if TYPE_CHECKING:
    from digits.kaggle.ledger import Entry

INK, MUTED, GRID, PAPER = "#1f2430", "#5d6675", "#dfe3ea", "#ffffff"
BLUE, ORANGE = "#2266b0", "#c2570c"
"""Told apart by every kind of colour vision, and by lightness in print."""
CSS = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper", BLUE: "--blue", ORANGE: "--orange"}
"""The report's names for them, which change with light and dark."""
HEAT = LinearSegmentedColormap.from_list("heat", [PAPER, "#fbd9b5", ORANGE])
STYLE = {
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
    "legend.fontsize": 10,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 130,
    "svg.fonttype": "none",
    "svg.hashsalt": "digits",
}


def _plain_percent() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:g} %")


def _curves(axes: Axes, parts: Sequence[FoldResult], name: str, scale: Callable) -> None:
    """Draw a value of the epochs: a thin line a network, a thick one for their mean."""
    lines = [[scale(epoch[name]) for epoch in part.history] for part in parts]
    for line in lines:
        axes.plot(range(1, len(line) + 1), line, color=BLUE, alpha=0.3, linewidth=0.9)
    shortest = min(map(len, lines))
    mean = np.mean([line[:shortest] for line in lines], axis=0)
    axes.plot(range(1, shortest + 1), mean, color=BLUE, linewidth=2.2, label="training, images as augmented")
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _log_ticks(axes: Axes, values: Sequence[float], form: Callable[[float], str]) -> None:
    """Label a logarithmic axis at 1, 2 and 5 of each decade, in plain figures."""
    low, high = min(values) / 1.4, max(values) * 1.4
    ticks = [step * 10.0**power for power in range(-6, 5) for step in (1, 2, 5) if low <= step * 10.0**power <= high]
    if len(ticks) > 7:
        ticks = [tick for tick in ticks if f"{tick:e}"[0] == "1"]
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [form(tick) for tick in ticks])
    axes.set_yticks([], minor=True)


def draw_errors(axes: Axes, parts: Sequence[FoldResult], ends: Sequence[float]) -> None:
    """Draw the share of wrong digits by epoch: in training, and of the held-out digits where they were scored.

    Args:
        axes: where.
        parts: the networks.
        ends: each finished network's accuracy on its held-out digits, 0-1.
    """
    floor = 0.005
    _curves(axes, parts, "accuracy", lambda accuracy: max(100 * (1 - accuracy), floor))
    seen = [
        (epoch["epoch"], max(100 * (1 - epoch["held_out_accuracy"]), floor))
        for part in parts
        for epoch in part.history
        if epoch.get("held_out_accuracy") is not None
    ]
    if seen:
        axes.plot(*zip(*seen, strict=True), ".", color=ORANGE, alpha=0.45, markersize=5, markeredgewidth=0)
        epochs = sorted({epoch for epoch, _ in seen})
        means = [np.mean([error for at, error in seen if at == epoch]) for epoch in epochs]
        axes.plot(epochs, means, "o-", color=ORANGE, linewidth=2.2, markersize=5, label="held-out, images as they are")
    last = [max(100 * (1 - end), floor) for end in ends]
    axes.plot(
        [len(part.history) for part in parts], last, "D", color=ORANGE, markersize=5, label="held-out, at the end"
    )
    values = [value for line in axes.get_lines() for value in line.get_ydata()]
    _log_ticks(axes, values, lambda tick: f"{tick:g} %")
    axes.set_title("Wrong digits by epoch")
    axes.set_ylabel("wrong")
    axes.legend(loc="upper right")


def draw_losses(axes: Axes, parts: Sequence[FoldResult]) -> None:
    """Draw the training loss by epoch."""
    _curves(axes, parts, "loss", lambda loss: max(loss, 1e-6))
    _log_ticks(axes, [value for line in axes.get_lines() for value in line.get_ydata()], lambda tick: f"{tick:g}")
    axes.set_title("Training loss by epoch")
    axes.set_ylabel("loss")


def draw_confusion(axes: Axes, counts: np.ndarray) -> None:
    """Draw how often each digit was taken for each: counts int (10, 10), true by row; errors alone are coloured."""
    errors = np.where(np.eye(CLASSES, dtype=bool), 0, counts)
    axes.imshow(np.sqrt(errors / max(errors.max(), 1)), cmap=HEAT, vmin=0, vmax=1)
    for true, predicted in np.argwhere(counts):
        right = true == predicted
        dark = not right and errors[true, predicted] > 0.5 * errors.max()
        axes.text(
            predicted,
            true,
            f"{counts[true, predicted]:,}",
            ha="center",
            va="center",
            fontsize=8.5 if right else 10,
            color=MUTED if right else PAPER if dark else INK,
        )
    axes.set_xticks(range(CLASSES))
    axes.set_yticks(range(CLASSES))
    axes.set_xticks(np.arange(CLASSES + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(CLASSES + 1) - 0.5, minor=True)
    axes.grid(False)
    axes.grid(which="minor")
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("said")
    axes.set_ylabel("given label")
    axes.set_title(f"{errors.sum():,} mistakes in {counts.sum():,} held-out digits")


def draw_class_shares(axes: Axes, training: Sequence[int], predicted: Sequence[int]) -> None:
    """Draw each digit's share of the predictions beside its share of the training labels, counts (10,) of both."""
    training, predicted = np.asarray(training), np.asarray(predicted)
    expected = training / training.sum()
    error = 1.96 * np.sqrt(expected * (1 - expected) * (1 / training.sum() + 1 / predicted.sum()))
    axes.bar(range(CLASSES), 100 * expected, color=GRID, width=0.72, label="training labels")
    axes.errorbar(
        range(CLASSES),
        100 * predicted / predicted.sum(),
        yerr=100 * error,
        fmt="o",
        color=BLUE,
        markersize=6,
        capsize=3,
        elinewidth=1.2,
        label="predictions, and what chance allows (95 %)",
    )
    axes.set_xticks(range(CLASSES))
    axes.set_ylim(0, 1.4 * 100 * max(expected.max(), (predicted / predicted.sum()).max()))
    axes.yaxis.set_major_formatter(_plain_percent())
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("digit")
    axes.set_title("How often each digit is predicted")
    axes.legend(loc="upper left")


def draw_calibration(axes: Axes, bins: Sequence[Bin]) -> None:
    """Draw, for each bin of confidence, how sure the answers were and what share of them was right."""
    places = np.arange(len(bins))
    right = np.array([part.right for part in bins])
    low, high = np.array([part.interval for part in bins]).T
    axes.plot(
        places,
        [100 * part.confidence for part in bins],
        "_",
        color=ORANGE,
        markersize=20,
        markeredgewidth=2.5,
        label="how sure, on average",
    )
    axes.errorbar(
        places,
        100 * right,
        yerr=100 * np.clip([right - low, high - right], 0, None),
        fmt="o",
        color=BLUE,
        markersize=6,
        capsize=3,
        elinewidth=1.2,
        label="right, with 95 % interval",
    )
    axes.set_xticks(places, [_bin_name(part) for part in bins], fontsize=9)
    axes.set_xlim(-0.6, len(bins) - 0.4)
    axes.set_ylim(0, 105)
    axes.yaxis.set_major_formatter(_plain_percent())
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("sure of the answer, % (number of digits)")
    axes.set_title("Is it right as often as it is sure?")
    axes.legend(loc="lower right")


def _bin_name(part: Bin) -> str:
    rows = f"{part.rows:,}" if part.rows < 10_000 else f"{part.rows / 1000:.0f}k"
    return f"{100 * part.low:g}–{100 * part.high:g}\n({rows})"


def draw_public_scores(axes: Axes, entries: "Sequence[Entry]", this_run: str) -> None:
    """Draw the ledger's scored submissions: out-of-fold accuracy against public score, with both standard errors."""
    for own, colour, label in ((False, BLUE, "submissions"), (True, ORANGE, "this run")):
        shown = [entry for entry in entries if (entry.run == this_run) == own]
        if not shown:
            continue
        known = np.array([entry.out_of_fold for entry in shown])
        scores = np.array([entry.public_score for entry in shown])
        axes.errorbar(
            100 * known,
            100 * scores,
            xerr=[100 * (entry.standard_error or 0) for entry in shown],
            yerr=100 * np.sqrt(scores * (1 - scores) / ROWS),
            fmt="o",
            color=colour,
            markersize=6,
            capsize=2,
            elinewidth=1,
            label=label,
        )
    ends = np.array([axes.get_xlim(), axes.get_ylim()])
    line = [ends.min(), ends.max()]
    axes.plot(line, line, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=0, label="the same")
    axes.set_xlim(line)
    axes.set_ylim(line)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(_plain_percent())
    axes.yaxis.set_major_formatter(_plain_percent())
    axes.set_xlabel("out-of-fold accuracy")
    axes.set_ylabel("public score")
    axes.set_title("Out of fold and on Kaggle")
    axes.legend(loc="upper left")


GALLERY, GALLERY_COLUMNS = 50, 10
SAMPLES, VIEWS = 6, 8


def draw_all(run: Run, source: dataset.Dataset, parts: Sequence[FoldResult]) -> list[Path]:
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
    recipe = run.record().recipe
    ends = [metrics.score(part.validation_probabilities, source.train.labels[part.validation_rows]) for part in parts]
    with matplotlib.rc_context(STYLE):
        figures = {
            "learning-curves": _learning_curves(parts, [end.accuracy for end in ends]),
            "confusion-matrix": panel(draw_confusion, analysis.confusion(probabilities, labels), size=(6.4, 6)),
            "class-shares": panel(draw_class_shares, source.facts["class_counts"], predicted, size=(7, 3.8)),
            "calibration": panel(draw_calibration, analysis.calibration(probabilities, labels)[0], size=(7, 3.8)),
            "mistakes": mistakes_gallery(source.train.images[scored], labels, probabilities),
            "augmentation": augmented_samples(source.train, recipe.augmentation if recipe else Augmentation()),
        }
        return [_save(figure, run.folder / f"{name}.png") for name, figure in figures.items()]


def _save(figure: Figure, path: Path) -> Path:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def panel(draw: Callable, *arguments, size: tuple[float, float] = (5, 3.4)) -> Figure:
    """Return a figure of one drawing."""
    figure = Figure(figsize=size)
    draw(figure.subplots(), *arguments)
    return figure


def _learning_curves(parts: Sequence[FoldResult], ends: Sequence[float]) -> Figure:
    figure = Figure(figsize=(10.4, 3.8))
    left, right = figure.subplots(1, 2)
    draw_errors(left, parts, ends)
    draw_losses(right, parts)
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
    with matplotlib.rc_context(STYLE):
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
    for colour, variable in CSS.items():
        body = body.replace(colour, f"var({variable})")
    return body


def mistakes_gallery(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Return the wrong answers on images uint8 (m, 28, 28), labels (m,), probabilities (m, 10): the surest first."""
    wrong = analysis.mistakes(probabilities, labels)
    shown = wrong[:GALLERY]
    if not len(shown):
        return _gallery([], [], 1, "No mistake out of fold")
    said = probabilities[shown].argmax(axis=1)
    sure = [f"{min(int(100 * value), 99)} %" for value in probabilities[shown].max(axis=1)]
    captions = [f"{label} → {answer}  {share}" for label, answer, share in zip(labels[shown], said, sure, strict=True)]
    number = f"The {len(shown)} most confident of {len(wrong):,}" if len(shown) < len(wrong) else f"All {len(wrong)}"
    title = f"{number} mistakes out of fold: given label → answer, and how sure"
    return _gallery(images[shown], captions, GALLERY_COLUMNS, title)


def augmented_samples(digits: dataset.Split, augmentation: Augmentation) -> Figure:
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
    return [apply_transforms(images, draw_transforms(random, margins, augmentation)) for _ in range(views)]
