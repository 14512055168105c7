"""Where the kit's files are, how a file is written whole or not at all, and one lock between processes."""

import contextlib
import errno
import os
import secrets
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from digits.console import KitError, print_line

if TYPE_CHECKING:
    import numpy as np

try:
    import fcntl
except ImportError:  # Windows: two processes on the same files are then for the user to avoid.
    fcntl = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
OWN = DATA / "own"  # Images of the user's own, by class: OWN/7/….png.
SUBMISSIONS = ROOT / "submissions"
REFERENCE = SUBMISSIONS / "reference"
NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS)
"""The errors of flock on a file system without locks, such as some network mounts."""


class BrokenFileError(KitError):
    """The file is damaged, or not what it should be."""


class LockedError(KitError):
    """Another process holds the lock."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces `path` when the block succeeds, and is removed when it fails.

    Readers see the old file or the new one, never a part, whatever happens: a crash and a loss of power included.
    Raises OSError, naming `path`, where it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        with contextlib.suppress(OSError):  # Some file systems cannot sync a folder, which holds the new name.
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove what `atomic_write` left in `folder` when its process was killed."""
    for path in folder.glob(".*.tmp*"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def file_lock(path: Path, timeout_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` exclusively among all processes; the lock ends with the block or the process.

    Raises LockedError if another process still holds it after `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    with path.open("a") as file:
        while fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    held = display_path(path)
                    raise LockedError(f"Another process holds {held}. Let it finish and try again.") from None
                time.sleep(0.02)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                folder = display_path(path.parent)
                print_line(f"Note: {folder} is on a file system without locks; let one command at a time work in it.")
                break
        yield


def display_path(path: Path) -> str:
    """Return `path` as a user would type it: relative to the working folder where it lies below it."""
    path = Path(path).absolute()
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def kit_command(script: str, *words: str | Path) -> str:
    """Return a command of the kit as it works when it is pasted into a shell in the working folder.

    The script is one such as "src/train.py" or "scripts/submit.sh"; paths among the words are shown relative.
    """
    path = display_path(ROOT / script)
    if script.endswith(".sh") and "/" not in path:
        path = f"./{path}"
    start = ["python", path] if script.endswith(".py") else [path]
    return shlex.join([*start, *(display_path(word) if isinstance(word, Path) else word for word in words)])


def is_default_folder(submissions: Path) -> bool:
    """Return whether a folder of runs is the one that commands use by default, through links too."""
    return Path(submissions).resolve() == SUBMISSIONS.resolve()


def submissions_flag(folder: Path) -> str:
    """Return what commands need for another folder of runs than the default: " --submissions-dir DIR"."""
    return "" if is_default_folder(folder) else f" --submissions-dir {shlex.quote(display_path(folder))}"


def write_npz(path: Path, values: dict) -> None:
    """Write arrays, numbers and strings under their names."""
    import numpy as np

    with atomic_write(path) as temporary:
        np.savez(temporary, **values)


def read_npz(path: Path) -> dict[str, "np.ndarray"]:
    """Read what `write_npz` wrote; the zip's checksums detect a changed bit.

    Raises BrokenFileError if the file is damaged or cannot be read.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as values:
            return {name: values[name] for name in values.files}
    except Exception as error:  # A damaged zip makes Python and NumPy raise a dozen kinds.
        raise BrokenFileError(f"{display_path(path)} is damaged ({error}).") from None
