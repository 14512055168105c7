"""Folds in processes: kept when finished, resumed when interrupted, and the same whatever happened on the way."""

import dataclasses
import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from digits.config import Execution, load_recipe
from digits.console import BadInput, KitError, TrainingFailedError
from digits.data.dataset import LabelledSplit
from digits.runs.store import FoldResult, Run, load_fold_result
from digits.training import crossval
from digits.training.fold import FoldTask
from digits.training.plan import Plan
from digits.training.progress import ProgressDisplay
from digits.training.workers import Slots, StoppedError
from train_process import EXACT, FLAGS, REAL, finish, same_results, start, wait_for, workers

LABELS = np.arange(60, dtype=np.uint8) % 10
SPLIT = LabelledSplit(np.zeros((60, 28, 28, 1), np.uint8), LABELS, np.arange(60))
SLOW = {"STUB_EPOCH_SECONDS": "0.2"}


def a_result(task):
    certain = np.eye(10, dtype=np.float32)[LABELS]
    rows = task.validation_rows
    return FoldResult(task.fold, task.member, "compact", rows, certain[rows], certain, [], 1.0, 1)


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    run.results_folder.mkdir(parents=True)
    return run


@pytest.fixture
def trained(monkeypatch):
    """Replace training by given outcomes of folds; return these, and the folds and variables that it was asked for."""
    outcomes, asked, variables = {}, [], []

    def train_in_worker(task, folder, *, environment, **how):
        asked.append(task.fold)
        variables.append(environment)
        if task.fold in outcomes:
            raise outcomes[task.fold]
        return a_result(task), b"model"

    monkeypatch.setattr(crossval, "train_in_worker", train_in_worker)
    return outcomes, asked, variables


def validated(run, at_a_time=2, environments=None, **how):
    rows = np.arange(60)
    quick = load_recipe("quick").changed(folds=3)
    tasks = [
        FoldTask(quick, fold, 1, 0, "float32", rows, rows[fold::3], run.checkpoint_path(fold, 1)) for fold in (1, 2, 3)
    ]
    plan = Plan(
        run=run, before=None, record=None, recipe=quick, dataset=SimpleNamespace(test=SPLIT), train=SPLIT, tasks=tasks,
        slots=Slots((1, 1, 1), environments or ({},) * at_a_time), execution=Execution(), started=0.0, **how,
    )  # fmt: skip
    return crossval.cross_validate(plan, ProgressDisplay(tasks))


def test_results_come_in_order_of_networks_with_the_variables_of_their_slots_and_are_on_disk_with_models(run, trained):
    results, failures = validated(run, environments=({"GPU": "7"},))
    assert trained[2] == [{"GPU": "7"}] * 3
    assert ([result.fold for result in results], failures) == ([1, 2, 3], {})
    assert [load_fold_result(run.result_path(fold, 1)).fold for fold in (1, 2, 3)] == [1, 2, 3]
    assert all(run.model_path(fold, 1).read_bytes() == b"model" for fold in (1, 2, 3))
    assert {path.name for path in run.results_folder.iterdir()} == {"fold-1.npz", "fold-2.npz", "fold-3.npz"}


def test_what_is_finished_is_not_trained_again_and_a_damaged_result_is(run, trained, capsys):
    validated(run)
    trained[1].clear()
    run.result_path(2, 1).unlink()
    path = run.result_path(3, 1)
    path.write_bytes(path.read_bytes()[:-50])
    assert len(validated(run)[0]) == 3
    assert sorted(trained[1]) == [2, 3]
    assert load_fold_result(path).fold == 3
    out = capsys.readouterr().out
    assert "fold 1/3  finished before" in out
    assert "fold-3.npz is damaged" in out


def test_a_network_whose_model_was_deleted_is_trained_again_and_its_result_kept_until_then(run, trained, capsys):
    validated(run)
    trained[1].clear()
    run.model_path(2, 1).unlink()
    before = run.result_path(2, 1).read_bytes()
    trained[0][2] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        validated(run)
    assert run.result_path(2, 1).read_bytes() == before
    trained[0].clear()
    assert len(validated(run)[0]) == 3
    assert trained[1] == [2, 2]
    assert run.model_path(2, 1).read_bytes() == b"model"
    assert "fold 2/3: fold-2.keras is missing. It is trained again." in capsys.readouterr().out


def test_a_network_that_fails_affects_no_other_but_all_that_fail_or_bad_input_end_the_run(run, trained, capsys):
    trained[0][2] = TrainingFailedError("the loss was nan in epoch 3")
    results, failures = validated(run)
    assert [result.fold for result in results] == [1, 3]
    assert failures == {(2, 1): "the loss was nan in epoch 3"}
    assert "fold 2/3  FAILED: the loss was nan in epoch 3" in capsys.readouterr().out
    for fold in (1, 3):
        run.result_path(fold, 1).unlink()
    trained[0].update({fold: KitError(f"reason {fold}") for fold in (1, 2, 3)})
    with pytest.raises(KitError, match=r"(?s)no network could be trained:.*fold 1/3: reason 1.*fold 3/3: reason 3"):
        validated(run)
    trained[0][1] = BadInput("no such backend")
    with pytest.raises(BadInput, match="no such backend"):
        validated(run, at_a_time=1)
    assert trained[1][-1] == 1


def test_what_is_not_finished_when_the_time_is_up_is_left_and_the_rest_kept(run, monkeypatch):
    """Fold 1 is quick, fold 2 would go on for ever, and fold 3 is never begun."""
    clock, asked = [0.0], []

    def train_in_worker(task, folder, *, stopped, **how):
        asked.append(task.fold)
        if task.fold == 1:
            return a_result(task), b"model"
        assert not stopped()
        clock[0] = 61.0
        assert stopped()
        raise StoppedError("stopped")

    monkeypatch.setattr(crossval, "train_in_worker", train_in_worker)
    monkeypatch.setattr(crossval.time, "monotonic", lambda: clock[0])
    results, failures = validated(run, at_a_time=1, deadline=60.0)
    assert ([result.fold for result in results], asked) == ([1], [1, 2])
    assert failures == dict.fromkeys([(2, 1), (3, 1)], "it was not finished when the time was up")


def test_a_full_disk_while_a_result_is_written_keeps_those_before_it(run, trained, monkeypatch):
    save_fold_result = crossval.save_fold_result

    def save(path, result):
        if result.fold == 2:
            raise OSError(28, "No space left on device", str(path))
        save_fold_result(path, result)

    monkeypatch.setattr(crossval, "save_fold_result", save)
    with pytest.raises(OSError, match="No space left"):
        validated(run, at_a_time=1)
    assert [path.name for path in run.results_folder.glob("*.npz")] == ["fold-1.npz"]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def test_a_killed_run_resumes_by_its_name_and_gives_the_same_bytes(stub_run, tmp_path):
    """Killed with SIGKILL, one fold's file damaged, and resumed with two networks at a time."""
    run = Run(tmp_path / "again")
    process = start(tmp_path, *EXACT, "--jobs", "2", "--run", "again", environment=SLOW)

    def file_of(fold):
        return next((path for path in (run.result_path(fold, 1), run.checkpoint_path(fold, 1)) if path.exists()), None)

    wait_for(lambda: file_of(1) and file_of(2), process)
    children = workers(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not psutil.wait_procs(children, timeout=10)[1], "workers outlived their parent"
    damaged = file_of(2)
    damage(damaged)

    code, out, err = finish(tmp_path, "--run", "again", "--jobs", "2")
    assert code == 0, err
    assert "(resumed)" in out
    assert f"{damaged.name} is damaged" in out
    assert "fold 1/2: resumed after epoch" in out or "fold 1/2  finished before" in out
    assert same_results(run.folder, stub_run)


UNCHECKED = """
from digits.runs.checks import Check
from digits.training import pipeline
pipeline.check_saved_models = lambda *_, **__: Check("the saved models", True, "not asked, which saves a process")
"""


def test_a_real_run_that_is_killed_resumes_and_gives_the_same_bytes(real_run, tmp_path):
    run = Run(tmp_path / "again")
    process = start(tmp_path, *REAL, "--run", "again", real=True)
    wait_for(lambda: run.checkpoint_path(1, 1).exists() or run.result_path(1, 1).exists(), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, out, err = finish(tmp_path, "--run", "again", "--no-report", real=True, prepare=UNCHECKED)
    assert code == 0, err
    assert "(resumed)" in out
    assert "Held-out accuracy: " in out
    assert not (run.folder / "report.html").exists()
    assert same_results(run.folder, real_run)


def test_a_run_repeated_beside_modules_named_as_the_kits_whose_worker_is_killed_gives_the_same(stub_run, tmp_path):
    for name in ("digits", "random", "keras", "stub_trainer"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    run = Run(tmp_path / "hurt")
    flags = ["--from-run", str(stub_run / "run.json"), "--jobs", "2", "--run", "hurt"]
    process = start(tmp_path, *flags, environment=SLOW, cwd=tmp_path)
    wait_for(lambda: run.checkpoint_path(1, 1).exists() or run.result_path(1, 1).exists(), process)
    workers(process)[0].kill()
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "its process was killed (by the system, out of memory?). It is started once more" in out
    assert "All 1,000 predictions are those of run whole." in out
    assert same_results(run.folder, stub_run)


def test_a_finished_run_that_is_trained_again_keeps_its_duration(stub_run, tmp_path):
    run = Run(shutil.copytree(stub_run, tmp_path / "whole"))
    run.write_record(dataclasses.replace(run.record(), seconds=7.5))
    code, out, err = finish(tmp_path, "--run", "whole")
    assert code == 0, err
    assert out.count("finished before") == 2
    assert run.finished_record().seconds == 7.5
    assert same_results(run.folder, stub_run)


@pytest.mark.slow
def test_how_many_are_trained_at_a_time_changes_no_probability(tmp_path):
    """Also without --deterministic, since each network has as many threads either way."""
    for jobs in ("1", "2"):
        code, _, err = finish(tmp_path, *FLAGS, "--folds", "3", "--jobs", jobs, "--run", f"jobs-{jobs}", real=True)
        assert code == 0, err
    for name in ("out_of_fold.npy", "test_probabilities.npy"):
        one, two = (np.load(tmp_path / f"jobs-{jobs}" / name) for jobs in ("1", "2"))
        assert np.allclose(one, two, atol=1e-6, equal_nan=True), name
    machines = [json.loads((tmp_path / f"jobs-{jobs}" / "run.json").read_text())["machine"] for jobs in ("1", "2")]
    assert [machine["networks_at_a_time"] for machine in machines] == [1, 2]
