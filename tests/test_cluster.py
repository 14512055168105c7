"""The same run on a Dask cluster of real processes on this machine, one of which is killed mid-fold."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from digits.config import load_recipe
from digits.console import BadInput
from digits.files import ROOT
from digits.training import cluster
from digits.training.fold import Arrays, FoldTask
from digits.training.progress import ProgressDisplay
from train_process import EXACT, STUB, start, wait_for, workers

pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install -r requirements-cluster.txt")

ENVIRONMENT = os.environ | STUB | {"STUB_EPOCH_SECONDS": "0.3", "PYTHONPATH": str(ROOT / "tests" / "stub")}
"""The workers have nothing of this kit but what the client sends them."""


def dask(*words, folder):
    """Start `dask …` with its log in `folder`."""
    log = (folder / f"{words[0]}-{len(list(folder.iterdir()))}.log").open("w")
    command = [sys.executable, "-m", "dask", *words]
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def a_cluster(tmp_path_factory):
    """A scheduler and two workers of one thread each; the address and the workers' processes."""
    folder = tmp_path_factory.mktemp("dask")
    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", folder=folder)
    log = folder / "scheduler-0.log"
    wait_for(lambda: log.exists() and "Scheduler at" in log.read_text(), scheduler, seconds=120)
    address = re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text())[0]
    flags = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder), "--memory-limit", "0"]
    dask_workers = [dask("worker", address, *flags, folder=folder) for _ in range(2)]
    yield address, dask_workers
    for process in [*dask_workers, scheduler]:
        process.kill()
        process.wait()


def test_a_cluster_gives_the_results_of_one_machine_though_a_worker_dies_mid_fold(a_cluster, stub_run, tmp_path):
    address, dask_workers = a_cluster
    process = start(tmp_path, *EXACT, "--cluster", address, "--run", "far")
    wait_for(lambda: all(workers(worker) for worker in dask_workers), process)
    (orphan,) = workers(dask_workers[0])
    dask_workers[0].send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    assert not psutil.wait_procs([orphan], timeout=10)[1], "a training outlived its worker"
    for fold in (1, 2):
        assert re.search(rf"fold {fold}/2 +6/6 ", out), f"the progress of all workers arrives here: {out}"
    for name in ("out_of_fold.npy", "test_probabilities.npy"):
        np.testing.assert_allclose(np.load(tmp_path / "far" / name), np.load(stub_run / name), atol=1e-4)
    assert (tmp_path / "far" / "fold-2.keras").exists()
    assert json.loads((tmp_path / "far" / "run.json").read_text())["machine"] is None, "it is the workers', not known"
    assert "networks at a time: " not in out.partition("Run: far: ")[2].partition("\n")[0]


def test_an_interrupted_client_ends_the_trainings_on_the_workers(a_cluster, tmp_path):
    address, dask_workers = a_cluster
    process = start(tmp_path, *EXACT, "--cluster", address, "--run", "stopped")
    wait_for(lambda: workers(dask_workers[1]), process)
    trainings = workers(dask_workers[1])
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"Resume with: python src/train.py --run stopped --cluster {address} --no-report\n" in err
    assert not psutil.wait_procs(trainings, timeout=30)[1]


@pytest.fixture
def local_cluster(monkeypatch, tmp_path):
    """The address of a scheduler with a worker of three threads, all in this process; training is a word to the log."""
    import distributed

    def train_in_worker(task, arrays, *, log, **how):
        log(f"a word of seed {task.seed}")
        return task.seed

    monkeypatch.setattr(cluster, "train_in_worker", train_in_worker)
    monkeypatch.setattr(cluster, "_send_code", lambda client: None)  # It would replace the code of this process.
    how = {"n_workers": 1, "threads_per_worker": 3, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**how, host="127.0.0.1", protocol="tcp://", local_directory=str(tmp_path)) as there:
        yield there.scheduler_address


def test_runs_on_one_cluster_hear_of_their_own_networks_alone(local_cluster):
    rows = np.arange(3)
    arrays, displays, heard = Arrays(rows, rows, rows), [ProgressDisplay(), ProgressDisplay()], ([], [])
    with contextlib.ExitStack() as stack:
        for number, display in enumerate(displays):
            display.log = heard[number].append
            train = stack.enter_context(cluster.connected(local_cluster, arrays, display, lambda: False))
            task = FoldTask(load_recipe("quick"), 1, 1, number, "float32", rows, rows, None)
            assert train(task) == number
        deadline = time.monotonic() + 30
        while not all(heard) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
    assert heard == (["a word of seed 0"], ["a word of seed 1"])


def test_an_address_without_a_scheduler_is_refused():
    for address in ("tcp://127.0.0.1:1", "nonsense://x:1", "127.0.0.1", "tcp://h:99999", ""):
        with pytest.raises(BadInput, match="no Dask scheduler answers there"):
            cluster.require_scheduler(address)


def test_missing_dask_is_named_with_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadInput, match=r"pip install -r requirements-cluster\.txt"):
        cluster.require_scheduler("tcp://127.0.0.1:1")
