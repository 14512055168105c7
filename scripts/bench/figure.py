"""The benchmark as one figure of two charts: accuracy against seconds, and images per second."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from digits.files import atomic_write
from digits.report.charts import log_ticks

KIT, OTHER, FAINT = "#1a5fb4", "#b5b5b5", "#5e5c64"
OTHERS = "#c64600", "#813d9c", "#26a269"
STYLE: Any = {"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "svg.hashsalt": "digits"}


def draw(parts: dict, path: Path) -> None:
    """Draw the parts accuracy and train, or the one of them that there is, into `path` (.png, .svg or .pdf)."""
    charts = [(name, chart) for name, chart in (("accuracy", _accuracy), ("train", _train)) if name in parts]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6 * len(charts), 3.6), layout="constrained")
        for panel, (name, chart) in zip(figure.subplots(1, len(charts), squeeze=False).flat, charts, strict=True):
            chart(panel, parts[name])
            panel.spines[["top", "right"]].set_visible(False)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=150, metadata={"Date": None} if path.suffix in (".svg", ".pdf") else None)


def _accuracy(panel, part: dict) -> None:
    """Draw errors over seconds, both on log scales: each fit of `quick` is a point, the others are curves."""
    labels = ["the kit, quick" if row["label"].startswith("quick") else row["label"] for row in part["rows"]]
    colors = dict(zip(dict.fromkeys(labels), (KIT, *OTHERS), strict=False))
    points: list[tuple[float, float]] = []
    for label, row in zip(labels, part["rows"], strict=True):
        for trace in row["traces"]:
            seconds, accuracy = zip(*trace, strict=True)
            errors = [max(100 * (1 - share), 0.01) for share in accuracy]
            panel.plot(seconds, errors, "o-", color=colors[label], markersize=3, linewidth=1)
            points += zip(seconds, errors, strict=True)
    for target in part["targets"]:
        panel.axhline(100 * (1 - target), color=OTHER, linewidth=0.6, linestyle="--")
        panel.annotate(f"{target:.1%}", (1, 100 * (1 - target)), xycoords=("axes fraction", "data"), color=FAINT)
    panel.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="errors, % of held-out images")
    for axis, values in zip((panel.xaxis, panel.yaxis), zip(*points, strict=True), strict=True):
        axis.set_ticks(log_ticks(min(values), max(values)))
        axis.set_ticks([], minor=True)
        axis.set_major_formatter("{x:g}")
    panel.set_title(f"Accuracy against time (n = {part['n']})")
    lines = [Line2D([], [], color=color, marker="o", markersize=3, linewidth=1) for color in colors.values()]
    panel.legend(lines, list(colors), fontsize=8, frameon=False)


def _train(panel, part: dict) -> None:
    rows = part["rows"][::-1]
    medians = [row["median"] for row in rows]
    whiskers = [[row["median"] - row["low"] for row in rows], [row["high"] - row["median"] for row in rows]]
    colors = [KIT if row["label"].startswith("the kit") else OTHER for row in rows]
    panel.barh([row["label"] for row in rows], medians, xerr=whiskers, color=colors, ecolor=FAINT, capsize=2)
    for height, row in enumerate(rows):
        panel.text(row["high"], height, f"  {row['median']:,.0f}", va="center", color=FAINT)
    panel.set_xlim(0, max(row["high"] for row in rows) * 1.2)
    panel.set_title(f"Images per second (median, min–max, n = {part['n']})")
