"""The commands as users start them, in a process of their own with a folder of its own for the runs."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from digits.files import ROOT

FLAGS = ["--source", "sample", "--recipe", "quick", "--folds", "2", "--epochs", "6", "--limit", "300", "--no-tta"]
EXACT = [*FLAGS, "--deterministic"]
REAL = ["--source", "sample", "--recipe", "quick", "--epochs", "2", "--limit", "300", "--no-tta", "--deterministic"]
"""The smallest run with Keras."""
STUB = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("src", "scripts", "tests/stub")),
    "DIGITS_ENGINE": "stub_trainer",
}
"""The variables with which networks of the stub are trained, and no Keras is loaded."""
RESULTS = ("out_of_fold.npy", "test_probabilities.npy", "submission.csv")


def start(
    submissions: Path,
    *flags: str,
    command: str = "train",
    real: bool = False,
    prepare: str = "",
    environment: dict | None = None,
    **how,
) -> subprocess.Popen:
    """Start a command with `flags`, after the Python of `prepare`; return its process, whose outputs are pipes.

    Only where it is `real` Keras trains; else `stub_trainer` does, in milliseconds. `how` is for Popen.
    """
    code = (
        "import sys; from pathlib import Path; from digits import files\n"
        f"files.SUBMISSIONS = Path({str(submissions)!r})\n"
        f"{prepare}\nimport {command}; sys.exit({command}.main())"
    )
    variables = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"} | ({} if real else STUB)
    if not real and command == "train":
        flags = (*flags, "--no-report")  # Figures and pages take seconds, and have tests of their own.
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | how
    return subprocess.Popen([sys.executable, "-P", "-c", code, *flags], env=variables | (environment or {}), **how)


def finish(submissions: Path, *flags: str, **how) -> tuple[int, str, str]:
    process = start(submissions, *flags, **how)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.01)


def workers(process) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):  # It may have ended since.
            if "digits.training.workers" in child.cmdline():
                found.append(child)
    return found


def same_results(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in RESULTS)
