"""Run a function in a fresh process, hear what it says meanwhile, and never leave it behind.

It takes a socket and nothing else of the system: no shared memory, no semaphores, and no wish to be forked, so that it
works where multiprocessing does not (no /dev/shm, inside a Dask worker, in a notebook).
"""

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from digits.errors import KitError, explain
from digits.model.backend import prepare_process
from digits.terminal import say as say_here
from digits.terminal import steady_streams

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
    say: Callable[[str], None] = say_here,
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
    command = [sys.executable, "-m", "digits.training.processes", str(channel)]
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
    steady_streams()
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
