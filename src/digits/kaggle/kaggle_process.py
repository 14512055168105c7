"""One call of the kaggle client in a child process: its time limit, its errors as exceptions, and trying again."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from digits.errors import BadInput, KaggleRefused, KitError
from digits.kaggle.credentials import PAGE, TOKEN_PAGE, client_environment, find_credentials
from digits.paths import shown

CHILD = Path(__file__).with_name("kaggle_child.py")
REQUIREMENT = "kaggle>=2.2.4,<3"
BEFORE_SUBMITTING = ("IntrospectToken", "GenerateAccessToken", "StartSubmissionUpload")
"""The client's calls that come before the one that submits; an error of an unknown call may be of that one."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds, and how often to try."""

    call_seconds: float = 60
    submit_seconds: float = 180
    stall_seconds: float = 60
    """A download that brings no byte for so long is given up."""
    download_seconds: float = 3600
    attempts: int = 5
    first_pause_seconds: float = 2
    """Before the second attempt; doubled before each later one."""
    longest_pause_seconds: float = 120
    """A Retry-After beyond this is not waited for."""
    listing_seconds: float = 120
    """Within which a submission must show in Kaggle's list."""
    poll_seconds: float = 10


class UnreachableError(KitError):
    """Kaggle did not answer, or asked to come back later: worth another attempt.

    `maybe_submitted` is True where a submission may have been recorded although the answer is lost.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, maybe_submitted: bool = False):
        super().__init__(message)
        self.retry_after = retry_after
        self.maybe_submitted = maybe_submitted


def persist(
    attempt: Callable[[], Answer], patience: Patience, tell: Callable[[str], None], attempts: int | None = None
) -> Answer:
    """Call `attempt` until it answers, with a growing pause after each UnreachableError; the last one is raised.

    One that may have submitted something is raised at once: that is not to be repeated before a look at Kaggle's list.
    """
    attempts = attempts or patience.attempts
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except UnreachableError as error:
            pause = error.retry_after
            if pause is None:
                pause = patience.first_pause_seconds * 2 ** (number - 1)
            if number == attempts or error.maybe_submitted or pause > patience.longest_pause_seconds:
                raise
            tell(f"{error} Trying again in {pause:.0f} s ({number + 1} of {attempts}).")
        time.sleep(pause)
    raise ValueError("attempts must be one or more")


def run_client(call: str, patience: Patience, **arguments: Any) -> Any:
    """Run one call of `kaggle_child` in a process of its own and return its answer.

    Raises:
        KaggleRefused: the credentials, the rules or a limit: a person has to act.
        UnreachableError: the network or Kaggle is down, or the time is over.
        KitError: anything else that went wrong.
    """
    limits = {"submit": patience.submit_seconds, "download": patience.download_seconds}
    longest = limits.get(call, patience.call_seconds)
    request = {"call": call, "arguments": arguments, "seconds": longest + 10}
    process = subprocess.Popen(
        [sys.executable, "-P", str(CHILD), json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if call == "download" else subprocess.DEVNULL,  # the download's progress bar
        env=client_environment(os.environ),
        text=True,
    )
    try:
        folder = Path(arguments["folder"]) if call == "download" else None
        output = _output(process, longest, folder, patience.stall_seconds)
        reply = json.loads(output)
    except subprocess.TimeoutExpired as late:
        raise UnreachableError(
            f"No answer from Kaggle in {late.timeout:.0f} s.", maybe_submitted=call == "submit"
        ) from None
    except ValueError:
        message = f"The kaggle client ended without an answer (exit code {process.wait()})."
        raise UnreachableError(message, maybe_submitted=call == "submit") from None
    finally:
        process.kill()
        process.wait()
    if "error" in reply:
        raise _failure(call, **reply["error"])
    return reply["value"]


def _output(process: subprocess.Popen, longest: float, folder: Path | None, stall_seconds: float) -> str:
    """Return what the process prints; wait `longest` seconds, or for a folder only as long as it grows."""
    if folder is None:
        return process.communicate(timeout=longest)[0]
    started = grew = time.monotonic()
    size = 0
    while True:
        try:
            return process.communicate(timeout=0.2)[0]
        except subprocess.TimeoutExpired:
            now, size_before = time.monotonic(), size
            size = _size(folder)
            if size != size_before:
                grew = now
            if now - grew > stall_seconds:
                raise subprocess.TimeoutExpired(process.args, stall_seconds) from None
            if now - started > longest:
                raise subprocess.TimeoutExpired(process.args, longest) from None


def _size(folder: Path) -> int:
    size = 0
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # the client has just removed its resume marker
            size += file.stat().st_size
    return size


def _failure(
    call: str, kind: str, text: str, status: int | None = None, method: str = "", retry_after: str | None = None
) -> KitError:
    """Return the exception for an error that the child reports."""
    if kind == "missing":
        python = shown(Path(sys.executable))
        return BadInput(f"The kaggle client is missing ({text}). Install it: {python} -m pip install '{REQUIREMENT}'")
    if kind == "credentials" or status == 401:
        source = find_credentials(os.environ).source
        return KaggleRefused(f"Kaggle does not accept the credentials of {source}. Make a new token: {TOKEN_PAGE}")
    maybe_submitted = call == "submit" and method not in BEFORE_SUBMITTING
    if status is None and kind != "connection":
        what = f"The kaggle client failed: {text.rstrip('.')}."
        if kind == "unreadable":
            what = f"The answer is not Kaggle's (a login page of the network, or a proxy?): {text.rstrip('.')}."
        return UnreachableError(what, maybe_submitted=True) if maybe_submitted else KitError(what)
    if status == 429:
        wait = _seconds(retry_after)
        asked = "" if wait is None else f" for {wait:.0f} s"
        return UnreachableError(f"Kaggle asks to slow down{asked} (HTTP 429).", retry_after=wait)
    if status is None or status >= 500:
        what = f"Kaggle is in trouble (HTTP {status})." if status else "The connection to Kaggle failed."
        return UnreachableError(what, maybe_submitted=maybe_submitted)
    if status == 403:
        return KaggleRefused(f"Kaggle forbids it ({text}). Have you accepted the competition's rules? {PAGE}/rules")
    if status == 404:
        return KitError(f"Kaggle does not find it ({text}). Look at {PAGE}")
    return KaggleRefused(f"Kaggle refuses it (HTTP {status}): {text}")


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After header means (RFC 9110: a number or a date), or None."""
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, float(retry_after))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    return None
