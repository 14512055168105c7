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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from digits.console import BadInput, KaggleRefused, KitError
from digits.files import atomic_write, display_path
from digits.redaction import redact

COMPETITION = "digit-recognizer"
PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}"
TOKEN_PAGE = "https://www.kaggle.com/settings/api"

# The client turns every KAGGLE_X into a setting x (KAGGLE_PATH moves downloads), so only these go through. The last
# three are how the client logs in inside a Kaggle notebook.
KEPT = (
    "KAGGLE_API_TOKEN",
    "KAGGLE_USERNAME",
    "KAGGLE_KEY",
    "KAGGLE_CONFIG_DIR",
    "KAGGLE_API_ENVIRONMENT",
    "KAGGLE_API_V1_TOKEN",
    "KAGGLE_KERNEL_RUN_TYPE",
    "KAGGLE_DATA_PROXY_URL",
)
# With these set the client prints its Authorization header.
TELLTALES = ("VERBOSE", "VERBOSE_OUTPUT")


@dataclass(frozen=True)
class Credentials:
    """Where credentials were found, never what they are: `source` for people, `file` where they lie in one."""

    source: str
    file: Path | None = None

    @property
    def warning(self) -> str | None:
        """What is unsafe about the file, with the command that mends it, or None."""
        if self.file is None or os.name == "nt" or not self.file.stat().st_mode & 0o077:
            return None
        return f"warning: other users of this machine can read {self.file}. Mend it: chmod 600 {self.file}"


def client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for the client: proxies and all else kept, its own settings cleaned, empty ones absent."""
    cleaned = {
        name: value
        for name, value in environment.items()
        if name not in TELLTALES and (not name.startswith("KAGGLE_") or (name in KEPT and value.strip()))
    }
    for name in cleaned.keys() & set(KEPT):
        cleaned[name] = cleaned[name].strip()
    # Half a pair would be mixed by the client with the other half of kaggle.json.
    if not {"KAGGLE_USERNAME", "KAGGLE_KEY"} <= cleaned.keys():
        cleaned.pop("KAGGLE_USERNAME", None)
        cleaned.pop("KAGGLE_KEY", None)
    return cleaned


def find_credentials(environment: Mapping[str, str]) -> Credentials:
    """Return where the client will find credentials, in its own order.

    Raises:
        KaggleRefused: where there are none, saying how to get and where to put them.
    """
    found = next(_places(client_environment(environment)), None)
    if found is None:
        raise KaggleRefused(
            f"no Kaggle credentials found{_broken_file(environment)}. Make a token at {TOKEN_PAGE} and save it in "
            f"~/.kaggle/access_token (or set KAGGLE_API_TOKEN), and accept the rules: {PAGE}/rules\n"
            f"Without an account's token: fetch the zip with a browser from {PAGE}/data, then "
            "scripts/download.sh --zip FILE"
        )
    return found


def _places(environment: Mapping[str, str]) -> Iterator[Credentials]:
    home = Path.home() / ".kaggle"
    notebook_token = Path(environment.get("KAGGLE_API_V1_TOKEN", ""))
    if "KAGGLE_KERNEL_RUN_TYPE" in environment and notebook_token.is_file():
        yield Credentials("this Kaggle notebook")
    token = environment.get("KAGGLE_API_TOKEN", "")
    if token and not os.path.exists(token):  # noqa: PTH110 Path.exists() raises for a long token
        yield Credentials("KAGGLE_API_TOKEN")
    elif token and _has_text(Path(token)):
        yield Credentials(f"the file that KAGGLE_API_TOKEN names, {token}", Path(token))
    for file in (home / "access_token", home / "access_token.txt"):
        if _has_text(file):
            yield Credentials(str(file), file)
    if "KAGGLE_KEY" in environment:
        yield Credentials("KAGGLE_USERNAME and KAGGLE_KEY")
    for file, names in ((_key_file(environment), ("username", "key")), (home / "credentials.json", ("refresh_token",))):
        if _has_values(file, names):
            yield Credentials(str(file), file)


def _key_file(environment: Mapping[str, str]) -> Path:
    """Return where the client looks for kaggle.json."""
    if folder := environment.get("KAGGLE_CONFIG_DIR"):
        return Path(folder) / "kaggle.json"
    home = Path.home() / ".kaggle"
    if not home.exists():
        home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"
    return home / "kaggle.json"


def _broken_file(environment: Mapping[str, str]) -> str:
    file = _key_file(client_environment(environment))
    return f" ({file} is there, but holds no 'username' and 'key' as JSON)" if file.is_file() else ""


def _has_text(file: Path) -> bool:
    try:
        return bool(file.read_text(errors="replace").strip())
    except OSError:
        return False


def _has_values(file: Path, names: tuple[str, ...]) -> bool:
    try:
        values = json.loads(file.read_text())
        return all(str(values.get(name) or "").strip() for name in names)
    except (OSError, ValueError, AttributeError):
        return False


CHILD = Path(__file__).with_name("child.py")
REQUIREMENT = "kaggle>=2.2.4,<3"
BEFORE_SUBMITTING = ("IntrospectToken", "GenerateAccessToken", "StartSubmissionUpload")
"""The client's calls that come before the one that submits; an error of an unknown call may be of that one."""
TEXT_LENGTH = 300
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RetryPolicy:
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


def retry(
    attempt: Callable[[], Answer], patience: RetryPolicy, tell: Callable[[str], None], attempts: int | None = None
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


def run_client(call: str, patience: RetryPolicy, **arguments: Any) -> Any:
    """Make one call of `child.CALLS` and return its answer, with no credential in it.

    Raises:
        KaggleRefused: the credentials, the rules or a limit: a person has to act.
        UnreachableError: the network or Kaggle is down, or the time is over.
        KitError: anything else that went wrong.
    """
    reply = redact(call_child(call, patience, arguments))
    if "error" in reply:
        raise _failure(call, **reply["error"])
    return reply["value"]


def call_child(call: str, patience: RetryPolicy, arguments: dict[str, Any]) -> dict:
    """Run `child.py` in a process of its own, with a time limit, and return its reply as it is."""
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
        return json.loads(_output(process, longest, folder, patience.stall_seconds))
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
    text = _short(re.sub(r" for url: \S+", "", text))
    if kind == "missing":
        python = display_path(Path(sys.executable))
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


def _short(text: str) -> str:
    """Return what Kaggle says in one line of a bearable length."""
    return " ".join(text.split())[:TEXT_LENGTH]


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After header means (RFC 9110: a number or a date), or None."""
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, float(retry_after))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
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


def tell_on_stderr(line: str) -> None:
    """Print a line about waiting or danger."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Kaggle:
    """The calls to Kaggle. All raise what `run_client` raises, UnreachableError only after the last attempt."""

    patience: RetryPolicy = field(default_factory=RetryPolicy)
    tell: Callable[[str], None] = tell_on_stderr

    def log_in(self) -> str:
        """Return where the credentials lie, after a warning where others can read them; no network."""
        credentials = find_credentials(os.environ)
        if credentials.warning:
            self.tell(credentials.warning)
        return credentials.source

    def user_name(self) -> str:
        """Return the user's name on Kaggle."""
        return self._ask("user_name")

    def submissions(self, everything: bool = False) -> list[Submission]:
        """Return the newest hundred submissions, newest first, or all of them."""
        return _submissions(self._ask("list_submissions", competition=COMPETITION, everything=everything))

    def standing(self) -> tuple[Limits, list[Submission]]:
        """Return how many submissions were made and are left today, and the newest hundred."""
        reply = self._ask("standing", competition=COMPETITION)
        return Limits(**reply["limits"]), _submissions(reply["submissions"])

    def submit(self, file: Path, message: str) -> str:
        """Make one attempt to submit a file and return the ref, or "" where Kaggle does not tell it.

        Raises:
            UnreachableError: with `maybe_submitted`, the submission may have been recorded; without, it was not.
        """
        reply = run_client("submit", self.patience, competition=COMPETITION, file=str(file), message=message)
        if not reply["uploaded"]:
            raise UnreachableError("Kaggle's storage refused the upload.")
        return reply["ref"]

    def download(self, folder: Path) -> Path:
        """Download the data into an empty folder, with a progress bar; return the file, its content unchecked."""
        self._ask("download", attempts=2, competition=COMPETITION, folder=str(folder))
        archive = next(folder.glob(f"{COMPETITION}.*"), None)
        if archive is None:
            raise KitError(f"The kaggle client says that it downloaded the data, but there is no file. See {PAGE}/data")
        return archive

    def push_kernel(self, folder: Path) -> str:
        """Push a kernel's folder, in one attempt, and return the page where it runs."""
        reply = run_client("push_kernel", self.patience, folder=str(folder))
        if reply["error"]:
            raise KitError(f"Kaggle did not take the kernel: {_short(reply['error'])}")
        if reply["invalid"]:
            unknown = ", ".join(reply["invalid"])
            raise KitError(f"Kaggle took the kernel, but without these sources, which it does not know: {unknown}")
        return reply["url"]

    def kernel_status(self, kernel: str) -> str:
        """Return the state of a kernel's latest run (queued, running, complete); a failed one is a KitError."""
        reply = self._ask("kernel_status", kernel=kernel)
        if reply["state"] in ("error", "cancel_requested", "cancel_acknowledged"):
            raise KitError(f"The run of {kernel} ended as {reply['state']}: {reply['failure'] or 'no reason given'}")
        return reply["state"]

    def kernel_output(self, kernel: str, folder: Path) -> list[Path]:
        """Download the output of a kernel's latest run; the files reach `folder` only when all of them have come."""
        with tempfile.TemporaryDirectory() as temporary:
            sources = [Path(file) for file in self._ask("kernel_output", kernel=kernel, folder=temporary)]
            if not sources:
                raise KitError(f"The latest run of {kernel} has no output.")
            targets = [folder / source.relative_to(temporary) for source in sources]
            for source, target in zip(sources, targets, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(target) as whole:
                    shutil.copyfile(source, whole)
        return targets

    def _ask(self, call: str, attempts: int | None = None, **arguments: Any) -> Any:
        """Make a call that can be repeated without harm."""
        return retry(lambda: run_client(call, self.patience, **arguments), self.patience, self.tell, attempts)


def _submissions(rows: list[dict]) -> list[Submission]:
    return [Submission(**row | {"public_score": _score(row["public_score"])}) for row in rows]


def _score(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None
