"""Where the networks of a run are fitted on this machine: how many at a time, with how many threads, on which GPU."""

import contextlib
import os
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from digits.model.backend import cpu_count

MEMORY_A_NETWORK = 2 << 30
"""Bytes: what a process that fits a network holds at most (1.1 GB measured), and as much again for all else."""


@dataclass(frozen=True)
class Places:
    """Where networks are fitted."""

    threads: int
    """How many each network may use."""
    environments: tuple[dict[str, str], ...]
    """For each network that is fitted at a time, the variables that its process finds set."""

    @property
    def at_a_time(self) -> int:
        """How many networks."""
        return len(self.environments)

    def in_turns(self) -> Callable[[], contextlib.AbstractContextManager[dict[str, str]]]:
        """Return what threads enter to have a place to themselves: it waits for one and gives its environment."""
        free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for environment in self.environments:
            free.put(environment)

        @contextlib.contextmanager
        def place() -> Iterator[dict[str, str]]:
            environment = free.get()
            try:
                yield environment
            finally:
                free.put(environment)

        return place


def share_machine(
    networks: int, asked: int | None = None, *, deterministic: bool = False, data_parallel: bool = False
) -> Places:
    """Divide this machine among the networks of a run.

    Without a GPU, as many networks at a time as there are processors, and the processors' threads divided among them:
    on two cores, two networks with a thread each train 1.27 times the images of one with both. The threads follow from
    the machine and the number of networks alone: another number of threads sums in another order, training magnifies
    that, and how many are fitted at a time should change no result.

    Args:
        networks: of the whole run, whether they are fitted already or not.
        asked: how many at a time, where the user says it; otherwise each GPU has one, or as the processors and the
            memory allow.
        deterministic: one thread each.
        data_parallel: one network at a time, with everything.
    """
    processors, gpus = cpu_count(), visible_gpus()
    if data_parallel:
        return Places(1 if deterministic else processors, ({},))
    side_by_side = len(gpus) or processors
    threads = 1 if deterministic else max(1, processors // min(networks, side_by_side))
    at_a_time = min(networks, asked or min(side_by_side, max(1, _memory() // MEMORY_A_NETWORK)))
    return Places(threads, tuple(_environment(gpus, place, at_a_time) for place in range(at_a_time)))


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    here = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return here if chosen is None or not here else [name for name in chosen.split(",") if name not in ("", "-1")]


def _environment(gpus: list[str], place: int, at_a_time: int) -> dict[str, str]:
    if not gpus:
        return {}
    alone = {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]}
    # JAX and TensorFlow take most of a GPU's memory for themselves unless they are told that they share it.
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return alone | (shared if at_a_time > len(gpus) else {})


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
