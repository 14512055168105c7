"""Measure in fresh processes, each `python -m bench.measuring FUNCTION OPTIONS`, in turns, and summarise."""

import dataclasses
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from digits.console import INTERRUPTED, KitError, entry_point
from digits.files import ROOT
from digits.runs import record


@dataclass(frozen=True)
class Contestant:
    """One of those that are compared."""

    label: str
    function: str
    """As "module.name" in this package; it takes the options and returns what it measured."""
    options: dict = field(default_factory=dict)


def measure(contestant: Contestant, common: dict) -> dict:
    """Return what a contestant measured in a fresh process; its options are `common` and its own.

    Raises:
        KitError: if it failed, with the end of what it printed.
        KeyboardInterrupt: if it was interrupted.
    """
    code_path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "scripts")])
    done = subprocess.run(
        [sys.executable, "-m", "bench.measuring", contestant.function, json.dumps(common | contestant.options)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": code_path, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode in (INTERRUPTED, -signal.SIGINT):  # Ctrl-C in a terminal reaches this process, too.
        raise KeyboardInterrupt
    if done.returncode:
        raise KitError(f"{contestant.label}: failed with exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def take_turns(contestants: Sequence[Contestant], repeats: int, folder: Path) -> dict[str, list[dict]]:
    """Measure all in turn, `repeats` times round (A B A B …), and return the results by label.

    Neighbours on a shared machine come and go: taking turns spreads what they do over all alike. The number of the
    repetition, from 0, is the option "seed".
    """
    results: dict[str, list[dict]] = {contestant.label: [] for contestant in contestants}
    for repeat in range(repeats):
        for contestant in contestants:
            started = time.perf_counter()
            results[contestant.label].append(measure(contestant, {"folder": str(folder), "seed": repeat}))
            print(f"  {repeat + 1}/{repeats} {contestant.label}: took {time.perf_counter() - started:.1f} s in all")
    return results


def spread(values: Sequence[float]) -> dict:
    """Return the values with their median, least and most.

    Raises:
        ValueError: for no values.
    """
    return {"values": list(values), "median": statistics.median(values), "low": min(values), "high": max(values)}


def first_reached(trace: Sequence[Sequence[float]], target: float) -> float | None:
    """Return the seconds at which a trace of (seconds, accuracy) reached `target` and held it, or None.

    Held: the next check is not below the target either. The last check has no next one and counts as it is, since
    that is the network which the fit ends with.
    """
    for number, (seconds, accuracy) in enumerate(trace):
        following = trace[number + 1][1] if number + 1 < len(trace) else accuracy
        if accuracy >= target and following >= target:
            return seconds
    return None


def middle(reached: Sequence[float | None]) -> float:
    """Return the median of seconds in which None, never reached, counts as endless."""
    return statistics.median([float("inf") if seconds is None else seconds for seconds in reached])


def paired_effect(values: Sequence[float], baseline: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of values − baseline, pair by pair, and its standard error, None for fewer than two pairs.

    Raises:
        ValueError: for no pairs, or sequences of different lengths.
    """
    differences = [value - base for value, base in zip(values, baseline, strict=True)]
    if not differences:
        raise ValueError("paired_effect: expected at least one pair, found none.")
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else None
    return statistics.mean(differences), error


def describe_run(command: str) -> dict:
    """Return the command, the time, the machine, and the versions that measured."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "command": command,
        "created": record.now(),
        "load_average_before": load,
        "versions": record.versions(),
        "machine": dataclasses.asdict(record.machine()),
        "git": record.git_commit(),
    }


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Measure one contestant and print one line of JSON."""
    function, options = sys.argv[1:] if argv is None else argv
    module, _, name = function.partition(".")
    print(json.dumps(getattr(importlib.import_module(f"bench.{module}"), name)(json.loads(options))))


if __name__ == "__main__":
    sys.exit(main())
