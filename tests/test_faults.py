"""Faults while a command runs: each gives a message, an exit code and whole files, never a traceback."""

import dataclasses
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from digits.config import Execution, Settings, load_recipe
from digits.console import BadInput, KitError, TrainingFailedError
from digits.files import ROOT
from digits.runs.checks import Check
from digits.runs.store import REFIT, FoldResult, Run
from digits.training import crossval, pipeline
from digits.training.fold import Arrays
from torn_files import predict_bytes, train_bytes, write_pair
from train_process import FLAGS, finish, start, wait_for, workers

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src")}


def command(body: str, **how) -> subprocess.Popen:
    code = (
        "import os, sys, time\nfrom digits.console import entry_point\n"
        f"@entry_point\ndef main(argv):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        "sys.exit(main([]))"
    )
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT} | how
    return subprocess.Popen([sys.executable, "-c", code], **how)


def test_work_goes_on_when_nobody_reads_what_it_says(tmp_path):
    process = command(
        f"print('first', flush=True); sys.stdin.read()\nfor line in range(9999): print('line', line, flush=True)\n"
        f"open({str(tmp_path / 'done')!r}, 'w')",
        stdin=subprocess.PIPE,
    )
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    process.stdin.close()
    assert (process.stderr.read(), process.wait(60)) == ("", 0)
    assert (tmp_path / "done").exists()


def test_closed_streams_and_a_locale_without_the_letters_are_no_fault(tmp_path):
    body = f"file = open({str(tmp_path / 'done')!r}, 'w'); assert file.fileno() > 2; print('into the void')"
    process = command(body, stdout=None, stderr=None, preexec_fn=lambda: os.closerange(0, 3))
    assert process.wait(60) == 0
    assert (tmp_path / "done").read_text() == ""
    for variable in ({"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}):
        process = command("print('99.1 % ± 0.2 %, 2 × 3, Übung')", env=ENVIRONMENT | variable)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert out.startswith("99.1 %")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts_and_the_second_ends_at_once(number):
    body = "try: print('ready', flush=True); time.sleep(60)\nfinally: print('cleaning', flush=True); time.sleep(60)"
    process = command(body)
    for word in ("ready\n", "cleaning\n"):
        assert process.stdout.readline() == word
        time.sleep(0.2)  # Let it come back from printing.
        process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


def test_a_hang_up_that_is_ignored_stays_ignored():
    process = command(
        "print('ready', flush=True); time.sleep(1); print('done')",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30)[0] == "done\n"
    assert process.returncode == 0


def test_an_interrupted_run_names_the_command_that_resumes_it_and_leaves_no_process(tmp_path):
    flags = ["--run", "mine", "--out", str(tmp_path / "o.csv"), "--jobs", "2"]
    process = start(tmp_path, *FLAGS, *flags, environment={"STUB_EPOCH_SECONDS": "9"})
    wait_for(lambda: (tmp_path / "mine" / "run.json").exists() and workers(process), process)
    children = workers(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    message, _, resume = err.strip().partition(" Resume with: ")
    assert message == "Interrupted. What is finished is kept."
    assert resume == f"python src/train.py --run mine --out {tmp_path / 'o.csv'} --jobs 2 --no-report"
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert not (tmp_path / "mine" / "folds" / "arrays").exists()
    code, _, err = finish(tmp_path, *resume.removesuffix(" --no-report").split()[2:])
    assert (code, err) == (0, "")
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "mine" / "submission.csv").read_bytes()


def test_a_full_disk_stops_the_run_with_a_message_and_leaves_no_half_files(tmp_path):
    """A limit on the size of files, below that of a checkpoint, stands for the full disk."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (240_000, 240_000))

    code, out, err = finish(tmp_path, *FLAGS, "--folds", "1", "--run", "mine", preexec_fn=limit)
    assert code == 1
    assert re.fullmatch(
        r"error: .*(File too large|No space left on device).*\n"
        r"What is finished is kept\. Resume with: python src/train\.py --run mine --no-report",
        err.strip(),
        re.DOTALL,
    )
    assert list((tmp_path / "mine" / "folds").iterdir()) == []
    assert "Traceback" not in out + err


HOSTILE = """
import time, _multiprocessing
began, real = time.time(), time.time
time.time = lambda: 2 * began - real()  # The clock runs backwards.
class SemLock:  # As on a machine without /dev/shm.
    SEM_VALUE_MAX = 2**31 - 1
    def __init__(self, *_, **__): raise OSError(38, "Function not implemented")
_multiprocessing.SemLock = SemLock
"""


def test_a_run_finishes_in_a_hostile_place():
    """No home, no /dev/shm, clock backwards, locale C, no stdout, data read-only, odd paths, and not as root."""
    place = Path(tempfile.mkdtemp(prefix="Übung 1 – ")).resolve()
    try:
        shutil.copytree(ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__"))
        (place / "hostile").mkdir()
        (place / "hostile" / "sitecustomize.py").write_text(HOSTILE)
        write_pair(place / "meine Daten", train_bytes(400), predict_bytes(100))
        (place / "submissions").mkdir()
        environment = {
            **{"HOME": "/dev/null", "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": tempfile.gettempdir()},
            **{"PYTHONPATH": str(place / "hostile"), "PATH": os.environ["PATH"]},
        }
        flags = ["--recipe", "seed", "--epochs", "1", "--data-dir", "meine Daten", "--run", "mine", "--no-tta"]
        how = as_nobody(place)
        (place / "meine Daten").chmod(0o555)
        done = subprocess.run(
            [sys.executable, "src/train.py", *flags, "--no-report"],
            **{"cwd": place, "env": environment, "stderr": subprocess.PIPE, "text": True, "timeout": 600, **how},
            preexec_fn=lambda: os.close(1),
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr, "Joblib and Matplotlib may say that they make do"
        assert (place / "submissions" / "mine" / "submission.csv").read_text().count("\n") == 101
        if how or os.geteuid() != 0:  # To root nothing is read-only.
            assert {path.name for path in (place / "meine Daten").iterdir()} == {"train.csv", "test.csv"}
    finally:
        shutil.rmtree(place)


def as_nobody(place: Path) -> dict:
    """Return how to run a process for which `place` belongs to it and the read-only is read-only; root reads all."""
    if os.geteuid() != 0:
        return {}
    for path in (place, *place.rglob("*")):
        os.chown(path, 65534, 65534)
    how = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", "import numpy"], capture_output=True, check=True, **how)
    except (PermissionError, subprocess.CalledProcessError):
        return {}  # Python itself is in root's own folder.
    return how


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Return a function that trains with given outcomes of (fold, member): an error, or the accuracy of the network."""

    def train(outcomes, members=1, refit=0):
        def train_in_worker(task, folder, **how):
            outcome = outcomes.get((task.fold, task.member), 0.99)
            if isinstance(outcome, BaseException):
                raise outcome
            arrays, random = Arrays.mapped(folder), np.random.default_rng(task.fold)
            labels = arrays.labels[task.validation_rows]
            answers = np.where(random.random(len(labels)) < outcome, labels, (labels + 1) % 10)
            certain = 0.001 + 0.99 * np.eye(10, dtype=np.float32)
            validation, test = certain[answers], certain[np.arange(len(arrays.test_images)) % 10]
            history = [{"epoch": 1, "loss": 0.1, "accuracy": 0.9, "learning_rate": 0.1, "seconds": 1.0}]
            rows = task.validation_rows
            return FoldResult(task.fold, task.member, task.network, rows, validation, test, history, 1.0, 1), b"model"

        monkeypatch.setattr(crossval, "train_in_worker", train_in_worker)
        monkeypatch.setattr(pipeline, "check_saved_models", lambda *_, **__: Check("saved models", True, ""))
        recipe = dataclasses.replace(load_recipe("quick"), folds=2, members=members, refit=refit)
        settings = Settings(recipe=recipe, source="sample", limit=600)
        return pipeline.train(settings, Execution(submissions=tmp_path, run="mine", report=False)).finished_record()

    return train


def failed_checks(record):
    return {check.name: check.detail for check in record.failed_checks}


def test_a_member_whose_loss_is_not_finite_is_left_out_and_one_that_does_not_learn_recorded(trained):
    error = TrainingFailedError("the loss was nan in epoch 1: the learning rate may be too high")
    record = trained({(2, 1): error, (1, 2): 0.1}, members=2)
    assert len(record.folds) == 3
    assert failed_checks(record)["every network was trained"].startswith("fold 2/2, member 1/2: the loss was nan")
    assert failed_checks(record)["every network learned"] == "did not: fold-1-member-2"
    assert record.out_of_fold.rows == 600


def test_networks_are_trained_member_by_member_and_recorded_fold_by_fold(trained, monkeypatch):
    """A run that is cut short has then scored all rows, and the largest network is not left for the end."""
    asked = []
    train_all = pipeline.cross_validate
    monkeypatch.setattr(
        pipeline, "cross_validate", lambda plan, *rest: asked.extend(plan.tasks) or train_all(plan, *rest)
    )
    record = trained({}, members=2)
    assert [task.key for task in asked] == [(1, 1), (2, 1), (1, 2), (2, 2)]
    assert [(score.fold, score.member) for score in record.folds] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_no_network_that_trains_is_an_error_with_every_reason_and_the_same_command_tries_again(trained):
    error = TrainingFailedError("the loss was nan")
    message = r"(?s)no network could be trained:.*fold 2/2: the.*refit 1/1: the loss was nan\nWhat is finished is kept"
    with pytest.raises(KitError, match=message):
        trained({(1, 1): error, (2, 1): error, (REFIT, 1): error}, refit=1)
    record = trained({}, refit=1)
    assert (len(record.folds), len(record.refits)) == (2, 1)


def test_bad_input_leaves_no_folder_and_a_full_disk_the_command_that_resumes(trained, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="no such backend"):
        trained({(1, 1): BadInput("no such backend")})
    assert not (tmp_path / "mine").exists()
    monkeypatch.setattr(Run, "write_results", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(KitError, match=r"No space left\nWhat is finished is kept"):
        trained({})


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_the_fold_and_the_epoch(tmp_path):
    recipe = load_recipe("quick").changed(epochs=2, learning_rate=1e30)
    settings = Settings(recipe=recipe, source="sample", limit=600)
    with pytest.raises(KitError, match=r"fold 1/1: the loss was nan in epoch \d: the learning rate may be too high"):
        pipeline.train(settings, Execution(submissions=tmp_path))
