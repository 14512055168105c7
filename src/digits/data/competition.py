"""The competitions that are known, and the submission file."""

import csv
import hashlib
import io
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.console import BadInput
from digits.data.csv_reader import read_bytes, records
from digits.files import DATA, ROOT, atomic_write, display_path


@dataclass(frozen=True)
class KnownFile:
    """One of a competition's files; where known, the sha256 of its bytes, and of its pixels and labels alone."""

    name: str
    rows: int
    sha256: str | None = None
    content: str | None = None

    def form(self, sha256: str, content: str, rows: int) -> str:
        """Return how a file relates to Kaggle's: "exact", "same data" (written otherwise), or "different data".

        Where no hash is known, by the number of rows alone: "not verified", or how many of them there are.
        """
        if self.sha256 is None:
            return "not verified" if rows == self.rows else f"{rows:,} of {self.rows:,} rows"
        return "exact" if sha256 == self.sha256 else "same data" if content == self.content else "different data"


@dataclass(frozen=True)
class Competition:
    """A Kaggle competition of labelled images, and what is known of its files."""

    slug: str
    classes: tuple[str, ...]
    train: KnownFile
    test: KnownFile
    sample_submission: KnownFile
    header: tuple[str, str]
    """Of a submission: the columns of id and label."""
    first_id: int
    notebooks_only: bool = False
    """Whether it takes the output of a notebook instead of a file (a code competition)."""
    metric: str = "accuracy"

    @property
    def data_dir(self) -> Path:
        """The default folder of its files."""
        return DATA if self.slug == DIGIT_RECOGNIZER.slug else DATA / self.slug

    @property
    def archive(self) -> str:
        """The name of the zip that Kaggle serves."""
        return f"{self.slug}.zip"

    @property
    def submission(self) -> str:
        """The name of the newest submission's copy in submissions/."""
        return "submission.csv" if self.slug == DIGIT_RECOGNIZER.slug else f"{self.slug}.csv"

    @property
    def ledger(self) -> str:
        """The name of the ledger in submissions/."""
        return "ledger.csv" if self.slug == DIGIT_RECOGNIZER.slug else f"ledger-{self.slug}.csv"

    @property
    def flag(self) -> str:
        """What the commands of another than the default need: " --competition SLUG"."""
        return "" if self.slug == DIGIT_RECOGNIZER.slug else f" --competition {self.slug}"

    @property
    def files(self) -> dict[str, KnownFile]:
        """The competition's files by their names."""
        return {file.name: file for file in (self.train, self.test, self.sample_submission)}


DIGIT_RECOGNIZER = Competition(
    slug="digit-recognizer",
    classes=tuple("0123456789"),
    train=KnownFile(
        name="train.csv",
        rows=42_000,
        sha256="b35cc952c291f03d995f48721373e69454f689e299d724bd9a5927bdabddfeed",
        content="12f9af61ff8b54fe30ac9d2949cd42ed10a12497c14b1ffc0749bfacafb26216",
    ),
    test=KnownFile(
        name="test.csv",
        rows=28_000,
        sha256="3353d136e718a01b18f4e2097d2f0bbd2676e5887b75b9497e35d34e90820013",
        content="c8eadeb442ebf0f9eb1d8705b05388c5f74ed5a5bfaf8ef58e648ecdcf17772b",
    ),
    sample_submission=KnownFile(
        name="sample_submission.csv",
        rows=28_000,
        sha256="6ebaa8f99662433c2ad4fee65c76d8eb12ad627c3d2de1901704712e31bc0d9a",
    ),
    header=("ImageId", "Label"),
    first_id=1,
)
KANNADA_MNIST = Competition(
    slug="kannada-mnist",
    classes=tuple("0123456789"),
    train=KnownFile(name="train.csv", rows=60_000),
    test=KnownFile(name="test.csv", rows=5_000),
    sample_submission=KnownFile(name="sample_submission.csv", rows=5_000),
    header=("id", "label"),
    first_id=0,
    notebooks_only=True,
)
COMPETITIONS = {competition.slug: competition for competition in (DIGIT_RECOGNIZER, KANNADA_MNIST)}
SIDE = 28
"""Of the images that networks get, in pixels: others are resized."""
ROWS = DIGIT_RECOGNIZER.test.rows


def find_competition(slug: str) -> Competition:
    """Return a known competition by its slug, the last part of its address on Kaggle.

    Raises:
        BadInput: for another, naming those that are known.
    """
    name = slug.rstrip("/").rpartition("/")[2]
    if name not in COMPETITIONS:
        raise BadInput(
            f"--competition {slug}: expected one of {', '.join(COMPETITIONS)}. Train on the files of another with "
            "--data-dir DIR: its answers take the form of its sample_submission.csv"
        )
    return COMPETITIONS[name]


def submission_text(ids: np.ndarray, names: list[str], header: tuple[str, str]) -> str:
    """Return a submission as Kaggle takes it: the header, then one line for each id and its class's name."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(ids.tolist(), names, strict=True))
    return text.getvalue()


def write_submission(
    path: Path,
    ids: np.ndarray,
    labels: np.ndarray,
    *,
    header: tuple[str, str] = DIGIT_RECOGNIZER.header,
    classes: tuple[str, ...] = DIGIT_RECOGNIZER.classes,
) -> None:
    """Write ids (n,) and predicted labels int (n,), positions in `classes`, then read the file back and compare.

    Raises:
        BadInput: if a label is none of the classes, or the written file says something else.
    """
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise BadInput(f"{display_path(path)}: expected labels from 0 to {len(classes) - 1}, found {labels.max()}.")
    names = [classes[label] for label in labels.tolist()]
    with atomic_write(path) as temporary:
        temporary.write_text(submission_text(ids, names, header), encoding="utf-8", newline="")
        written = [fields for _, fields in records(temporary.read_bytes(), display_path(path))]
        if written != [list(header), *([str(name), label] for name, label in zip(ids.tolist(), names, strict=True))]:
            raise BadInput(f"{display_path(path)}: what was written is not what was predicted. Is the disk full?")


def read_submission(path: Path, rows: int | None = ROWS, competition: Competition = DIGIT_RECOGNIZER) -> np.ndarray:
    """Read a submission and return its labels uint8 (n,), positions among the classes, in the order of the ids.

    Read as any table is (`csv_reader.records`; plain, packed or in a zip), its rows and columns in any order.

    Args:
        path: the file.
        rows: how many rows it must have; None takes any number from one up.
        competition: whose header, ids and classes are expected.

    Raises:
        BadInput: naming the file, the line, what was expected and what came, and how to write it right.
    """
    place, header = display_path(path), list(competition.header)
    data = read_bytes(path, remedy="Make one: python src/train.py")
    expected = f"expected the header {','.join(header)!r}"
    lines = records(data, place, f"A submission has the header {','.join(header)} and a line for each test image.")
    _, first = next(lines, (1, []))
    if sorted(first) != sorted(header):
        raise BadInput(f"{place}, line 1: {expected}, found {','.join(first)[:60]!r}. {_header_cure(first, header)}")
    id_column, label_column = (first.index(name) for name in header)
    position = {name: index for index, name in enumerate(competition.classes)}
    labels: dict[int, int] = {}
    lines_of: dict[int, int] = {}
    for number, fields in lines:
        where = f"{place}, line {number}"
        if len(fields) != 2:
            raise BadInput(f"{where}: expected 2 fields, found {len(fields)}. Is the file cut off here?")
        text, label = fields[id_column], fields[label_column]
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise BadInput(
                f"{where}: expected a whole number as {header[0]}, found {text[:40]!r}. Write ids as integers: "
                f"frame['{header[0]}'].astype(int)"
            )
        if label not in position:
            classes = f"{competition.classes[0]}-{competition.classes[-1]}"
            raise BadInput(
                f"{where}: expected one of the classes {classes} as {header[1]}, found {label[:40]!r}. "
                f"{_label_cure(label, header[1])}"
            )
        if int(text) in labels:
            raise BadInput(
                f"{where}: expected each {header[0]} once, found {text} again (first in line {lines_of[int(text)]}). "
                "Write one line for each test image"
            )
        labels[int(text)], lines_of[int(text)] = position[label], number
    if not labels:
        raise BadInput(f"{place}: expected rows below the header, found none. Make a submission: python src/train.py")
    start = competition.first_id
    if rows is not None and len(labels) != rows:
        which = " (as many as train.csv has: predict test.csv)" * (len(labels) == competition.train.rows)
        raise BadInput(f"{place}: expected {rows:,} rows below the header, found {len(labels):,}{which}.")
    missing = next((number for number in range(start, start + len(labels)) if number not in labels), None)
    if missing is not None:
        shifted = min(labels) != start and max(labels) - min(labels) == len(labels) - 1
        cure = f"Count from {start}: add {start - min(labels)}" if shifted else "Write one line for each test image"
        raise BadInput(
            f"{place}: expected the ids {start} to {start + len(labels) - 1} as {header[0]}, found {min(labels)} to "
            f"{max(labels)}, without {missing}. {cure}"
        )
    return np.array([labels[number] for number in sorted(labels)], np.uint8)


def _header_cure(first: list[str], header: list[str]) -> str:
    """Return how to write the header right."""
    names = ",".join(header)
    if len(first) == 3 and set(header) <= set(first):
        return "Leave out the row numbers: to_csv(…, index=False), or in R: write.csv(…, row.names=FALSE)"
    if first and all(re.fullmatch(r"[0-9.]+", name) for name in first):
        return f"Put {names} above the first line"
    if [name.lower().replace("_", "") for name in first] == [name.lower() for name in header]:
        return f"Write it letter by letter: {names}"
    if len(first) > 3:
        return f"Write {names}, the most probable class of each image: probabilities.argmax(axis=1)"
    return f"Name the columns {names}"


def _label_cure(label: str, column: str) -> str:
    """Return how to write a label right."""
    if re.fullmatch(r"\d+\.0*", label):
        return f"Write whole numbers: frame['{column}'].astype(int)"
    if re.fullmatch(r"0?\.\d+|\[.*", label):
        return "Write the most probable class: probabilities.argmax(axis=1)"
    return "Give every image a label" if label.lower() in ("", "nan", "na", "null", "none") else "Correct it"


def content_hash(labels: np.ndarray) -> str:
    """Return the sha256 of a submission's labels: the same answers have the same, however they are written."""
    return hashlib.sha256(np.asarray(labels, np.uint8).tobytes()).hexdigest()


def write_answers(
    folder: Path,
    ids: np.ndarray,
    answers: np.ndarray,
    out: Path | None,
    *,
    header: tuple[str, str],
    classes: tuple[str, ...],
    leaked: bool,
) -> dict:
    """Write a run's submission into its folder, copy it to `out`, and return what run.json says of it.

    Args:
        folder: the run's.
        ids: of the test images (t,).
        answers: predicted labels int (t,), positions in `classes`, in the same order.
        out: where the copy goes; None: nowhere. A leaked run's files are named so.
        header: the columns of id and label.
        classes: their names.
        leaked: whether test images were trained on.
    """
    mark = "leaked-" * leaked
    path = folder / f"{mark}submission.csv"
    write_submission(path, ids, answers, header=header, classes=classes)
    copy = path.absolute()
    if out is not None:
        copy = out.with_name(mark + out.name).absolute()
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(copy) as temporary:
            shutil.copyfile(path, temporary)
    shown = copy.relative_to(ROOT) if copy.is_relative_to(ROOT) else copy
    return {"file": path.name, "copy": str(shown), "rows": len(answers), "sha256": content_hash(answers)}
