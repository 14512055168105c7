"""A server on 127.0.0.1 that plays Kaggle for the unmodified client, with faults on demand.

The client reaches it as its HTTP proxy (`environment` says how), so it also sees, refuses and counts every attempt to
reach anything else.
"""

import base64
import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from digits.kaggle.client import RetryPolicy

USER = "someone"
KEY = "0123456789abcdefKEYKEYKEY"
TOKEN = "KGAT_fedcba9876543210TOKENTOKEN"
SIGNATURE = "Signature=SIGNEDSIGNEDSIGNED"

FAST = RetryPolicy(
    call_seconds=20,
    submit_seconds=20,
    stall_seconds=20,
    attempts=3,
    first_pause_seconds=0.01,
    longest_pause_seconds=5,
    listing_seconds=0.1,
    poll_seconds=0.05,
    longest_poll_seconds=0.2,
)


@dataclass
class Fault:
    """What to do instead of the right answer: `drop` the connection, `stall` so many seconds, or answer badly."""

    status: int = 0
    message: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    drop: bool = False
    stall: float = 0
    after: bool = False
    """Do the work first: the answer alone is lost."""
    short: int | None = None
    """Send so many bytes of the right body, then drop the connection."""


class FakeKaggle:
    """The state of the played service; tests set it and read it while the server runs."""

    def __init__(self) -> None:
        self.submissions: list[dict] = []
        self.uploads: list[bytes] = []
        self.archive = b""
        self.allowed_a_day = 5
        self.never_submitted = False
        self.listed = True
        self.polls_until_scored = 0
        self.outcome = {"status": "COMPLETE", "publicScore": "0.99671"}
        self.kernel: dict[str, dict] = {}
        """Answers to calls of other services, by method; a function is asked with the request."""
        self.requests: dict[str, list[dict]] = {}
        self.calls: Counter[str] = Counter()
        self.strangers: list[str] = []
        self._faults: dict[str, list[Fault]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> "FakeKaggle":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables that bring the client here and nowhere else, without credentials."""
        proxy = f"http://127.0.0.1:{self._server.server_port}"
        return {
            "HOME": str(home),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": proxy,
            "https_proxy": proxy,
            "HTTP_PROXY": proxy,
            "HTTPS_PROXY": proxy,
        }

    def fault(self, method: str, times: int = 1, **what: object) -> None:
        """Make the next `times` calls of a method go wrong."""
        self._faults.setdefault(method, []).extend([Fault(**what)] * times)

    def mend(self) -> None:
        """Forget the faults to come."""
        self._faults.clear()

    def next_fault(self, method: str) -> Fault | None:
        """Take the next fault of a method."""
        with self._lock:
            self.calls[method] += 1
            waiting = self._faults.get(method)
            return waiting.pop(0) if waiting else None

    def wait(self, seconds: float) -> None:
        """Stall, but not beyond the test's end."""
        self._stop.wait(seconds)

    def submit(self, description: str, **values: str) -> dict:
        """Record a submission, as the API or the site does."""
        row = {
            "ref": 1000 + len(self.submissions),
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "description": description,
            "fileName": "submission.csv",
            "status": "PENDING",
            "polls": self.polls_until_scored,
            "outcome": dict(self.outcome),
        } | values
        self.submissions.insert(0, row)
        return row

    def answer(self, method: str, request: dict) -> tuple[int, dict]:
        """Answer an API method as Kaggle would."""
        today = len(self.submissions)
        self.requests.setdefault(method, []).append(request)
        if method == "IntrospectToken":
            known = request.get("token") == TOKEN
            return 200, {"active": True, "username": USER} if known else {"active": False}
        if method == "ListSubmissions":
            return 200, {"submissions": self._list(request)}
        if method == "GetSubmissionLimits":
            if self.never_submitted:
                return 200, {}
            left = max(0, self.allowed_a_day - today)
            return 200, {"numToday": today, "numTotal": today, "numAllowedNow": left}
        if method == "StartSubmissionUpload":
            return 200, {"token": "blob", "createUrl": f"http://localhost/storage/upload?{SIGNATURE}"}
        if method in ("CreateSubmission", "CreateCodeSubmission"):
            row = self.submit(request.get("submissionDescription", ""))
            return 200, {"message": "Successfully submitted to Digit Recognizer", "ref": row["ref"]}
        answer = self.kernel.get(method, {})
        return 200, answer(request) if callable(answer) else answer

    def _list(self, request: dict) -> list[dict]:
        size, page = request.get("pageSize", 20), request.get("page", 1)
        rows = []
        for row in self.submissions if self.listed else []:
            if row["status"] == "PENDING":
                if row["polls"] <= 0:
                    row.update(row["outcome"])
                row["polls"] -= 1
            rows.append({name: value for name, value in row.items() if name not in ("polls", "outcome")})
        return rows[(page - 1) * size : page * size]

    def knows(self, authorization: str) -> bool:
        """Check the credentials of a call."""
        basic = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        return authorization in (f"Basic {basic}", f"Bearer {TOKEN}")


def _handler(kaggle: FakeKaggle) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            kaggle.strangers.append(self.path)
            self._send(403, b"")

        def do_POST(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def log_message(self, *_: object) -> None:
            """Be silent."""

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            if url.hostname != "localhost":
                kaggle.strangers.append(self.path)
                self._send(403, b"")
                return
            method = url.path.rpartition("/")[2]
            fault = kaggle.next_fault(method)
            if fault and not fault.after and fault.short is None:
                self._fail(fault)
            elif url.path.startswith("/storage/"):
                self._storage(method, body, fault)
            else:
                self._api(method, body, fault)

        def _fail(self, fault: Fault) -> None:
            kaggle.wait(fault.stall)
            if fault.drop or fault.stall:
                self._drop()
            elif fault.message is not None:
                self._json(fault.status, {"code": fault.status, "message": fault.message}, fault.headers)
            else:
                self._send(fault.status, fault.body or b"<html>sorry</html>", "text/html", fault.headers)

        def _api(self, method: str, body: bytes, fault: Fault | None) -> None:
            if method != "IntrospectToken" and not kaggle.knows(self.headers.get("Authorization", "")):
                self._json(401, {"code": 401, "message": "Unauthenticated"})
                return
            if method == "DownloadDataFiles":
                self._send(302, b"", headers={"Location": f"http://localhost/storage/digit-recognizer.zip?{SIGNATURE}"})
                return
            status, answer = kaggle.answer(method, json.loads(body or b"{}"))
            if fault and fault.short is not None:
                self._send(status, json.dumps(answer).encode(), "application/json", short=fault.short)
            elif fault:
                self._fail(fault)
            else:
                self._json(status, answer)

        def _storage(self, name: str, body: bytes, fault: Fault | None) -> None:
            if name == "upload":
                kaggle.uploads.append(body)
                self._send(200, b"")
                return
            whole = kaggle.archive if name.endswith(".zip") else b"from the kernel\n"
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            headers = {"Accept-Ranges": "bytes", "ETag": '"one"', "Last-Modified": "Sat, 21 Nov 2020 10:00:00 GMT"}
            self._send(206 if start else 200, whole[start:], "application/zip", headers, fault.short if fault else None)

        def _json(self, status: int, value: dict, headers: dict[str, str] | None = None) -> None:
            self._send(status, json.dumps(value).encode(), "application/json", headers)

        def _send(
            self,
            status: int,
            body: bytes,
            kind: str = "text/plain",
            headers: dict[str, str] | None = None,
            short: int | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body[:short])
            self.close_connection = True

        def _drop(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)

    return Handler


@contextlib.contextmanager
def stage(monkeypatch: object, home: Path) -> Iterator[FakeKaggle]:
    """Serve Kaggle to the processes that a test starts, with a token; at the end nobody may have called elsewhere."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    home.mkdir(parents=True)
    with FakeKaggle() as kaggle:
        for name, value in (kaggle.environment(home) | {"KAGGLE_API_TOKEN": TOKEN}).items():
            monkeypatch.setenv(name, value)
        yield kaggle
        assert kaggle.strangers == []


def leaks(folder: Path, said: str) -> list[str]:
    """Return where a credential or a signed address can be read: in what was said, or in a file below a folder."""
    secrets = (KEY, TOKEN, SIGNATURE, base64.b64encode(f"{USER}:{KEY}".encode()).decode())
    places = {"what was said": said.encode()} | {
        str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }
    return [place for place, content in places.items() if any(secret.encode() in content for secret in secrets)]


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition that another process or thread brings about."""
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    assert true()
