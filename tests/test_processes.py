"""A function in a fresh process: its answer, its words, its errors, and its end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from digits.console import BadInput, KitError
from digits.files import ROOT
from digits.training.workers import ProcessDiedError, StoppedError, run_fresh

HERE = {"PYTHONPATH": str(Path(__file__).parent)}
"""Where the fresh process finds this file."""


def run(function, *arguments, **how):
    return run_fresh(function, *arguments, threads=1, **{"environment": HERE} | how)


def add(one, other, say):
    say(f"{one} and {other}")
    return one + other, os.getpid(), os.environ["OMP_NUM_THREADS"], os.environ.get("KERAS_BACKEND")


def fail(error, say):
    raise error


def end(how, say):
    os.kill(os.getpid(), how)
    time.sleep(60)


def sleep(say):
    say(str(os.getpid()))
    time.sleep(60)


def test_the_answer_comes_from_another_process_with_its_words_and_environment():
    heard = []
    total, pid, threads, backend = run(add, 2, 3, say=heard.append, environment=HERE | {"KERAS_BACKEND": "jax"})
    assert (total, threads, backend, heard) == (5, "1", "jax", ["2 and 3"])
    assert pid != os.getpid()


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (BadInput("no such thing"), BadInput, "no such thing"),
        (OSError(28, "No space left on device", "x.npz"), KitError, "No space left on device: x.npz"),
        (MemoryError(), KitError, "the memory did not suffice"),
    ],
)
def test_an_error_arrives_as_words(error, kind, text):
    with pytest.raises(kind, match=text):
        run(fail, error)


def test_a_programming_mistake_shows_its_traceback_and_is_not_tried_again(capfd):
    with pytest.raises(KitError, match="its process failed with exit code 1; what it said of that is above") as error:
        run(fail, ZeroDivisionError("ours"))
    assert not isinstance(error.value, ProcessDiedError)
    assert "ZeroDivisionError: ours" in capfd.readouterr().err


@pytest.mark.parametrize(("how", "text"), [(signal.SIGKILL, "was killed"), (signal.SIGSEGV, "ended by signal 11")])
def test_a_process_that_dies_is_said_to_have_died(how, text):
    with pytest.raises(ProcessDiedError, match=text):
        run(end, how)


def test_a_process_that_is_to_stop_is_ended():
    pids = []
    with pytest.raises(StoppedError):
        run(sleep, say=pids.append, stopped=lambda: bool(pids))
    assert not psutil.pid_exists(int(pids[0]))


def test_a_process_ends_with_the_one_that_started_it():
    code = "import test_processes as t; t.run(t.sleep)"
    path = os.pathsep.join([str(ROOT / "src"), HERE["PYTHONPATH"]])
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    child.wait(timeout=10)
