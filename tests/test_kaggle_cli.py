import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from digits.console import KaggleRefused, KitError
from digits.kaggle.client import Kaggle, RetryPolicy, UnreachableError, _seconds, client_environment, find_credentials
from fake_kaggle import FAST, KEY, TOKEN, USER, leaks


@pytest.fixture
def kaggle(told):
    return Kaggle(FAST, told.append)


# What goes wrong on the way, and what becomes of it.


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ({"status": 401, "message": "Unauthenticated"}, KaggleRefused, "does not accept the credentials"),
        ({"status": 403, "message": "You must accept this competition's rules"}, KaggleRefused, "/rules"),
        ({"status": 404}, KitError, "does not find it"),
        ({"status": 400, "message": "Submission limit reached"}, KaggleRefused, "Submission limit reached"),
        ({"status": 200, "body": b"<html>Log in to the hotel</html>"}, KitError, "not Kaggle's"),
        ({"status": 429, "headers": {"Retry-After": "3600"}}, UnreachableError, "slow down for 3600 s"),
    ],
)
def test_what_another_attempt_would_not_mend_is_told_at_once(server, kaggle, told, fault, kind, words):
    server.fault("ListSubmissions", **fault)
    with pytest.raises(kind, match=words) as caught:
        kaggle.submissions()
    assert type(caught.value) is kind
    assert server.calls["ListSubmissions"] == 1
    assert told == []


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "message": "Too many requests"},
        {"status": 429, "headers": {"Retry-After": "0"}},
        {"status": 500},
        {"status": 503, "message": "down for a moment"},
        {"drop": True},
        {"drop": True, "after": True},
    ],
)
def test_a_passing_trouble_is_tried_again(server, kaggle, told, fault):
    server.fault("GetSubmissionLimits", **fault)
    assert kaggle.standing()[0].num_allowed_now == 5
    assert server.calls["GetSubmissionLimits"] == 2
    assert len(told) == 1
    assert "Trying again" in told[0]


def test_a_lasting_trouble_has_an_end(server, kaggle):
    server.fault("ListSubmissions", times=10, drop=True)
    with pytest.raises(UnreachableError):
        kaggle.submissions()
    assert server.calls["ListSubmissions"] == FAST.attempts


def test_a_trouble_at_the_log_in_is_tried_again_too(server, kaggle):
    server.fault("IntrospectToken", times=2, status=500)
    assert kaggle.user_name() == USER


def test_a_server_that_never_answers_is_left(server):
    server.fault("ListSubmissions", times=2, stall=60)
    started = time.monotonic()
    with pytest.raises(UnreachableError, match="No answer from Kaggle in 1 s"):
        Kaggle(RetryPolicy(call_seconds=1, attempts=1)).submissions()
    assert time.monotonic() - started < 5


def test_a_retry_after_is_a_number_or_a_date():
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert _seconds("7") == 7
    assert 25 < _seconds(format_datetime(soon, usegmt=True)) <= 30
    assert _seconds("soon") is None
    assert _seconds(None) is None


def test_all_pages_of_a_long_list_are_read(server, kaggle):
    for number in range(230):
        server.submit(f"number {number}")
    rows = kaggle.submissions(everything=True)
    assert [row.description for row in rows] == [f"number {number}" for number in reversed(range(230))]
    assert len(kaggle.submissions()) == 100


# Credentials.


def put(folder, name, text, mode=0o600):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(mode)


KEY_FILE = json.dumps({"username": USER, "key": KEY})


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("KAGGLE_API_TOKEN", "KAGGLE_API_TOKEN"),
        ("KAGGLE_API_TOKEN as a file", "the-token"),
        ("access_token", "access_token"),
        ("access_token.txt", "access_token.txt"),
        ("KAGGLE_KEY", "KAGGLE_USERNAME and KAGGLE_KEY"),
        ("kaggle.json", ".kaggle/kaggle.json"),
        ("KAGGLE_CONFIG_DIR", "elsewhere/kaggle.json"),
        ("XDG", ".config/kaggle/kaggle.json"),
    ],
)
def test_credentials_are_found_where_the_client_finds_them(server, kaggle, monkeypatch, tmp_path, place, named):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    home = tmp_path / "home"
    if place == "KAGGLE_API_TOKEN":
        monkeypatch.setenv("KAGGLE_API_TOKEN", f" {TOKEN}\n")
    elif place == "KAGGLE_API_TOKEN as a file":
        put(home, "the-token", TOKEN)
        monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "the-token"))
    elif place == "KAGGLE_KEY":
        monkeypatch.setenv("KAGGLE_USERNAME", USER)
        monkeypatch.setenv("KAGGLE_KEY", KEY)
    elif place == "kaggle.json":
        put(home / ".kaggle", "kaggle.json", KEY_FILE)
    elif place == "KAGGLE_CONFIG_DIR":
        put(home / "elsewhere", "kaggle.json", KEY_FILE)
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / "elsewhere"))
    elif place == "XDG":
        put(home / ".config" / "kaggle", "kaggle.json", KEY_FILE)
    else:
        put(home / ".kaggle", place, TOKEN + "\n")
    assert kaggle.log_in().endswith(named)
    assert kaggle.standing()[0].num_allowed_now == 5


def test_a_saved_oauth_log_in_is_found(server, monkeypatch, tmp_path):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    put(tmp_path / "home" / ".kaggle", "credentials.json", json.dumps({"refresh_token": "r", "username": USER}))
    assert find_credentials(os.environ).source.endswith("credentials.json")


@pytest.mark.parametrize("empty", ["", "  "])
def test_empty_variables_are_no_credentials(server, kaggle, monkeypatch, empty):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.setenv(name, empty)
    with pytest.raises(KaggleRefused, match="no Kaggle credentials found") as caught:
        kaggle.log_in()
    for needed in ("kaggle.com/settings/api", "~/.kaggle/access_token", "/rules", "--zip"):
        assert needed in str(caught.value)
    assert not server.calls


def test_an_empty_variable_does_not_hide_kaggle_json(server, kaggle, monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "")
    monkeypatch.setenv("KAGGLE_USERNAME", "half-a-pair")
    monkeypatch.setenv("KAGGLE_KEY", "")
    put(tmp_path / "home" / ".kaggle", "kaggle.json", KEY_FILE)
    assert kaggle.standing()[0].num_allowed_now == 5


@pytest.mark.parametrize("text", ["not json", "[]", '{"username": "someone", "key": ""}'])
def test_a_broken_kaggle_json_is_named(server, monkeypatch, tmp_path, text):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    put(tmp_path / "home" / ".kaggle", "kaggle.json", text)
    with pytest.raises(KaggleRefused, match=r"kaggle\.json is there, but holds no"):
        find_credentials(os.environ)


@pytest.mark.parametrize(
    ("variables", "source"),
    [
        ({"KAGGLE_API_TOKEN": "expired-or-mistyped"}, "KAGGLE_API_TOKEN"),
        ({"KAGGLE_API_TOKEN": "", "KAGGLE_USERNAME": USER, "KAGGLE_KEY": "wrong"}, "KAGGLE_USERNAME and KAGGLE_KEY"),
    ],
)
def test_bad_credentials_are_named_by_their_place(server, kaggle, monkeypatch, variables, source):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KaggleRefused, match=f"does not accept the credentials of {source}") as caught:
        kaggle.standing()
    assert not any(value in str(caught.value) for value in variables.values() if value not in ("", USER))


def test_a_key_that_others_can_read_is_warned_about(server, kaggle, told, monkeypatch, tmp_path):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    put(tmp_path / "home" / ".kaggle", "kaggle.json", KEY_FILE, mode=0o644)
    kaggle.log_in()
    assert len(told) == 1
    assert "chmod 600" in told[0]


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


def test_no_error_tells_a_credential_or_a_signed_address(server, kaggle, monkeypatch, tmp_path):
    monkeypatch.setenv("VERBOSE", "1")
    message = f"bad request with Authorization: Bearer {TOKEN} and {TOKEN} from http://x/y?Signature=abc"
    server.fault("ListSubmissions", status=400, message=message)
    with pytest.raises(KaggleRefused, match="bad request") as caught:
        kaggle.submissions()
    assert leaks(tmp_path, repr(caught.value)) == []
    assert "abc" not in str(caught.value)


def test_a_token_longer_than_a_file_name_is_a_token(server, kaggle, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_" + 300 * "x")
    with pytest.raises(KaggleRefused, match="does not accept the credentials of KAGGLE_API_TOKEN") as caught:
        kaggle.standing()
    assert "xxx" not in str(caught.value)


def test_a_client_that_is_not_aimed_at_the_test_server_gets_nowhere(server, kaggle, monkeypatch):
    monkeypatch.delenv("KAGGLE_API_ENVIRONMENT")
    with pytest.raises(UnreachableError):
        kaggle.standing()
    assert set(server.strangers) == {"api.kaggle.com:443"}
    assert not server.calls
    server.strangers.clear()


def test_a_missing_client_is_said_with_the_command(server, kaggle, monkeypatch, tmp_path):
    (tmp_path / "kaggle.py").write_text("raise ImportError('No module named kaggle')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(KitError, match=r"pip install 'kaggle>=2.2.4,<3'"):
        kaggle.standing()


# Kernels.


def metadata(folder):
    (folder / "notebook.ipynb").write_text(
        json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    facts = {"id": f"{USER}/digits-kit", "title": "digits kit", "code_file": "notebook.ipynb", "language": "python"}
    facts |= {"kernel_type": "notebook", "competition_sources": ["digit-recognizer"]}
    (folder / "kernel-metadata.json").write_text(json.dumps(facts))
    return folder


def test_a_kernel_is_pushed(server, kaggle, tmp_path):
    server.kernel["SaveKernel"] = {"url": "https://www.kaggle.com/code/someone/digits-kit", "versionNumber": 1}
    assert kaggle.push_kernel(metadata(tmp_path)) == "https://www.kaggle.com/code/someone/digits-kit"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ({"error": "Maximum weekly GPU quota reached"}, "GPU quota"),
        ({"url": "u", "invalidCompetitionSources": ["digit-recogniser"]}, "digit-recogniser"),
    ],
)
def test_a_push_that_the_client_calls_done_is_an_error(server, kaggle, tmp_path, reply, words):
    server.kernel["SaveKernel"] = reply
    with pytest.raises(KitError, match=words):
        kaggle.push_kernel(metadata(tmp_path))


def test_a_running_kernel_tells_its_state_and_a_failed_one_is_an_error(server, kaggle):
    server.kernel["GetKernelSessionStatus"] = {"status": "RUNNING"}
    assert kaggle.kernel_status(f"{USER}/digits-kit") == "running"
    server.kernel["GetKernelSessionStatus"] = {"status": "ERROR", "failureMessage": "out of memory"}
    with pytest.raises(KitError, match="out of memory"):
        kaggle.kernel_status(f"{USER}/digits-kit")


def test_a_kernel_s_output_comes_whole_or_not_at_all(server, kaggle, tmp_path):
    files = [{"url": f"http://localhost/storage/{name}", "fileName": name} for name in ("submission.csv", "b/c.txt")]
    server.kernel["ListKernelSessionOutput"] = {"files": files, "log": ""}
    out = tmp_path / "out"
    assert kaggle.kernel_output(f"{USER}/digits-kit", out) == [out / "submission.csv", out / "b" / "c.txt"]
    assert (out / "submission.csv").read_text() == "from the kernel\n"
    (out / "submission.csv").write_text("mine\n")
    server.fault("c.txt", status=403)
    with pytest.raises(KitError, match="HTTP 403"):
        kaggle.kernel_output(f"{USER}/digits-kit", out)
    assert (out / "submission.csv").read_text() == "mine\n"


def test_importing_the_rooms_does_not_import_the_client():
    modules = ", ".join(f"digits.kaggle.{name}" for name in ("client", "submit", "ledger", "child"))
    code = f"import sys, {modules}; sys.exit('kaggle' in sys.modules or 'requests' in sys.modules)"
    paths = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": paths})
