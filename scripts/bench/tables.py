"""The benchmark's figures as text."""

from collections.abc import Sequence

UNITS = {
    "seconds": (1.0, "{:.3g}"),
    "images_per_second": (1.0, "{:,.0f}"),
    "bytes": (1e-9, "{:.2f}"),
}


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of aligned columns, the first to the left and the others to the right."""
    widths = [max(len(line[column]) for line in [headers, *rows]) for column in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()

    return "\n".join([line(headers), "  ".join("-" * width for width in widths), *map(line, rows)])


def number(value: float, unit: str) -> str:
    """Return a value as a person reads it."""
    factor, form = UNITS[unit]
    value *= factor
    return f"{value:,.0f}" if unit == "seconds" and value >= 100 else form.format(value)


def render(name: str, part: dict) -> str:
    """Return one part's title and table."""
    body = _accuracy(part) if name == "accuracy" else _side_by_side(part)
    return f"{name}: {part['title']} (n = {part['n']})\n{body}"


def _side_by_side(part: dict) -> str:
    unit, kit = part["value"], part["rows"][0]["median"]
    rows = [
        [
            row["label"],
            number(row["median"], unit),
            f"{number(row['low'], unit)}–{number(row['high'], unit)}",
            f"{row['median'] / kit:.2f}",
        ]
        for row in part["rows"]
    ]
    return table(["", "median", "min–max", "× the first"], rows)


def _accuracy(part: dict) -> str:
    rows = [
        [
            row["label"],
            number(row["median"], "seconds"),
            f"{row['accuracy']['median']:.2%}",
            f"{row['accuracy']['low']:.2%}–{row['accuracy']['high']:.2%}",
            *(_when(row["reached"][str(target)]) for target in part["targets"]),
        ]
        for row in part["rows"]
    ]
    headers = ["", "whole fit", "accuracy", "min–max", *(f"to {target:.1%}" for target in part["targets"])]
    return "\n".join([table(headers, rows), "", *_ratios(part), *_extrapolated(part)])


def _when(reached: list[float | None]) -> str:
    """Return the median of the seconds where most seeds got there, and how many did."""
    got = sorted(seconds for seconds in reached if seconds is not None)
    share = f"{len(got)}/{len(reached)}"
    if len(got) * 2 <= len(reached):
        return f"– ({share})"
    return f"{number(middle(reached), 'seconds')} ({share})"


def middle(reached: Sequence[float | None]) -> float:
    """Return the median of seconds of which those who never got there, None, count as endless."""
    ordered = sorted(float("inf") if seconds is None else seconds for seconds in reached)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def shortest_quick(part: dict, target: float) -> dict | None:
    """Return the row of the shortest `quick` whose accuracy, the mean over the seeds, is at least `target`."""
    reached = [
        row
        for row in part["rows"]
        if row["label"].startswith("quick")
        and sum(row["accuracy"]["values"]) / len(row["accuracy"]["values"]) >= target
    ]
    return min(reached, key=lambda row: row["median"]) if reached else None


def _ratios(part: dict) -> list[str]:
    lines = []
    for target in part["targets"]:
        quick = shortest_quick(part, target)
        if quick is None:
            lines.append(f"To {target:.1%}: no mean of `quick` got there.")
            continue
        others = []
        for row in part["rows"]:
            if not row["label"].startswith("quick"):
                seconds = middle(row["reached"][str(target)])
                never = seconds == float("inf")
                times = (row["median"] if never else seconds) / quick["median"]
                others.append(f"{row['label']} takes {'more than ' * never}{times:.1f} times as long")
        lines.append(f"To {target:.1%}: {quick['label']}, {number(quick['median'], 'seconds')} s; {'; '.join(others)}.")
    return lines


def _extrapolated(part: dict) -> list[str]:
    facts = part.get("extrapolated")
    if facts is None:
        return []
    whole = facts["deotte_whole_seconds"]
    lines = [f"Deotte's 15 networks × 45 epochs, extrapolated from the epochs measured: {whole / 3600:.1f} hours."]
    if "standard" in facts:
        standard = facts["standard"]
        lines.append(
            f"standard --folds 5: {standard['accuracy']:.2%} out of fold in {standard['seconds'] / 60:.1f} minutes, "
            f"{whole / standard['seconds']:.0f} times shorter."
        )
    return lines
