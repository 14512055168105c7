"""Worker processes: how the machine is shared, and a function's result, messages, errors and end in a process."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from digits.console import BadInput, KitError
from digits.files import ROOT
from digits.training import workers
from digits.training.workers import ProcessDiedError, StoppedError, Worker, share_machine

PATHS = os.pathsep.join(str(ROOT / "tests" / name) for name in ("stub", "."))
"""Where the process finds this file and the stub trainer."""
ENVIRONMENT = {"PYTHONPATH": PATHS, "DIGITS_ENGINE": "stub_trainer"}


def run(function, *arguments, environment=(), **how):
    worker = Worker(1, environment=ENVIRONMENT | dict(environment))
    return worker.run(function, *arguments, **how)


def add(one, other, log):
    log(f"{one} and {other}")
    return one + other, os.getpid(), os.environ["OMP_NUM_THREADS"], os.environ["KERAS_BACKEND"]


def fail(error, log):
    raise error


def end(how, log):
    os.kill(os.getpid(), how)
    time.sleep(60)


def sleep(log):
    log(str(os.getpid()))
    time.sleep(60)


def test_the_result_comes_from_another_process_with_its_messages_and_environment():
    messages = []
    pytest.importorskip("jax")
    total, pid, threads, backend = run(add, 2, 3, log=messages.append, environment={"KERAS_BACKEND": "jax"})
    assert (total, threads, backend, messages) == (5, "1", "jax", ["2 and 3"])
    assert pid != os.getpid()


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (BadInput("no such thing"), BadInput, "no such thing"),
        (OSError(28, "No space left on device", "x.npz"), KitError, "No space left on device: x.npz"),
        (MemoryError(), KitError, "out of memory"),
    ],
    ids=["bad input", "a full disk", "no memory"],
)
def test_an_error_arrives_as_a_message(error, kind, text):
    with pytest.raises(kind, match=text):
        run(fail, error)


def test_a_programming_error_shows_its_traceback_and_is_not_retried(capfd):
    with pytest.raises(KitError, match="its process failed with exit code 1; the traceback is above") as error:
        run(fail, ZeroDivisionError("ours"))
    assert not isinstance(error.value, ProcessDiedError)
    assert "ZeroDivisionError: ours" in capfd.readouterr().err


@pytest.mark.parametrize(("how", "text"), [(signal.SIGKILL, "was killed"), (signal.SIGSEGV, "ended by signal 11")])
def test_a_process_that_dies_is_reported_as_killed_or_with_its_signal(how, text):
    with pytest.raises(ProcessDiedError, match=text):
        run(end, how)


def test_a_process_is_ended_when_asked_to_stop():
    pids = []
    with pytest.raises(StoppedError):
        run(sleep, log=pids.append, stopped=lambda: bool(pids))
    assert not psutil.pid_exists(int(pids[0]))


def test_a_process_ends_with_the_one_that_started_it():
    code = "import test_workers as t; t.run(t.sleep)"
    path = os.pathsep.join([str(ROOT / "src"), PATHS])
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    child.wait(timeout=10)


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Simulate a machine of 8 processors, 64 GB and no GPU; return a function that changes it."""
    sysconf, limits = os.sysconf, (tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes")
    monkeypatch.setattr(workers, "CONTAINER_LIMITS", limits)

    def change(processors=8, gigabytes=64, gpus=(), container=(None, None)):
        monkeypatch.setattr(workers, "cpu_count", lambda: processors)
        memory = {"SC_PHYS_PAGES": gigabytes << 18, "SC_PAGE_SIZE": 1 << 12}
        monkeypatch.setattr(os, "sysconf", lambda name: memory.get(name) or sysconf(name))
        for path, limit in zip(limits, container, strict=True):
            path.unlink(missing_ok=True)
            if limit is not None:
                path.write_text(f"{limit}\n")
        monkeypatch.setattr(workers, "usable_gpus", lambda: {str(gpu): 8.0 for gpu in gpus})

    change()
    return change


def test_networks_share_the_processors_and_the_last_round_leaves_none_idle(machine):
    for networks, processors, threads, at_a_time in (
        (1, 8, (8,), 1),
        (4, 8, (2,) * 4, 4),
        (5, 8, (1,) * 5, 5),
        (20, 8, (1,) * 16 + (2,) * 4, 8),
        (5, 2, (1, 1, 1, 1, 2), 2),
        (4, 2, (1,) * 4, 2),
        (3, 1, (1,) * 3, 1),
    ):
        machine(processors)
        slots = share_machine(networks)
        assert (slots.threads, slots.at_a_time) == (threads, at_a_time), (networks, processors)


def test_jobs_change_how_many_are_trained_at_a_time_but_no_threads():
    """Another number of threads would give other probabilities."""
    assert {share_machine(20, jobs).threads for jobs in (None, 1, 2, 3, 4, 99)} == {(1,) * 16 + (2,) * 4}
    assert [share_machine(4, jobs).at_a_time for jobs in (None, 1, 2, 9)] == [4, 1, 2, 4]
    assert share_machine(1, deterministic=True).threads == (1,)


def test_memory_bounds_how_many_are_trained_at_a_time_but_not_the_first_and_what_was_asked(machine):
    machine(gigabytes=1)
    assert share_machine(5).at_a_time == 1
    machine(gigabytes=4)
    assert (share_machine(5).at_a_time, share_machine(5, 4).at_a_time, share_machine(5).threads) == (2, 4, (1,) * 5)
    machine(gigabytes=4, container=(64 << 30, None))
    assert share_machine(5).at_a_time == 2
    unlimited = 9223372036854771712  # What version 1 of cgroups says where there is no limit.
    for container, at_a_time in (
        ((None, None), 5), ((4 << 30, None), 2), (("max", None), 5), ((None, 4 << 30), 2), ((None, unlimited), 5),
    ):  # fmt: skip
        machine(container=container)
        assert share_machine(5).at_a_time == at_a_time, container


def test_each_gpu_has_one_network_at_a_time_and_those_that_share_one_do_not_allocate_all_of_it(machine):
    machine(gpus=(0, 1))
    assert share_machine(5).environments == ({"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"})
    assert share_machine(5).threads == (4,) * 5
    assert share_machine(1).environments == ({"CUDA_VISIBLE_DEVICES": "0"},)
    machine(gpus=(0,))
    (one, other) = share_machine(5, 2).environments
    assert one == other
    assert (one["CUDA_VISIBLE_DEVICES"], one["XLA_PYTHON_CLIENT_PREALLOCATE"]) == ("0", "false")
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in share_machine(5).environments[0]


def test_slots_are_acquired_in_turn_and_released_after_an_error(machine):
    machine(gpus=(0, 1))
    acquire = share_machine(5).acquirer()
    with acquire() as one:
        with acquire() as other:
            assert {one["CUDA_VISIBLE_DEVICES"], other["CUDA_VISIBLE_DEVICES"]} == {"0", "1"}
        with contextlib.suppress(RuntimeError), acquire() as again:
            raise RuntimeError("a slot is released all the same")
        assert again == other
        with acquire() as once_more:
            assert once_more == other


def test_a_spare_worker_is_taken_by_a_task_of_its_kind_and_ends_when_nobody_takes_it(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with workers.Spare() as spare:
        spare.start(1, deterministic=False)
        ready = spare._worker
        with spare.take(1, deterministic=True) as other, spare.take(1, deterministic=False) as same:
            assert same is ready is not other
        spare.start(1, deterministic=False)
        process = spare._worker._process
        assert process.poll() is None
    assert process.poll() is not None
