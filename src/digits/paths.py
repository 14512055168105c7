"""Where the kit's files are, and how a file is written whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
SUBMISSIONS = ROOT / "submissions"
SUBMISSION = SUBMISSIONS / "submission.csv"
LEDGER = SUBMISSIONS / "ledger.csv"
REFERENCE = SUBMISSIONS / "reference"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it replaces `path`, else it is removed.

    Readers and a crash at any moment see the old file or the new one, never a part.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def shown(path: Path) -> str:
    """Return `path` as a person would type it: relative to the working folder where it lies below it."""
    path = Path(path).absolute()
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
