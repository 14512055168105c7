import dataclasses
import functools
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import submit
from digits.data.competition import content_hash, write_submission
from digits.files import ROOT
from digits.kaggle import client
from digits.kaggle.client import Kaggle
from digits.kaggle.ledger import Entry, read_ledger, record
from digits.kaggle.submit import TRAINING_COUNTS
from digits.runs.record import DataSummary, SubmissionFile
from digits.runs.store import Run
from fake_kaggle import FAST, leaks, stage, wait_until
from made_run import made_record


def answers(seed=0, rows=28_000):
    shares = np.array(TRAINING_COUNTS) / sum(TRAINING_COUNTS)
    return np.random.default_rng(seed).choice(10, rows, p=shares).astype(np.uint8)


def make_run(folder, name="a-run", labels=None, **changes):
    """Write a run as train.py leaves it, and the copy of its file; return the answers' hash."""
    labels = answers() if labels is None else labels
    run = Run(folder / name)
    run.folder.mkdir(parents=True)
    for file in (run.folder / "submission.csv", folder / "submission.csv"):
        write_submission(file, np.arange(1, len(labels) + 1), labels)
    submission = SubmissionFile("submission.csv", "submissions/submission.csv", len(labels), content_hash(labels))
    data = DataSummary([], list(TRAINING_COUNTS), "the competition's files")
    run.write_record(made_record(**{"run": name, "data": data, "submission": submission} | changes))
    return submission.sha256


class Stage:
    """A user's submissions folder, a Kaggle, and the command."""

    def __init__(self, kaggle, folder, capfd):
        self.kaggle, self.folder, self.capfd, self.said = kaggle, folder, capfd, ""

    def __call__(self, *arguments):
        code = submit.main([*map(str, arguments), "--submissions-dir", str(self.folder)])
        self.out, self.err = self.capfd.readouterr()
        self.said += self.out + self.err
        assert self.err.count("\n") <= 12
        return code

    @property
    def ledger(self):
        return read_ledger(self.folder / "ledger.csv")

    @property
    def states(self):
        return [entry.status for entry in self.ledger]

    @property
    def used(self):
        return len(self.kaggle.submissions)


def be_patient(monkeypatch, **seconds):
    monkeypatch.setattr(client, "Kaggle", functools.partial(Kaggle, dataclasses.replace(FAST, **seconds)))


@pytest.fixture
def user(monkeypatch, tmp_path, capfd):
    be_patient(monkeypatch)
    with stage(monkeypatch, tmp_path / "home") as kaggle:
        user = Stage(kaggle, tmp_path / "submissions", capfd)
        yield user
        assert leaks(tmp_path, user.said) == []
        assert "Traceback" not in user.said


# The way it should go.


def test_a_submission_is_sent_once_scored_and_recorded(user):
    sha256 = make_run(user.folder)
    user.kaggle.polls_until_scored = 3
    assert user("-m", "first try") == 0
    (entry,) = user.ledger
    assert (entry.status, entry.public_score, entry.ref, entry.sha256) == ("complete", 0.99671, "1000", sha256)
    assert (entry.run, entry.recipe, entry.folds, entry.out_of_fold) == ("a-run", "standard", 5, 0.9964)
    assert user.kaggle.submissions[0]["description"] == f"first try [digits:{sha256[:12]}]"
    assert user.kaggle.uploads == [(user.folder / "submission.csv").read_bytes()]
    for words in (
        "28,000 rows, run a-run",
        "left today: 5",
        "Credentials: KAGGLE_API_TOKEN",
        "Public score: 0.99671, +0.7",
    ):
        assert words in user.out


def test_the_message_says_by_itself_what_was_sent(user):
    make_run(user.folder)
    assert user("--no-wait") == 0
    assert "run a-run, recipe standard, 5 folds, out-of-fold 0.9964" in user.kaggle.submissions[0]["description"]
    assert user.states == ["complete"]


def test_not_waiting_leaves_a_pending_row_that_status_completes(user):
    make_run(user.folder)
    user.kaggle.polls_until_scored = 1
    assert user("--no-wait") == 0
    assert "Not scored yet" in user.out
    assert user.states == ["pending"]
    assert user("--status") == 0
    assert user.states == ["complete"]
    assert "0.99671" in user.out


def test_a_score_that_does_not_come_in_time_is_no_failure(user):
    make_run(user.folder)
    user.kaggle.polls_until_scored = 10_000
    assert user("--wait", 0.2) == 0
    assert user.states == ["pending"]
    assert "--status" in user.out


def test_a_dry_run_does_all_but_the_upload(user):
    make_run(user.folder)
    assert user("--dry-run") == 0
    assert "left today: 5" in user.out
    assert "nothing was uploaded" in user.out
    assert (user.used, user.ledger) == (0, [])


def test_the_plain_client_submits_the_file_too_and_the_ledger_finds_its_run(user):
    sha256 = make_run(user.folder)
    command = [sys.executable, "-m", "kaggle", "competitions", "submit", "-c", "digit-recognizer"]
    command += ["-f", user.folder / "submission.csv", "-m", f"by hand digits:{sha256[:12]}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Successfully submitted" in done.stdout
    user.kaggle.submit("on the site", ref=7, publicScore="0.98", status="COMPLETE")
    assert user("--status") == 0
    assert [(entry.run, entry.public_score) for entry in user.ledger] == [("a-run", 0.99671), ("", 0.98)]
    lines = user.out.splitlines()
    assert lines[1].startswith("0.99671  0.99640")
    assert lines[2].startswith("0.98000  -")
    assert lines[2].endswith("(by hand)")
    assert user("--status") == 0
    assert len(user.ledger) == 2
    assert user() == 2
    assert "submitted before" in user.err
    assert user.used == 2


def test_status_of_nobody_s_submissions_is_an_empty_table(user):
    assert user("--status") == 0
    assert user.out.startswith("public")


# Refused before anything is sent.


def refused(user, code, *words, arguments=()):
    assert user(*arguments) == code
    for word in words:
        assert word in user.err, user.err
    assert len(user.err.splitlines()) <= 4
    assert not user.kaggle.uploads
    assert user.used == 0
    return True


def test_a_broken_file_is_refused_without_a_call(user):
    make_run(user.folder)
    text = (user.folder / "submission.csv").read_text().replace("\n500,", "\n501,", 1)
    (user.folder / "submission.csv").write_text(text)
    assert refused(user, 2, "line 501", "expected ImageId 500")
    assert not user.kaggle.calls


def test_no_file_at_all_is_refused_with_the_command_that_makes_one(user):
    assert refused(user, 2, "no such file", "python src/train.py")


@pytest.mark.parametrize(
    ("changes", "rows", "words"),
    [
        ({"source": "sample"}, 1000, ("'sample'", "scripts/download.sh")),
        ({"source": "keras"}, 28_000, ("'keras'", "scripts/download.sh")),
        ({"leaked": True}, 28_000, ("saw test images", "never sent")),
    ],
)
def test_a_file_that_is_no_honest_answer_is_refused(user, changes, rows, words):
    make_run(user.folder, labels=answers(rows=rows), **changes)
    assert refused(user, 2, *words, arguments=["--yes", "--again"])
    assert not user.kaggle.calls


def test_a_file_with_too_few_rows_is_refused(user):
    make_run(user.folder, labels=answers(rows=27_999))
    assert refused(user, 2, "expected 28,000 rows", "found 27,999")


def test_the_same_answers_are_sent_again_only_when_asked(user):
    make_run(user.folder)
    assert user() == 0
    assert user() == 2
    assert "submitted before" in user.err
    assert "--again" in user.err
    assert user.used == 1
    assert user("--again") == 0
    assert [row["description"].endswith("-2]") for row in user.kaggle.submissions] == [True, False]
    assert user.states == ["complete", "complete"]


def test_the_same_answers_sent_from_another_machine_are_recognised(user):
    sha256 = make_run(user.folder)
    user.kaggle.submit(f"elsewhere [digits:{sha256[:12]}]")
    assert user() == 2
    assert "submitted before" in user.err
    assert user.used == 1


def test_a_doubt_is_asked_about_and_without_a_terminal_refused(user, monkeypatch):
    make_run(user.folder, checks=[{"name": "ink", "passed": False, "detail": "3 empty images"}])
    assert refused(user, 2, "3 empty images", "--yes")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert refused(user, 2, "not sent")
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert user() == 0
    assert user.used == 1


def test_answers_with_strange_shares_are_doubted(user):
    labels = answers()
    labels[:1000] = 7
    make_run(user.folder, labels=labels)
    assert refused(user, 2, "of the answers are 7")
    assert user("--yes") == 0


def test_a_file_of_no_known_run_is_sent_with_a_warning(user, tmp_path):
    write_submission(tmp_path / "mine.csv", np.arange(1, 28_001), answers(3))
    assert user(tmp_path / "mine.csv") == 0
    assert "no run below" in user.out
    assert user.states == ["complete"]


def test_the_last_submission_is_compared_row_by_row(user):
    make_run(user.folder, "first")
    assert user() == 0
    labels = answers()
    labels[:37] = (labels[:37] + 1) % 10
    make_run(user.folder, "second", labels)
    assert user("--dry-run") == 0
    assert "differs in 37 of 28,000 rows from the last submission (run first, public score 0.99671)" in user.out


def test_no_submission_left_today_is_told_before_the_upload_with_the_reset(user):
    make_run(user.folder)
    user.kaggle.allowed_a_day = 2
    for number in range(2):
        user.kaggle.submit(f"number {number}")
    assert user() == 3
    assert "no submissions are left today (2 made)" in user.err
    assert "midnight UTC" in user.err
    assert not user.kaggle.uploads
    assert user.used == 2


def test_someone_who_never_submitted_is_not_taken_for_one_without_submissions_left(user):
    make_run(user.folder)
    user.kaggle.never_submitted = True
    assert user() == 0
    assert "does not say" in user.out
    assert user.used == 1


def test_without_credentials_nothing_is_called(user, monkeypatch):
    make_run(user.folder)
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert refused(user, 3, "no Kaggle credentials")
    assert not user.kaggle.calls


def test_a_bad_token_is_refused(user, monkeypatch):
    make_run(user.folder)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "mistyped")
    assert refused(user, 3, "does not accept the credentials of KAGGLE_API_TOKEN")


@pytest.mark.parametrize("flags", [["--wait", "-1"], ["--wait", "nan"], ["--stat"], ["--status", "x.csv"], ["a", "b"]])
def test_wrong_flags_end_with_2(user, flags):
    with pytest.raises(SystemExit) as ended:
        user(*flags)
    assert ended.value.code == 2
    assert not user.kaggle.calls


# Faults on the way: (method, fault, times) -> exit code, words, rows in the ledger, submissions used.

FAULTS = {
    "rules not accepted": (
        "StartSubmissionUpload",
        {"status": 403, "message": "accept the rules"},
        3,
        "/rules",
        "failed",
        0,
    ),
    "daily limit at the last moment": (
        "CreateSubmission",
        {"status": 400, "message": "limit"},
        3,
        "limit",
        "failed",
        0,
    ),
    "429 at the start": ("StartSubmissionUpload", {"status": 429}, 0, "", "complete", 1),
    "429 for good": ("StartSubmissionUpload", {"status": 429, "times": 9}, 1, "Nothing was submitted", "failed", 0),
    "upload refused once": ("upload", {"status": 403}, 0, "storage refused", "complete", 1),
    "upload refused for good": ("upload", {"status": 503, "times": 9}, 1, "Nothing was submitted", "failed", 0),
    "upload dropped once": ("upload", {"drop": True}, 0, "", "complete", 1),
    "429 at the end": ("CreateSubmission", {"status": 429}, 0, "", "complete", 1),
    "500 at the end, recorded": (
        "CreateSubmission",
        {"status": 500, "after": True},
        0,
        "looking for it",
        "complete",
        1,
    ),
    "500 at the end, not recorded": ("CreateSubmission", {"status": 500}, 0, "sending it again", "complete", 1),
    "reply lost, recorded": ("CreateSubmission", {"drop": True, "after": True}, 0, "looking for it", "complete", 1),
    "reply cut short, recorded": ("CreateSubmission", {"short": 20}, 0, "looking for it", "complete", 1),
    "a proxy's page for the reply": (
        "CreateSubmission",
        {"status": 200, "body": b"<html>", "after": True},
        0,
        "looking for it",
        "complete",
        1,
    ),
    "log-in cut short": ("IntrospectToken", {"short": 10, "times": 1}, 0, "", "complete", 1),
    "reply lost, not recorded": ("CreateSubmission", {"drop": True}, 0, "sending it again", "complete", 1),
    "reply lost for good": ("CreateSubmission", {"drop": True, "times": 9}, 1, "--status", "unconfirmed", 0),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_at_most_one_submission(user, name):
    method, fault, code, words, status, used = FAULTS[name]
    make_run(user.folder)
    user.kaggle.fault(method, **fault)
    assert user() == code
    assert words in user.err
    assert user.states == [status]
    assert user.used == used


def test_a_server_that_stalls_after_recording_costs_one_submission(user, monkeypatch):
    be_patient(monkeypatch, submit_seconds=2)
    make_run(user.folder)
    user.kaggle.fault("CreateSubmission", stall=30, after=True)
    assert user() == 0
    assert "No answer from Kaggle in 2 s" in user.err
    assert user.states == ["complete"]
    assert user.used == 1


def test_a_submission_that_kaggle_counts_but_does_not_list_is_not_sent_again(user):
    make_run(user.folder)
    user.kaggle.listed = False
    user.kaggle.fault("CreateSubmission", drop=True, after=True)
    assert user() == 1
    assert "may have counted" in user.err
    assert user.states == ["unconfirmed"]
    assert user.used == 1


def test_a_submission_that_is_accepted_but_never_listed_is_said_to_be_so(user):
    make_run(user.folder)
    user.kaggle.listed = False
    assert user() == 1
    assert "accepted the submission but does not list it" in user.err
    assert user.states == ["unconfirmed"]
    assert user.used == 1
    user.kaggle.listed = True
    assert user("--status") == 0
    assert user.states == ["complete"]


def test_kaggle_s_own_reason_for_an_error_is_shown(user):
    make_run(user.folder)
    user.kaggle.outcome = {"status": "ERROR", "errorDescription": "Submission must have 28000 rows"}
    user.kaggle.polls_until_scored = 1
    assert user() == 1
    assert "Submission must have 28000 rows" in user.err
    (entry,) = user.ledger
    assert (entry.status, entry.reason) == ("error", "Submission must have 28000 rows")
    user.kaggle.outcome = {"status": "COMPLETE", "publicScore": "0.99"}
    assert user() == 0
    assert user.states == ["error", "complete"]


def test_a_poll_that_fails_does_not_lose_the_submission(user):
    make_run(user.folder)
    answer = user.kaggle.answer

    def answer_and_break_down(method, request):
        if method == "CreateSubmission":
            user.kaggle.fault("ListSubmissions", times=9, status=502)
        return answer(method, request)

    user.kaggle.answer = answer_and_break_down
    assert user() == 1
    assert "--status" in user.err
    assert user.states == ["unconfirmed"]
    assert user.ledger[0].ref == "1000"
    user.kaggle.mend()
    assert user("--status") == 0
    assert user.states == ["complete"]


# A process that died, or was interrupted, or is not alone.


def lost_attempt(user, age_seconds):
    sha256 = make_run(user.folder)
    sent = (datetime.now(UTC) - timedelta(seconds=age_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    tag = f"digits:{sha256[:12]}"
    record(user.folder / "ledger.csv", Entry(time=sent, sha256=sha256, run="a-run", tag=tag, status="unconfirmed"))
    return tag


def test_an_attempt_that_died_but_arrived_is_taken_up_not_repeated(user):
    user.kaggle.submit(f"text [{lost_attempt(user, 0)}]")
    assert user() == 0
    assert "nothing is uploaded again" in user.out
    assert user.states == ["complete"]
    assert user.used == 1


def test_an_attempt_that_died_and_did_not_arrive_is_made_again(user):
    lost_attempt(user, 60)
    assert user() == 0
    assert user.states == ["complete"]
    assert user.used == 1


def test_an_attempt_of_a_moment_ago_is_waited_for(user, monkeypatch):
    be_patient(monkeypatch, listing_seconds=100)
    lost_attempt(user, 10)
    assert user() == 1
    assert "Try again in" in user.err
    assert user.used == 0


def test_an_old_attempt_that_kaggle_does_not_list_is_failed_for_status(user):
    lost_attempt(user, 60)
    assert user("--status") == 0
    assert user.states == ["failed"]
    assert "not in Kaggle's list" in user.out


def command(user, *arguments):
    script = Path(submit.__file__)
    return subprocess.Popen(
        [sys.executable, script, "--submissions-dir", user.folder, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_an_interrupt_in_the_upload_says_what_is_not_known(user):
    make_run(user.folder)
    user.kaggle.fault("CreateSubmission", stall=30, after=True)
    process = command(user)
    wait_until(lambda: user.used == 1)
    assert user() == 1
    assert "Another process holds" in user.err
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    user.said += out + err
    assert process.returncode == 130
    assert "may have counted" in err
    assert user() == 0
    assert user.states == ["complete"]
    assert user.used == 1


def test_a_ledger_that_is_broken_stops_the_submission(user):
    make_run(user.folder)
    (user.folder / "ledger.csv").write_text("mine\n")
    assert refused(user, 2, "ledger.csv, line 1")
    assert (user.folder / "ledger.csv").read_text() == "mine\n"


def test_the_script_works_from_any_folder(user, tmp_path):
    script = ROOT / "scripts" / "submit.sh"
    done = subprocess.run(
        ["bash", script, "none.csv", "--submissions-dir", user.folder],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.returncode == 2
    assert "error: none.csv: there is no such file" in done.stderr
