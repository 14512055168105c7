import functools
import io
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import download
from digits.data.competition import SAMPLE_SUBMISSION, TEST, TRAIN
from digits.files import ROOT
from digits.kaggle import client
from digits.kaggle.client import Kaggle
from fake_kaggle import FAST, leaks, stage, wait_until


def table(known, rows, first):
    width = len(known.header) - len(first(0))
    lines = [",".join([*map(str, first(row)), *["0"] * width]) for row in range(rows)]
    return "\r\n".join([",".join(known.header), *lines, ""]).encode()


FILES = {
    "train.csv": table(TRAIN, 20, lambda row: [row % 10]),
    "test.csv": table(TEST, 10, lambda row: []),
    "sample_submission.csv": table(SAMPLE_SUBMISSION, 10, lambda row: [row + 1, 0]),
}


def zipped(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


GOOD = zipped(FILES)
CORRUPT = GOOD[:300] + bytes(200) + GOOD[500:]
HTML = b"<!DOCTYPE html><title>Sign in</title>"


class User:
    """A user's data folder, a Kaggle, and the command."""

    def __init__(self, kaggle, data, temporary, capfd):
        self.kaggle, self.data, self.temporary, self.capfd, self.said = kaggle, data, temporary, capfd, ""

    def __call__(self, *arguments):
        code = download.main([*map(str, arguments), "--data-dir", str(self.data)])
        self.out, self.err = self.capfd.readouterr()
        self.said += self.out + self.err
        return code

    @property
    def files(self):
        return {file.name: file.read_bytes() for file in self.data.glob("*") if not file.name.startswith(".")}


@pytest.fixture
def user(monkeypatch, tmp_path, capfd):
    data, temporary = tmp_path / "data", tmp_path / "temporary"
    data.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    be_patient(monkeypatch)
    with stage(monkeypatch, tmp_path / "home") as kaggle:
        kaggle.archive = GOOD
        user = User(kaggle, data, temporary, capfd)
        yield user
        assert leaks(tmp_path, user.said) == []
        assert "Traceback" not in user.said
        assert list(temporary.iterdir()) == []


def be_patient(monkeypatch, **seconds):
    monkeypatch.setattr(client, "Kaggle", functools.partial(Kaggle, replace(FAST, attempts=2, **seconds)))


def test_the_data_is_fetched_checked_and_the_second_time_not_fetched(user):
    assert user() == 0
    assert user.files == FILES
    assert "Credentials: KAGGLE_API_TOKEN" in user.out
    assert "train.csv: 20 rows" in user.out
    assert "100%" in user.err
    user.kaggle.calls.clear()
    assert user() == 0
    assert "already in" in user.out
    assert not user.kaggle.calls


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("DownloadDataFiles", {"status": 429, "headers": {"Retry-After": "0"}}),
        ("digit-recognizer.zip", {"status": 500}),
        ("digit-recognizer.zip", {"drop": True}),
    ],
)
def test_a_passing_trouble_is_tried_again(user, call, fault):
    user.kaggle.fault(call, **fault)
    assert user() == 0
    assert user.files == FILES
    assert user.kaggle.calls[call] == 2


FAULTS = {
    "401": ("DownloadDataFiles", {"status": 401, "message": "no"}, 3, "kaggle.com/settings/api"),
    "403 rules": ("DownloadDataFiles", {"status": 403, "message": "You must accept the rules"}, 3, "/rules"),
    "404": ("DownloadDataFiles", {"status": 404}, 1, "does not find it"),
    "429": ("DownloadDataFiles", {"status": 429}, 1, "slow down"),
    "500": ("DownloadDataFiles", {"status": 500}, 1, "in trouble (HTTP 500)"),
    "dropped": ("DownloadDataFiles", {"drop": True}, 1, "connection to Kaggle failed"),
    "an HTML page": ("digit-recognizer.zip", {"status": 200, "body": HTML}, 1, "not the data"),
    "a corrupt zip": ("digit-recognizer.zip", {"status": 200, "body": CORRUPT}, 1, "not the data"),
    "a short zip": ("digit-recognizer.zip", {"status": 200, "body": GOOD[:2000]}, 1, "not the data"),
    "a foreign zip": ("digit-recognizer.zip", {"status": 200, "body": zipped({"a.csv": b"x", "b": b""})}, 1, "a.csv"),
    "a zip of a part": ("digit-recognizer.zip", {"status": 200, "body": zipped({"test.csv": b"x"})}, 1, "not the data"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_lasting_fault_leaves_the_data_folder_as_it_was(user, name):
    call, fault, code, words = FAULTS[name]
    user.kaggle.fault(call, times=9, **fault)
    (user.data / "train.csv").write_bytes(FILES["train.csv"])
    (user.data / "README.md").write_text("mine")
    before = user.files
    assert user() == code
    assert words in user.err
    assert user.err.splitlines()[-2 if "not the data" in user.err else -1].startswith("error: ")
    assert user.files == before


def test_a_bad_file_is_fetched_again(user):
    user.kaggle.fault("digit-recognizer.zip", status=200, body=CORRUPT)
    assert user() == 0
    assert "Fetching it again" in user.out
    assert user.files == FILES


def test_a_body_that_breaks_off_is_resumed(user):
    user.kaggle.fault("digit-recognizer.zip", short=1000)
    assert user() == 0
    assert user.files == FILES
    assert user.kaggle.calls["DownloadDataFiles"] == 1


def test_a_page_in_the_place_of_the_rest_of_a_file_is_not_taken_for_it(user):
    user.kaggle.fault("digit-recognizer.zip", short=1000)
    user.kaggle.fault("digit-recognizer.zip", status=200, body=HTML)
    assert user() == 0
    assert user.files == FILES


def test_a_stalled_download_is_given_up(user, monkeypatch):
    be_patient(monkeypatch, stall_seconds=0.8)
    user.kaggle.fault("digit-recognizer.zip", times=9, stall=30)
    assert user() == 1
    assert "No answer from Kaggle in" in user.err
    assert user.files == {}


def test_what_the_plain_client_left_behind_is_not_built_upon(user):
    (user.data / "digit-recognizer.zip").write_bytes(GOOD[:1000] + HTML)
    (user.data / "digit-recognizer.zip.kaggle-partial").write_text('{"validator": "one", "size": 9999}')
    assert user() == 0
    assert "Removing a zip that is not good" in user.out
    assert user.files == FILES


def test_a_good_zip_in_the_data_folder_needs_no_network(user):
    (user.data / "digit-recognizer.zip").write_bytes(GOOD)
    assert user() == 0
    assert user.files == FILES | {"digit-recognizer.zip": GOOD}
    assert not user.kaggle.calls


def test_without_credentials_it_is_said_what_to_do(user, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "")
    assert user() == 3
    for needed in ("kaggle.com/settings/api", "/rules", "--zip FILE"):
        assert needed in user.err
    assert len(user.err.splitlines()) == 2
    assert not user.kaggle.calls
    assert user.files == {}


def test_a_zip_on_disk_is_taken_without_network(user, tmp_path):
    (tmp_path / "got-by-hand.zip").write_bytes(GOOD)
    assert user("--zip", tmp_path / "got-by-hand.zip") == 0
    assert user.files == FILES
    assert not user.kaggle.calls


@pytest.mark.parametrize("content", [None, b"", HTML, CORRUPT])
def test_a_file_on_disk_that_is_not_the_data_changes_nothing(user, tmp_path, content):
    if content is not None:
        (tmp_path / "bad.zip").write_bytes(content)
    (user.data / "train.csv").write_bytes(FILES["train.csv"])
    assert user("--zip", tmp_path / "bad.zip") == 2
    assert "bad.zip" in user.err
    assert user.files == {"train.csv": FILES["train.csv"]}
    assert not user.kaggle.calls


def test_an_interrupt_leaves_nothing_behind(user):
    user.kaggle.fault("digit-recognizer.zip", times=9, stall=30)
    process = subprocess.Popen(
        [sys.executable, Path(download.__file__), "--data-dir", user.data],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(user.temporary)},
    )
    wait_until(lambda: user.kaggle.calls["digit-recognizer.zip"])
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    user.said += out + err
    assert process.returncode == 130
    assert user.files == {}


def test_the_script_works_from_any_folder(user, tmp_path):
    done = subprocess.run(
        ["bash", ROOT / "scripts" / "download.sh", "--zip", "none.zip"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.returncode == 2
    assert "error: none.zip: there is no such file" in done.stderr
