"""The benchmark's figures as text."""

from bench.measuring import middle
from digits.console import table

UNITS = {"seconds": (1.0, "{:.3g}"), "images_per_second": (1.0, "{:,.0f}"), "bytes": (1e-9, "{:.2f}")}
"""A factor, and how a number is written."""


def number(value: float, unit: str) -> str:
    """Return a value as a person reads it."""
    factor, form = UNITS[unit]
    return f"{value:,.0f}" if unit == "seconds" and value >= 100 else form.format(value * factor)


def render(name: str, part: dict) -> str:
    """Return one part's title and table."""
    rows, title = part["rows"], f"{name}: {part['title']} (n = {part['n']})\n"
    if name == "accuracy":
        headers = ["", "training", "accuracy", "min–max", *(f"to {target:.1%}" for target in part["targets"])]
        body = table(headers, [_accuracy_row(row, part["targets"]) for row in rows], left=headers[:1])
        return "\n".join([title + body, "", *_ratios(part), *_extrapolated(part)])
    unit = part["value"]
    cells = [
        [
            row["label"], number(row["median"], unit), f"{number(row['low'], unit)}–{number(row['high'], unit)}",
            f"{row['median'] / rows[0]['median']:.2f}",
        ]
        for row in rows
    ]  # fmt: skip
    return title + table(["", "median", "min–max", "× the first"], cells, left=("",))


def _accuracy_row(row: dict, targets: list[float]) -> list[str]:
    accuracy = row["accuracy"]
    shares = [f"{accuracy['median']:.2%}", f"{accuracy['low']:.2%}–{accuracy['high']:.2%}"]
    cells = []
    for target in targets:
        reached = row["reached"][str(target)]
        seconds, got = middle(reached), sum(one is not None for one in reached)
        cells.append(f"{'–' if 2 * got <= len(reached) else number(seconds, 'seconds')} ({got}/{len(reached)})")
    return [row["label"], number(row["median"], "seconds"), *shares, *cells]


def _ratios(part: dict) -> list[str]:
    """Say how much longer the others take than the shortest `quick` whose mean accuracy reaches a target."""
    lines = []
    quicks = [row for row in part["rows"] if row["label"].startswith("quick")]
    for target in part["targets"]:
        enough = [row for row in quicks if sum(row["accuracy"]["values"]) / len(row["accuracy"]["values"]) >= target]
        if not enough:
            lines.append(f"To {target:.1%}: no mean of `quick` reached it.")
            continue
        quick = min(enough, key=lambda row: row["median"])
        others = []
        for row in part["rows"]:
            if row not in quicks:
                seconds = middle(row["reached"][str(target)])
                never = seconds == float("inf")
                times = (row["median"] if never else seconds) / quick["median"]
                others.append(f"{row['label']} takes {'more than ' * never}{times:.1f} times as long")
        lines.append(f"To {target:.1%}: {quick['label']}, {number(quick['median'], 'seconds')} s; {'; '.join(others)}.")
    return lines


def _extrapolated(part: dict) -> list[str]:
    facts = part.get("extrapolated", {})
    whole = facts.get("deotte_whole_seconds")
    lines = [f"Deotte's 15 networks × 45 epochs, extrapolated: {whole / 3600:.1f} hours."] if whole else []
    if "standard" in facts:
        seconds, accuracy = facts["standard"]["seconds"], facts["standard"]["accuracy"]
        lines.append(
            f"standard --folds 5: {accuracy:.2%} out-of-fold in {seconds / 60:.1f} minutes, "
            f"{whole / seconds:.0f} times shorter."
        )
    return lines
