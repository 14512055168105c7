"""How a command stands in its terminal: lost output stops no work, and Ctrl-C stops it once and cleanly."""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator

INTERRUPTED = 130
"""The exit code of a command that was told to stop."""
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(line: str) -> None:
    """Print a line in one piece, at once: others may be printing too."""
    print(f"{line}\n", end="", flush=True)


class _Patient(io.FileIO):
    """A stream that falls silent when nobody reads it any more, or its disk is full, and lets the work go on."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def steady_streams() -> None:
    """Make stdout and stderr such that printing never fails: not when closed, and not in a locale without the letters.

    Streams that were replaced before, as a notebook or a test does, stay as they are.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest free number, which is this one: no file of ours may get it.
        if number == 0 or getattr(sys, name) is not getattr(sys, f"__{name}__"):
            continue
        before = getattr(sys, name)
        encoding = before.encoding if before else "utf-8"
        if before:
            before.flush()
        raw = _Patient(number, "w", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding, errors="replace", line_buffering=number == 2 or raw.isatty()
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM and SIGHUP what Ctrl-C is: the first raises KeyboardInterrupt, the second ends the process at once.

    A signal that is ignored, as nohup does, stays ignored. Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number, frame):
        os._exit(INTERRUPTED)

    def interrupt(number, frame):
        for heard in before:
            signal.signal(heard, leave)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
