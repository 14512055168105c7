"""The calls to Kaggle: errors and their remedies, credentials, and each call once through the unmodified client."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
import requests
import urllib3

import submit
from digits.console import BadInput, KaggleRefused, KitError
from digits.data.submission import write_submission
from digits.files import ROOT
from digits.kaggle import child
from digits.kaggle.child import Kind, Reply
from digits.kaggle.client import (
    BUNDLE_VARIABLES,
    PROXY_VARIABLES,
    CredentialsError,
    Kaggle,
    MissingCredentialsError,
    RetryPolicy,
    UnreachableError,
    client_environment,
    error_of,
)
from digits.kaggle.ledger import list_submissions
from fake_kaggle import FAST, KEY, TOKEN, USER, in_process, leaks, wait_until

PAGE = "https://www.kaggle.com/competitions/digit-recognizer"
LIST = "competition_submissions"
KEY_FILE = json.dumps({"username": USER, "key": KEY})

# What goes wrong on the way, and what becomes of it.


def answer(status, text="", **values):
    return Reply(failure=Kind.ANSWER, status=status, text=text, **values)


@pytest.mark.parametrize(
    ("call", "reply", "kind", "words"),
    [
        (LIST, answer(401, source="x.json"), CredentialsError, "credentials of x.json. Make a new"),
        (LIST, answer(403, "accept the rules"), KaggleRefused, "/rules"),
        ("competition_download_files", answer(404), KitError, "does not find it"),
        ("competition_submit", answer(400, "Submission limit"), KaggleRefused, "Submission limit"),
        (LIST, answer(429, retry_after=9), UnreachableError, "slow down for 9 s"),
        (LIST, answer(503), UnreachableError, "a problem (HTTP 503)"),
        ("kernels_push", answer(403, "no"), KaggleRefused, "verified phone number"),
        ("kernels_push", answer(409, "no"), KaggleRefused, "--title TITLE"),
        (LIST, Reply(failure=Kind.UNREADABLE), KitError, "not Kaggle's (a login page"),
        (LIST, Reply(failure=Kind.CONNECTION), UnreachableError, "The connection to Kaggle failed"),
        (LIST, Reply(failure=Kind.CLIENT, text="is missing (no six)"), BadInput, "pip install 'kaggle>=2.2.5,<3' six"),
        (LIST, Reply(failure=Kind.DISK, text="/tmp/x"), KitError, "written to /tmp/x. Make room"),
        ("kernels_status", Reply(failure=Kind.OTHER, text="Cannot access"), KitError, "Cannot access"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_comes_with_its_remedy(call, reply, kind, words):
    error = error_of(call, PAGE, reply)
    assert type(error) is kind
    assert words in str(error)


NO_ROUTE = requests.exceptions.ConnectionError(ConnectionRefusedError(111, "Connection refused"))
UNKNOWN_NAME = urllib3.exceptions.NameResolutionError("api.kaggle.com", None, socket.gaierror(-2, "not known"))


@pytest.mark.parametrize(
    ("raised", "words", "passing"),
    [
        (requests.exceptions.ProxyError("no"), "the proxy that https_proxy names", False),
        (requests.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed")), "REQUESTS_CA_BUNDLE", False),
        (requests.exceptions.ConnectionError(UNKNOWN_NAME), "Is there a network?", True),
        (requests.exceptions.ConnectTimeout("slow"), "timed out", True),
        (NO_ROUTE, "refused", True),
        (requests.exceptions.ConnectionError(ConnectionResetError(104)), "broke off", True),
    ],
    ids=["proxy", "certificate", "name", "timeout", "refused", "other"],
)
def test_the_reason_of_a_failed_connection_is_named(monkeypatch, raised, words, passing):
    for name in (*PROXY_VARIABLES, *BUNDLE_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    error = error_of(LIST, PAGE, child.describe(raised))
    assert words in str(error)
    assert isinstance(error, UnreachableError) == passing


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("http_proxy", "socks5://127.0.0.1:9", "the proxy that http_proxy names does not let it"),
        ("http_proxy", "http://me:secret-word@127.0.0.1:9", "the proxy that http_proxy names does not let it"),
        ("http_proxy", "http://[1", "the proxy that http_proxy names does not let it"),
        ("http_proxy", "http://127.0.0.1:nine", "the proxy that http_proxy names does not let it"),
        ("REQUESTS_CA_BUNDLE", "/no/such", "REQUESTS_CA_BUNDLE must name .*, found /no/such"),
    ],
)
def test_a_setting_of_the_connection_that_cannot_be_used_is_named(monkeypatch, tmp_path, log, variable, value, words):
    """Through the real client: nothing outside this machine is called."""
    for name in (*PROXY_VARIABLES, *BUNDLE_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    environment = "LOCALHOST" if variable == "http_proxy" else "PROD"
    for name, text in {"HOME": str(tmp_path), "KAGGLE_API_TOKEN": TOKEN, "KAGGLE_API_ENVIRONMENT": environment}.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv(variable, value)
    with pytest.raises(KitError, match=words) as caught:
        list_submissions(Kaggle(replace(FAST, attempts=1), log.append))
    assert not isinstance(caught.value, KaggleRefused)
    assert "secret-word" not in str(caught.value)


def test_a_passing_trouble_is_tried_again_and_a_lasting_one_has_an_end(memory, log):
    kaggle = memory.kaggle(log.append)
    memory.fault("ListSubmissions", status=429, headers={"Retry-After": "0"})
    memory.fault("ListSubmissions", drop=True)
    assert list_submissions(kaggle) == []
    assert [line.split(" Trying")[1] for line in log[1:]] == [" again in 0 s (2 of 3).", " again in 0 s (3 of 3)."]
    memory.fault("ListSubmissions", times=9, status=500)
    with pytest.raises(UnreachableError):
        list_submissions(kaggle)
    assert memory.calls["ListSubmissions"] == 6
    memory.clear_faults()
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    for asked, words in [("3600", "for 3600 s"), (tomorrow, "for 21600 s"), ("99999999999", "for 21600 s")]:
        memory.fault("ListSubmissions", status=429, headers={"Retry-After": asked})
        with pytest.raises(UnreachableError, match=f"slow down {words}"):
            list_submissions(kaggle)
    memory.fault("ListSubmissions", status=429, headers={"Retry-After": "soon"})
    assert list_submissions(kaggle) == []


# Credentials: the real client in this process, answered by a function in the place of the network.


@pytest.fixture
def home(monkeypatch, memory, tmp_path):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    return tmp_path / "home"


@pytest.fixture
def standing(home, log):
    """Return a function that asks Kaggle for something, with the credentials that can be found then."""
    return lambda: list_submissions(Kaggle(replace(FAST, attempts=1), log.append, in_process))


def put(path, text, mode=0o600, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("source", "file", "content", "variables"),
    [
        ("KAGGLE_API_TOKEN", None, TOKEN, {"KAGGLE_API_TOKEN": f" {TOKEN}\n"}),
        ("KAGGLE_API_TOKEN", "the-token", TOKEN, {"KAGGLE_API_TOKEN": "HOME/the-token"}),
        ("access_token", ".kaggle/access_token", TOKEN + "\n", {}),
        ("access_token.txt", ".kaggle/access_token.txt", TOKEN, {}),
        ("KAGGLE_USERNAME and KAGGLE_KEY", None, "", {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}),
        (".kaggle/kaggle.json", ".kaggle/kaggle.json", KEY_FILE, {}),
        ("elsewhere/kaggle.json", "elsewhere/kaggle.json", KEY_FILE, {"KAGGLE_CONFIG_DIR": "HOME/elsewhere"}),
        (".config/kaggle/kaggle.json", ".config/kaggle/kaggle.json", KEY_FILE, {"KAGGLE_API_TOKEN": ""}),
    ],
)
def test_credentials_are_found_where_they_lie(home, log, monkeypatch, standing, source, file, content, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("HOME", str(home)))
    if file:
        put(home / file, content)
    assert standing() == []
    assert log[-1].endswith(source)


def test_a_key_that_others_can_read_is_warned_about(home, standing, log):
    put(home / ".kaggle" / "kaggle.json", KEY_FILE, mode=0o644)
    standing()
    assert log[1].startswith("warning: other users")
    assert "chmod 600" in log[1]


def test_without_credentials_it_is_said_where_to_get_and_put_them(standing, monkeypatch):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.setenv(name, "  ")
    with pytest.raises(MissingCredentialsError, match="no Kaggle credentials found") as caught:
        standing()
    for needed in ("kaggle.com/settings/api", "~/.kaggle/access_token", "/rules"):
        assert needed in str(caught.value)
    assert "What to look at" not in str(caught.value)


NOT_JSON, NOT_A_TOKEN = "is not JSON with username and key", "is not a token on one line, in UTF-8"
ELSEWHERE = {".config/kaggle/kaggle.json": KEY_FILE, ".kaggle/other": ""}
NOT_USED, REFUSED = "the Kaggle credentials cannot be used: ", "Kaggle does not accept the credentials of "


@pytest.mark.parametrize(
    ("name", "content", "head", "words"),
    [
        pytest.param("kaggle.json", b"", NOT_USED, NOT_JSON, id="empty"),
        pytest.param("kaggle.json", b"not json", NOT_USED, NOT_JSON, id="no JSON"),
        pytest.param("kaggle.json", b"[1]", NOT_USED, NOT_JSON, id="a list"),
        pytest.param("kaggle.json", b'{"user": "a"}', NOT_USED, NOT_JSON, id="other keys"),
        pytest.param("kaggle.json", b'{"username": "a", "key": ""}', REFUSED, NOT_JSON, id="an empty key"),
        pytest.param("kaggle.json", ("\ufeff" + KEY_FILE).encode(), NOT_USED, NOT_JSON, id="a byte order mark"),
        pytest.param("kaggle.json", KEY_FILE.encode("utf-16"), NOT_USED, NOT_JSON, id="UTF-16"),
        pytest.param("kaggle.json", KEY_FILE.replace(KEY, TOKEN).encode(), REFUSED, NOT_JSON, id="a token as key"),
        pytest.param("credentials.json", b"{}", NOT_USED, "is not JSON with refresh_token", id="an empty login"),
        pytest.param("access_token", b" \n", NOT_USED, NOT_A_TOKEN, id="a blank token"),
        pytest.param("access_token", TOKEN.encode("utf-16"), NOT_USED, NOT_A_TOKEN, id="a token in UTF-16"),
        pytest.param("access_token", f"{TOKEN}\nand more".encode(), NOT_USED, NOT_A_TOKEN, id="two lines"),
        pytest.param("access_token", b"\xef\xbb\xbf" + TOKEN.encode(), NOT_USED, NOT_A_TOKEN, id="a token with a mark"),
    ],
)
def test_a_file_that_should_hold_credentials_is_named_with_what_is_wrong(home, standing, name, content, head, words):
    put(home / ".kaggle" / name, "")
    (home / ".kaggle" / name).write_bytes(content)
    with pytest.raises(CredentialsError) as caught:
        standing()
    assert str(caught.value).startswith(head)
    assert f"{home / '.kaggle' / name} {words}" in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "variables", "words"),
    [
        pytest.param(ELSEWHERE, {}, r"cannot be used: .*kaggle\.json is not where the client looks", id="elsewhere"),
        pytest.param({"empty": ""}, {"KAGGLE_API_TOKEN": "HOME/empty"}, "used: .*/empty is not a token", id="empty"),
        pytest.param({}, {"KAGGLE_KEY": KEY}, "cannot be used: of KAGGLE_USERNAME and KAGGLE_KEY only one", id="half"),
        pytest.param({}, {"KAGGLE_API_TOKEN": "KGAT_" + 300 * "x"}, "used: KAGGLE_API_TOKEN is too", id="long"),
        pytest.param({}, {"KAGGLE_API_TOKEN": "mistyped"}, f"{REFUSED}KAGGLE_API_TOKEN", id="expired"),
        pytest.param({}, {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": "x" * 9}, f"{REFUSED}KAGGLE_USERNAME and", id="key"),
    ],
)
def test_credentials_of_no_use_are_named_by_their_place_alone(home, standing, monkeypatch, files, variables, words):
    for name, content in files.items():
        put(home / name, content)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("HOME", str(home)))
    with pytest.raises(CredentialsError, match=words) as caught:
        standing()
    for secret in (KEY, "xxxxxxxxx", "mistyped"):
        assert secret not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(home, standing):
    put(home / ".kaggle" / "access_token", TOKEN, mode=0)
    with pytest.raises(KaggleRefused, match="access_token cannot be read"):
        standing()


def test_a_revoked_login_is_named_and_its_file_kept(home, standing, memory):
    file, login = home / ".kaggle" / "credentials.json", json.dumps({"username": USER, "refresh_token": "x" * 20})
    put(file, login)
    memory.fault("GenerateAccessToken", times=9, status=401)
    for _ in range(2):
        with pytest.raises(CredentialsError, match=r"credentials\.json.*renewed by: kaggle auth login") as caught:
            standing()
        assert not isinstance(caught.value, MissingCredentialsError)
    assert file.read_text() == login


def test_an_old_and_a_missing_client_are_said_with_the_command(standing, monkeypatch):
    monkeypatch.setattr(child.importlib.metadata, "version", lambda name: "2.0.2")
    with pytest.raises(BadInput, match=r"2\.0\.2, too old.*-m pip install 'kaggle>=2\.2\.5,<3' six"):
        standing()
    monkeypatch.setattr(child, "adapt_client", lambda: exec("raise ImportError('No module named six')"))
    monkeypatch.setattr(child.importlib.metadata, "version", lambda name: "2.2.5")
    with pytest.raises(BadInput, match=r"missing \(No module named six\).*'kaggle>=2\.2\.5,<3' six"):
        standing()


def test_the_client_gets_a_clean_environment():
    kept = {
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST", "https_proxy": "http://proxy:3128", "NO_PROXY": "intranet", "PATH": "/x",
    }  # fmt: skip
    left_out = {"KAGGLE_PATH": "/elsewhere", "KAGGLE_COMPETITION": "titanic", "VERBOSE": "1", "VERBOSE_OUTPUT": "true"}
    token = {"KAGGLE_API_TOKEN": "token"}
    assert client_environment(kept | left_out | {"KAGGLE_API_TOKEN": " token\n"}) == kept | token


# Through a process of its own and HTTP, to the server of the tests.


@pytest.fixture
def kaggle(server, log):
    return Kaggle(FAST, log.append)


def test_a_submission_goes_through_the_client_and_is_found_in_the_list(server, kaggle, tmp_path, log):
    write_submission(tmp_path / "s.csv", np.arange(1, 4), np.array([7, 0, 9]))
    what = {"competition": "digit-recognizer", "file_name": str(tmp_path / "s.csv"), "message": "text", "quiet": True}
    assert kaggle.ask("competition_submit", what)["ref"] == 1000
    assert server.uploads == [(tmp_path / "s.csv").read_bytes()]
    (row,) = list_submissions(kaggle)
    assert (row.ref, row.status, row.public_score) == ("1000", "complete", 0.99671)
    server.fault("CreateSubmission", short=20)
    with pytest.raises(UnreachableError) as caught:
        kaggle.ask("competition_submit", what)
    assert caught.value.maybe_submitted
    assert leaks(tmp_path, "\n".join(log)) == []


@pytest.mark.parametrize(
    ("row", "listed", "notes"),
    [
        pytest.param({"ref": 5, "status": None, "description": None, "date": None}, ["5", "1000"], 0, id="nulls"),
        pytest.param({"ref": 5, "status": "NEW", "date": "yesterday"}, ["5", "1000"], 0, id="unknown to the SDK"),
        pytest.param({"ref": None, "status": None}, ["1000"], 1, id="no ref"),
        pytest.param(None, ["1000"], 1, id="a null row"),
    ],
)
def test_what_cannot_be_read_in_a_row_of_the_list_does_not_cost_the_list(memory, monkeypatch, log, row, listed, notes):
    memory.record("mine", status="COMPLETE")
    good = memory._ListSubmissions({})["submissions"]
    monkeypatch.setattr(memory, "_ListSubmissions", lambda request: {"submissions": [row, *good]})
    assert [entry.ref for entry in list_submissions(memory.kaggle(log.append))] == listed
    assert sum("1 entries without a ref" in line for line in log) == notes


@pytest.mark.parametrize("submissions", [5, ["odd"], {"ref": 5}], ids=str)
def test_a_list_that_cannot_be_read_is_an_error_and_not_an_empty_list(memory, monkeypatch, submissions):
    monkeypatch.setattr(memory, "_ListSubmissions", lambda request: {"submissions": submissions})
    with pytest.raises(KitError, match="The kaggle client failed"):
        list_submissions(memory.kaggle())


def test_a_server_that_never_answers_is_left_and_waiting_is_told(server, log):
    server.fault("ListSubmissions", times=2, stall=60)
    started = time.monotonic()
    with pytest.raises(UnreachableError, match="No answer from Kaggle in 2 s"):
        list_submissions(Kaggle(RetryPolicy(call_seconds=2, attempts=1, notice_seconds=0.5), log.append))
    assert time.monotonic() - started < 10
    assert any(line.startswith("Waiting for Kaggle, ") for line in log)


def test_a_client_that_is_not_aimed_at_the_test_server_gets_nowhere(server, monkeypatch, log):
    monkeypatch.delenv("KAGGLE_API_ENVIRONMENT")
    with pytest.raises(KitError, match="the proxy that"):
        list_submissions(Kaggle(replace(FAST, attempts=1), log.append))
    assert set(server.strangers) == {"api.kaggle.com:443"}
    assert not server.calls
    server.strangers.clear()


def test_no_error_tells_a_credential_or_a_signed_address(server, kaggle, monkeypatch, tmp_path):
    monkeypatch.setenv("VERBOSE", "1")
    message = f"bad request with Authorization: Bearer {TOKEN} and {TOKEN} from http://x/y?Signature=abc"
    server.fault("ListSubmissions", status=400, message=message)
    with pytest.raises(KaggleRefused, match="bad request") as caught:
        list_submissions(kaggle)
    assert leaks(tmp_path, repr(caught.value)) == []
    assert "abc" not in str(caught.value)


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
