"""What can go wrong by a user's or the world's doing, and the exit code that each kind ends a command with."""

import functools
import os
import sys
from collections.abc import Callable, Sequence

INTERRUPTED = 130


class KitError(Exception):
    """Something failed that is not a programming mistake; its message is one or two lines for the user."""

    exit_code = 1


class BadInput(KitError):
    """Wrong use or bad input: says what is wrong, what was expected, what came, and the command that mends it."""

    exit_code = 2


class KaggleRefused(KitError):
    """Kaggle said no: credentials, rules not accepted, or the daily limit."""

    exit_code = 3


def front_door(main: Callable[[Sequence[str] | None], None]) -> Callable[..., int]:
    """Wrap a command's `main(argv)` so that it returns an exit code and prints errors, never a traceback, for `KitError`s."""

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        try:
            main(argv)
            sys.stdout.flush()
        except KitError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt as interrupt:
            print(str(interrupt) or "Interrupted.", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # Whoever read our output has left (`… | head`): nothing more can be said, and that is no failure of ours.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            print(f"error: {error.strerror or error}: {error.filename or 'no file named'}", file=sys.stderr)
            return KitError.exit_code
        return 0

    return guarded
