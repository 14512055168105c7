import functools
import json

import pytest

import push_kernel
from digits.console import BadInput, KitError
from digits.files import ROOT
from digits.kaggle import client
from digits.kaggle.client import Kaggle
from digits.kaggle.kernel import push
from fake_kaggle import FAST, USER, leaks
from fake_kernels import FakeKernels

SUBMISSION = b"ImageId,Label\n1,7\n2,0\n3,9\n"


@pytest.fixture
def go(server, tmp_path, told):
    """Return the round trip, of the kit's own notebook, with a submission of three rows."""
    return functools.partial(
        push, Kaggle(FAST, told.append), ROOT / "kernels", tmp_path / "output", seconds=30, say=told.append, rows=3
    )


def test_the_notebook_is_pushed_as_the_user_s_own_waited_for_and_its_submission_fetched(server, go, told, tmp_path):
    kernels = FakeKernels(server)
    kernels.leaves(SUBMISSION, "".join(f"line {number}\n" for number in range(100)))
    assert go().read_bytes() == SUBMISSION
    (sent,) = kernels.pushed
    assert sent["slug"] == f"{USER}/digit-recognizer-kit"
    assert sent["newTitle"] == "Digit Recognizer Kit"
    assert sent["competitionDataSources"] == ["digit-recognizer"]
    assert (sent["isPrivate"], sent["enableGpu"], sent.get("enableInternet", False)) == (True, True, False)
    assert json.loads(sent["text"])["nbformat"] == 4
    said = "\n".join(told)
    for words in (
        "Pushed: https://www.kaggle.com/code/",
        "queued",
        "running",
        "complete",
        "line 99",
        "3 rows, checked",
    ):
        assert words in said
    assert "line 80\n" not in said
    assert leaks(tmp_path / "output", said) == []


def test_a_failed_run_shows_the_end_of_its_log(server, go):
    kernels = FakeKernels(server, states=["RUNNING", "ERROR"], failure="out of memory")
    kernels.leaves(b"", "epoch 1\nKilled\n")
    with pytest.raises(KitError, match=r"(?s)ended as error: out of memory.*Killed"):
        go()


def test_a_run_without_a_submission_is_a_failure(server, go):
    FakeKernels(server).leaves(b"")
    with pytest.raises(KitError, match=r"left no submission\.csv"):
        go()


def test_a_broken_submission_is_named_by_line(server, go):
    FakeKernels(server).leaves(b"ImageId,Label\n1,7\n2,x\n3,9\n")
    with pytest.raises(BadInput, match="line 3"):
        go()


def test_what_kaggle_refuses_with_a_polite_answer_is_an_error(server, go):
    kernels = FakeKernels(server)
    server.kernel["SaveKernel"] = {"error": "Maximum weekly GPU quota of 30.00 hours reached."}
    with pytest.raises(KitError, match="GPU quota"):
        go()
    assert kernels.asked == 0


def test_a_run_that_takes_too_long_is_left_running(server, go):
    FakeKernels(server, states=["RUNNING"])
    with pytest.raises(KitError, match=r"still running after 0 s.*runs on at Kaggle: https"):
        go(seconds=0.01)


def test_not_waiting_leaves_after_the_push(server, go):
    kernels = FakeKernels(server)
    assert go(seconds=0) is None
    assert (len(kernels.pushed), kernels.asked) == (1, 0)


def test_a_folder_without_a_notebook_is_bad_input(server, go, tmp_path):
    with pytest.raises(BadInput, match=r"build_kernel\.py"):
        push(Kaggle(FAST), tmp_path, tmp_path / "output", seconds=0)
    assert server.calls["SaveKernel"] == 0


def test_the_front_door_ends_with_an_exit_code(server, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(client, "Kaggle", functools.partial(Kaggle, FAST))
    FakeKernels(server).leaves(SUBMISSION)
    assert push_kernel.main(["--no-wait"]) == 0
    assert push_kernel.main(["--output", str(tmp_path / "output")]) == 2
    assert "expected 28,000 rows" in capsys.readouterr().err
