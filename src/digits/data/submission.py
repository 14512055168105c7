"""The submission file: written, read and checked."""

import csv
import hashlib
import io
import re
import shutil
from pathlib import Path

import numpy as np

from digits.console import BadInput
from digits.data.competition import DIGIT_RECOGNIZER, ROWS, Competition
from digits.data.csv_reader import read_bytes, records
from digits.files import ROOT, atomic_write, display_path

TAG_PREFIX, TAG_DIGITS = "digits:", 12


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


def tag_of(sha256: str) -> str:
    """Return the tag that ends a submission's description: the first digits of `content_hash` tell its answers."""
    return TAG_PREFIX + sha256[:TAG_DIGITS]


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
