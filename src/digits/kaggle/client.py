"""The kaggle client, each call in a process of its own with a time limit and its answer checked."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from digits.console import BadInput, KaggleRefused, KitError
from digits.files import atomic_write, display_path
from digits.redaction import redact

COMPETITION = "digit-recognizer"
TOKEN_PAGE = "https://www.kaggle.com/settings/api"
REQUIREMENT = "kaggle>=2.2.5,<3"
CHILD = Path(__file__).with_name("child.py")
TEXT_LENGTH = 300
KEPT = (
    *("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "KAGGLE_API_ENVIRONMENT"),
    *("KAGGLE_API_V1_TOKEN", "KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_DATA_PROXY_URL"),
)
"""The client turns every KAGGLE_X into a setting x (KAGGLE_PATH moves downloads), so only these reach it. The last
three are how it logs in inside a Kaggle notebook."""
BEFORE_SUBMITTING = ("IntrospectToken", "GenerateAccessToken", "StartSubmissionUpload")
"""The client's calls before the one that submits; an error of an unknown call may be of that one."""
SUBMITS = ("submit", "submit_notebook")
PASSING = (
    ("NameResolutionError|getaddrinfo|gaierror", "the name of Kaggle's server cannot be resolved: is there a network?"),
    ("ProxyError|[Pp]roxy", "the proxy (https_proxy) does not let it through"),
    ("[Tt]imed? ?out", "it timed out"),
    ("refused", "it was refused"),
)
"""Reasons for which a connection fails, by what the exception says."""
LASTING = (
    ("407", "the proxy asks for a name and password: https_proxy=http://NAME:PASSWORD@HOST:PORT"),
    (
        "CERTIFICATE_VERIFY_FAILED|SSLError|certificate",
        "the certificate is not trusted; where a proxy inspects the traffic, REQUESTS_CA_BUNDLE must name the file "
        "with its certificate authority",
    ),
)
"""Those that another attempt does not change."""
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
    """Between two looks at a notebook that runs for hours."""
    notice_seconds: float = 15
    """Between two lines that tell that something is still waited for."""

    def seconds_for(self, call: str) -> float:
        """Return how long a call may take."""
        if call in ("download", "kernel_output", "publish"):
            return self.transfer_seconds
        return self.submit_seconds if call in SUBMITS or call == "push_kernel" else self.call_seconds


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
    cleaned = {
        name: value.strip() if name in KEPT else value
        for name, value in environment.items()
        if name not in ("VERBOSE", "VERBOSE_OUTPUT")  # with them the client prints its Authorization header
        and (not name.startswith("KAGGLE_") or (name in KEPT and value.strip()))
    }
    if _half_a_pair(cleaned):  # The client would mix it with the other half of kaggle.json.
        cleaned.pop("KAGGLE_USERNAME", None)
        cleaned.pop("KAGGLE_KEY", None)
    return cleaned


def _half_a_pair(environment: Mapping[str, str]) -> bool:
    return len([name for name in ("KAGGLE_USERNAME", "KAGGLE_KEY") if environment.get(name, "").strip()]) == 1


def call_child(call: str, arguments: dict[str, Any], policy: RetryPolicy, tell: Callable[[str], None]) -> dict:
    """Run `child.py` in a process of its own and return its reply as it is.

    A call that fills a folder may take as long as the folder grows. What is waited for is told now and then.

    Raises:
        UnreachableError: the time is over, or there is no reply.
    """
    longest, maybe_submitted = policy.seconds_for(call), call in SUBMITS
    folder = Path(arguments["folder"]) if call in ("download", "kernel_output") else None
    process = subprocess.Popen(
        [sys.executable, "-P", str(CHILD), json.dumps({"call": call, "arguments": arguments, "seconds": longest + 10})],
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
                size = _size(folder)
                grew = now if size != before else grew
            if now - started > longest or (folder and now - grew > policy.stall_seconds):
                limit = longest if now - started > longest else policy.stall_seconds
                raise UnreachableError(f"No answer from Kaggle in {limit:.0f} s.", maybe_submitted=maybe_submitted)
            if now - told > policy.notice_seconds:
                told = now
                tell(f"Received {size / 1e6:,.1f} MB." if size else f"Waiting for Kaggle, {now - started:.0f} s.")
    except ValueError:
        message = f"The kaggle client ended without an answer (exit code {process.wait()})."
        raise UnreachableError(message, maybe_submitted=maybe_submitted) from None
    finally:
        process.kill()
        process.wait()


def _size(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the client has just removed its resume marker
            size += file.stat().st_size
    return size


def error_of(call: str, page: str, kind: str, text: str, **found: Any) -> KitError:
    """Return the exception for an error that the child reports, see `child.describe`.

    Args:
        call: which of `child.CALLS` was made.
        page: the competition's address.
        kind: of the error.
        text: the client's or Kaggle's words.
        found: status, method, retry_after, faults (of credentials) and source (of credentials), where known.
    """
    status, text = found.get("status"), _short(re.sub(r" for url: \S+", "", text))
    maybe_submitted = call in SUBMITS and found.get("method") not in BEFORE_SUBMITTING
    if kind in ("missing", "version"):
        what = f"is version {text}, too old" if kind == "version" else f"is missing ({text})"
        python = display_path(Path(sys.executable))
        return BadInput(f"The kaggle client {what}. Install it: {python} -m pip install '{REQUIREMENT}' six")
    if kind == "credentials" or status == 401:
        faults = found.get("faults") or []
        if _half_a_pair(os.environ):
            faults = [*faults, "of KAGGLE_USERNAME and KAGGLE_KEY only one is set"]
        why = f"\nWhat is there cannot be used: {'; '.join(faults)}." if faults else ""
        source = found.get("source") or ("KAGGLE_API_TOKEN" if os.environ.get("KAGGLE_API_TOKEN", "").strip() else "")
        if source:
            return KaggleRefused(
                f"Kaggle does not accept the credentials of {source}. Make a new token: {TOKEN_PAGE}{why}"
            )
        return NoCredentials(
            f"no Kaggle credentials found. Make a token at {TOKEN_PAGE} and save it in ~/.kaggle/access_token (or set "
            f"KAGGLE_API_TOKEN), and accept the rules: {page}/rules{why}\nWithout an account's token: fetch the zip "
            f"with a browser from {page}/data, then scripts/download.sh --zip FILE"
        )
    if kind == "upload":
        return UnreachableError("Kaggle's storage refused the upload.")
    if kind == "connection" or (status is not None and status >= 500):
        reason = next((reason for pattern, reason in LASTING if re.search(pattern, text)), None)
        if reason and status is None:
            return KitError(f"The connection to Kaggle failed: {reason}.")
        reason = next((f": {reason}" for pattern, reason in PASSING if re.search(pattern, text)), "")
        what = f"Kaggle has a problem (HTTP {status})." if status else f"The connection to Kaggle failed{reason}."
        return UnreachableError(what.replace("?.", "?"), maybe_submitted=maybe_submitted)
    if status is None:
        what = f"The kaggle client failed: {text.rstrip('.')}."
        if kind == "unreadable":
            what = f"The answer is not Kaggle's (a login page of the network, or a proxy?): {text.rstrip('.')}."
        return UnreachableError(what, maybe_submitted=True) if maybe_submitted else KitError(what)
    if status == 429:
        wait = _seconds(found.get("retry_after"))
        asked = "" if wait is None else f" for {wait:.0f} s"
        return UnreachableError(f"Kaggle asks to slow down{asked} (HTTP 429).", retry_after=wait)
    if call == "push_kernel" and status in (403, 409):
        return KaggleRefused(
            f"Kaggle has a notebook of this title already ({text}). Give another: --title TITLE"
            if status == 409
            else f"Kaggle forbids it ({text}). Notebooks with a GPU need an account with a verified phone number "
            f"(https://www.kaggle.com/settings) and the competition's rules accepted ({page}/rules). Without: "
            "--accelerator none"
        )
    if status == 403:
        return KaggleRefused(f"Kaggle forbids it ({text}). Have you accepted the competition's rules? {page}/rules")
    if status == 404:
        return KitError(f"Kaggle does not find it ({text}). Look at {page}")
    return KaggleRefused(f"Kaggle refuses it (HTTP {status}): {text}")


def _short(text: str) -> str:
    """Return what Kaggle says in one line of a bearable length."""
    return " ".join(text.split())[:TEXT_LENGTH]


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After header means (RFC 9110: a number or a date), or None."""
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, float(retry_after or ""))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(retry_after or "") - datetime.now(UTC)).total_seconds())
    return None


@dataclass(frozen=True)
class Submission:
    """A row of Kaggle's list of submissions; `time` is UTC, `status` is pending, complete or error."""

    ref: str
    time: str
    description: str
    status: str
    public_score: float | None
    reason: str


@dataclass(frozen=True)
class Limits:
    """How many submissions were made and are left today (UTC)."""

    num_today: int
    num_total: int
    num_allowed_now: int
    limited_by_total: bool

    @property
    def known(self) -> bool:
        """False for someone who has not submitted yet: Kaggle then answers zero to everything."""
        return bool(self.num_total or self.num_allowed_now)


@dataclass(frozen=True)
class Push:
    """What Kaggle made of a pushed notebook: `name` is owner/slug."""

    name: str
    version: int
    url: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def tell_on_stderr(line: str) -> None:
    """Print a line about waiting or danger."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Kaggle:
    """The calls to Kaggle, of one competition.

    All but `submit`, `submit_notebook`, `push_kernel` and `publish`, which change something, are repeated after an
    UnreachableError; they raise it only after the last attempt.
    """

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    tell: Callable[[str], None] = tell_on_stderr
    call: Callable[[str, dict[str, Any], RetryPolicy, Callable[[str], None]], dict] = call_child
    """What makes a call; tests give another."""
    competition: str = COMPETITION
    _sources: list[str] = field(default_factory=list)

    @property
    def page(self) -> str:
        """The competition's address."""
        return f"https://www.kaggle.com/competitions/{self.competition}"

    def once(self, call: str, **arguments: Any) -> Any:
        """Make one call of `child.CALLS` and return its answer, with no credential in it.

        Raises:
            KaggleRefused: the credentials, the rules or a limit: a person has to act.
            UnreachableError: the network or Kaggle is down, or the time is over.
            KitError: anything else that went wrong.
        """
        reply = redact(self.call(call, arguments, self.policy, self.tell))
        found = reply.get("credentials", {})
        if found and found["source"] not in self._sources:
            self._sources.append(found["source"])
            if found["warning"]:
                self.tell(f"warning: {found['warning']}")
            self.tell(f"Credentials: {found['source']}")
        if "error" in reply:
            raise error_of(call, self.page, source=found.get("source"), **reply["error"])
        return reply["value"]

    def ask(self, call: str, attempts: int | None = None, **arguments: Any) -> Any:
        """Make a call that can be repeated without harm."""
        return self.retry(lambda: self.once(call, **arguments), attempts)

    def retry(self, attempt: Callable[[], Answer], attempts: int | None = None) -> Answer:
        """Call `attempt` until it answers, with a growing pause after each UnreachableError; the last one is raised.

        One that may have submitted something is raised at once: that is not to be repeated.
        """
        attempts = attempts or self.policy.attempts
        for number in range(1, attempts + 1):
            try:
                return attempt()
            except UnreachableError as error:
                pause = error.retry_after
                if pause is None:
                    pause = self.policy.first_pause_seconds * 2 ** (number - 1)
                if number == attempts or error.maybe_submitted or pause > self.policy.longest_pause_seconds:
                    raise
                self.tell(f"{error} Trying again in {pause:.0f} s ({number + 1} of {attempts}).")
            time.sleep(pause)
        raise ValueError("attempts must be one or more")

    def user_name(self) -> str:
        """Return the user's name on Kaggle."""
        return self.ask("user_name")

    def submissions(self, everything: bool = False) -> list[Submission]:
        """Return the newest hundred submissions, newest first, or all of them."""
        return _submissions(self.ask("list_submissions", competition=self.competition, everything=everything))

    def standing(self) -> tuple[Limits | None, list[Submission]]:
        """Return how many submissions are left today (None where Kaggle does not say) and the newest hundred."""
        reply = self.ask("standing", competition=self.competition)
        return Limits(**reply["limits"]) if reply["limits"] else None, _submissions(reply["submissions"])

    def submit(self, file: Path, message: str) -> str:
        """Make one attempt to submit a file and return the ref, or "" where Kaggle does not tell it.

        Raises:
            UnreachableError: with `maybe_submitted`, the submission may have been recorded; without, it was not.
        """
        return self.once("submit", competition=self.competition, file=str(file), message=message)

    def submit_notebook(self, push: Push, file_name: str, message: str) -> str:
        """Do as `submit` with a file in the output of a notebook's version: for code competitions."""
        arguments = {"kernel": push.name, "version": push.version, "file": file_name, "message": message}
        return self.once("submit_notebook", competition=self.competition, **arguments)

    def download(self, folder: Path) -> Path:
        """Download the data into an empty folder; return the file, its content unchecked."""
        self.ask("download", attempts=2, competition=self.competition, folder=str(folder))
        archive = next(folder.glob(f"{self.competition}.*"), None)
        if archive is None:
            raise KitError(
                f"The kaggle client says that it downloaded the data, but there is no file: {self.page}/data"
            )
        return archive

    def push_kernel(self, folder: Path, name: str, accelerator: str | None = None) -> Push:
        """Push a kernel's folder, in one attempt."""
        reply = self.once("push_kernel", folder=str(folder), accelerator=accelerator)
        if reply["error"]:
            remedy = (
                "\nWithout an accelerator: --accelerator none; what is left of it: https://www.kaggle.com/settings"
                if "quota" in reply["error"].lower()
                else "\nGive another title: --title TITLE" * ("title" in reply["error"].lower())
            )
            raise KaggleRefused(f"Kaggle did not take the notebook: {_short(reply['error'])}{remedy}")
        if reply["invalid"]:
            unknown = _short(", ".join(reply["invalid"]))
            raise KitError(f"Kaggle took the notebook, but without these sources, which it does not know: {unknown}")
        if not reply["version"]:
            raise KitError("Kaggle took the notebook but does not tell its version, so its run cannot be found.")
        return Push(name, reply["version"], reply["url"] or f"https://www.kaggle.com/code/{name}")

    def kernel_status(self, push: Push) -> tuple[str, str]:
        """Return the state of a version's run (queued, running, complete, error, cancel_…) and why it failed."""
        reply = self.ask("kernel_status", kernel=str(push))
        return reply["state"], _short(reply["failure"])

    def kernel_output(self, push: Push, folder: Path, pattern: str) -> list[Path]:
        """Download the output files of a version that match, and its log; they reach `folder` when all have come."""
        with tempfile.TemporaryDirectory() as temporary:
            sources = self.ask("kernel_output", kernel=str(push), folder=temporary, pattern=pattern)
            targets = [folder / Path(source).relative_to(temporary) for source in sources]
            for source, target in zip(sources, targets, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(target) as whole:
                    shutil.copyfile(source, whole)
        return targets


def _submissions(rows: list[dict]) -> list[Submission]:
    return [Submission(**row | {"public_score": _score(row["public_score"])}) for row in rows]


def _score(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None
