"""Measure in fresh processes, in turns or side by side, and summarise."""

import dataclasses
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digits.console import error_context
from digits.files import ROOT
from digits.model.backend import cpu_count
from digits.runs import record
from digits.training.workers import Slots, Worker

FIRST_SPLIT = 101
"""The split of seed 0; the recipes' figures are of split 0."""


@dataclass(frozen=True)
class Contestant:
    """One of those that are compared."""

    label: str
    function: Callable[[dict], dict]  # From options to what it measured.
    options: dict = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def measure(
    contestant: Contestant,
    common: dict,
    *,
    threads: int | None = None,
    environment: dict[str, str] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict:
    """Return what a contestant measured in a fresh process; its options are `common` and its own.

    `threads` and `environment` are its share of the machine, as in `Slots`; by default it has all. Raises KitError if
    it failed, or was `stopped`.
    """
    variables = {"PYTHONPATH": str(ROOT / "scripts")} | contestant.environment | (environment or {})
    with error_context(contestant.label), Worker(threads or cpu_count(), environment=variables) as worker:
        return worker.run(_call, contestant.function, common | contestant.options, stopped=stopped)


def _call(function: Callable[[dict], dict], options: dict, log: Callable) -> dict:
    return function(options)


def in_slots(
    slots: Slots,
    function: Callable[[Any, dict], Any],
    items: Iterable,
    on_result: Callable[[Any, Any], None] = lambda item, result: None,
) -> None:
    """Call function(item, share) for each item, as many at a time as there are slots, and `on_result` with each result.

    The share are the arguments by which `measure` keeps to a slot, and stops when one of the others fails.
    """
    acquire, stopping = slots.acquirer(), threading.Event()

    def call(item: Any) -> Any:
        with acquire() as environment:
            share = {"threads": slots.threads[0], "environment": environment, "stopped": stopping.is_set}
            return function(item, share)

    with ThreadPoolExecutor(slots.at_a_time) as pool:
        try:
            calls = {pool.submit(call, item): item for item in items}
            for done in as_completed(calls):
                on_result(calls[done], done.result())
        finally:
            stopping.set()
            pool.shutdown(cancel_futures=True)


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
    """Return the values with their median, least and most; ValueError for no values."""
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

    Raises ValueError for no pairs, or sequences of different lengths.
    """
    differences = [value - base for value, base in zip(values, baseline, strict=True)]
    if len(differences) < 2:
        return statistics.mean(differences), None
    return statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5


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
