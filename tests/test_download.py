import functools
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

import download
from digits.kaggle import client
from digits.kaggle.client import Kaggle
from fake_kaggle import FAST, leaks
from torn_files import PIXEL_COLUMNS, TRAIN_COLUMNS, zip_bytes


def table(header, rows, first):
    width = len(header) - len(first(0))
    lines = [",".join([*map(str, first(row)), *["0"] * width]) for row in range(rows)]
    return "\r\n".join([",".join(header), *lines, ""]).encode()


FILES = {
    "train.csv": table(TRAIN_COLUMNS, 20, lambda row: [row % 10]),
    "test.csv": table(PIXEL_COLUMNS, 10, lambda row: []),
    "sample_submission.csv": table(("ImageId", "Label"), 10, lambda row: [row + 1, 0]),
}


GOOD = zip_bytes(FILES)
CORRUPT = GOOD[:300] + bytes(200) + GOOD[500:]
HTML = b"<!DOCTYPE html><title>Sign in</title>"


class User:
    def __init__(self, kaggle, folder, capfd):
        self.kaggle, self.data, self.capfd = kaggle, folder / "data", capfd
        self.data.mkdir()

    def __call__(self, *arguments):
        code = download.main([*map(str, arguments), "--data-dir", str(self.data)])
        self.out, self.err = self.capfd.readouterr()
        assert "Traceback" not in self.err
        return code

    @property
    def files(self):
        return {file.name: file.read_bytes() for file in self.data.glob("*") if not file.name.startswith(".")}


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    """Where temporary files lie, which must all be gone in the end."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield tmp_path / "temporary"
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture
def user(memory, tmp_path, temporary, capfd):
    memory.archive = GOOD
    return User(memory, tmp_path, capfd)


def test_the_data_is_fetched_checked_and_the_second_time_not_fetched(user):
    assert user() == 0
    assert user.files == FILES
    assert "Credentials: KAGGLE_API_TOKEN" in user.err
    assert "train.csv: 20 rows" in user.out
    user.kaggle.calls.clear()
    assert user() == 0
    assert "already in" in user.out
    assert "train.csv: 20 rows, not Kaggle's file" in user.out
    assert "That is not digit-recognizer's" in user.out
    assert not user.kaggle.calls


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        pytest.param({"status": 403, "message": "You must accept the rules"}, 3, "/rules", id="rules"),
        pytest.param({"status": 404}, 1, "does not find it", id="404"),
        pytest.param({"status": 429}, 1, "slow down", id="429"),
        pytest.param({"drop": True}, 1, "connection to Kaggle failed", id="dropped"),
        pytest.param({"stall": 60}, 1, "No answer from Kaggle", id="stalled"),
        pytest.param(HTML, 1, "not the data", id="a page"),
        pytest.param(GOOD[:2000], 1, "not the data", id="cut"),
        pytest.param(zip_bytes({"a.csv": b"x", "b": b""}), 1, "not the data", id="other files"),
    ],
)
def test_a_lasting_fault_leaves_the_data_folder_as_it_was(user, fault, code, words):
    (user.data / "train.csv").write_bytes(FILES["train.csv"])
    (user.data / "README.md").write_text("mine")
    before = user.files
    if isinstance(fault, bytes):
        user.kaggle.archive = fault
    else:
        user.kaggle.fault("DownloadDataFiles", times=2, **fault)
    assert user() == code
    assert words in user.err
    assert user.files == before


def test_the_data_is_fetched_again_after_a_passing_trouble_of_the_storage(user):
    user.kaggle.fault("digit-recognizer.zip", status=500)
    assert user() == 0
    assert user.files == FILES
    assert user.kaggle.calls["DownloadDataFiles"] == 2


def test_a_zip_of_the_user_s_is_used_or_left_alone(user, monkeypatch):
    own = user.data / "digit-recognizer.zip"
    own.write_bytes(GOOD)
    assert user() == 0
    assert user.files == FILES | {own.name: GOOD}
    assert not user.kaggle.calls
    for name in FILES:
        (user.data / name).unlink()
    bad = GOOD[:1000] + HTML
    own.write_bytes(bad)
    with monkeypatch.context() as patch:
        patch.delenv("KAGGLE_API_TOKEN")
        assert user() == 3
    assert "is not used: " in user.out
    assert user.files == {own.name: bad}
    assert user() == 0
    assert user.files == FILES | {own.name: bad}


def test_without_credentials_it_is_said_what_to_do_and_where_that_is_enough_the_command_ends_well(user, monkeypatch):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert user() == 3
    for needed in ("kaggle.com/settings/api", "/rules", "--zip FILE"):
        assert needed in user.err
    assert user("--if-possible") == 0
    assert "runs on the embedded sample" in user.out
    assert user.files == {}


def test_credentials_that_cannot_be_used_are_named_before_the_sample_is_taken(user, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "expired-or-mistyped")
    assert user("--if-possible") == 0
    assert "does not accept the credentials of KAGGLE_API_TOKEN" in user.err
    assert "this runs on the embedded sample" in user.out
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    assert user("--if-possible") == 0
    assert "of KAGGLE_USERNAME and KAGGLE_KEY only one is set" in user.err
    assert user() == 3
    assert "of KAGGLE_USERNAME and KAGGLE_KEY only one is set" in user.err


@pytest.mark.parametrize("where", ["the temporary folder", "the data folder"])
def test_a_full_disk_is_named_at_once_and_kaggle_is_not_blamed(user, monkeypatch, where):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if where == "the data folder":
        monkeypatch.setattr(Path, "write_bytes", full)
    else:
        from kaggle.api.kaggle_api_extended import KaggleApi

        monkeypatch.setattr(KaggleApi, "download_file", full)
    assert user() == 1
    assert re.search("(?i)no space left on", user.err)
    assert "what Kaggle sent" not in user.err
    assert user.kaggle.calls["DownloadDataFiles"] == 1


def test_a_file_that_cannot_be_written_is_named_at_once_by_the_process_that_fetches(online, temporary):
    online.kaggle.archive = os.urandom(300_000)
    limited = f"ulimit -f 100; exec {sys.executable} {Path(download.__file__)} --data-dir {online.data}"
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=60, env=environment)
    online.out, online.err = done.stdout, done.stderr
    assert done.returncode == 1
    assert re.search(f"Nothing can be written to {temporary}.*File too large", online.err), online.err
    assert online.kaggle.calls["DownloadDataFiles"] == 1


def test_a_zip_on_disk_is_taken_without_network_or_changes_nothing(user, tmp_path):
    (tmp_path / "got-by-hand.zip").write_bytes(GOOD)
    assert user("--zip", tmp_path / "got-by-hand.zip") == 0
    assert user.files == FILES
    for name in FILES:
        (user.data / name).unlink()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "digit-recognizer.zip").write_bytes(GOOD)
    assert user("--zip", tmp_path / "folder") == 0
    assert user.files == FILES
    (tmp_path / "bad.zip").write_bytes(CORRUPT)
    for name in ("bad.zip", "none.zip"):
        assert user("--zip", tmp_path / name) == 2
        assert name in user.err
        assert user.files == FILES
    assert not user.kaggle.calls


def test_a_file_on_disk_says_what_it_replaces_and_what_is_still_missing(user, tmp_path):
    (tmp_path / "part.zip").write_bytes(zip_bytes({"sample_submission.csv": FILES["sample_submission.csv"]}))
    assert user("--zip", tmp_path / "part.zip") == 0
    assert user.out.endswith("data: train.csv and test.csv.\n")
    assert list(user.files) == ["sample_submission.csv"]
    (tmp_path / "got-by-hand.zip").write_bytes(GOOD)
    (user.data / "train.csv").write_bytes(table(TRAIN_COLUMNS, 30, lambda row: [row % 10]))
    (user.data / "test.csv").write_bytes(FILES["test.csv"])
    assert user("--zip", tmp_path / "got-by-hand.zip") == 0
    assert [line.endswith("; replaces another file") for line in user.out.splitlines()] == [
        "train.csv" in line for line in user.out.splitlines()
    ]


def test_any_competition_is_fetched_unpacked_and_what_training_lacks_is_said(user, monkeypatch, tmp_path):
    listing = b"id,kind,hospital\na,1,0\nb,0,0\n"
    user.kaggle.archive = zip_bytes({"train.csv": listing, "train/a.png": b"", "train/b.png": b"", "about.txt": b""})
    assert user("--competition", "https://www.kaggle.com/competitions/digit-recogniser/data") == 0
    assert "digit-recogniser is not known here. Did you mean digit-recognizer?" in user.err
    assert "data: train, about.txt, train.csv" in user.out
    assert "expected one column with the label, found kind, hospital. Name it: --label-column NAME" in user.out
    assert "src/train.py --competition digit-recogniser" in user.out
    assert (user.data / "train/a.png").exists()
    user.kaggle.calls.clear()
    assert user("--competition", "digit-recogniser") == 0
    assert "already in" in user.out
    assert not user.kaggle.calls
    (tmp_path / "got.zip").write_bytes(
        zip_bytes({"train.csv": listing.replace(b",hospital", b"").replace(b",0\n", b"\n")})
    )
    assert user("--competition", "digit-recogniser", "--zip", tmp_path / "got.zip") == 0
    assert "All images found: 2 to train on, 0 to predict" in user.out


# Through the unmodified client and HTTP.


@pytest.fixture
def online(server, monkeypatch, tmp_path, temporary, capfd):
    server.archive = GOOD
    policy = replace(FAST, attempts=2)
    monkeypatch.setattr(client, "Kaggle", functools.partial(Kaggle, policy))
    user = User(server, tmp_path, capfd)
    yield user
    assert leaks(tmp_path, user.out + user.err) == []


def test_a_body_that_breaks_off_is_resumed_and_a_page_in_its_place_is_not_taken_for_it(online):
    online.kaggle.fault("digit-recognizer.zip", short=1000)
    online.kaggle.fault("digit-recognizer.zip", status=200, body=HTML)
    assert online() == 0
    assert online.files == FILES


def test_a_stalled_download_is_told_and_given_up(online, monkeypatch):
    policy = replace(FAST, attempts=1, stall_seconds=2, notice_seconds=0.3)
    monkeypatch.setattr(client, "Kaggle", functools.partial(Kaggle, policy))
    online.kaggle.fault("digit-recognizer.zip", times=9, stall=30)
    assert online() == 1
    assert "Waiting for Kaggle" in online.err
    assert "No answer from Kaggle in 2 s." in online.err
    assert online.files == {}
