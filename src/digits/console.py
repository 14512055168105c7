"""How a command behaves in its terminal: exceptions and exit codes, signals, output, progress."""

import contextlib
import functools
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

from digits.redaction import redact

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


def robust_streams() -> None:
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


class KitError(Exception):
    """Something failed that is not a programming mistake; its message is one or two lines for the user."""

    exit_code = 1


class BadInput(KitError):  # noqa: N818 it is no error of the kit's
    """Wrong use or bad input: says what is wrong, what was expected, what came, and the command that mends it."""

    exit_code = 2


class TrainingFailedError(KitError):
    """A network's loss stopped being a number; the message says when."""


class KaggleRefused(KitError):  # noqa: N818 nor is this
    """Kaggle said no: credentials, rules not accepted, or the daily limit."""

    exit_code = 3


def explain(error: OSError) -> str:
    """Return what the system said, and of which file."""
    reason = error.strerror or str(error)
    if reason.endswith(" written"):  # What NumPy says of a full disk: "1000 requested and 10 written".
        reason = f"No space left on device ({reason} of an array)"
    return f"{reason}: {error.filename}" if error.filename else reason


def entry_point(main: Callable[[Sequence[str] | None], None]) -> Callable[..., int]:
    """Wrap a command's `main(argv)`: it returns an exit code, and prints a `KitError` in words, never a traceback.

    A KeyboardInterrupt's own text, where it has one, is what is said of the interruption.
    """

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        robust_streams()
        try:
            with interruptible():
                main(argv)
                sys.stdout.flush()
        except KitError as error:
            print(f"error: {redact(str(error))}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt as interrupt:
            print(f"\n{interrupt}" if str(interrupt) else "\nInterrupted.", file=sys.stderr)
            return INTERRUPTED
        except OSError as error:
            print(f"error: {redact(explain(error))}", file=sys.stderr)
            return KitError.exit_code
        return 0

    return guarded


print_line = say


class Progress:
    """Tell how the fitting of one network goes on."""

    def __init__(
        self,
        label: str,
        epochs: int,
        images: int,
        *,
        live: bool,
        done: int = 0,
        say: Callable[[str], None] = print_line,
    ):
        """Start.

        Args:
            label: what is fitted, such as "fold 2/5".
            epochs: how many epochs there are.
            images: how many an epoch has.
            live: whether to draw a bar, which only one process at a time can.
            done: epochs already done, when a run is taken up again.
            say: takes the lines.
        """
        self.label, self.epochs, self._say = label, epochs, say
        self._bar = None
        if live and sys.stdout.isatty():
            self._bar = tqdm(
                total=epochs * images, initial=done * images, unit=" images", unit_scale=True, desc=label,
                dynamic_ncols=True, file=sys.stdout, leave=False, mininterval=0.3, smoothing=0.1,
            )  # fmt: skip
        elif done:
            say(f"{label}: goes on after epoch {done} of {epochs}")

    def batch(self, images: int) -> None:
        """Count the images of one batch."""
        if self._bar is not None:
            self._bar.update(images)

    def epoch(self, epoch) -> None:
        """Show a finished `fitting.Epoch`."""
        held_out = "" if epoch.held_out_accuracy is None else f", held-out {epoch.held_out_accuracy:.2%}"
        if self._bar is not None:
            self._bar.set_description(f"{self.label}, epoch {epoch.epoch}/{self.epochs}")
            self._bar.set_postfix_str(f"loss {epoch.loss:.3f}{held_out}")
            return
        self._say(
            f"{self.label}, epoch {epoch.epoch}/{self.epochs}: accuracy {epoch.accuracy:.2%}, loss {epoch.loss:.4f}"
            f"{held_out}, {epoch.seconds:.1f} s, {epoch.images_per_second:,.0f} images/s"
        )

    def done(self, line: str) -> None:
        """Close the bar and leave one line."""
        if self._bar is not None:
            self._bar.close()
        self._say(f"{self.label}: {line}")
