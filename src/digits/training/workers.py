"""Processes that train: how many, where, started fresh and never left behind."""

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

from digits.console import KitError, explain, robust_streams
from digits.console import say as print_line
from digits.model.backend import cpu_count, prepare_process

MEMORY_A_NETWORK = 2 << 30
"""Bytes: what a process that fits a network holds at most (1.1 GB measured), and as much again for all else."""


@dataclass(frozen=True)
class Slots:
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


def share_machine(networks: int, asked: int | None = None, *, deterministic: bool = False) -> Slots:
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
    """
    processors, gpus = cpu_count(), visible_gpus()
    side_by_side = len(gpus) or processors
    threads = 1 if deterministic else max(1, processors // min(networks, side_by_side))
    at_a_time = min(networks, asked or min(side_by_side, max(1, _memory() // MEMORY_A_NETWORK)))
    return Slots(threads, tuple(_environment(gpus, place, at_a_time) for place in range(at_a_time)))


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


_PATIENCE_SECONDS = 0.2


class ProcessDiedError(KitError):
    """The process ended without an answer: killed, or out of memory."""


class StoppedError(KitError):
    """The process was told to stop before it had an answer."""


def run_fresh(
    function: Callable,
    *arguments: Any,
    threads: int,
    deterministic: bool = False,
    say: Callable[[str], None] = print_line,
    stopped: Callable[[], bool] = lambda: False,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Return function(*arguments, say=…), computed in a process of its own.

    Keras leaks memory over many fits, which ends with the process; and one that crashes takes nothing with it. The
    process ends when this one does, however that ends.

    Args:
        function: importable by its module's name; it gets `say`, which takes a line of text.
        arguments: what can be pickled.
        threads: how many the backend may use.
        deterministic: whether the backend must compute the same bits each time.
        say: called here with each line that the function says there.
        stopped: asked a few times a second; when true, the process is ended.
        environment: variables to set beside this process's own.

    Raises:
        KitError: what the function raised, an OSError put into words, or one of this module's two.
    """
    ours, theirs = Pipe()
    with ours:
        with theirs:
            process = _start(theirs.fileno(), environment or {})
        try:
            ours.send((function, arguments, threads, deterministic))
            return _answer(ours, say, stopped)
        except (EOFError, ConnectionError):
            raise _cause_of_death(process.wait()) from None
        finally:
            process.kill()
            process.wait()


def _start(channel: int, environment: Mapping[str, str]) -> subprocess.Popen:
    package_at = str(Path(__file__).parents[2])
    variables = os.environ | environment
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [package_at, variables.get("PYTHONPATH")]))
    # A process group of its own: Ctrl-C reaches this process alone, which says what is to be said and ends the other.
    command = [sys.executable, "-m", "digits.training.workers", str(channel)]
    return subprocess.Popen(command, pass_fds=[channel], env=variables, process_group=0)


def _answer(channel: Connection, say: Callable[[str], None], stopped: Callable[[], bool]) -> Any:
    while True:
        while not channel.poll(_PATIENCE_SECONDS):
            if stopped():
                raise StoppedError("stopped")
        kind, value = channel.recv()
        if kind == "line":
            say(value)
        elif kind == "error":
            raise value
        else:
            return value


def _cause_of_death(code: int) -> KitError:
    if code >= 0:
        return KitError(f"its process failed with exit code {code}; what it said of that is above")
    if code == -signal.SIGKILL:
        return ProcessDiedError("its process was killed (by the system, for want of memory?)")
    return ProcessDiedError(f"its process ended by signal {-code}")


def _serve(channel: Connection) -> None:
    """Answer the process that started this one."""
    function, arguments, threads, deterministic = channel.recv()
    threading.Thread(target=_leave_with_parent, args=(channel,), daemon=True).start()
    prepare_process(threads, deterministic)
    try:
        answer = ("value", function(*arguments, say=lambda line: channel.send(("line", line))))
    except KitError as error:
        answer = ("error", error)
    except OSError as error:
        answer = ("error", KitError(explain(error)))
    except MemoryError:
        answer = ("error", KitError("the memory did not suffice"))
    channel.send(answer)


def _leave_with_parent(channel: Connection) -> None:
    # Nothing more is ever sent this way: what ends the wait is the other end's death or its farewell.
    try:
        channel.recv()
    except (EOFError, OSError):
        os._exit(1)


if __name__ == "__main__":
    robust_streams()
    code = 1
    try:
        _serve(Connection(int(sys.argv[1])))
        code = 0
    except (EOFError, ConnectionError):
        pass  # The parent is gone, and nobody is left to tell.
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)  # At once: what libraries do at exit takes time and serves nobody.
