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
    """Of the answers, see `content_hash`."""
    replaced: str | None = None
    """The hash of the other answers that `copy` held before; empty where that file was no submission."""


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
        raise BadInput(f"{display_path(path)}: expected labels from 0 to {len(classes) - 1}, found {labels.max()}.")
    pairs = zip(ids.tolist(), labels.tolist(), strict=True)
    rows = [list(header), *([str(name), classes[label]] for name, label in pairs)]
    with atomic_write(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        if [fields for _, fields in records(temporary.read_bytes())] != rows:
            raise BadInput(f"{display_path(path)}: what was written is not what was predicted. Is the disk full?")


def read_submission(path: Path, rows: int | None = ROWS, competition: Competition = DIGIT_RECOGNIZER) -> np.ndarray:
    """Read a submission and return its labels uint8 (n,), positions among the classes, in the order of the ids.

    Args:
        path: the file, plain, packed or in a zip.
        rows: how many rows it must have; None takes any number from one up.
        competition: whose header, ids and classes are expected.

    Raises:
        BadInput: naming the file, the line, what was expected and what came, and how to write it right.
    """
    with error_context(fix=f"Make one: {kit_command('src/train.py')}"):
        data = read_bytes(path)
        with error_context(display_path(path)):
            labels = parse_submission(data, competition)
            if rows is not None and len(labels) != rows:
                is_train = len(labels) == competition.train.rows
                hint = " (as many as train.csv has: predict test.csv)" if is_train else ""
                raise BadInput(f"expected {rows:,} rows below the header, found {len(labels):,}{hint}")
    return labels


def parse_submission(data: bytes, competition: Competition) -> np.ndarray:
    """Parse a submission, its rows and columns in any order, and return its labels uint8 (n,) as `read_submission`.

    Raises:
        BadInput: naming the line, what was expected and what came, and how to write it right.
    """
    header = list(competition.header)
    with error_context(fix=f"A submission has the header {','.join(header)} and a line for each test image."):
        lines = records(data)
        _, first = next(lines, (1, []))
        if sorted(first) != sorted(header):
            expected = f"expected the header {','.join(header)!r}, found {','.join(first)[:60]!r}"
            raise BadInput(expected, at="line 1", fix=_header_fix(first, header))
        labels: dict[int, int] = {}
        lines_of: dict[int, int] = {}
        for number, fields in lines:
            with error_context(f"line {number}"):
                row, label = _parse_row(fields, first, competition)
                if row in labels:
                    raise BadInput(
                        f"expected each {header[0]} once, found {row} again (first in line {lines_of[row]})",
                        fix="Write one line for each test image",
                    )
            labels[row], lines_of[row] = label, number
        if not labels:
            raise BadInput("expected rows below the header, found none")
        _check_ids(labels, competition)
    return np.array([labels[row] for row in sorted(labels)], np.uint8)


def _parse_row(fields: list[str], columns: list[str], competition: Competition) -> tuple[int, int]:
    """Return the id and the label's position among the classes."""
    id_name, label_name = competition.header
    if len(fields) != 2:
        raise BadInput(f"expected 2 fields, found {len(fields)}. Is the file cut off here?")
    text, label = (fields[columns.index(name)] for name in competition.header)
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadInput(
            f"expected a whole number as {id_name}, found {text[:40]!r}",
            fix=f"Write ids as integers: frame['{id_name}'].astype(int)",
        )
    if label not in competition.classes:
        classes = f"{competition.classes[0]}-{competition.classes[-1]}"
        raise BadInput(
            f"expected one of the classes {classes} as {label_name}, found {label[:40]!r}",
            fix=_label_fix(label, label_name),
        )
    return int(text), competition.classes.index(label)


def _check_ids(labels: dict[int, int], competition: Competition) -> None:
    """Refuse ids that do not count without a gap from the competition's first one."""
    start, end = competition.first_id, competition.first_id + len(labels)
    missing = next((row for row in range(start, end) if row not in labels), None)
    if missing is not None:
        first, last = min(labels), max(labels)
        is_shifted = first != start and last - first == len(labels) - 1
        raise BadInput(
            f"expected the ids {start} to {end - 1} as {competition.header[0]}, found {first} to {last}, without "
            f"{missing}",
            fix=f"Count from {start}: add {start - first}" if is_shifted else "Write one line for each test image",
        )


def _header_fix(first: list[str], header: list[str]) -> str:
    """Return how to write the header right."""
    names = ",".join(header)
    if len(first) == 3 and set(header) <= set(first):
        return "Leave out the row numbers: to_csv(…, index=False), or in R: write.csv(…, row.names=FALSE)"
    if first and all(re.fullmatch(r"[0-9.]+", name) for name in first):
        return f"Put {names} above the first line"
    if len(first) > 3:
        return f"Write {names}, the most probable class of each image: probabilities.argmax(axis=1)"
    return f"Name the columns {names}, letter by letter"


def _label_fix(label: str, column: str) -> str:
    """Return how to write a label right."""
    if re.fullmatch(r"0?\.\d+|\[.*", label):
        return "Write the most probable class: probabilities.argmax(axis=1)"
    is_whole = re.fullmatch(r"\d+\.0*", label)
    return f"Write whole numbers: frame['{column}'].astype(int)" if is_whole else "Give every image a class's name"


def content_hash(labels: np.ndarray) -> str:
    """Return the sha256 of a submission's labels: the same answers have the same, however they are written."""
    return hashlib.sha256(np.asarray(labels, np.uint8).tobytes()).hexdigest()


def tag_of(sha256: str) -> str:
    """Return the tag that ends a submission's description: the first digits of `content_hash` tell its answers."""
    return TAG_PREFIX + sha256[:TAG_DIGITS]


def write_answers(
    folder: Path, dataset: Dataset, answers: np.ndarray, out: Path | None, *, leaked: bool
) -> SubmissionFile:
    """Write a run's submission into its folder, and copy it.

    Args:
        folder: the run's.
        dataset: whose test images were predicted; it has their ids, the header and the classes.
        answers: predicted labels int (t,), positions among the classes, in the order of the test images.
        out: where the copy goes; None: nowhere. A leaked run's files are named so.
        leaked: whether test images were trained on.
    """
    mark = "leaked-" if leaked else ""
    path = folder / f"{mark}submission.csv"
    write_submission(path, dataset.test.ids, answers, header=dataset.header, classes=dataset.classes)
    copy, replaced = path.absolute(), None
    if out is not None:
        copy = out.with_name(mark + out.name).absolute()
        replaced = _other_answers(copy, answers, dataset.competition)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(copy) as temporary:
            shutil.copyfile(path, temporary)
    shown = copy.relative_to(ROOT) if copy.is_relative_to(ROOT) else copy
    return SubmissionFile(path.name, str(shown), len(answers), content_hash(answers), replaced)


def _other_answers(copy: Path, answers: np.ndarray, competition: Competition | None) -> str | None:
    """Return what `SubmissionFile.replaced` says of a file that is about to be replaced."""
    if not copy.is_file():
        return None
    try:
        earlier = content_hash(read_submission(copy, None, competition or DIGIT_RECOGNIZER))
    except BadInput:
        return ""
    return None if earlier == content_hash(answers) else earlier
