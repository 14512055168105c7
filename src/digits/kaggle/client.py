"""The kaggle client, each call in a process of its own with a time limit and its errors explained."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from digits.console import BadInput, KaggleRefused, KitError
from digits.data.competition import DIGIT_RECOGNIZER, find_competition
from digits.files import display_path
from digits.redaction import redact

TOKEN_PAGE = "https://www.kaggle.com/settings/api"
REQUIREMENT = "kaggle>=2.2.5,<3"
CHILD = Path(__file__).with_name("child.py")
ALARM_SECONDS = 10
"""After the time limit of a call, its process ends by itself."""
TEXT_LENGTH = 300
KEPT = (
    *("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "KAGGLE_API_ENVIRONMENT"),
    *("KAGGLE_API_V1_TOKEN", "KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_DATA_PROXY_URL"),
)
"""The client turns every KAGGLE_X into a setting x (KAGGLE_PATH moves downloads), so only these reach it. The last
three are how it logs in inside a Kaggle notebook."""
DOWNLOADS = ("competition_download_files", "kernels_output")
UPLOADS = ("dataset_create_new", "dataset_create_version")
SUBMITS = ("competition_submit", "competition_submit_code")
BEFORE_SUBMITTING = ("IntrospectToken", "GenerateAccessToken", "StartSubmissionUpload")
"""The client's calls before the one that submits; an error of an unknown call may be of that one."""
UPLOAD_REFUSED = "Could not submit to competition"
"""What the client answers where the storage did not take the file; nothing is submitted then."""
CONNECTION_FAULTS = (
    (r"\b407\b", "the proxy asks for a name and password: https_proxy=http://NAME:PASSWORD@HOST:PORT", False),
    (
        "CERTIFICATE_VERIFY_FAILED|SSLError|certificate",
        "the certificate is not trusted; where a proxy inspects the traffic, REQUESTS_CA_BUNDLE must name the file "
        "with its certificate",
        False,
    ),
    (
        "NameResolution|getaddrinfo|gaierror",
        "the name of Kaggle's server cannot be resolved: is there a network?",
        True,
    ),
    ("[Pp]roxy", "the proxy (https_proxy) does not let it through", True),
    ("[Tt]imed? ?out", "it timed out", True),
    ("refused", "it was refused", True),
)
"""What the exception says, the reason in words, and whether it may pass."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for what, in seconds, and how often to try."""

    call_seconds: float = 60
    submit_seconds: float = 180
    stall_seconds: float = 60
    """A download that brings no byte for so long is given up."""
    transfer_seconds: float = 3600
    attempts: int = 5
    first_pause_seconds: float = 2
    """Before the second attempt; doubled before each later one."""
    longest_pause_seconds: float = 120
    """A Retry-After beyond this is not waited for."""
    listing_seconds: float = 120
    """Within which a submission must show in Kaggle's list."""
    poll_seconds: float = 10
    longest_poll_seconds: float = 60
    """The first and the longest pause between two looks at something that takes its time."""
    notice_seconds: float = 15
    """Between two lines that tell that something is still waited for."""

    @property
    def unconfirmed_seconds(self) -> float:
        """Within which an upload ends and shows in the list: its process may outlive a parent that is killed."""
        return self.submit_seconds + ALARM_SECONDS + self.listing_seconds

    def seconds_for(self, call: str) -> float:
        """Return how long a call may take."""
        if call in (*DOWNLOADS, *UPLOADS):
            return self.transfer_seconds
        return self.submit_seconds if call in (*SUBMITS, "kernels_push") else self.call_seconds


class UnreachableError(KitError):
    """Kaggle did not answer, or asked to come back later: worth another attempt.

    `maybe_submitted` is True where a submission may have been recorded although the answer is lost.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, maybe_submitted: bool = False):
        super().__init__(message)
        self.retry_after = retry_after
        self.maybe_submitted = maybe_submitted


class NoCredentials(KaggleRefused):
    """There are no credentials that the client could use; nothing was sent."""


def client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for the client: proxies and all else kept, its own settings cleaned, empty ones absent."""
    return {
        name: value.strip() if name in KEPT else value
        for name, value in environment.items()
        if name not in ("VERBOSE", "VERBOSE_OUTPUT")  # With them the client prints its Authorization header.
        and (not name.startswith("KAGGLE_") or (name in KEPT and value.strip()))
    }


def call_child(call: str, arguments: dict[str, Any], policy: RetryPolicy, tell: Callable[[str], None]) -> dict:
    """Run `child.py` in a process of its own and return its reply as it is.

    A download may take as long as its folder grows. What is waited for is told now and then.

    Raises:
        UnreachableError: the time is over, or there is no reply.
    """
    longest, lost = policy.seconds_for(call), {"maybe_submitted": call in SUBMITS}
    folder = Path(arguments["path"]) if call in DOWNLOADS else None
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            str(CHILD),
            json.dumps({"call": call, "arguments": arguments, "seconds": longest + ALARM_SECONDS}),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=client_environment(os.environ),
        text=True,
    )
    started = grew = told = time.monotonic()
    size = 0
    try:
        while True:
            try:
                return json.loads(process.communicate(timeout=0.2)[0])
            except subprocess.TimeoutExpired:
                now, before = time.monotonic(), size
            if folder:
                with contextlib.suppress(FileNotFoundError):  # The client has just removed its resume marker.
                    size = sum(file.stat().st_size for file in folder.rglob("*"))
                grew = now if size != before else grew
            for since, limit in ((started, longest), (grew, policy.stall_seconds if folder else longest)):
                if now - since > limit:
                    raise UnreachableError(f"No answer from Kaggle in {limit:.0f} s.", **lost)
            if now - told > policy.notice_seconds:
                told = now
                tell(f"Received {size / 1e6:,.1f} MB." if size else f"Waiting for Kaggle, {now - started:.0f} s.")
    except ValueError:
        message = f"The kaggle client ended without an answer (exit code {process.wait()})."
        raise UnreachableError(message, **lost) from None
    finally:
        process.kill()
        process.wait()


def error_of(call: str, page: str, kind: str, text: str, **found: Any) -> KitError:
    """Return the exception for an error that the child reports, see `child.describe`.

    Args:
        call: the client's method.
        page: the competition's address.
        kind: of the error.
        text: the client's or Kaggle's words.
        found: status, method, retry_after, and source and files of credentials, where known.
    """
    status, text = found.get("status"), short(re.sub(r" for url: \S+", "", text))
    maybe_submitted = call in SUBMITS and found.get("method") not in BEFORE_SUBMITTING
    if kind in ("missing", "version"):
        what = f"is version {text}, too old" if kind == "version" else f"is missing ({text})"
        python = display_path(Path(sys.executable))
        return BadInput(f"The kaggle client {what}. Install it: {python} -m pip install '{REQUIREMENT}' six")
    if kind == "credentials" or status == 401:
        return _credentials_error(page, found.get("source", ""), found.get("files", []), text * (status is None))
    if kind == "connection" or (status or 0) >= 500:
        matching = [fault for fault in CONNECTION_FAULTS if re.search(fault[0], text)] if status is None else []
        _, reason, passing = matching[0] if matching else ("", "", True)
        what = f"The connection to Kaggle failed{reason and f': {reason}'}"
        what = f"Kaggle has a problem (HTTP {status})." if status else what + "." * (not what.endswith("?"))
        return UnreachableError(what, maybe_submitted=maybe_submitted) if passing else KitError(what)
    if status is None:
        what = f"The kaggle client failed: {text.rstrip('.')}."
        if kind == "unreadable":
            what = f"The answer is not Kaggle's (a login page of the network, or a proxy?): {text.rstrip('.')}."
        if maybe_submitted or call == "competition_download_files":  # It compares what came with the announced size.
            return UnreachableError(what, maybe_submitted=maybe_submitted)
        return KitError(what)
    if status == 429:
        wait = found.get("retry_after")
        asked = "" if wait is None else f" for {wait:.0f} s"
        return UnreachableError(f"Kaggle asks to slow down{asked} (HTTP 429).", retry_after=wait)
    if call == "kernels_push" and status == 409:
        return KaggleRefused(f"Kaggle has a notebook of this title already ({text}). Give another: --title TITLE")
    if call == "kernels_push" and status == 403:
        return KaggleRefused(
            f"Kaggle forbids it ({text}). Notebooks with a GPU need an account with a verified phone number "
            f"(https://www.kaggle.com/settings) and the competition's rules accepted ({page}/rules). Without: "
            "--accelerator none"
        )
    if call == "kernels_output" and found.get("method") != "ListKernelSessionOutput":
        return KitError(f"A file of the output could not be fetched (HTTP {status}).")
    if status == 403:
        return KaggleRefused(f"Kaggle forbids it ({text}). Have you accepted the competition's rules? {page}/rules")
    if status == 404:
        return KitError(f"Kaggle does not find it ({text}). Look at {page}")
    return KaggleRefused(f"Kaggle refuses it (HTTP {status}): {text}")


def _credentials_error(page: str, source: str, files: list[str], text: str) -> KaggleRefused:
    """Return the exception for credentials that are missing or of no use."""
    token, user, key = (
        os.environ.get(name, "").strip() for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")
    )
    faults = [text] if text else []
    if bool(user) != bool(key):
        faults.append("of KAGGLE_USERNAME and KAGGLE_KEY only one is set")
    if len(token) > 255:
        faults.append("KAGGLE_API_TOKEN is too long for the client: put the token into ~/.kaggle/access_token")
    if files:
        faults.append(
            f"found {', '.join(files)}; a file access_token holds a token and nothing else, kaggle.json an old key as "
            'JSON, {"username": …, "key": …} (no token, KGAT_…), both as plain UTF-8 text that you can read'
        )
    why = f"\nWhat to look at: {'; '.join(faults)}." if faults else ""
    source = source or "KAGGLE_API_TOKEN" * bool(token)
    if source:
        return KaggleRefused(f"Kaggle does not accept the credentials of {source}. Make a new token: {TOKEN_PAGE}{why}")
    return NoCredentials(
        f"no Kaggle credentials found. Make a token at {TOKEN_PAGE} and save it in ~/.kaggle/access_token (or set "
        f"KAGGLE_API_TOKEN), and accept the rules: {page}/rules{why}\nWithout an account's token: fetch the zip "
        f"with a browser from {page}/data, then scripts/download.sh{find_competition(page).flag} --zip FILE"
    )


def short(text: str) -> str:
    """Return what Kaggle says in one line of a bearable length."""
    return " ".join(text.split())[:TEXT_LENGTH]


@contextlib.contextmanager
def if_interrupted(what: str) -> Iterator[None]:
    """Let an interrupt of the block say what is known then, and the command that continues."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(str(interrupt) or f"Interrupted. {what}") from None


def tell_on_stderr(line: str) -> None:
    """Print a line about waiting or danger."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Kaggle:
    """The client's calls, about one competition."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    tell: Callable[[str], None] = tell_on_stderr
    call: Callable[[str, dict[str, Any], RetryPolicy, Callable[[str], None]], dict] = call_child
    """What makes a call; tests give another."""
    competition: str = DIGIT_RECOGNIZER.slug
    _sources: list[str] = field(default_factory=list)

    @property
    def page(self) -> str:
        """The competition's address."""
        return f"https://www.kaggle.com/competitions/{self.competition}"

    def ask(
        self, call: str, arguments: dict[str, Any], attempts: int | None = None, absent: tuple[int, ...] = ()
    ) -> Any:
        """Call a method of the client's and return its answer, see `child.plain`, with no credential in it.

        After an UnreachableError it is called again, with a growing pause, unless something may have been submitted.

        Args:
            call: the name of a method of `KaggleApi`.
            arguments: of the method.
            attempts: how often to try; None: as the policy says. What changes something at Kaggle takes one.
            absent: HTTP statuses for which None is returned.

        Raises:
            KaggleRefused: the credentials, the rules or a limit: a person has to act.
            UnreachableError: the network or Kaggle is down, or the time is over.
            KitError: anything else that went wrong.
        """
        attempts = attempts or self.policy.attempts
        for number in range(1, attempts + 1):
            try:
                return self._once(call, arguments, absent)
            except UnreachableError as error:
                pause = error.retry_after
                if pause is None:
                    pause = self.policy.first_pause_seconds * 2 ** (number - 1)
                if number == attempts or error.maybe_submitted or pause > self.policy.longest_pause_seconds:
                    raise
                self.tell(f"{error} Trying again in {pause:.0f} s ({number + 1} of {attempts}).")
            time.sleep(pause)
        raise ValueError("attempts must be one or more")

    def _once(self, call: str, arguments: dict[str, Any], absent: tuple[int, ...]) -> Any:
        reply = redact(self.call(call, arguments, self.policy, self.tell))
        source = reply.get("source", "")
        if source and source not in self._sources:
            self._sources.append(source)
            with contextlib.suppress(OSError):
                if os.name != "nt" and Path(source).stat().st_mode & 0o077:
                    self.tell(
                        f"warning: other users of this machine can read {source}. Change that: chmod 600 {source}"
                    )
            self.tell(f"Credentials: {source}")
        if "error" in reply:
            if reply["error"].get("status") in absent:
                return None
            raise error_of(call, self.page, source=source, **reply["error"])
        if call == "competition_submit" and reply["value"].get("message") == UPLOAD_REFUSED:
            raise UnreachableError("Kaggle's storage refused the upload.")
        return reply["value"]

    def poll(self, look: Callable[[], Answer | None], seconds: float, waiting: str) -> Answer | None:
        """Call `look`, with growing pauses, until it returns something or the time is over; tell what is waited for."""
        started, pause, notice = time.monotonic(), self.policy.poll_seconds, 0.0
        while (found := look()) is None and (left := started + seconds - time.monotonic()) > 0:
            if seconds - left >= notice:
                notice = 2 * (seconds - left) + self.policy.notice_seconds
                self.tell(f"{waiting}, {left:,.0f} s at most.")
            time.sleep(min(pause, left))
            pause = min(1.5 * pause, self.policy.longest_poll_seconds)
        return found
