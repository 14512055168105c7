"""Worker processes: how a machine is shared among networks, and a function computed in a fresh process."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from digits.console import KitError, explain, print_line, robust_streams
from digits.model.backend import cpu_count, prepare_process, usable_gpus
from digits.model.engine import load_engine

MEMORY_PER_NETWORK_BYTES = 2 << 30
"""What a process that trains a network holds at most (1.1 GB measured), and as much again for everything else."""
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where cgroups of version 2 and 1 say how much memory a container may use, if it is limited."""
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Slots:
    """How many networks are trained at a time, where, and with how many threads each."""

    threads: tuple[int, ...]  # For each network of the run, in order.
    environments: tuple[dict[str, str], ...]  # For each slot, the environment variables of its process.

    @property
    def at_a_time(self) -> int:
        """How many networks are trained at a time."""
        return len(self.environments)

    def acquirer(self) -> Callable[[], contextlib.AbstractContextManager[dict[str, str]]]:
        """Return a function whose context waits for a free slot, holds it, and gives its environment."""
        free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for environment in self.environments:
            free.put(environment)

        @contextlib.contextmanager
        def acquire() -> Iterator[dict[str, str]]:
            environment = free.get()
            try:
                yield environment
            finally:
                free.put(environment)

        return acquire


def share_machine(networks: int, jobs: int | None = None, *, deterministic: bool = False) -> Slots:
    """Divide this machine among the networks of a run.

    Each GPU trains one network at a time. Without a GPU, as many networks as there are CPU cores are trained side by
    side: on two cores, two networks with a thread each train 1.04 to 1.09 times the images of one that computes halves
    of its batches (batches of 256 and 128). The networks of an incomplete last round share the cores that would be
    idle. The threads follow from the machine and the number of networks, finished ones included, alone: another number
    of threads sums in another order, training amplifies that, and `jobs`, the number of networks trained at a time,
    must not change results. Deterministic ones have one thread.
    """
    cores, gpus = cpu_count(), list(usable_gpus())
    side_by_side = min(networks, len(gpus) or cores)
    threads = [cores // side_by_side or 1] * networks
    last_round = networks % side_by_side
    if last_round and not gpus:
        threads[-last_round:] = [cores // last_round] * last_round
    if deterministic:
        threads = [1] * networks
    at_a_time = min(networks, jobs or min(side_by_side, max(1, _memory_bytes() // MEMORY_PER_NETWORK_BYTES)))
    environments = tuple(_environment(gpus, slot, at_a_time) for slot in range(at_a_time))
    return Slots(tuple(threads), environments)


def _environment(gpus: list[str], slot: int, at_a_time: int) -> dict[str, str]:
    if not gpus:
        return {}
    environment = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]}
    if at_a_time > len(gpus):  # By default, JAX and TensorFlow each allocate most of a GPU's memory.
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return environment


def _memory_bytes() -> int:
    """Return the memory of this machine, or of the container where that has less."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # There is no such file, or it says "max".
            sizes.append(int(path.read_text()))
    return min(sizes)


class ProcessDiedError(KitError):
    """The process ended without a result: killed, or out of memory."""


class StoppedError(KitError):
    """The process was stopped before it had a result."""


class Worker:
    """A fresh process that loads Keras at once and then computes one function.

    Keras leaks memory from training to training, which ends with the process, and a crash affects no other network.
    The process ends when this one does, however that ends.
    """

    def __init__(self, threads: int, *, deterministic: bool = False, environment: Mapping[str, str] | None = None):
        """Start the process, with so many threads for the backend, and variables beside this process's own."""
        variables = os.environ | dict(environment or {})
        package_parent = str(Path(__file__).parents[2])
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [package_parent, variables.get("PYTHONPATH")]))
        self._connection, theirs = Pipe()
        with theirs:
            # -P: a digits.py or random.py in the working folder is not taken for the module of that name.
            command = [sys.executable, "-P", "-m", "digits.training.workers", str(theirs.fileno())]
            # A process group of its own: Ctrl-C reaches this process alone, which reports it and ends the worker.
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=variables, process_group=0)
        self._connection.send((threads, deterministic))

    def run(
        self,
        function: Callable,
        *arguments: Any,
        log: Callable[[Any], None] = print_line,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Return function(*arguments, log=…) as computed by the process, which ends with it.

        The function is importable by its module's name, the arguments are picklable, and what it gives to its `log`
        arrives at `log` here. `stopped` is asked a few times a second; when true, the process is ended. Raises KitError
        as the function raised it, for an OSError, or where the process died or was stopped.
        """
        with self:
            try:
                self._connection.send((function, arguments))
                while True:
                    while not self._connection.poll(_POLL_SECONDS):
                        if stopped():
                            raise StoppedError("stopped")
                    kind, value = self._connection.recv()
                    if kind == "log":
                        log(value)
                    elif kind == "error":
                        raise value
                    else:
                        return value
            except (EOFError, ConnectionError):
                raise _cause_of_death(self._process.wait()) from None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()


class Spare:
    """A worker that loads Keras before it is needed, at most one; as a context, it ends the one that nobody took."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._worker: Worker | None = None
        self._kind: tuple[int, bool] | None = None
        self._lock = threading.Lock()

    def start(self, threads: int, *, deterministic: bool) -> None:
        """Start a worker in place of the one that was not taken."""
        with self._lock:
            self._end()
            self._worker, self._kind = Worker(threads, deterministic=deterministic), (threads, deterministic)

    def take(self, threads: int, *, deterministic: bool, environment: Mapping[str, str] | None = None) -> Worker:
        """Return a worker as asked: the one that was started, or a new one where that is of another kind."""
        with self._lock:
            if self._worker and not environment and self._kind == (threads, deterministic):
                worker, self._worker = self._worker, None
                return worker
        return Worker(threads, deterministic=deterministic, environment=environment)

    def _end(self) -> None:
        if self._worker:
            self._worker.__exit__()
            self._worker = None

    def __enter__(self) -> "Spare":
        return self

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._end()


def _cause_of_death(exit_code: int) -> KitError:
    if exit_code >= 0:
        return KitError(f"its process failed with exit code {exit_code}; the traceback is above")
    if exit_code == -signal.SIGKILL:
        return ProcessDiedError("its process was killed (by the system, out of memory?)")
    return ProcessDiedError(f"its process ended by signal {-exit_code}")


def _serve(connection: Connection) -> None:
    """Compute what the parent process asks for."""
    threads, deterministic = connection.recv()
    failure = None
    try:
        prepare_process(threads, deterministic)
        load_engine(deterministic)
    except KitError as error:
        failure = error
    function, arguments = connection.recv()
    threading.Thread(target=_exit_with_parent, args=(connection,), daemon=True).start()
    try:
        if failure:
            raise failure
        result = ("value", function(*arguments, log=lambda message: connection.send(("log", message))))
    except KitError as error:
        result = ("error", error)
    except OSError as error:
        result = ("error", KitError(explain(error)))
    except MemoryError:
        result = ("error", KitError("out of memory"))
    connection.send(result)


def _exit_with_parent(connection: Connection) -> None:
    # Nothing more is sent this way: the wait ends when the parent closes the connection or dies.
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)


if __name__ == "__main__":
    robust_streams()
    exit_code = 1
    try:
        _serve(Connection(int(sys.argv[1])))
        exit_code = 0
    except (EOFError, ConnectionError):
        pass  # The parent process is gone.
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(exit_code)  # At once: what libraries do at exit takes time and is of no use here.
