"""A Kaggle for the unmodified client, with faults on demand: a server on 127.0.0.1, or in this process, without one.

The client reaches the server as its HTTP proxy (`environment` says how), so it also sees, refuses and counts every
attempt to reach anything else. In this process the client's connections are replaced (`in_process`).
"""

# ruff: noqa: N802, N815 the methods have Kaggle's names

import base64
import contextlib
import io
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
import requests

from digits.kaggle import child, client
from digits.kaggle.client import SUBMITS, Kaggle, RetryPolicy, UnreachableError, client_environment, log_on_stderr

USER = "someone"
KEY = "0123456789abcdefKEYKEYKEY"
TOKEN = "KGAT_fedcba9876543210TOKENTOKEN"
SIGNATURE = "Signature=SIGNEDSIGNEDSIGNED"
STORAGE = "http://localhost/storage"

FAST = RetryPolicy(  # For the server.
    call_seconds=20, submit_seconds=20, stall_seconds=20, attempts=3, first_pause_seconds=0.01, longest_pause_seconds=5,
    listing_seconds=0.1, poll_seconds=0.05, longest_poll_seconds=0.2,
)  # fmt: skip
FASTER = replace(  # Without one.
    FAST, call_seconds=0.05, transfer_seconds=0.1, first_pause_seconds=0.001, listing_seconds=0.02, poll_seconds=0.005,
    longest_poll_seconds=0.01,
)  # fmt: skip


@dataclass
class Answer:
    """An answer to a request, or a fault in its place: `drop` the connection, or `stall` so many seconds."""

    status: int = 200
    body: bytes = b"<html>sorry</html>"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    stall: float = 0
    after: bool = False  # Do the work first: the answer alone is lost.
    short: int | None = None  # Send so many bytes of the right body, then drop the connection.


def of_json(value: dict, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


class FakeKaggle:
    """The state of the service; tests set it and read it."""

    def __init__(self) -> None:
        self.submissions: list[dict] = []
        self.uploads: list[bytes] = []
        self.archive: bytes | None = b""
        self.allowed_a_day, self.never_submitted, self.listed, self.polls_until_scored = 5, False, True, 0
        self.last_ref = 999
        self.outcome = {"status": "COMPLETE", "publicScore": "0.99671"}
        self.pushed: list[dict] = []
        self.push_reply: dict = {}
        self.states, self.failure, self.log = ["QUEUED", "RUNNING", "COMPLETE"], "", "all is well\n"
        self.output: dict[str, bytes] = {}  # The files that versions of a notebook left, by "version/name".
        self.dataset: dict | None = None
        self.new_dataset_status = "READY"
        self.blobs: dict[str, int] = {}
        self.requests: dict[str, list[dict]] = {}
        self.calls: Counter[str] = Counter()
        self.strangers: list[str] = []
        self._faults: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()

    def kaggle(self, log: Callable[[str], None] = lambda line: None, policy: RetryPolicy = FASTER, **how) -> Kaggle:
        return Kaggle(policy, log, in_process, **how)

    def fault(self, method: str, times: int = 1, message: str | None = None, **what: object) -> None:
        """Make the next `times` calls of a method, or fetches of a file, go wrong."""
        if message is not None:
            error = of_json({"code": what["status"], "message": message})
            what |= {"body": error.body, "headers": error.headers | what.get("headers", {})}
        self._faults.setdefault(method, []).extend([Answer(**what)] * times)

    def clear_faults(self) -> None:
        self._faults.clear()

    def record(self, description: str, **values: str) -> dict:
        self.last_ref += 1
        row = {
            "ref": self.last_ref,
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "description": description,
            "fileName": "submission.csv",
            "status": "PENDING",
            "polls": self.polls_until_scored,
            "outcome": dict(self.outcome),
        } | values
        self.submissions.insert(0, row)
        return row

    def respond(self, url: str, headers: dict, body: bytes) -> Answer:
        parts = urlsplit(url)
        if parts.hostname != "localhost":
            self.strangers.append(url)
            return Answer(403, b"")
        method = unquote(parts.path).rpartition("/")[2]
        with self._lock:
            self.calls[method] += 1
            waiting = self._faults.get(method)
            fault = waiting.pop(0) if waiting else None
        if fault and not fault.after and fault.short is None:
            return fault
        if parts.path.startswith("/storage/"):
            answer = self._storage(unquote(parts.path).removeprefix("/storage/"), headers, body)
        elif method != "IntrospectToken" and not self.knows(headers.get("Authorization") or ""):
            answer = of_json({"code": 401, "message": "Unauthenticated"}, 401)
        else:
            request = json.loads(body or b"{}")
            self.requests.setdefault(method, []).append(request)
            answer = getattr(self, f"_{method}")(request)
            answer = answer if isinstance(answer, Answer) else of_json(answer)
        return replace(answer, short=fault.short) if fault and fault.short is not None else fault or answer

    def knows(self, authorization: str) -> bool:
        basic = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        return authorization in (f"Basic {basic}", f"Bearer {TOKEN}")

    def _storage(self, name: str, headers: dict, body: bytes) -> Answer:
        if name == "upload":
            self.uploads.append(body)
            return Answer(200, b"")
        whole = self.archive if name.endswith(".zip") else self.output[name]
        start = int((headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        about = {"Accept-Ranges": "bytes", "ETag": '"one"', "Last-Modified": "Sat, 21 Nov 2020 10:00:00 GMT"}
        return Answer(206 if start else 200, whole[start:], about | {"Content-Type": "application/zip"})

    def _IntrospectToken(self, request):
        known = request.get("token") == TOKEN
        return {"active": True, "username": USER} if known else {"active": False}

    def _ListSubmissions(self, request):
        size, page = request.get("pageSize", 20), request.get("page", 1)
        rows = []
        for row in self.submissions if self.listed else []:
            if row["status"] == "PENDING":
                if row["polls"] <= 0:
                    row.update(row["outcome"])
                row["polls"] -= 1
            rows.append({name: value for name, value in row.items() if name not in ("polls", "outcome")})
        return {"submissions": rows[(page - 1) * size : page * size]}

    def _GetSubmissionLimits(self, request):
        today = len(self.submissions)
        left = max(0, self.allowed_a_day - today)
        return {} if self.never_submitted else {"numToday": today, "numTotal": today, "numAllowedNow": left}

    def _StartSubmissionUpload(self, request):
        return {"token": "blob", "createUrl": f"{STORAGE}/upload?{SIGNATURE}"}

    def _CreateSubmission(self, request):
        row = self.record(request.get("submissionDescription", ""))
        return {"message": "Successfully submitted to Digit Recognizer", "ref": row["ref"]}

    _CreateCodeSubmission = _CreateSubmission

    def _DownloadDataFiles(self, request):
        return Answer(302, b"", {"Location": f"{STORAGE}/{request['competitionName']}.zip?{SIGNATURE}"})

    def _SaveKernel(self, request):
        self.pushed.append(request)
        url = f"https://www.kaggle.com/code/{request['slug']}"
        return {"url": url, "versionNumber": len(self.pushed)} | self.push_reply

    def _GetKernelSessionStatus(self, request):
        newest = _version(request) == len(self.pushed)
        state = (self.states.pop(0) if len(self.states) > 1 else self.states[0]) if newest else "COMPLETE"
        return {"status": state, "failureMessage": self.failure * (state == "ERROR")}

    def _ListKernelSessionOutput(self, request):
        version = f"{_version(request)}/"
        files = [
            {"url": f"{STORAGE}/{quote(name)}?{SIGNATURE}", "fileName": name.removeprefix(version)}
            for name in self.output
            if name.startswith(version)
        ]
        start, size = int(request.get("pageToken") or 0), request["pageSize"]
        more = {"nextPageToken": str(start + size)} if start + size < len(files) else {}
        return {"files": files[start : start + size], "log": self.log} | more

    def _GetDatasetStatus(self, request):
        if self.dataset is None:
            return of_json({"code": 404, "message": "not found"}, 404)
        return {"status": self.dataset["status"]}

    def _GetDataset(self, request):
        return {"currentVersionNumber": self.dataset["version"]}

    def _ListDatasetFiles(self, request):
        return {"datasetFiles": [{"name": name, "totalBytes": size} for name, size in self.dataset["sizes"].items()]}

    def _StartBlobUpload(self, request):
        self.blobs[request["name"]] = request["contentLength"]
        return {"token": request["name"], "createUrl": f"{STORAGE}/upload?{SIGNATURE}"}

    def _CreateDataset(self, request):
        version = 1 if self.dataset is None else self.dataset["version"] + 1
        self.dataset = {"status": self.new_dataset_status, "version": version, "sizes": dict(self.blobs)}
        return {"status": "ok"}

    _CreateDatasetVersion = _CreateDataset


def _version(request: dict) -> int:
    """Return the version that is asked for; without a label the first, as if Kaggle still answered for that."""
    return int("".join(filter(str.isdigit, request.get("versionLabel", ""))) or 1)


class _StalledError(BaseException):
    """In the place of a time limit: a process that never answers."""


@contextlib.contextmanager
def connected(monkeypatch: object, kaggle: FakeKaggle, home: Path) -> Iterator[FakeKaggle]:
    """Answer the client's requests in this process, with a token and a home."""

    def send(adapter, request, **_):
        body = request.body.read() if hasattr(request.body, "read") else request.body
        answer = kaggle.respond(request.url, request.headers, body)
        if answer.stall:
            raise _StalledError
        if answer.drop:
            raise requests.ConnectionError("Connection aborted", request=request)
        response = requests.Response()
        response.request, response.url, response.status_code = request, request.url, answer.status
        response.headers.update({"Content-Length": str(len(answer.body))} | answer.headers)
        response.raw = io.BytesIO(answer.body[: answer.short])
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    sign_in(monkeypatch, home)
    yield kaggle
    assert kaggle.strangers == []


def in_process(call, arguments, policy, log) -> dict:
    """Answer as the child process does, with the real client, whose requests `connected` answers."""
    import kaggle
    from kaggle.api.kaggle_api_extended import KaggleApi

    assert requests.adapters.HTTPAdapter.send.__module__ != "requests.adapters", "the test would reach the network"
    json.dumps(arguments)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        cleaned = client_environment(os.environ)
        for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
            patch.delenv(name)
        for name in [name for name in cleaned if name.startswith("KAGGLE_")]:
            patch.setenv(name, cleaned[name])
        home = Path(os.environ["HOME"])
        folder = Path(os.environ.get("KAGGLE_CONFIG_DIR") or home / ".kaggle")
        if not folder.exists():
            folder = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
        patch.setattr(KaggleApi, "config", str(folder / "kaggle.json"))
        patch.setattr(kaggle, "api", KaggleApi())
        try:
            return json.loads(json.dumps(asdict(child.reply_to(call, arguments))))
        except _StalledError:
            raise UnreachableError("No answer from Kaggle in 180 s.", maybe_submitted=call in SUBMITS) from None


def sign_in(monkeypatch: object, home: Path) -> None:
    """Use a home and a token in the place of the credentials and proxies of whoever runs the tests."""
    home.mkdir(parents=True)
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    variables = {"HOME": str(home), "KAGGLE_API_TOKEN": TOKEN, "KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def use(monkeypatch: object, kaggle: FakeKaggle, **seconds: float) -> None:
    policy = replace(FASTER, **seconds)
    monkeypatch.setattr(client, "Kaggle", lambda **how: kaggle.kaggle(log_on_stderr, policy, **how))


def _handler(kaggle: FakeKaggle, stop: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            kaggle.strangers.append(self.path)
            self._send(Answer(403, b""))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = kaggle.respond(self.path, self.headers, body)
            stop.wait(answer.stall)  # But not beyond the test's end.
            if answer.drop or answer.stall:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(2)
            else:
                self._send(answer)

        do_GET = do_PUT = do_POST

        def log_message(self, *_: object) -> None:
            """Be silent."""

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            about = {"Content-Type": "text/html", "Content-Length": str(len(answer.body))} | answer.headers
            for name, value in about.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(answer.body[: answer.short])
            self.close_connection = True

    return Handler


@contextlib.contextmanager
def stage(monkeypatch: object, home: Path) -> Iterator[FakeKaggle]:
    """Serve Kaggle to the processes that a test starts, with a token; at the end nobody may have called elsewhere."""
    sign_in(monkeypatch, home)
    kaggle, stop = FakeKaggle(), threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(kaggle, stop))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    proxy = f"http://127.0.0.1:{server.server_port}"
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    yield kaggle
    stop.set()
    server.shutdown()
    server.server_close()
    assert kaggle.strangers == []


def leaks(folder: Path, said: str) -> list[str]:
    """Return where a credential or a signed address can be read: in what was said, or in a file below a folder."""
    secrets = (KEY, TOKEN, SIGNATURE, base64.b64encode(f"{USER}:{KEY}".encode()).decode())
    places = {"what was said": said.encode()} | {
        str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }
    return [place for place, content in places.items() if any(secret.encode() in content for secret in secrets)]


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    assert true()
