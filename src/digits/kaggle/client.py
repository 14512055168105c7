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
from digits.data.competition import DIGIT_RECOGNIZER, Competition
from digits.files import display_path, submissions_flag
from digits.kaggle.child import Kind, Reply
from digits.redaction import credential_files, redact
from digits.typed import read_as

TOKEN_PAGE = "https://www.kaggle.com/settings/api"
REQUIREMENT = "kaggle>=2.2.5,<3"
CHILD = Path(__file__).with_name("child.py")
ALARM_SECONDS = 10
"""After the time limit of a call, its process ends by itself."""
TEXT_LENGTH = 300
LONGEST_TOKEN = 255
"""Characters: the client looks for a file of that name."""
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
BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY")
CREDENTIALS = {
    "kaggle.json": (("username", "key"), "JSON with username and key (a token belongs into access_token)"),
    "credentials.json": (("refresh_token",), "JSON with refresh_token"),
}
"""The keys of the JSON that files with credentials hold, and that in words; the others hold a token."""
FAILURES = {
    Kind.CLIENT: f"The kaggle client {{text}}. Install it: {{python}} -m pip install '{REQUIREMENT}' six",
    Kind.DISK: "Nothing can be written to {text}. Make room, or set TMPDIR=FOLDER.",
    Kind.UPLOAD: "Kaggle's storage refused the upload.",
    Kind.PROXY: "The connection to Kaggle failed: the proxy that {proxy} names does not let it through; expected "
    "http://HOST:PORT, with a login http://NAME:PASSWORD@HOST:PORT (socks5:// needs: pip install pysocks).",
    Kind.CERTIFICATE: "The connection to Kaggle failed: the certificate is not trusted; where a proxy inspects the "
    "traffic, {bundle} must name the file with its certificate, found {file}.",
    Kind.NAME: "The connection to Kaggle failed: the name of its server cannot be resolved. Is there a network?",
    Kind.CONNECTION: "The connection to Kaggle failed: it was refused, broke off or timed out.",
    Kind.UNREADABLE: "The answer is not Kaggle's (a login page of the network, or a proxy?): {text}.",
    Kind.OTHER: "The kaggle client failed: {text}.",
}
ANSWERS: dict[tuple[str, int], tuple[type[KitError], str]] = {
    ("kernels_push", 409): (KaggleRefused, "Kaggle has a notebook of this title already. Give another: --title TITLE"),
    ("kernels_push", 403): (
        KaggleRefused,
        "Kaggle forbids it ({text}). Have you accepted the competition's rules? {page}/rules Notebooks with a GPU need "
        "an account with a verified phone number, too: https://www.kaggle.com/settings Without: --accelerator none",
    ),
    ("", 403): (KaggleRefused, "Kaggle forbids it ({text}). Have you accepted the competition's rules? {page}/rules"),
    ("", 404): (KitError, "Kaggle does not find it ({text}). Look at {page}"),
}
"""What HTTP statuses mean, for one call or, with an empty name, for all."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for what, in seconds, and how often to try."""

    call_seconds: float = 60
    submit_seconds: float = 180
    transfer_seconds: float = 3600
    stall_seconds: float = 60  # A download that brings no byte for so long is given up.
    attempts: int = 5
    first_pause_seconds: float = 2  # Before the second attempt; doubled before each later one.
    longest_pause_seconds: float = 120  # A Retry-After beyond this is not waited for.
    listing_seconds: float = 120  # Within which a submission must show in Kaggle's list.
    poll_seconds: float = 10
    longest_poll_seconds: float = 60
    notice_seconds: float = 15  # Between two lines about something that is still waited for.

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
        self.retry_after, self.maybe_submitted = retry_after, maybe_submitted


class CredentialsError(KaggleRefused):
    """There are credentials, and Kaggle or the client cannot use them."""


class MissingCredentialsError(CredentialsError):
    """There are no credentials; nothing was sent."""


def client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for the client: proxies and all else kept, its own settings cleaned, empty ones absent."""
    return {
        name: value.strip() if name in KEPT else value
        for name, value in environment.items()
        if name not in ("VERBOSE", "VERBOSE_OUTPUT")  # With them the client prints its Authorization header.
        and (not name.startswith("KAGGLE_") or (name in KEPT and value.strip()))
    }


def call_child(call: str, arguments: dict[str, Any], policy: RetryPolicy, log: Callable[[str], None]) -> dict:
    """Run `child.py` in a process of its own and return its `Reply` as JSON; UnreachableError: there is none in time.

    A download may take as long as its folder grows. What is waited for is logged now and then.
    """
    longest, lost = policy.seconds_for(call), {"maybe_submitted": call in SUBMITS}
    folder, limit = (Path(arguments["path"]), policy.stall_seconds) if call in DOWNLOADS else (None, longest)
    request = json.dumps({"call": call, "arguments": arguments, "seconds": longest + ALARM_SECONDS})
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command, environment = [sys.executable, "-P", str(CHILD), request], client_environment(os.environ)
    process = subprocess.Popen(command, env=environment, text=True, **streams)
    started = grew = logged = time.monotonic()
    size = 0
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return json.loads(process.communicate(timeout=0.2)[0])
            now, before = time.monotonic(), size
            with contextlib.suppress(FileNotFoundError):  # The client has just removed its resume marker.
                size = sum(file.stat().st_size for file in folder.rglob("*")) if folder else 0
            grew = grew if size == before else now
            if now - grew > limit:
                raise UnreachableError(f"No answer from Kaggle in {limit:.0f} s.", **lost)
            if now - logged > policy.notice_seconds:
                logged = now
                log(f"Received {size / 1e6:,.1f} MB." if size else f"Waiting for Kaggle, {now - started:.0f} s.")
    except ValueError:
        message = f"The kaggle client ended without an answer (exit code {process.wait()})."
        raise UnreachableError(message, **lost) from None
    finally:
        process.kill()
        process.wait()


def error_of(call: str, page: str, reply: Reply) -> KitError:
    """Return the exception for a call that failed; `page` is the competition's."""
    text = short(re.sub(r" for url: \S+", "", reply.text)).rstrip(".")
    maybe_submitted = call in SUBMITS and reply.method not in BEFORE_SUBMITTING
    if reply.failure is Kind.CREDENTIALS or reply.status == 401:
        return _credentials_error(page, reply, "" if reply.status else text)
    if reply.failure is Kind.ANSWER or reply.failure is None:
        return _answer_error(call, page, reply, text, maybe_submitted)
    proxy = next((name for name in PROXY_VARIABLES if os.environ.get(name)), "https_proxy")
    bundle = next((name for name in BUNDLE_VARIABLES if os.environ.get(name)), BUNDLE_VARIABLES[0])
    names = {"proxy": proxy, "bundle": bundle, "file": os.environ.get(bundle) or "none"}
    message = FAILURES[reply.failure].format(text=text, python=display_path(Path(sys.executable)), **names)
    if reply.failure is Kind.CLIENT:
        return BadInput(message)
    # A download that broke off ends as another error: the client compares what came with the announced size.
    may_pass = reply.failure in (Kind.UPLOAD, Kind.NAME, Kind.CONNECTION) or call == "competition_download_files"
    if reply.failure is not Kind.DISK and (may_pass or maybe_submitted):
        return UnreachableError(message, maybe_submitted=maybe_submitted and reply.failure is not Kind.UPLOAD)
    return KitError(message)


def _answer_error(call: str, page: str, reply: Reply, text: str, maybe_submitted: bool) -> KitError:
    """Return the exception for an HTTP status."""
    status, wait = reply.status or 0, reply.retry_after
    if status >= 500:
        return UnreachableError(f"Kaggle has a problem (HTTP {status}).", maybe_submitted=maybe_submitted)
    if status == 429:
        duration = "" if wait is None else f" for {wait:.0f} s"
        return UnreachableError(f"Kaggle asks to slow down{duration} (HTTP 429).", retry_after=wait)
    if call == "kernels_output" and reply.method != "ListKernelSessionOutput":
        return KitError(f"A file of the output could not be fetched (HTTP {status}).")
    other = KaggleRefused, "Kaggle refuses it (HTTP {status}): {text}"
    kind, message = ANSWERS.get((call, status)) or ANSWERS.get(("", status), other)
    return kind(message.format(text=text, page=page, status=status))


def _file_fault(file: Path) -> str:
    """Return why the client cannot use a file with credentials, or an empty text."""
    keys, expected = CREDENTIALS.get(file.name, ((), "a token on one line"))
    try:
        text = file.read_bytes().decode()
        values = dict(json.loads(text)) if keys else {}
        is_whole = all(values.get(key) for key in keys) and (keys or len(text.split()) == 1)
        if is_whole and not text.startswith("\ufeff") and not str(values.get("key")).startswith("KGAT_"):
            return ""
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (ValueError, TypeError):  # No UTF-8, no JSON, or of another form.
        pass
    return f"is not {expected}, in UTF-8 without a byte order mark"


def _credentials_error(page: str, reply: Reply, text: str) -> CredentialsError:
    """Return the exception for credentials that are missing or of no use, each with what is wrong with it."""
    names = "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"
    token, user, key = (os.environ.get(name, "").strip() for name in names)
    files = {file: _file_fault(file) for file in credential_files()}
    if not reply.source and not reply.status:  # The client reads one kaggle.json, and it takes a good one.
        unread = [file for file, fault in files.items() if file.name == "kaggle.json" and not fault]
        files |= dict.fromkeys(unread, "is not where the client looks")
    faults = [f"{file} {fault}" for file, fault in files.items() if fault]
    if bool(user) != bool(key):
        faults.append("of KAGGLE_USERNAME and KAGGLE_KEY only one is set")
    if len(token) > LONGEST_TOKEN:
        faults.append("KAGGLE_API_TOKEN is too long for the client: put the token into ~/.kaggle/access_token")
    elif token and Path(token) not in files:
        files = {Path("KAGGLE_API_TOKEN"): ""} | files
    refused = reply.source or ", ".join(str(file) for file, fault in files.items() if not fault)
    faults = faults or list(filter(None, [text]))
    cure = f"Make a new token: {TOKEN_PAGE} (credentials.json is renewed by: kaggle auth login)"
    if refused:
        reasons = f"\nWhat to look at: {'; '.join(faults)}." if faults else ""
        return CredentialsError(f"Kaggle does not accept the credentials of {refused}. {cure}{reasons}")
    if faults:
        return CredentialsError(f"the Kaggle credentials cannot be used: {'; '.join(faults)}. {cure}")
    return MissingCredentialsError(
        f"no Kaggle credentials found. Make a token at {TOKEN_PAGE}, save it in ~/.kaggle/access_token (or set "
        f"KAGGLE_API_TOKEN), and accept the rules: {page}/rules"
    )


def short(text: str) -> str:
    """Return what Kaggle says in one line of a bearable length."""
    return " ".join(text.split())[:TEXT_LENGTH]


@contextlib.contextmanager
def if_interrupted(message: str) -> Iterator[None]:
    """Let an interrupt of the block say what is known then, and the command that continues."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(str(interrupt) or f"Interrupted. {message}") from None


def log_on_stderr(line: str) -> None:
    """Print a line about waiting or danger."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Kaggle:
    """The client's calls, about one competition."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    log: Callable[[str], None] = log_on_stderr
    call: Callable[[str, dict[str, Any], RetryPolicy, Callable[[str], None]], dict] = call_child
    competition: Competition = DIGIT_RECOGNIZER
    _announced: list[str] = field(default_factory=list)

    @property
    def page(self) -> str:
        """The competition's address."""
        return f"https://www.kaggle.com/competitions/{self.competition.slug}"

    def flags(self, submissions: Path) -> str:
        """Return what commands about this competition and folder of runs need."""
        return self.competition.flag + submissions_flag(submissions)

    def ask(
        self, call: str, arguments: dict[str, Any], attempts: int | None = None, absent: tuple[int, ...] = ()
    ) -> Any:
        """Call a method of `KaggleApi` and return its answer, see `child.plain`, with no credential in it.

        After an UnreachableError it is called again, with a growing pause, unless something may have been submitted.
        What changes something at Kaggle takes one of the `attempts` (None: as the policy says). For the HTTP statuses
        in `absent` None is returned. Raises KaggleRefused for the credentials, the rules or a limit, where a person has
        to act; UnreachableError if the network or Kaggle is down, or the time is over; KitError for anything else.
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
                self.log(f"{error} Trying again in {pause:.0f} s ({number + 1} of {attempts}).")
            time.sleep(pause)
        raise ValueError("attempts must be one or more")

    def _once(self, call: str, arguments: dict[str, Any], absent: tuple[int, ...]) -> Any:
        reply = read_as(Reply, redact(self.call(call, arguments, self.policy, self.log)), "the kaggle client")
        if reply.source and reply.source not in self._announced:
            self._announced.append(reply.source)
            self.log(f"Credentials: {reply.source}")
            file = Path(reply.source)
            if os.name != "nt" and len(reply.source) < 256 and file.is_file() and file.stat().st_mode & 0o077:
                self.log(f"warning: other users of this machine can read {file}. Change that: chmod 600 {file}")
        if reply.failure is None:
            return reply.value
        if reply.failure is Kind.ANSWER and reply.status in absent:
            return None
        raise error_of(call, self.page, reply)

    def poll(self, look: Callable[[], Answer | None], seconds: float, waiting: str) -> Answer | None:
        """Call `look`, with growing pauses, until it returns something or the time is over; log what is waited for."""
        started, pause, notice = time.monotonic(), self.policy.poll_seconds, 0.0
        while (answer := look()) is None and (left := started + seconds - time.monotonic()) > 0:
            if seconds - left >= notice:
                notice = 2 * (seconds - left) + self.policy.notice_seconds
                self.log(f"{waiting}, {left:,.0f} s at most.")
            time.sleep(min(pause, left))
            pause = min(1.5 * pause, self.policy.longest_poll_seconds)
        return answer
