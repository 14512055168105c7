"""The file that Kaggle wants: `ImageId,Label`, one row an image, in test order."""

import hashlib
import shutil
from pathlib import Path

import numpy as np

from digits.errors import BadInput
from digits.paths import ROOT, shown, written_whole

HEADER = "ImageId,Label"
ROWS = 28_000
"""Rows in the competition's test.csv."""


def write_submission(path: Path, ids: np.ndarray, labels: np.ndarray) -> None:
    """Write ids int (n,) and predicted digits int (n,) as a submission, then read the file back and check it.

    Raises:
        BadInput: if the written file would not be accepted (see `read_submission`).
    """
    with written_whole(path) as temporary:
        rows = "".join(f"{image_id},{label}\n" for image_id, label in zip(ids.tolist(), labels.tolist(), strict=True))
        temporary.write_text(f"{HEADER}\n{rows}", encoding="ascii", newline="")
        read_submission(temporary, rows=len(ids))


def read_submission(path: Path, rows: int | None = ROWS) -> np.ndarray:
    """Read a submission and return its digits uint8 (n,), checked as Kaggle checks it.

    Args:
        path: the file; LF or CRLF line ends.
        rows: how many rows it must have; None takes any number from one up.

    Raises:
        BadInput: naming the file, the line, what was expected and what came.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{shown(path)}: there is no such file. Make one: python src/train.py") from None
    except UnicodeDecodeError:
        raise BadInput(f"{shown(path)}: not a text file; expected a CSV with the header {HEADER}.") from None
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if lines[0] != HEADER:
        raise BadInput(f"{shown(path)}, line 1: expected the header {HEADER!r}, found {lines[0][:60]!r}.")
    if rows is not None and len(lines) - 1 != rows:
        raise BadInput(f"{shown(path)}: expected {rows:,} rows below the header, found {len(lines) - 1:,}.")
    if len(lines) == 1:
        raise BadInput(f"{shown(path)}: there are no rows below the header.")
    labels = np.empty(len(lines) - 1, np.uint8)
    for number, line in enumerate(lines[1:], start=1):
        image_id, _, label = line.partition(",")
        if image_id != str(number):
            raise BadInput(
                f"{shown(path)}, line {number + 1}: expected ImageId {number} (ids go 1, 2, 3 … in the order of "
                f"test.csv), found {image_id[:40]!r}."
            )
        if len(label) != 1 or label not in "0123456789":
            raise BadInput(f"{shown(path)}, line {number + 1}: expected a digit 0-9 as Label, found {label[:40]!r}.")
        labels[number - 1] = int(label)
    return labels


def content_hash(labels: np.ndarray) -> str:
    """Return the sha256 of a submission's digits: the same answers have the same, whatever the file's line ends."""
    return hashlib.sha256(np.asarray(labels, np.uint8).tobytes()).hexdigest()


def write_answers(folder: Path, answers: np.ndarray, out: Path, *, leaked: bool) -> dict:
    """Write a run's submission into its folder, copy it to `out`, and return what run.json says of it.

    Args:
        folder: the run's.
        answers: predicted digits int (t,), in test order.
        out: where the copy goes; a leaked run's files are named so.
        leaked: whether test images were trained on.
    """
    mark = "leaked-" * leaked
    path, out = folder / f"{mark}submission.csv", out.with_name(mark + out.name)
    write_submission(path, np.arange(1, len(answers) + 1), answers)
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as temporary:
        shutil.copyfile(path, temporary)
    copied = out.absolute()
    copied = copied.relative_to(ROOT) if copied.is_relative_to(ROOT) else copied
    return {"file": path.name, "copy": str(copied), "rows": len(answers), "sha256": content_hash(answers)}
