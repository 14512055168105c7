"""The submission file: written, read and checked."""

import csv
import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.console import BadInput, error_context
from digits.data.competition import DIGIT_RECOGNIZER, ROWS, Competition
from digits.data.csv_reader import read_bytes, records
from digits.data.dataset import Dataset
from digits.files import ROOT, atomic_write, display_path, kit_command


@dataclass(frozen=True)
class SubmissionFile:
    """The submission that a run wrote."""

    file: str
    """Its name in the run's folder."""
    copy: str | None
    """Where it was copied, relative to the project where it lies in it."""
    rows: int
    sha256: str
    """Of the predictions, see `content_hash`."""
    replaced: str | None = None
    """The hash of the other predictions that `copy` held before; empty where that file was no submission."""


TAG_PREFIX, TAG_DIGITS = "digits:", 12


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
        message = f"expected labels from 0 to {len(classes) - 1}, found {labels.min()} to {labels.max()}"
        raise BadInput(message, at=display_path(path))
    pairs = zip(ids.tolist(), labels.tolist(), strict=True)
    rows = [list(header), *([str(name), classes[label]] for name, label in pairs)]
    with atomic_write(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        if [fields for _, fields in records(temporary.read_bytes())] != rows:
            raise BadInput("what was written is not what was predicted. Is the disk full?", at=display_path(path))


def read_submission(path: Path, rows: int | None = ROWS, competition: Competition = DIGIT_RECOGNIZER) -> np.ndarray:
    """Read a submission, plain or packed: labels uint8 (n,), positions among the classes, in the order of the ids.

    It must have so many `rows`, or any number from one up where that is None.

    Raises:
        BadInput: naming the file, the line, what was expected and what came, and how to write it right.
    """
    train = competition.training_commands if competition.flag else kit_command("src/train.py")
    with error_context(fix=f"Make one: {train}"):
        data = read_bytes(path)
        with error_context(display_path(path)):
            labels = parse_submission(data, competition)
            if rows is not None and len(labels) != rows:
                raise BadInput(f"expected {rows:,} rows below the header, as test.csv has, found {len(labels):,}")
    return labels


def parse_submission(data: bytes, competition: Competition) -> np.ndarray:
    """Parse a submission, its rows and columns in any order, and return its labels as `read_submission` does."""
    header = ",".join(competition.header)
    labels: dict[int, int] = {}
    with error_context(fix=f"A submission has the header {header} and a line for each test image."):
        lines = records(data)
        _, columns = next(lines, (1, []))
        if sorted(columns) != sorted(competition.header):
            found = ",".join(columns)[:60]
            fix = _header_fix(columns, competition.header)
            raise BadInput(f"expected the header {header!r}, found {found!r}", at="line 1", fix=fix)
        for number, fields in lines:
            with error_context(f"line {number}"):
                row, label = _parse_row(fields, columns, competition)
                if row in labels:
                    raise BadInput(f"expected each {competition.header[0]} once, found {row} again")
            labels[row] = label
        if not labels:
            raise BadInput("expected rows below the header, found none")
        ids, first = sorted(labels), competition.first_id
        expected = range(first, first + len(ids))
        if ids != list(expected):
            missing = next(row for row in expected if row not in labels)
            raise BadInput(
                f"expected the ids {first} to {expected[-1]} as {competition.header[0]}, found {ids[0]} to {ids[-1]}, "
                f"without {missing}"
            )
    return np.array([labels[row] for row in ids], np.uint8)


def _parse_row(fields: list[str], columns: list[str], competition: Competition) -> tuple[int, int]:
    """Return the id and the label's position among the classes."""
    id_name, label_name = competition.header
    if len(fields) != 2:
        fix = "Is the file cut off here?" if len(fields) < 2 else "Remove what follows the second, also a comma."
        raise BadInput(f"expected 2 fields, found {len(fields)}", fix=fix)
    text, label = (fields[columns.index(name)] for name in competition.header)
    if not re.fullmatch(r"[0-9]{1,9}", text):
        fix = f"Write ids as integers: frame['{id_name}'].astype(int)"
        raise BadInput(f"expected a whole number as {id_name}, found {text[:40]!r}", fix=fix)
    if label not in competition.classes:
        classes = f"{competition.classes[0]}-{competition.classes[-1]}"
        fix = f"Write a class for each image: frame['{label_name}'].astype(int), or of probabilities argmax(axis=1)"
        raise BadInput(f"expected one of the classes {classes} as {label_name}, found {label[:40]!r}", fix=fix)
    return int(text), competition.classes.index(label)


def _header_fix(columns: list[str], header: tuple[str, str]) -> str:
    names = ",".join(header)
    if len(columns) == 3 and set(header) <= set(columns):
        return "Leave out the row numbers: to_csv(…, index=False), or in R: write.csv(…, row.names=FALSE)"
    if columns and all(re.fullmatch(r"[0-9.]+", name) for name in columns):
        return f"Put {names} above the first line"
    return f"Name the columns {names}, letter by letter; of probabilities write argmax(axis=1)"


def content_hash(labels: np.ndarray) -> str:
    """Return the sha256 of a submission's labels: the same predictions have the same, however they are written."""
    return hashlib.sha256(np.asarray(labels, np.uint8).tobytes()).hexdigest()


def tag_of(sha256: str) -> str:
    """Return the tag that ends a submission's description: the first digits of `content_hash` tell its predictions."""
    return TAG_PREFIX + sha256[:TAG_DIGITS]


def write_run_submission(
    folder: Path, dataset: Dataset, predictions: np.ndarray, out: Path | None, *, leaked: bool
) -> SubmissionFile:
    """Write a run's submission into its folder, and copy it to `out`; a leaked run's files are named so.

    `predictions` are labels int (t,), positions among the dataset's classes, of its test images.
    """
    mark = "leaked-" if leaked else ""
    path = folder / f"{mark}submission.csv"
    write_submission(path, dataset.test.ids, predictions, header=dataset.header, classes=dataset.classes)
    copy, replaced = path.absolute(), None
    if out is not None:
        copy = out.with_name(mark + out.name).absolute()
        replaced = _other_predictions(copy, predictions, dataset.competition)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(copy) as temporary:
            shutil.copyfile(path, temporary)
    shown = copy.relative_to(ROOT) if copy.is_relative_to(ROOT) else copy
    return SubmissionFile(path.name, str(shown), len(predictions), content_hash(predictions), replaced)


def _other_predictions(copy: Path, predictions: np.ndarray, competition: Competition | None) -> str | None:
    """Return what `SubmissionFile.replaced` says of a file that is about to be replaced."""
    if not copy.is_file():
        return None
    try:
        earlier = content_hash(read_submission(copy, None, competition or DIGIT_RECOGNIZER))
    except BadInput:
        return ""
    return None if earlier == content_hash(predictions) else earlier
