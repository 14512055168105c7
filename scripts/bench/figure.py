"""The benchmark as one figure."""

from pathlib import Path
from typing import Any

from bench.tables import UNITS, number
from digits.files import atomic_write

KIT, OTHER, FAINT = "#1a5fb4", "#b5b5b5", "#5e5c64"


def draw(parts: dict, path: Path) -> None:
    """Draw one panel a part into `path` (.png, .svg or .pdf)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings: Any = {"font.size": 8, "axes.titlesize": 8.5, "axes.titlelocation": "left", "svg.hashsalt": "digits"}
    with pyplot.rc_context(settings):
        columns = 2 if len(parts) > 1 else 1
        lines = -(-len(parts) // columns)
        figure, grid = pyplot.subplots(
            lines, columns, figsize=(5.6 * columns, 2.5 * lines), squeeze=False, layout="constrained"
        )
        panels = list(grid.flat)
        for panel, (name, part) in zip(panels, parts.items(), strict=False):
            (_trace_panel if name == "accuracy" else _bar_panel)(panel, part)
        for panel in panels[len(parts) :]:
            panel.set_visible(False)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=150, metadata={"Date": None} if path.suffix in (".svg", ".pdf") else None)
        pyplot.close(figure)


def _bar_panel(panel, part: dict) -> None:
    rows, unit = part["rows"][::-1], part["value"]
    factor, _ = UNITS[unit]
    medians = [row["median"] * factor for row in rows]
    whiskers = [
        [(row["median"] - row["low"]) * factor for row in rows],
        [(row["high"] - row["median"]) * factor for row in rows],
    ]
    colors = [KIT if row["label"].startswith(("the kit", "train.py")) else OTHER for row in rows]
    panel.barh([row["label"] for row in rows], medians, xerr=whiskers, color=colors, ecolor=FAINT, capsize=2)
    for height, row in enumerate(rows):
        panel.text(
            row["high"] * factor, height, f"  {number(row['median'], unit)}", va="center", ha="left", color=FAINT
        )
    panel.set_xlim(0, max(row["high"] for row in rows) * factor * 1.2)
    better = "more is better" if part.get("more_is_better") else "less is better"
    panel.set_title(f"{part['title']}\nmedian and min–max of {part['n']}; {better}")
    panel.spines[["top", "right"]].set_visible(False)


def _trace_panel(panel, part: dict) -> None:
    """Draw errors over seconds, both on log scales: short fits as points, the others' checks as lines."""
    for row, color in zip(part["rows"], _colors(part["rows"]), strict=True):
        for number_, trace in enumerate(row["traces"]):
            seconds, accuracy = zip(*trace, strict=True)
            errors = [max(100 * (1 - share), 0.01) for share in accuracy]
            label = row["label"] if number_ == 0 else None
            panel.plot(seconds, errors, "o-", color=color, markersize=3, linewidth=1, label=label)
    for target in part["targets"]:
        panel.axhline(100 * (1 - target), color=OTHER, linewidth=0.6, linestyle="--")
    panel.set_xscale("log")
    panel.set_yscale("log")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    panel.set_xlabel("seconds of training, without scoring, reading and start")
    panel.set_ylabel("% of held-out digits wrong")
    panel.set_title(f"{part['title']}\n{part['n']} seed{'s' * (part['n'] > 1)} each; dashed: the targets")
    panel.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    panel.spines[["top", "right"]].set_visible(False)


def _colors(rows: list[dict]) -> list[str]:
    others = iter(("#c64600", "#813d9c", "#26a269"))
    blues = iter(("#99c1f1", "#62a0ea", "#3584e4", KIT, "#0b3d78") * 2)
    return [next(blues) if row["label"].startswith("quick") else next(others) for row in rows]
