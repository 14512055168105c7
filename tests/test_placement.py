"""Who gets what of the machine: threads follow from the run, how many at a time from the machine or the user."""

import contextlib
from pathlib import Path

import pytest

from digits.training import workers
from digits.training.workers import share_machine


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Put a machine of 8 processors, 64 GB and no GPU in the place of this one; return a function that changes it."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def change(processors=8, gigabytes=64, gpus=()):
        monkeypatch.setattr(workers, "cpu_count", lambda: processors)
        monkeypatch.setattr(workers, "_memory", lambda: gigabytes << 30)
        monkeypatch.setattr(Path, "glob", lambda self, pattern: [Path("/dev") / f"nvidia{gpu}" for gpu in gpus])

    change()
    return change


@pytest.mark.parametrize(
    ("networks", "processors", "threads", "together"),
    [(1, 8, 8, 1), (5, 8, 1, 5), (4, 8, 2, 4), (20, 8, 1, 8), (5, 2, 1, 2)],
)
def test_networks_share_the_processors(machine, networks, processors, threads, together):
    machine(processors)
    places = share_machine(networks)
    assert (places.threads, places.at_a_time) == (threads, together)


def test_how_many_at_a_time_does_not_change_the_threads_of_one():
    """Another number of threads would give other probabilities."""
    assert {share_machine(4, asked).threads for asked in (None, 1, 2, 3, 4, 9)} == {2}
    assert [share_machine(4, asked).at_a_time for asked in (None, 1, 2, 9)] == [4, 1, 2, 4]


def test_memory_bounds_how_many_are_fitted_at_a_time_but_never_the_first_and_never_what_was_asked(machine):
    machine(gigabytes=4)
    assert (share_machine(5).at_a_time, share_machine(5, 4).at_a_time, share_machine(5).threads) == (2, 4, 1)
    machine(gigabytes=1)
    assert share_machine(5).at_a_time == 1


def test_deterministic_is_one_thread_each():
    assert share_machine(1, deterministic=True).threads == 1


def test_each_gpu_has_a_network_of_its_own(machine):
    machine(gpus=(0, 1))
    assert share_machine(5).environments == ({"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"})
    assert share_machine(1).environments == ({"CUDA_VISIBLE_DEVICES": "0"},)


def test_networks_that_share_a_gpu_do_not_take_its_memory_whole(machine):
    machine(gpus=(0,))
    (one, other) = share_machine(5, 2).environments
    assert one == other
    assert (one["CUDA_VISIBLE_DEVICES"], one["XLA_PYTHON_CLIENT_PREALLOCATE"]) == ("0", "false")
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in share_machine(5).environments[0]


@pytest.mark.parametrize(("said", "gpus"), [("1,3", ["1", "3"]), ("GPU-8a1b", ["GPU-8a1b"]), ("", []), ("-1", [])])
def test_the_user_chooses_among_gpus(machine, monkeypatch, said, gpus):
    machine(gpus=(0, 1, 2, 3))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert workers.visible_gpus() == gpus


def test_a_variable_alone_makes_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert workers.visible_gpus() == []


def test_places_are_taken_in_turns_and_given_back_whatever_happens(machine):
    machine(gpus=(0, 1))
    place = share_machine(5).in_turns()
    with place() as one:
        with place() as other:
            assert {one["CUDA_VISIBLE_DEVICES"], other["CUDA_VISIBLE_DEVICES"]} == {"0", "1"}
        with contextlib.suppress(RuntimeError), place() as again:
            raise RuntimeError("a place is given back all the same")
        assert again == other
        with place() as once_more:
            assert once_more == other
