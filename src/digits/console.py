"""How a command behaves in its terminal: exceptions and exit codes, signals, streams that never fail."""

import argparse
import contextlib
import errno
import functools
import io
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from digits.redaction import redact

INTERRUPTED = 130  # The exit code of a command that was interrupted.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The numbers of the errors of a disk, a quota or a limit that is full."""
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class KitError(Exception):
    """A failure that is not a programming error; as text it is one or two lines for the user.

    The message says what is wrong, what was expected and what was found; `at` is where in the input that is, such as
    "line 3, column label", and `fix` is how to fix it.
    """

    exit_code = 1

    def __init__(self, message: str = "", *, at: str = "", fix: str = ""):
        super().__init__(message)
        self.at, self.fix = at, fix

    def __str__(self) -> str:
        message = super().__str__()
        located = ": ".join(filter(None, (self.at, message)))
        if not self.fix:
            return located
        return f"{located} {self.fix}" if located.endswith(("?", "!")) else f"{located.removesuffix('.')}. {self.fix}"


@contextlib.contextmanager
def error_context(at: str = "", fix: str = "") -> Iterator[None]:
    """Complete a `KitError` raised inside: `at` goes before its own place, and `fix` is added where it has none."""
    try:
        yield
    except KitError as error:
        error.at = ", ".join(filter(None, (at, error.at)))
        error.fix = error.fix or fix
        raise


class BadInput(KitError):  # noqa: N818 the fault is not the kit's
    """Wrong use or bad input: what is wrong, what was expected, what was found, and how to fix it."""

    exit_code = 2


class TrainingFailedError(KitError):
    """A network's loss is no longer a finite number; the message says in which epoch."""


class KaggleRefused(KitError):  # noqa: N818 likewise
    """Kaggle refused: credentials, rules not accepted, or the daily limit."""

    exit_code = 3


def explain(error: KitError | OSError) -> str:
    """Return an error's message; of the system's the reason and the file that it is about."""
    if isinstance(error, KitError):
        return str(error)
    reason = error.strerror or str(error)
    if reason.endswith(" written"):  # NumPy's message for a full disk: "1000 requested and 10 written".
        reason = f"No space left on device ({reason} of an array)"
    return ": ".join(filter(None, (reason, error.filename)))


def print_line(line: str) -> None:
    """Print a line in one write and flush it, since several threads print."""
    print(f"{line}\n", end="", flush=True)


def styled(text: str, style: str) -> str:
    """Return a text in one of rich's styles, such as "bold green" or "link URL", where stdout is a terminal.

    NO_COLOR takes the colours away, and a pipe or TERM=dumb everything.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout)
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        return text
    with console.capture() as captured:
        console.print(Text(text, style), end="", soft_wrap=True)
    return captured.get()


@contextlib.contextmanager
def progress_bar(text: Callable[[], str], total: float | None = None) -> Iterator[Callable[[float], None]]:
    """Show in a terminal what is done: a text, which is asked for again and again, and a bar where `total` is known.

    Yields a function that counts what more is done of `total`; threads may call it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Words(ProgressColumn):
        def render(self, task) -> Text:
            return Text(text())

    columns = [SpinnerColumn(), Words(Column(no_wrap=True)), *([BarColumn(), TimeRemainingColumn()] if total else [])]
    console, disabled = Console(file=sys.stdout), not sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, disable=disabled) as bars:
        task = bars.add_task("", total=total)
        yield lambda count: bars.advance(task, count)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str] = ()) -> str:
    """Return a table to print, as wide as its texts whatever the terminal is; columns are aligned right, or `left`."""
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="left" if heading in left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=10_000, color_system=None, markup=False, emoji=False).print(made)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: "1 image", "1,200 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def some_of(values: Sequence) -> str:
    """Return the first four of some names or numbers, to print."""
    return ", ".join(map(str, values[:4])) + (" …" if len(values) > 4 else "")


def duration(seconds: float) -> str:
    """Return 45 as "45 s", 4980 as "83 min", and 100 minutes or more in hours: "1 h 40 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def flag_parser(command: str, description: str, note: str = "") -> argparse.ArgumentParser:
    """Return the parser of a command's flags; after the flags its help has a `note` and the exit codes."""
    codes = "Exit codes: 0 done, 1 failed, 2 usage error or bad input, 3 Kaggle refused, 130 interrupted."
    return argparse.ArgumentParser(prog=command, description=description, epilog=f"{note} {codes}", allow_abbrev=False)


def typed_command(script: str, argv: Sequence[str] | None) -> str:
    """Return a command as it was typed, for a record; `argv` is what its `main` was given."""
    return shlex.join(["python", script, *(sys.argv[1:] if argv is None else argv)])


def seconds(text: str) -> float:
    """Return the seconds that a flag names, from 0 to a day: the type of such a flag."""
    number = float(text)
    if not 0 <= number <= 86_400:
        raise argparse.ArgumentTypeError(f"expected 0 to 86400 seconds, found {text}")
    return number


class _UnfailingOutput(io.FileIO):
    """An output that is discarded from the first failed write on: a closed pipe or a full disk stops no training."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)


def robust_streams() -> None:
    """Make printing to stdout and stderr never fail: neither when closed, nor in a locale that lacks the letters.

    Streams that were replaced before, as in a notebook or a test, are left alone.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # It gets the lowest free number, this one, which no other file may get.
        if number == 0 or getattr(sys, name) is not getattr(sys, f"__{name}__"):
            continue
        if before := getattr(sys, name):
            before.flush()
        encoding, raw = getattr(before, "encoding", "utf-8"), _UnfailingOutput(number, "w", closefd=False)
        stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="replace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C: the first raises KeyboardInterrupt, the second ends the process at once.

    A signal that is ignored, as under nohup, stays ignored. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number, frame):
        os._exit(INTERRUPTED)

    def interrupt(number, frame):
        for handled in before:
            signal.signal(handled, leave)
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


def entry_point(main: Callable[[Sequence[str] | None], None]) -> Callable[..., int]:
    """Wrap a command's `main(argv)`: return its exit code, and print a `KitError` as its message, without traceback.

    A KeyboardInterrupt's own text, where it has one, replaces "Interrupted.".
    """

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        robust_streams()
        try:
            with interruptible():
                main(argv)
                sys.stdout.flush()
        except KeyboardInterrupt as interrupt:
            print(f"\n{str(interrupt) or 'Interrupted.'}", file=sys.stderr)
            return INTERRUPTED
        except (KitError, OSError) as error:
            print(f"error: {redact(explain(error))}", file=sys.stderr)
            return getattr(error, "exit_code", KitError.exit_code)
        return 0

    return guarded
