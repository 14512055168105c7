"""The benchmark as one figure of two charts: accuracy against seconds, and images a second."""

from pathlib import Path
from typing import Any

from digits.files import atomic_write

KIT, OTHER, FAINT = "#1a5fb4", "#b5b5b5", "#5e5c64"


def draw(parts: dict, path: Path) -> None:
    """Draw the parts accuracy and train, or whichever there is, into `path` (.png, .svg or .pdf)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    charts = [(name, chart) for name, chart in (("accuracy", _accuracy), ("train", _train)) if name in parts]
    settings: Any = {"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "svg.hashsalt": "digits"}
    with pyplot.rc_context(settings):
        width = max(len(charts), 1) * 5.6
        figure, panels = pyplot.subplots(
            1, max(len(charts), 1), figsize=(width, 3.6), squeeze=False, layout="constrained"
        )
        for panel, (name, chart) in zip(panels.flat, charts, strict=False):
            chart(panel, parts[name])
            panel.spines[["top", "right"]].set_visible(False)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=150, metadata={"Date": None} if path.suffix in (".svg", ".pdf") else None)
        pyplot.close(figure)


def _accuracy(panel, part: dict) -> None:
    """Draw errors over seconds, both on log scales: each fit of `quick` is a point, the others are curves."""
    colors = iter(("#c64600", "#813d9c", "#26a269"))
    named = set()
    for row in part["rows"]:
        is_quick = row["label"].startswith("quick")
        color, label = (KIT, "the kit, quick") if is_quick else (next(colors), row["label"])
        for trace in row["traces"]:
            seconds, accuracy = zip(*trace, strict=True)
            errors = [max(100 * (1 - share), 0.01) for share in accuracy]
            panel.plot(
                seconds, errors, "o-", color=color, markersize=3, linewidth=1, label=None if label in named else label
            )
            named.add(label)
    for target in part["targets"]:
        panel.axhline(100 * (1 - target), color=OTHER, linewidth=0.6, linestyle="--")
        panel.annotate(f"{target:.1%}", (1, 100 * (1 - target)), xycoords=("axes fraction", "data"), color=FAINT)
    panel.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="errors, % of held-out images")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    panel.set_title(f"Accuracy against time ({part['n']} seed{'s' * (part['n'] > 1)})")
    panel.legend(fontsize=8, frameon=False)


def _train(panel, part: dict) -> None:
    rows = part["rows"][::-1]
    medians = [row["median"] for row in rows]
    whiskers = [[row["median"] - row["low"] for row in rows], [row["high"] - row["median"] for row in rows]]
    colors = [KIT if row["label"].startswith("the kit") else OTHER for row in rows]
    panel.barh([row["label"] for row in rows], medians, xerr=whiskers, color=colors, ecolor=FAINT, capsize=2)
    for height, row in enumerate(rows):
        panel.text(row["high"], height, f"  {row['median']:,.0f}", va="center", color=FAINT)
    panel.set_xlim(0, max(row["high"] for row in rows) * 1.2)
    panel.set_title(f"Images a second in training (median, min–max of {part['n']})")
