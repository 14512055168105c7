"""The calls to Kaggle: errors and their remedies, credentials, and each call once through the unmodified client."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
import requests

import submit
from digits.console import BadInput, KaggleRefused, KitError
from digits.data.competition import write_submission
from digits.files import ROOT
from digits.kaggle import child
from digits.kaggle.client import (
    Kaggle,
    NoCredentials,
    Push,
    RetryPolicy,
    UnreachableError,
    _seconds,
    client_environment,
    error_of,
)
from fake_kaggle import FAST, KEY, TOKEN, USER, FakeKaggle, leaks, wait_until
from memory_kaggle import MemoryKaggle, in_process

PAGE = "https://www.kaggle.com/competitions/digit-recognizer"

# What goes wrong on the way, and what becomes of it.


def test_an_error_is_told_with_its_remedy():
    http = {"kind": "http"}
    for call, error, kind, words in [
        ("standing", http | {"status": 401, "source": "x.json"}, KaggleRefused, "credentials of x.json. Make a new"),
        ("standing", http | {"status": 403, "text": "accept the rules"}, KaggleRefused, "/rules"),
        ("download", http | {"status": 404}, KitError, "does not find it"),
        ("submit", http | {"status": 400, "text": "Submission limit"}, KaggleRefused, "Submission limit"),
        ("standing", {"kind": "unreadable"}, KitError, "not Kaggle's (a login page"),
        ("standing", http | {"status": 429, "retry_after": "9"}, UnreachableError, "slow down for 9 s"),
        ("standing", http | {"status": 503}, UnreachableError, "a problem (HTTP 503)"),
        ("standing", {"kind": "connection"}, UnreachableError, "The connection to Kaggle failed."),
        ("standing", {"kind": "version", "text": "2.0.2"}, BadInput, "2.0.2, too old. Install it: "),
        ("standing", {"kind": "missing", "text": "no six"}, BadInput, "pip install 'kaggle>=2.2.5,<3' six"),
        ("push_kernel", http | {"status": 403, "text": "no"}, KaggleRefused, "verified phone number"),
        ("push_kernel", http | {"status": 409, "text": "no"}, KaggleRefused, "--title TITLE"),
        ("kernel_status", {"kind": "other", "text": "Cannot access"}, KitError, "Cannot access"),
    ]:
        made = error_of(call, PAGE, **{"text": ""} | error)
        assert type(made) is kind, words
        assert words in str(made)


def test_the_reason_of_a_failed_connection_is_named():
    for text, words, again in [
        ("ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 …'))", "NAME:PASSWORD@", False),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] …", "REQUESTS_CA_BUNDLE", False),
        ("NameResolutionError: Failed to resolve 'api.kaggle.com' ([Errno -2]", "is there a network?", True),
        ("ProxyError('Unable to connect to proxy', ConnectionRefusedError(111", "the proxy (https_proxy)", True),
        ("ConnectTimeoutError: timed out", "timed out", True),
        ("[Errno 111] Connection refused", "refused", True),
    ]:
        error = error_of("standing", PAGE, kind="connection", text=text)
        assert words in str(error)
        assert isinstance(error, UnreachableError) == again


def test_a_connection_that_fails_is_named_also_by_what_the_libraries_really_say(monkeypatch, tmp_path, told):
    """No name server, an unused port, and a proxy that does not exist: nothing outside this machine is called."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    for name in ("https_proxy", "http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://me:secret-word@127.0.0.1:9")
    with pytest.raises(UnreachableError, match=r"the proxy \(https_proxy\) does not let it through") as caught:
        Kaggle(replace(FAST, attempts=1), told.append).standing()
    assert "secret-word" not in str(caught.value)


def test_a_passing_trouble_is_tried_again_and_a_lasting_one_has_an_end(told):
    memory = MemoryKaggle()
    kaggle = memory.kaggle(told.append)
    memory.fault("standing", kind="http", status=429, retry_after="0")
    memory.fault("standing", kind="connection")
    assert kaggle.standing()[0].num_allowed_now == 5
    assert [line.split(" Trying")[1] for line in told[1:]] == [" again in 0 s (2 of 3).", " again in 0 s (3 of 3)."]
    memory.fault("list_submissions", times=9, kind="http", status=500)
    with pytest.raises(UnreachableError):
        kaggle.submissions()
    assert memory.calls["list_submissions"] == 3
    memory.fault("standing", kind="http", status=429, retry_after="3600")
    with pytest.raises(UnreachableError, match="slow down for 3600 s"):
        kaggle.standing()


def test_a_retry_after_is_a_number_or_a_date():
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert _seconds("7") == 7
    assert 25 < _seconds(format_datetime(soon, usegmt=True)) <= 30
    assert _seconds("soon") is None
    assert _seconds(None) is None


# Credentials: the real client in this process, answered by a function in the place of the network.


@pytest.fixture
def home(monkeypatch, tmp_path):
    """Answer the client's requests in memory, and give it a home without credentials."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name == "XDG_CONFIG_HOME"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    state = FakeKaggle()

    def send(session, request, **_):
        method = request.url.rpartition("/")[2]
        response = requests.Response()
        response.request, response.url, response.status_code = request, request.url, 200
        response.headers["Content-Type"] = "application/json"
        body = json.loads(request.body or b"{}")
        if method != "IntrospectToken" and not state.knows(request.headers.get("Authorization", "")):
            response.status_code, answer = 401, {"code": 401, "message": "Unauthenticated"}
        else:
            answer = state.answer(method, body)[1]
        response._content = json.dumps(answer).encode()
        return response

    monkeypatch.setattr(requests.Session, "send", send)
    return tmp_path


@pytest.fixture
def standing(home, told):
    """Return a function that asks Kaggle for the standing, with the credentials that can be found then."""
    return lambda: Kaggle(replace(FAST, attempts=1), told.append, in_process).standing()


def put(path, text, mode=0o600, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    path.chmod(mode)


KEY_FILE = json.dumps({"username": USER, "key": KEY})


def test_credentials_are_found_where_the_client_finds_them(home, told, monkeypatch, tmp_path, standing):
    places = {
        "KAGGLE_API_TOKEN": (None, TOKEN, {"KAGGLE_API_TOKEN": f" {TOKEN}\n"}),
        "KAGGLE_API_TOKEN ": ("the-token", TOKEN, {"KAGGLE_API_TOKEN": str(home / "the-token")}),
        "access_token": (".kaggle/access_token", TOKEN + "\n", {}),
        "access_token.txt": (".kaggle/access_token.txt", TOKEN, {}),
        "KAGGLE_USERNAME and KAGGLE_KEY": (None, "", {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}),
        ".kaggle/kaggle.json": (".kaggle/kaggle.json", KEY_FILE, {}),
        "elsewhere/kaggle.json": ("elsewhere/kaggle.json", KEY_FILE, {"KAGGLE_CONFIG_DIR": str(home / "elsewhere")}),
        ".config/kaggle/kaggle.json": (".config/kaggle/kaggle.json", KEY_FILE, {"KAGGLE_API_TOKEN": ""}),
    }
    for source, (file, content, variables) in places.items():
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            if file:
                put(home / file, content)
            assert standing()[0].num_allowed_now == 5, source
        assert told[-1].endswith(source.strip())
        if file:
            (home / file).unlink()
        if (home / ".kaggle").exists():
            (home / ".kaggle").rmdir()


def test_without_credentials_it_is_said_where_to_get_and_put_them(standing, monkeypatch):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.setenv(name, "  ")
    with pytest.raises(NoCredentials, match="no Kaggle credentials found") as caught:
        standing()
    for needed in ("kaggle.com/settings/api", "~/.kaggle/access_token", "/rules", "--zip"):
        assert needed in str(caught.value)
    assert "cannot be used" not in str(caught.value)


def test_what_is_wrong_with_credentials_is_said_and_where(home, standing, monkeypatch):
    cases = [
        ("kaggle.json", "not json", "kaggle.json does not hold what it should"),
        ("kaggle.json", "[]", "kaggle.json does not hold"),
        ("kaggle.json", '{"username": "someone", "key": ""}', "kaggle.json does not hold"),
        ("kaggle.json", "", "kaggle.json is empty"),
        ("access_token", " \n", "access_token is empty"),
        ("kaggle.json", "\ufeff" + KEY_FILE, "byte order mark"),
        ("kaggle.json", KEY_FILE.encode("utf-16"), "UTF-16"),
        ("access_token", TOKEN.encode("utf-16"), "UTF-16"),
        ("access_token", b"\xef\xbb\xbf" + TOKEN.encode(), "byte order mark"),
        ("kaggle.json", json.dumps({"username": USER, "key": TOKEN}), "token of the new kind: put it alone into"),
    ]
    for name, content, words in cases:
        put(home / ".kaggle" / name, "")
        (home / ".kaggle" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(KaggleRefused) as caught:
            standing()
        assert words in str(caught.value), str(caught.value)
        assert TOKEN not in str(caught.value)
        (home / ".kaggle" / name).unlink()
    put(home / "empty", "")
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "empty"))
    with pytest.raises(KaggleRefused, match="empty is empty"):
        standing()
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    with pytest.raises(KaggleRefused, match="of KAGGLE_USERNAME and KAGGLE_KEY only one is set"):
        standing()
    put(home / ".kaggle" / "kaggle.json", KEY_FILE)  # Half a pair does not hide it.
    assert standing()[0].num_allowed_now == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(home, standing):
    put(home / ".kaggle" / "access_token", TOKEN, mode=0)
    with pytest.raises(KaggleRefused, match="access_token cannot be read: Permission denied"):
        standing()


def test_bad_credentials_are_named_by_their_place(standing, monkeypatch):
    for variables, source in [
        ({"KAGGLE_API_TOKEN": "expired-or-mistyped"}, "KAGGLE_API_TOKEN"),
        ({"KAGGLE_API_TOKEN": "KGAT_" + 300 * "x"}, "KAGGLE_API_TOKEN"),
        (
            {"KAGGLE_API_TOKEN": "", "KAGGLE_USERNAME": USER, "KAGGLE_KEY": "wrong-key"},
            "KAGGLE_USERNAME and KAGGLE_KEY",
        ),
    ]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(KaggleRefused, match=f"does not accept the credentials of {source}") as caught:
            standing()
        assert not any(value in str(caught.value) for value in variables.values() if value not in ("", USER))


def test_a_key_that_others_can_read_is_warned_about(home, standing, told):
    put(home / ".kaggle" / "kaggle.json", KEY_FILE, mode=0o644)
    standing()
    assert told[0].startswith("warning: other users")
    assert "chmod 600" in told[0]


def test_an_old_client_is_said_with_the_command(standing, monkeypatch):
    monkeypatch.setattr(child.importlib.metadata, "version", lambda name: "2.0.2")
    with pytest.raises(BadInput, match=r"2\.0\.2, too old.*-m pip install 'kaggle>=2\.2\.5,<3' six"):
        standing()


def test_the_client_gets_a_clean_environment():
    given = {
        "KAGGLE_API_TOKEN": " token\n",
        "KAGGLE_USERNAME": "half-a-pair",
        "KAGGLE_PATH": "/elsewhere",
        "KAGGLE_COMPETITION": "titanic",
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "VERBOSE": "1",
        "VERBOSE_OUTPUT": "true",
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "intranet",
        "PATH": "/bin",
    }
    assert client_environment(given) == {
        "KAGGLE_API_TOKEN": "token",
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "intranet",
        "PATH": "/bin",
    }


# Through a process of its own and HTTP, to the server of the tests.


@pytest.fixture
def kaggle(server, told):
    return Kaggle(FAST, told.append)


def test_a_submission_goes_through_the_client_and_is_found_in_the_list(server, kaggle, tmp_path, told):
    write_submission(tmp_path / "s.csv", np.arange(1, 4), np.array([7, 0, 9]))
    server.fault("upload", status=403)
    with pytest.raises(UnreachableError, match="storage refused") as caught:
        kaggle.submit(tmp_path / "s.csv", "text")
    assert not caught.value.maybe_submitted
    assert kaggle.submit(tmp_path / "s.csv", "text [digits:0123456789ab]") == "1000"
    assert server.uploads == [(tmp_path / "s.csv").read_bytes()]
    limits, (row,) = kaggle.standing()
    assert (limits.num_today, limits.num_allowed_now) == (1, 4)
    assert (row.ref, row.status, row.public_score) == ("1000", "complete", 0.99671)
    for fault in ({"status": 500}, {"drop": True}, {"short": 20}):
        server.fault("CreateSubmission", **fault)
        with pytest.raises(UnreachableError) as caught:
            kaggle.submit(tmp_path / "s.csv", "text")
        assert caught.value.maybe_submitted
    server.fault("GetSubmissionLimits", status=500)
    assert kaggle.standing()[0] is None
    assert leaks(tmp_path, "\n".join(told)) == []


def test_a_notebook_s_version_goes_through_the_client(server, kaggle):
    assert kaggle.submit_notebook(Push(f"{USER}/kit", 3, "u"), "submission.csv", "text") == "1000"
    assert server.requests["CreateCodeSubmission"][-1] == {
        "competitionName": "digit-recognizer",
        "fileName": "submission.csv",
        "kernelOwner": USER,
        "kernelSlug": "kit",
        "kernelVersion": 3,
        "submissionDescription": "text",
    }


def test_all_pages_of_a_long_list_are_read(server, kaggle):
    for number in range(230):
        server.submit(f"number {number}")
    rows = kaggle.submissions(everything=True)
    assert [row.description for row in rows] == [f"number {number}" for number in reversed(range(230))]


def test_a_server_that_never_answers_is_left_and_waiting_is_told(server, told):
    server.fault("ListSubmissions", times=2, stall=60)
    started = time.monotonic()
    with pytest.raises(UnreachableError, match="No answer from Kaggle in 2 s"):
        Kaggle(RetryPolicy(call_seconds=2, attempts=1, notice_seconds=0.5), told.append).submissions()
    assert time.monotonic() - started < 10
    assert any(line.startswith("Waiting for Kaggle, ") for line in told)


def test_a_client_that_is_not_aimed_at_the_test_server_gets_nowhere(server, monkeypatch, told):
    monkeypatch.delenv("KAGGLE_API_ENVIRONMENT")
    with pytest.raises(UnreachableError):
        Kaggle(replace(FAST, attempts=1), told.append).standing()
    assert set(server.strangers) == {"api.kaggle.com:443"}
    assert not server.calls
    server.strangers.clear()


def test_no_error_tells_a_credential_or_a_signed_address(server, kaggle, monkeypatch, tmp_path):
    monkeypatch.setenv("VERBOSE", "1")
    message = f"bad request with Authorization: Bearer {TOKEN} and {TOKEN} from http://x/y?Signature=abc"
    server.fault("ListSubmissions", status=400, message=message)
    with pytest.raises(KaggleRefused, match="bad request") as caught:
        kaggle.submissions()
    assert leaks(tmp_path, repr(caught.value)) == []
    assert "abc" not in str(caught.value)


def test_a_missing_client_is_said_with_the_command(server, kaggle, monkeypatch, tmp_path):
    (tmp_path / "kaggle.py").write_text("raise ImportError('No module named six')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BadInput, match=r"missing \(No module named six\).*'kaggle>=2.2.5,<3' six"):
        kaggle.standing()


def test_an_interrupt_in_the_upload_says_what_is_not_known_and_leaves_no_process(server, tmp_path):
    write_submission(tmp_path / "s.csv", np.arange(1, 28_001), np.arange(28_000) % 10)
    server.fault("CreateSubmission", stall=30, after=True)
    process = subprocess.Popen(
        [sys.executable, submit.__file__, tmp_path / "s.csv", "--yes", "--submissions-dir", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: server.submissions)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "may have counted" in err
    assert leaks(tmp_path, out + err) == []


def test_the_plain_client_submits_the_file_too(server, tmp_path):
    (tmp_path / "s.csv").write_text("ImageId,Label\n1,7\n")
    command = [sys.executable, "-m", "kaggle", "competitions", "submit", "-c", "digit-recognizer"]
    command += ["-f", tmp_path / "s.csv", "-m", "by hand digits:0123456789ab"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Successfully submitted" in done.stdout
    assert server.submissions[0]["description"] == "by hand digits:0123456789ab"


def test_the_scripts_work_from_any_folder(tmp_path):
    for script, arguments, words in [
        ("submit.sh", ["none.csv"], "error: none.csv: there is no such file"),
        ("download.sh", ["--zip", "none.zip"], "error: none.zip: there is no such file"),
        ("publish.sh", [], "the following arguments are required: RUN"),
    ]:
        done = subprocess.run(
            ["bash", ROOT / "scripts" / script, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=os.environ | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"},  # noqa: PTH120
        )
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_importing_the_package_does_not_import_the_client():
    modules = ", ".join(
        f"digits.kaggle.{name}" for name in ("client", "submit", "ledger", "kernel", "publish", "child")
    )
    code = f"import sys, {modules}; sys.exit('kaggle' in sys.modules or 'requests' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
