"""The ledger of submissions, submissions/ledger.csv: one row a submission, what it was and how it scored."""

import contextlib
import csv
import io
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from digits.data.submission import ROWS
from digits.errors import BadInput, KitError
from digits.paths import shown, written_whole

try:
    import fcntl
except ImportError:  # Windows: two processes at once are then the user's to avoid
    fcntl = None

LOCK_SECONDS = 10


@dataclass(frozen=True)
class Entry:
    """One submission.

    `status`: unconfirmed (on its way, or its answer was lost), pending, complete, error (Kaggle could not score it),
    failed (Kaggle never recorded it, so it cost nothing). `time` is UTC; what is not known is empty or None.
    """

    time: str = ""
    sha256: str = ""
    run: str = ""
    recipe: str = ""
    folds: int | None = None
    out_of_fold: float | None = None
    standard_error: float | None = None
    public_score: float | None = None
    tag: str = ""
    ref: str = ""
    status: str = ""
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Public score minus out-of-fold accuracy in standard errors of that difference, the test's own error included.

        The public score is taken as measured on all 28,000 test rows, which Kaggle does not promise.
        """
        if self.public_score is None or self.out_of_fold is None or self.standard_error is None:
            return None
        error = math.hypot(self.standard_error, math.sqrt(self.out_of_fold * (1 - self.out_of_fold) / ROWS))
        return (self.public_score - self.out_of_fold) / error if error else None

    @property
    def settled(self) -> bool:
        """Whether Kaggle's list held this submission."""
        return self.status not in ("unconfirmed", "failed")


COLUMNS = [column.name for column in fields(Entry)]
COLUMNS.insert(COLUMNS.index("public_score") + 1, "difference")


def read_ledger(path: Path) -> list[Entry]:
    """Return the ledger's rows, oldest first; none where there is no ledger yet.

    Raises:
        BadInput: where the file is not a ledger, naming the line.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise BadInput(f"{shown(path)}: not a text file. Move it away; a new ledger will be begun.") from None
    rows = csv.DictReader(io.StringIO(text), restkey="more")
    if rows.fieldnames != COLUMNS:
        raise BadInput(
            f"{shown(path)}, line 1: expected the columns {','.join(COLUMNS)}\n"
            f"found {','.join(rows.fieldnames or [])}. Put them back, or move the file away."
        )
    try:
        return [_entry(row) for row in rows]
    except (TypeError, ValueError, csv.Error) as error:
        where = f"{shown(path)}, line {rows.line_num + isinstance(error, csv.Error)}"
        raise BadInput(f"{where}: {error}. Mend the line or move the file away.") from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[list[Entry]]:
    """Yield the ledger's rows for changing, alone among all processes; what is in the list at the end is written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock"), LOCK_SECONDS):
        entries = read_ledger(path)
        before = list(entries)
        yield entries
        if entries != before:
            with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                table.writeheader()
                table.writerows(_row(entry) for entry in entries)


def record(path: Path, entry: Entry) -> Entry:
    """Put an entry into the ledger, as `place` does, and return it."""
    with opened(path) as entries:
        place(entries, entry)
    return entry


def place(entries: list[Entry], entry: Entry) -> None:
    """Put an entry in the place of the one with its ref, or of an unsettled one with its tag, or at the end."""
    for index, other in enumerate(entries):
        if (entry.ref and other.ref == entry.ref) or (entry.tag and other.tag == entry.tag and not other.settled):
            entries[index] = entry
            return
    entries.append(entry)


@contextlib.contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold a file's lock, which ends with the process; KitError when another process holds it for so many seconds."""
    with path.open("a") as file:
        until = time.monotonic() + seconds
        while fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise KitError(f"Another process holds {shown(path)}. Let it end and try again.") from None
                time.sleep(0.02)
        yield


def _entry(row: dict[str, str]) -> Entry:
    if "more" in row or None in row.values():
        raise ValueError(f"expected {len(COLUMNS)} columns")
    row.pop("difference")
    entry = Entry(**row)
    return replace(
        entry,
        folds=_number(entry.folds, int),
        **{name: _number(getattr(entry, name), float) for name in ("out_of_fold", "standard_error", "public_score")},
    )


def _number(text: str, kind: type) -> float | None:
    return kind(text) if text else None


def _row(entry: Entry) -> dict[str, str]:
    row = {name: getattr(entry, name) for name in COLUMNS}
    row["difference"] = None if entry.difference is None else f"{entry.difference:.2f}"
    # A row is one line, whatever Kaggle's message was: line ends within it become spaces.
    return {name: "" if value is None else " ".join(str(value).split()) for name, value in row.items()}
