"""Run measurements in fresh processes, one after the other, and say what they come to."""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from digits.errors import KitError
from digits.paths import ROOT

_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pandas", "scikit-learn")


@dataclass(frozen=True)
class Thing:
    """One thing that is measured: `peer`, a function "module.name" of this package, with its options."""

    label: str
    peer: str
    options: dict = field(default_factory=dict)
    python: str = sys.executable


def run_thing(thing: Thing, common: dict) -> dict:
    """Return what `thing` measured in a fresh process; its options are `common` and its own.

    Raises:
        KitError: if it failed, with the end of what it printed.
    """
    code_path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "scripts")])
    options = json.dumps({**common, **thing.options, "started": time.time()})
    done = subprocess.run(
        [thing.python, "-m", "bench.child", thing.peer, options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": code_path, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        raise KitError(f"{thing.label}: failed with exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def interleave(
    things: Sequence[Thing],
    repeats: int,
    common: dict,
    run: Callable[[Thing, dict], dict] = run_thing,
    say: Callable[[str], None] = print,
) -> dict[str, list[dict]]:
    """Measure all things in turn, `repeats` times round (A B A B …), and return the results by label.

    Neighbours on a shared machine come and go: taking turns spreads what they do over all things alike. The number of
    the repetition, from 0, is the option "seed".
    """
    results: dict[str, list[dict]] = {thing.label: [] for thing in things}
    for repeat in range(repeats):
        for thing in things:
            started = time.perf_counter()
            results[thing.label].append(run(thing, {**common, "seed": repeat}))
            say(f"  {repeat + 1}/{repeats} {thing.label}: took {time.perf_counter() - started:.1f} s in all")
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
    return {
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "load_average_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        },
        "versions": {"python": platform.python_version()} | _versions(),
        "commit": _commit(),
    }


def _versions() -> dict[str, str]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+changes", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
