"""The Kaggle notebook's round trip: push it as the user's own, wait for its run, fetch and check what it leaves."""

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from digits.console import BadInput, KitError
from digits.data.competition import ROWS, read_submission
from digits.files import ROOT, display_path
from digits.kaggle.client import Kaggle, UnreachableError

METADATA = "kernel-metadata.json"
LOG_LINES = 15


def push(
    kaggle: Kaggle, folder: Path, output: Path, seconds: float, say: Callable[[str], None] = print, rows: int = ROWS
) -> Path | None:
    """Push a kernel's folder, wait for its run to end, and return its submission, fetched and checked.

    Args:
        kaggle: the calls.
        folder: the notebook and its kernel-metadata.json.
        output: where what the run leaves is put.
        seconds: how long to wait; 0 leaves after the push and returns None.
        say: told what happens.
        rows: how many rows the submission must have.

    Raises:
        BadInput: if the folder holds no notebook, or the run's submission is not one.
        KitError: if Kaggle does not take it, its run fails, or the time is over.
    """
    kaggle.log_in()
    with tempfile.TemporaryDirectory() as temporary:
        kernel = _own_copy(folder, Path(temporary), kaggle.user_name())
        url = kaggle.push_kernel(Path(temporary)) or f"https://www.kaggle.com/code/{kernel}"
    say(f"Pushed: {url}")
    if not seconds:
        return None
    try:
        _wait(kaggle, kernel, seconds, say)
    except UnreachableError as error:
        raise KitError(f"{error} The notebook runs on at Kaggle: {url}") from None
    except KitError as error:
        with contextlib.suppress(KitError, OSError):
            kaggle.kernel_output(kernel, output)
        raise KitError("\n".join([str(error), *_end_of_log(output, kernel)])) from None
    kaggle.kernel_output(kernel, output)
    for line in _end_of_log(output, kernel):
        say(line)
    submission = output / "submission.csv"
    if not submission.exists():
        raise KitError(f"The notebook ran to its end, but left no submission.csv. See {url}")
    read_submission(submission, rows=rows)
    say(f"{display_path(submission)}: {rows:,} rows, checked. Submit it: scripts/submit.sh {display_path(submission)}")
    return submission


def _own_copy(folder: Path, copy: Path, user: str) -> str:
    """Copy the kernel with the user's name in its id; return the id."""
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        name = metadata["id"].rpartition("/")[2]
        shutil.copy(folder / metadata["code_file"], copy)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BadInput(
            f"{display_path(folder)} holds no kernel ({type(error).__name__}: {error}). Make it again: "
            f"python {display_path(ROOT / 'scripts' / 'build_kernel.py')}"
        ) from None
    metadata["id"] = f"{user}/{name}"
    (copy / METADATA).write_text(json.dumps(metadata, indent=2), encoding="utf-8")
    return metadata["id"]


def _wait(kaggle: Kaggle, kernel: str, seconds: float, say: Callable[[str], None]) -> None:
    until, before = time.monotonic() + seconds, ""
    while True:
        time.sleep(kaggle.patience.poll_seconds)
        state = kaggle.kernel_status(kernel)
        if state != before:
            say(f"{time.strftime('%H:%M:%S')} {state}")
        if state == "complete":
            return
        if time.monotonic() > until:
            raise UnreachableError(f"The run of {kernel} is still {state} after {seconds:.0f} s.")
        before = state


def _end_of_log(output: Path, kernel: str) -> list[str]:
    """Return the last lines that the notebook printed; Kaggle's log is a JSON list of pieces of them."""
    log = output / f"{kernel.rpartition('/')[2]}.log"
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    with contextlib.suppress(ValueError, TypeError, KeyError):
        text = "".join(piece["data"] for piece in json.loads(text))
    return ["The end of its log:", *(f"  {line}" for line in text.splitlines()[-LOG_LINES:])]
