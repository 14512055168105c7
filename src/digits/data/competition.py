"""What is known of the competition's files, and the submission file."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.console import BadInput
from digits.files import ROOT, atomic_write, display_path

SIDE = 28
PIXELS = SIDE * SIDE
CLASSES = 10
ARCHIVE = "digit-recognizer.zip"
REMEDY = "Fetch the competition's files again: scripts/download.sh"


@dataclass(frozen=True)
class KnownFile:
    """One of the competition's files; its sha256 with CRLF line ends, as Kaggle serves it, and with LF."""

    name: str
    header: tuple[str, ...]
    rows: int
    sha256_crlf: str
    sha256_lf: str

    def form(self, sha256: str) -> str:
        """Say how a file with this sha256 relates to Kaggle's: "exact", "line ends changed" or "different data"."""
        return {self.sha256_crlf: "exact", self.sha256_lf: "line ends changed"}.get(sha256, "different data")


PIXEL_COLUMNS = tuple(f"pixel{index}" for index in range(PIXELS))
TRAIN = KnownFile(
    name="train.csv",
    header=("label", *PIXEL_COLUMNS),
    rows=42_000,
    sha256_crlf="b35cc952c291f03d995f48721373e69454f689e299d724bd9a5927bdabddfeed",
    sha256_lf="cc10cd2dcac4fa2b67b8e9b7c90019cb8669668ed11a1ea71d980418785b5b11",
)
TEST = KnownFile(
    name="test.csv",
    header=PIXEL_COLUMNS,
    rows=28_000,
    sha256_crlf="3353d136e718a01b18f4e2097d2f0bbd2676e5887b75b9497e35d34e90820013",
    sha256_lf="1e4c6240156c2316c012a655ff268e8b7f37b4a4dabe49853ab3a60af0ed1bca",
)
SAMPLE_SUBMISSION = KnownFile(
    name="sample_submission.csv",
    header=("ImageId", "Label"),
    rows=28_000,
    sha256_crlf="6ebaa8f99662433c2ad4fee65c76d8eb12ad627c3d2de1901704712e31bc0d9a",
    sha256_lf="84a8e5d1e7618cc08d544cfb78769be96e6f2ff8f50b03a39dd4d396300e1225",
)
FILES = {file.name: file for file in (TRAIN, TEST, SAMPLE_SUBMISSION)}


HEADER = "ImageId,Label"
ROWS = 28_000
"""Rows in the competition's test.csv."""


def write_submission(path: Path, ids: np.ndarray, labels: np.ndarray) -> None:
    """Write ids int (n,) and predicted digits int (n,) as a submission, then read the file back and check it.

    Raises:
        BadInput: if the written file would not be accepted (see `read_submission`).
    """
    with atomic_write(path) as temporary:
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
        raise BadInput(f"{display_path(path)}: there is no such file. Make one: python src/train.py") from None
    except UnicodeDecodeError:
        raise BadInput(f"{display_path(path)}: not a text file; expected a CSV with the header {HEADER}.") from None
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if lines[0] != HEADER:
        raise BadInput(f"{display_path(path)}, line 1: expected the header {HEADER!r}, found {lines[0][:60]!r}.")
    if rows is not None and len(lines) - 1 != rows:
        raise BadInput(f"{display_path(path)}: expected {rows:,} rows below the header, found {len(lines) - 1:,}.")
    if len(lines) == 1:
        raise BadInput(f"{display_path(path)}: there are no rows below the header.")
    labels = np.empty(len(lines) - 1, np.uint8)
    for number, line in enumerate(lines[1:], start=1):
        image_id, _, label = line.partition(",")
        if image_id != str(number):
            raise BadInput(
                f"{display_path(path)}, line {number + 1}: expected ImageId {number} (ids go 1, 2, 3 … in the order of "
                f"test.csv), found {image_id[:40]!r}."
            )
        if len(label) != 1 or label not in "0123456789":
            raise BadInput(
                f"{display_path(path)}, line {number + 1}: expected a digit 0-9 as Label, found {label[:40]!r}."
            )
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
    with atomic_write(out) as temporary:
        shutil.copyfile(path, temporary)
    copied = out.absolute()
    copied = copied.relative_to(ROOT) if copied.is_relative_to(ROOT) else copied
    return {"file": path.name, "copy": str(copied), "rows": len(answers), "sha256": content_hash(answers)}
