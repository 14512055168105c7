"""The submit command, with a Kaggle in memory; what goes through the client itself is in test_kaggle_client."""

import functools
import gzip
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import submit
from digits.data.competition import COMPETITIONS, DIGIT_RECOGNIZER, KANNADA_MNIST, Form
from digits.data.dataset import DataFile, DataSummary
from digits.data.submission import content_hash, known_form, write_submission
from digits.files import file_lock
from digits.kaggle import ledger
from digits.kaggle.client import RetryPolicy
from digits.kaggle.ledger import Entry, read_ledger, record
from digits.runs.checks import Check
from digits.runs.record import SubmissionFile
from digits.runs.store import Run
from fake_kaggle import use
from made_run import SCORE, made_record

SHIPPED = RetryPolicy()
TRAINING_COUNTS = DIGIT_RECOGNIZER.training_counts
ROWS = 2800
"""Of the tests' submissions."""
KANNADA_FORM = known_form(KANNADA_MNIST)


@functools.cache
def answers(seed=0, rows=ROWS):
    """Return labels with the training labels' shares, in random order."""
    counts = np.array(TRAINING_COUNTS) * rows // sum(TRAINING_COUNTS) + 1
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(10), counts)[:rows]).astype(np.uint8)


def changed(labels, rows):
    return np.concatenate([(labels[:rows] + 1) % 10, labels[rows:]])


def make_run(folder, name="a-run", labels=None, test_form=Form.IDENTICAL, **changes):
    """Write a run as train.py leaves it, and the copy of its file; return the answers' hash."""
    labels = answers() if labels is None else labels
    run = Run(folder / name)
    run.folder.mkdir(parents=True)
    write_submission(run.folder / "submission.csv", np.arange(1, len(labels) + 1), labels)
    (folder / "submission.csv").write_bytes((run.folder / "submission.csv").read_bytes())
    submission = SubmissionFile("submission.csv", "submissions/submission.csv", len(labels), content_hash(labels))
    files = [DataFile("test.csv", ROWS, "0" * 64, test_form)]
    data = DataSummary(files, list(TRAINING_COUNTS), "the competition's files")
    run.write_record(made_record(**{"run": name, "data": data, "submission": submission} | changes))
    return submission.sha256


def make_reference(folder, labels):
    submission = SubmissionFile("submission.csv.gz", None, len(labels), content_hash(labels))
    sha256 = make_run(folder / "reference", "standard", labels, submission=submission)
    (folder / "reference" / "submission.csv").unlink()
    plain = folder / "reference" / "standard" / "submission.csv"
    plain.with_name("submission.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    return sha256


class User:
    """A user's submissions folder, a Kaggle, and the command."""

    def __init__(self, kaggle, folder, capfd):
        self.kaggle, self.folder, self.capfd = kaggle, folder, capfd

    def __call__(self, *arguments):
        code = submit.main([*map(str, arguments), "--submissions-dir", str(self.folder)])
        self.out, self.err = self.capfd.readouterr()
        assert "Traceback" not in self.err
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


@pytest.fixture
def user(monkeypatch, memory, tmp_path, capfd):
    for slug, known in list(COMPETITIONS.items()):
        monkeypatch.setitem(COMPETITIONS, slug, replace(known, test=replace(known.test, rows=ROWS)))
    return User(memory, tmp_path / "submissions", capfd)


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
    for words in ("2,800 rows, run a-run", "left today: 5", "Public score: 0.99671, +0.3"):
        assert words in user.out
    assert "Credentials: KAGGLE_API_TOKEN" in user.err


def test_what_is_sent_is_what_was_checked_whatever_has_taken_its_place(user, monkeypatch):
    sha256 = make_run(user.folder, "checked", checks=[Check("ink", False, "3 empty images")])
    checked = (user.folder / "submission.csv").read_bytes()

    def another_run_ends(question):
        make_run(user.folder, "newer", answers(1))
        return "y"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", another_run_ends)
    assert user() == 0
    assert user.kaggle.uploads == [checked]
    assert [(entry.run, entry.sha256) for entry in user.ledger] == [("checked", sha256)]


def test_not_waiting_or_not_long_enough_leaves_a_pending_row_that_status_completes(user):
    make_run(user.folder)
    user.kaggle.polls_until_scored = 10_000
    assert user("--wait", 0.02) == 0
    assert "run a-run, recipe standard, 5 folds, out-of-fold 0.9964" in user.kaggle.submissions[0]["description"]
    assert "Not scored yet" in user.out
    assert f"Look later: scripts/submit.sh --status --submissions-dir {user.folder}\n" in user.out
    assert user.states == ["pending"]
    user.kaggle.submissions[0]["polls"] = 0
    assert user("--status") == 0
    assert user.states == ["complete"]
    assert "0.99671" in user.out


def test_a_dry_run_does_all_but_the_upload_and_without_network_or_credentials_all_that_needs_none(user, monkeypatch):
    make_run(user.folder, checks=[Check("ink", False, "3 empty images")])
    assert user("--dry-run") == 0
    assert "left today: 5" in user.out
    assert "nothing was uploaded" in user.out
    for words in ("The connection to Kaggle failed", "no Kaggle credentials found"):
        user.kaggle.fault("IntrospectToken", times=2, drop=True)
        assert user("--dry-run") == 0
        assert "2,800 rows, run a-run" in user.out
        assert "3 empty images" in user.err
        assert f"the file was checked, and Kaggle could not be asked: {words}" in user.out
        assert "Trying again" not in user.err
        user.kaggle.clear_faults()
        monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    assert (user.used, user.ledger) == (0, [])


def test_status_lists_also_what_was_submitted_elsewhere_best_first(user):
    assert user("--status") == 0
    assert user.out.split()[0] == "public"
    sha256 = make_run(user.folder)
    user.kaggle.record(f"by hand digits:{sha256[:12]}")
    user.kaggle.record("on the site", ref="7", publicScore="0.98", status="COMPLETE")
    for _ in range(2):
        assert user("--status") == 0
        assert [(entry.run, entry.public_score) for entry in user.ledger] == [("a-run", 0.99671), ("", 0.98)]
    lines = user.out.splitlines()
    assert lines[1].split()[:2] == ["0.99671", "0.99640"]
    assert lines[2].split()[:2] == ["0.98000", "-"]
    assert lines[2].endswith("(by hand)")
    assert user() == 2
    assert "submitted before" in user.err


def test_a_run_can_be_named_instead_of_its_file_and_is_that_in_whose_folder_the_file_lies(user):
    sha256 = make_run(user.folder, "first")
    make_run(user.folder, "second", answers(1))
    make_run(user.folder, "other")  # A blend of "first" alone has its answers.
    for name in ("first", user.folder / "first", user.folder / "first" / "submission.csv"):
        assert user(name, "--dry-run") == 0
        assert f"digits:{sha256[:12]}" in user.out
        assert "run first" in user.out
    assert user("third") == 2
    assert "There is no run 'third'. There are: first, second, other." in user.err
    sha256 = make_reference(user.folder, answers(2))  # Its file is packed.
    assert user("reference/standard", "--dry-run", "--yes") == 0
    assert f"digits:{sha256[:12]}" in user.out


# Refused before anything is sent.


def refused(user, code, *words, arguments=()):
    assert user(*arguments) == code
    for word in words:
        assert word in user.err, user.err
    assert len(user.err.splitlines()) <= 4
    assert (user.kaggle.uploads, user.used) == ([], 0)
    return True


def test_no_file_a_broken_one_another_process_and_a_broken_ledger_stop_the_submission_without_a_call(user):
    assert refused(user, 2, "no such file", "python src/train.py")
    make_run(user.folder)
    with file_lock(user.folder / ".submit.lock"):
        assert refused(user, 1, "Another process holds")
    text = (user.folder / "submission.csv").read_text()
    (user.folder / "submission.csv").write_text(re.sub("(?m)^500,.$", "500,x", text))
    assert refused(user, 2, "line 501")
    (user.folder / "submission.csv").write_text(text)
    (user.folder / "ledger.csv").write_text("mine\n")
    assert refused(user, 2, "ledger.csv, line 1")
    assert (user.folder / "ledger.csv").read_text() == "mine\n"
    assert not user.kaggle.calls


@pytest.mark.parametrize(
    ("changes", "rows", "words"),
    [
        pytest.param({"source": "sample"}, 1000, ("'sample'", "scripts/download.sh"), id="the sample's"),
        pytest.param({"source": "keras"}, ROWS, ("'keras'", "scripts/download.sh"), id="MNIST's"),
        pytest.param({"leaked": True}, ROWS, ("saw test images", "never sent"), id="leaked"),
        pytest.param({}, 2799, ("expected 2,800 rows", "found 2,799"), id="a row too few"),
    ],
)
def test_a_file_that_is_no_honest_answer_is_refused(user, changes, rows, words):
    make_run(user.folder, labels=answers(rows=rows), **changes)
    assert refused(user, 2, *words, arguments=["--yes", "--again"])
    assert not user.kaggle.calls


def test_the_cure_for_a_run_of_another_competition_is_that_competition_s(user):
    for changes, rows in (({"source": "sample"}, ROWS), ({}, ROWS - 1)):
        make_run(user.folder, f"a-run-{rows}", answers(rows=rows), **changes)
        file = user.folder / f"a-run-{rows}" / "submission.csv"
        write_submission(file, np.arange(rows), answers(rows=rows), KANNADA_FORM)
        assert refused(
            user,
            2,
            "scripts/download.sh --competition kannada-mnist && python src/train.py --source kaggle --comp",
            arguments=[file, "--competition", "kannada-mnist"],
        )
    made_for_it = "for digit-recognizer, not for kannada-mnist. Submit it there: "
    make_run(user.folder, data=DataSummary([], list(TRAINING_COUNTS), "its files", competition="digit-recognizer"))
    assert refused(user, 2, made_for_it, arguments=["a-run", "--competition", "kannada-mnist"])


def test_the_same_answers_are_sent_again_only_when_asked(user):
    sha256 = make_run(user.folder)
    user.kaggle.record(f"from elsewhere, basic [digits:{sha256[:12]}]")
    assert user() == 2
    assert "submitted before" in user.err
    assert "--again" in user.err
    assert user.used == 1
    assert user("--again") == 0
    assert [row["description"].endswith("-2]") for row in user.kaggle.submissions] == [True, False]
    assert user.states == ["complete", "complete"]


STRANGE = np.concatenate([np.full(900, 7, np.uint8), answers()[900:]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"checks": [Check("ink", False, "3 empty images")]}, "3 empty images", id="a failed check"),
        pytest.param({"test_form": Form.DIFFERENT}, "run predicted is not the competition's", id="another test.csv"),
        pytest.param(None, "as often as in training (Cramér's V 0.", id="strange shares, no run"),
    ],
)
def test_a_doubt_is_asked_about_and_without_a_terminal_refused(user, monkeypatch, changes, words):
    make_run(user.folder, **changes or {})
    if changes is None:
        write_submission(user.folder / "submission.csv", np.arange(1, ROWS + 1), STRANGE)
    assert refused(user, 2, words, "--yes")
    assert user.err.count("warning: ") == 1
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert refused(user, 2, "not sent")
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert user() == 0
    assert user.used == 1


def test_a_run_that_another_of_the_same_data_beats_by_more_than_the_errors_is_doubted(user):
    good, chance, toy = (replace(SCORE, accuracy=accuracy) for accuracy in (0.9955, 0.9957, 0.958))
    make_run(user.folder, "good", out_of_fold=good)
    make_run(user.folder, "leaked", answers(1), leaked=True)
    make_run(user.folder, "other-data", answers(2), source="sample")
    make_run(user.folder, "toy", changed(answers(), 9), out_of_fold=toy)
    assert refused(user, 2, "run good is better: 99.55% out-of-fold, run toy 95.80%", "scripts/submit.sh good --sub")
    assert "run toy" in user.out
    make_run(user.folder, "slightly-better", changed(answers(), 5), out_of_fold=chance)
    assert user("good", "--dry-run") == 0
    assert "is better" not in user.err


def test_answers_unlike_all_earlier_ones_are_doubted(user):
    make_reference(user.folder, changed(answers(), 20))
    for number, labels in enumerate((np.roll(answers(), 1), answers(5))):
        make_run(user.folder, f"other-{number}", labels)
        assert refused(user, 2, "agree with the reference run standard in", "Rows in another order")
    make_run(user.folder, "good")
    assert user() == 0
    make_run(user.folder, "better", changed(answers(), 37))
    assert user("--dry-run") == 0
    assert "differs in 37 of 2,800 rows from the last submission (run good, public score 0.99671)" in user.out


def test_no_submission_left_today_is_told_before_the_upload_and_an_unknown_limit_no_reason_not_to_submit(user):
    make_run(user.folder)
    user.kaggle.never_submitted = True
    assert user("--dry-run") == 0
    assert "does not say before the first one" in user.out
    user.kaggle.fault("GetSubmissionLimits", status=500)
    assert user() == 0
    assert "warning: Kaggle does not say how many" in user.out
    assert user.used == 1
    user.kaggle.never_submitted, user.kaggle.allowed_a_day = False, 1
    assert user("--again") == 3
    assert "no submissions are left (1 made today, 1 in all)" in user.err
    assert "midnight UTC" in user.err
    assert len(user.kaggle.uploads) == 1


def test_without_credentials_nothing_is_sent_and_status_prints_the_ledger_that_is_there(user, monkeypatch):
    make_run(user.folder)
    with monkeypatch.context() as patch:
        patch.delenv("KAGGLE_API_TOKEN")
        refused(user, 3, "no Kaggle credentials", "kaggle.com/settings/api", "/rules", "submission.csv in a browser")
        assert "--zip" not in user.err
    assert user() == 0
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert user("--status") == 3
    assert "0.99671" in user.out
    assert "no Kaggle credentials" in user.err


@pytest.mark.parametrize("flags", ["--wait -1", "--wait nan", "--stat", "--status x.csv", "a b", "--notebook"])
def test_wrong_flags_end_with_2(user, flags):
    with pytest.raises(SystemExit) as ended:
        user(*flags.split())
    assert ended.value.code == 2
    assert not user.kaggle.calls


# Faults on the way: (call, fault, exit code, words, row in the ledger, submissions used).

START, CREATE = "StartSubmissionUpload", "CreateSubmission"
RULES, LIMIT, PAGE = {"status": 403, "message": "rules"}, {"status": 400, "message": "limit"}, {"status": 200}
SLOW, HOUR = {"status": 429}, {"status": 429, "headers": {"Retry-After": "3600"}}
DOWN, DROP, STALL, MANY = {"status": 500}, {"drop": True}, {"stall": 60}, {"times": 9}
AFTER = {"after": True}
FAULTS = {
    "rules not accepted": (START, RULES, 3, "/rules", "failed", 0),
    "limit reached meanwhile": (CREATE, LIMIT, 3, "limit", "failed", 0),
    "429 once": (CREATE, SLOW, 0, "Trying again", "complete", 1),
    "429 for good": (CREATE, SLOW | MANY, 1, "Nothing was submitted", "failed", 0),
    "429 for an hour": (CREATE, HOUR, 1, "Nothing was submitted", "failed", 0),
    "upload refused once": ("upload", {"status": 403}, 0, "storage refused", "complete", 1),
    "upload refused for good": ("upload", {"status": 403} | MANY, 1, "Nothing was submitted", "failed", 0),
    "500, recorded": (CREATE, DOWN | AFTER, 0, "looking for it", "complete", 1),
    "500, not recorded": (CREATE, DOWN, 1, "was lost", "unconfirmed", 0),
    "reply dropped, recorded": (CREATE, DROP | AFTER, 0, "looking for it", "complete", 1),
    "reply dropped, not recorded": (CREATE, DROP, 1, "submit again", "unconfirmed", 0),
    "a stall, recorded": (CREATE, STALL | AFTER, 0, "No answer from Kaggle in", "complete", 1),
    "a stall, not recorded": (CREATE, STALL, 1, "Nothing is sent a second time", "unconfirmed", 0),
    "a proxy's page, recorded": (CREATE, PAGE | AFTER, 0, "looking for", "complete", 1),
    "dropped before the upload": (START, DROP, 0, "Trying again", "complete", 1),
}


@pytest.mark.parametrize(("call", "fault", "code", "words", "status", "used"), FAULTS.values(), ids=FAULTS)
def test_a_fault_costs_at_most_one_submission(user, call, fault, code, words, status, used):
    make_run(user.folder)
    user.kaggle.fault(call, **fault)
    assert user("--yes", "-m", "no tta, basic") == code
    assert words in user.err
    assert user.states == [status]
    assert user.used == used


def test_a_submission_that_kaggle_counts_but_does_not_list_is_not_sent_again(user):
    make_run(user.folder)
    user.kaggle.listed = False
    assert user() == 1
    assert "accepted the submission but does not list it" in user.err
    assert user.states == ["unconfirmed"]
    user.kaggle.listed = True
    assert user() == 0
    assert "nothing is uploaded again" in user.out
    assert (user.states, user.used) == (["complete"], 1)


def test_a_list_that_fails_after_the_upload_does_not_lose_the_submission(user, monkeypatch):
    make_run(user.folder)
    submit_to_kaggle = user.kaggle._CreateSubmission

    def recorded_then_down(request):
        user.kaggle.fault("ListSubmissions", times=9, status=502)
        return submit_to_kaggle(request)

    monkeypatch.setattr(user.kaggle, "_CreateSubmission", recorded_then_down)
    assert user() == 1
    assert "may have counted" in user.err
    assert "--status" in user.err
    assert (user.states, user.ledger[0].ref) == (["unconfirmed"], "1000")
    user.kaggle.clear_faults()
    assert user("--status") == 0
    assert user.states == ["complete"]


def test_an_interrupt_says_what_is_not_known(user, monkeypatch):
    make_run(user.folder)
    submit_to_kaggle = user.kaggle._CreateSubmission

    def interrupted(request):
        submit_to_kaggle(request)
        raise KeyboardInterrupt

    monkeypatch.setattr(user.kaggle, "_CreateSubmission", interrupted)
    assert user() == 130
    assert "may have counted. Look later: scripts/submit.sh --status" in user.err
    assert user() == 0
    assert (user.states, user.used) == (["complete"], 1)


def test_kaggle_s_own_reason_for_an_error_is_shown_and_a_score_that_is_no_number_is_none(user):
    sha256, text = make_run(user.folder), "Submission must have 28000 rows"
    user.kaggle.outcome = {"status": "ERROR", "errorDescription": text}
    user.kaggle.polls_until_scored = 1
    assert user("-m", "Zahlen – 数字 " * 1000) == 1
    assert text in user.err
    assert (user.ledger[0].status, user.ledger[0].reason) == ("error", text)
    (sent,) = user.kaggle.submissions
    assert sent["description"].endswith(f" [digits:{sha256[:12]}]"), "a long message does not cost the tag"
    assert len(sent["description"]) < 250
    user.kaggle.outcome = {"status": "COMPLETE", "publicScore": "None"}
    assert user() == 0
    assert user.states == ["error", "complete"]
    assert "Public score: -" in user.out


def test_a_list_in_which_others_stand_too_is_searched_by_the_tag(user):
    make_run(user.folder)
    for number in range(150):
        user.kaggle.record(f"someone else's {number}", status="COMPLETE", publicScore="0.99")
    user.kaggle.allowed_a_day = 500
    user.kaggle.fault("CreateSubmission", drop=True, after=True)
    assert user("--wait", "5") == 0
    assert (user.ledger[-1].run, user.ledger[-1].public_score) == ("a-run", 0.99671)
    for number in range(120):  # More than a page.
        user.kaggle.record(f"someone else's {number}", status="COMPLETE")
    (user.folder / "ledger.csv").unlink()
    assert user() == 2
    assert "submitted before" in user.err


def test_a_ledger_that_cannot_be_written_stops_before_the_upload_and_after_it_does_not_hide_it(user, monkeypatch):
    make_run(user.folder)
    full_at = ""

    def full(path, entry):
        if entry.ref == full_at:
            raise OSError(28, "No space left on device", str(path))
        return record(path, entry)

    monkeypatch.setattr(ledger, "record", full)
    assert user() == 1
    assert "No space left on device" in user.err
    assert user.kaggle.uploads == []
    full_at = "1000"
    assert user() == 1
    for words in ("Kaggle accepted the submission (ref 1000)", "No space left on device", "--status"):
        assert words in user.err


def test_only_the_tag_at_the_end_is_the_submission_s(user):
    other = make_run(user.folder, "other", answers(1))
    make_run(user.folder, "mine")
    assert user("mine", "-m", f"like base (digits:{other[:12]})") == 0
    user.kaggle.record(f"compared with digits:{other[:12]} by hand", status="COMPLETE", publicScore="0.5")
    assert user("--status") == 0
    assert {(entry.run, entry.public_score) for entry in user.ledger} == {("mine", 0.99671), ("", 0.5)}


# A process that died, or is not alone.


def lost_attempt(user, age_seconds):
    sha256 = make_run(user.folder)
    sent = (datetime.now(UTC) - timedelta(seconds=age_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    tag = f"digits:{sha256[:12]}"
    record(user.folder / "ledger.csv", Entry(time=sent, sha256=sha256, run="a-run", tag=tag, status="unconfirmed"))
    return tag


@pytest.mark.parametrize("arrived", [True, False])
def test_an_attempt_that_died_is_taken_up_if_it_arrived_and_else_made_again(user, arrived):
    tag = lost_attempt(user, 60)
    if arrived:
        user.kaggle.record(f"text [{tag}]")
    else:
        assert user("--status") == 0
        assert user.states == ["failed"]
        assert "not in Kaggle's list" in user.out
    assert user() == 0
    assert ("nothing is uploaded again" in user.out) == arrived
    assert (user.states[-1], user.used) == ("complete", 1)


def test_an_attempt_of_a_moment_ago_is_waited_for(user, monkeypatch):
    use(monkeypatch, user.kaggle, submit_seconds=SHIPPED.submit_seconds, listing_seconds=SHIPPED.listing_seconds)
    lost_attempt(user, 150)  # Its process was killed, but the client's own may still upload.
    assert user() == 1
    assert "Try again in" in user.err
    assert user("--status") == 0
    assert (user.states, user.used) == (["unconfirmed"], 0)


def test_a_file_of_another_tool_is_sent_as_kaggle_takes_it_and_said_to_be_of_no_known_run(user, tmp_path):
    write_submission(tmp_path / "mine.csv", np.arange(1, ROWS + 1), answers(3))
    plain = (tmp_path / "mine.csv").read_bytes()
    _, *rows = plain.decode().splitlines()
    other = tmp_path / "other.csv"
    other.write_text('"ImageId";"Label"\r' + "\r".join(row.replace(",", ";") for row in reversed(rows)) + "\r\r")
    assert user(other) == 0
    assert user.kaggle.uploads == [plain]
    assert other.read_bytes() != plain
    assert "No run in" in user.out
    assert user.states == ["complete"]


# Code competitions.


def test_a_notebook_s_version_is_fetched_checked_and_submitted_in_the_place_of_a_file(user):
    file = user.folder.parent / "s.csv"
    write_submission(file, np.arange(ROWS), np.arange(ROWS) % 10, KANNADA_FORM)
    user.kaggle.output = {"3/submission.csv": file.read_bytes()}
    assert user(file, "--competition", "kannada-mnist", "--yes") == 2
    assert not user.kaggle.calls
    assert "kannada-mnist takes a notebook's output, not a file. Predict there with a run's models" in user.err
    assert user("--notebook", "someone/predict-a-run/3", "--competition", "kannada-mnist") == 0
    (sent,) = user.kaggle.requests["CreateCodeSubmission"]
    assert sent.pop("submissionDescription").startswith("submission.csv [digits:")
    assert sent == {
        "competitionName": "kannada-mnist",
        "fileName": "submission.csv",
        "kernelOwner": "someone",
        "kernelSlug": "predict-a-run",
        "kernelVersion": 3,
    }
    assert (user.states, user.used) == ([], 1)  # In a ledger of its own.
    assert [entry.status for entry in read_ledger(user.folder / "ledger-kannada-mnist.csv")] == ["complete"]
    assert user("--notebook", "someone/predict-a-run/3", "--competition", "kannada-mnist") == 2
    assert "submitted before" in user.err
    user.kaggle.fault("CreateCodeSubmission", stall=60, after=True)
    assert user("--again", "--notebook", "someone/predict-a-run/3", "--competition", "kannada-mnist") == 0
    user.kaggle.fault("CreateCodeSubmission", stall=60)
    assert user("--again", "--notebook", "someone/predict-a-run/3", "--competition", "kannada-mnist") == 1
    assert "scripts/submit.sh --status --competition kannada-mnist" in user.err
    assert user.used == 2
    assert user("--notebook", "nonsense") == 2
    assert "OWNER/NOTEBOOK/NUMBER" in user.err
