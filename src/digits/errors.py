"""What can go wrong by a user's or the world's doing, and the exit code that each kind ends a command with."""

import functools
import sys
from collections.abc import Callable, Sequence

from digits.terminal import INTERRUPTED, interruptible, steady_streams


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


def front_door(main: Callable[[Sequence[str] | None], None]) -> Callable[..., int]:
    """Wrap a command's `main(argv)`: it returns an exit code, and prints a `KitError` in words, never a traceback.

    A KeyboardInterrupt's own text, where it has one, is what is said of the interruption.
    """

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        steady_streams()
        try:
            with interruptible():
                main(argv)
                sys.stdout.flush()
        except KitError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt as interrupt:
            print(f"\n{interrupt}" if str(interrupt) else "\nInterrupted.", file=sys.stderr)
            return INTERRUPTED
        except OSError as error:
            print(f"error: {explain(error)}", file=sys.stderr)
            return KitError.exit_code
        return 0

    return guarded
