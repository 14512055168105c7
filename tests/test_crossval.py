"""Folds in processes: kept when done, taken up when cut off, and the same whatever happened on the way."""

import json
import signal

import numpy as np
import psutil
import pytest

from digits.config import load_recipe
from digits.console import BadInput, KitError, TrainingFailedError
from digits.data.dataset import Split
from digits.runs.store import FoldResult, Run, load_fold_result
from digits.training import crossval
from digits.training.fold import FoldTask
from digits.training.workers import Slots, StoppedError
from train_process import EXACT, FLAGS, finish, same_results, start, wait_for, workers

LABELS = np.arange(60, dtype=np.uint8) % 10
DIGITS = Split(np.zeros((60, 28, 28), np.uint8), LABELS, np.arange(60))


def a_part(job):
    said = np.eye(10, dtype=np.float32)[LABELS]
    return FoldResult(job.fold, job.member, "compact", job.validation_rows, said[job.validation_rows], said, [], 1.0, 1)


def some_jobs(run, folds=3):
    rows = np.arange(60)
    return [
        FoldTask(
            load_recipe("quick"), fold, 1, folds, 0, "float32", rows, rows[fold::folds], run.checkpoint_path(fold, 1)
        )
        for fold in range(1, folds + 1)
    ]


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    run.results_folder.mkdir(parents=True)
    return run


@pytest.fixture
def fits(monkeypatch):
    """Put in the place of training what each fold shall come to; return the list of folds that were trained."""
    outcomes, asked = {}, []

    def fit_fresh(function, job, folder, **how):
        asked.append(job.fold)
        if job.fold in outcomes:
            raise outcomes[job.fold]
        return a_part(job), b"model"

    monkeypatch.setattr(crossval, "fit_fresh", fit_fresh)
    return outcomes, asked


def validated(run, processes=2):
    return crossval.cross_validate(run, some_jobs(run), DIGITS, DIGITS, Slots(1, ({},) * processes))


def test_parts_come_in_order_and_are_on_disk_with_their_models(run, fits):
    parts, failures = validated(run)
    assert ([part.fold for part in parts], failures) == ([1, 2, 3], {})
    assert [part.fold for part in run.fold_results()] == [1, 2, 3]
    assert all(run.model_path(fold, 1).read_bytes() == b"model" for fold in (1, 2, 3))
    assert {path.name for path in run.results_folder.iterdir()} == {"fold-1.npz", "fold-2.npz", "fold-3.npz"}


def test_each_network_finds_the_variables_of_its_place(run, fits, monkeypatch):
    found = []

    def fit_fresh(function, job, folder, *, threads, environment, **how):
        found.append((threads, environment))
        return a_part(job), b"model"

    monkeypatch.setattr(crossval, "fit_fresh", fit_fresh)
    crossval.cross_validate(run, some_jobs(run), DIGITS, DIGITS, Slots(3, ({"GPU": "7"},)))
    assert found == [(3, {"GPU": "7"})] * 3


def test_what_is_finished_is_not_trained_again(run, fits, capsys):
    validated(run)
    fits[1].clear()
    run.result_path(2, 1).unlink()
    assert len(validated(run)[0]) == 3
    assert fits[1] == [2]
    assert "fold 1/3: done before" in capsys.readouterr().out


def test_a_damaged_part_is_said_and_trained_again(run, fits, capsys):
    validated(run)
    fits[1].clear()
    path = run.result_path(3, 1)
    path.write_bytes(path.read_bytes()[:-50])
    assert len(validated(run)[0]) == 3
    assert fits[1] == [3]
    assert load_fold_result(path).fold == 3
    assert "fold-3.npz is damaged" in capsys.readouterr().out


def test_a_loss_that_is_no_number_stops_that_network_and_keeps_the_others(run, fits, capsys):
    fits[0][2] = TrainingFailedError("the loss was nan in epoch 3")
    parts, failures = validated(run)
    assert [part.fold for part in parts] == [1, 3]
    assert failures == {"fold 2/3": "the loss was nan in epoch 3"}
    assert "fold 2/3: FAILED: the loss was nan in epoch 3" in capsys.readouterr().out


def test_no_network_at_all_is_an_error_with_every_reason(run, fits):
    fits[0].update({fold: KitError(f"reason {fold}") for fold in (1, 2, 3)})
    with pytest.raises(KitError, match=r"(?s)no network could be trained:.*fold 1/3: reason 1.*fold 3/3: reason 3"):
        validated(run)


def test_what_is_not_done_when_the_time_is_up_is_left_and_the_rest_kept(run, monkeypatch):
    """Fold 1 is quick, fold 2 would go on for ever, and fold 3 is never begun."""
    clock, asked = [0.0], []

    def fit_fresh(function, job, folder, *, stopped, **how):
        asked.append(job.fold)
        if job.fold == 1:
            return a_part(job), b"model"
        assert not stopped()
        clock[0] = 61.0
        assert stopped()
        raise StoppedError("stopped")

    monkeypatch.setattr(crossval, "fit_fresh", fit_fresh)
    monkeypatch.setattr(crossval.time, "monotonic", lambda: clock[0])
    jobs, places = some_jobs(run), Slots(1, ({},))
    parts, failures = crossval.cross_validate(run, jobs, DIGITS, DIGITS, places, deadline=60.0)
    assert ([part.fold for part in parts], asked) == ([1], [1, 2])
    assert failures == dict.fromkeys(["fold 2/3", "fold 3/3"], "it was not done when the time was up")


def test_bad_input_stops_all_at_once(run, fits):
    fits[0][1] = BadInput("no such backend")
    with pytest.raises(BadInput, match="no such backend"):
        validated(run, processes=1)
    assert fits[1][0] == 1


def test_a_full_disk_while_a_part_is_written_keeps_the_parts_before_it(run, fits, monkeypatch):
    save_fold_result = crossval.save_fold_result

    def save(path, part):
        if part.fold == 2:
            raise OSError(28, "No space left on device", str(path))
        save_fold_result(path, part)

    monkeypatch.setattr(crossval, "save_fold_result", save)
    with pytest.raises(OSError, match="No space left"):
        validated(run, processes=1)
    assert [part.fold for part in run.fold_results()] == [1]


def test_a_killed_run_goes_on_by_its_name_and_comes_to_the_same_bytes(whole_run, tmp_path):
    """Killed with SIGKILL, one fold's file damaged, and taken up again two at a time."""
    run = Run(tmp_path / "again")
    process = start(tmp_path, *EXACT, "--jobs", "2", "--run", "again")

    def file_of(fold):
        return next((path for path in (run.result_path(fold, 1), run.checkpoint_path(fold, 1)) if path.exists()), None)

    wait_for(lambda: file_of(1) and file_of(2), process)
    children = workers(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not psutil.wait_procs(children, timeout=10)[1], "workers outlived their parent"
    damaged = file_of(2)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 255
    damaged.write_bytes(content)

    code, out, err = finish(tmp_path, "--run", "again", "--jobs", "2")
    assert code == 0, err
    assert "resumed" in out
    assert f"{damaged.name} is damaged" in out
    assert "fold 1/2: goes on after epoch" in out or "fold 1/2: done before" in out
    assert same_results(run.folder, whole_run)


def test_a_run_repeated_from_its_record_whose_worker_is_killed_comes_to_the_same_bytes(whole_run, tmp_path):
    run = Run(tmp_path / "hurt")
    process = start(tmp_path, "--from-run", str(whole_run / "run.json"), "--jobs", "2", "--run", "hurt")
    wait_for(lambda: run.checkpoint_path(1, 1).exists() or run.result_path(1, 1).exists(), process)
    workers(process)[0].kill()
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "its process was killed (by the system, for want of memory?). It is tried once more" in out
    assert "All 1,000 answers are those of run whole." in out
    assert same_results(run.folder, whole_run)


def test_how_many_are_trained_at_a_time_changes_no_probability(tmp_path):
    """Also without --deterministic, since each network has as many threads either way."""
    for jobs in ("1", "2"):
        code, _, err = finish(tmp_path, *FLAGS, "--folds", "4", "--jobs", jobs, "--run", f"jobs-{jobs}")
        assert code == 0, err
    for name in ("out_of_fold.npy", "test_probabilities.npy"):
        one, two = (np.load(tmp_path / f"jobs-{jobs}" / name) for jobs in ("1", "2"))
        assert np.allclose(one, two, atol=1e-6, equal_nan=True), name
    machines = [json.loads((tmp_path / f"jobs-{jobs}" / "run.json").read_text())["machine"] for jobs in ("1", "2")]
    assert [machine["networks_at_a_time"] for machine in machines] == [1, 2]
