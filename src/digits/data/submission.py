"""The submission file: written, read and checked."""

import csv
import hashlib
import os
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from digits.config import Metric
from digits.console import BadInput, error_context, some_of
from digits.data.competition import DIGIT_RECOGNIZER, ROWS, Competition
from digits.data.csv_reader import positions_among, read_bytes, records, rows_of
from digits.files import ROOT, atomic_write, display_path

LARGEST_SUM_ERROR = 1e-3
"""By which a row's probabilities may miss the sum of 1."""


@dataclass(frozen=True)
class SubmissionForm:
    """What a submission looks like: each row has an id, and a label or probabilities of classes."""

    columns: tuple[str, ...]  # The id's name, then the others.
    classes: tuple[str, ...] = ()  # The labels in order, as they are written.
    ids: tuple[str, ...] | None = None  # In the order of the rows; None: not known.
    first_id: int | None = None  # Where the ids are whole numbers without a gap, the first.
    probability_of: tuple[int, ...] = ()
    """Of which class, a position in `classes`, each column has the probability; empty where rows have a label."""
    examples: frozenset[str] = frozenset()  # What stands in the second column of sample_submission.csv.
    note: str = ""  # What was assumed.

    @property
    def usual_metric(self) -> Metric:
        """The metric that such a submission is usually scored by."""
        if not self.probability_of:
            return Metric.ACCURACY
        return Metric.AUC if len(self.probability_of) == 1 else Metric.LOG_LOSS

    @property
    def contents(self) -> str:
        """What a row has beside the id, in words."""
        if not self.probability_of:
            return "labels"
        of_one = f"the probability of class {self.classes[self.probability_of[0]]!r}"
        return of_one if len(self.probability_of) == 1 else "a probability of each class"

    def matched(self, classes: tuple[str, ...], metric: Metric | None) -> "SubmissionForm":
        """Return the form for these classes; `metric` is the one that was asked for.

        Several columns have probabilities of the classes that they are named after. One has labels, or where there are
        two classes the probability of one: if the sample's values are numbers from 0 to 1 that are no labels, or the
        metric takes probabilities. Raises BadInput where several columns are not named after the classes.
        """
        names, form = self.columns[1:], replace(self, classes=classes)
        if len(names) > 1:
            prefix = len(os.path.commonprefix(names))
            found = [positions_among([name[cut:] for name in names], classes) for cut in (0, prefix)]
            for positions in found:
                if sorted(-1 if each is None else each for each in positions) == list(range(len(classes))):
                    return replace(form, probability_of=tuple(each for each in positions if each is not None))
            fix = "Name the classes in the training data as they are named there"
            expected = f"a column for each class ({some_of(list(classes))})"
            raise BadInput(f"expected {expected}, found {some_of(list(names))}", at="line 1", fix=fix)
        are_numbers = all(re.fullmatch(r"[01]|[01]?\.\d+", text) for text in self.examples)
        takes_probabilities = metric is not None and metric.takes_probabilities
        is_share = len(classes) == 2 and are_numbers and (takes_probabilities or not self.examples <= set(classes))
        if is_share:
            return form._of_one_class()
        note = ""
        if self.ids and takes_probabilities and metric:
            note = f"{metric.text} scores probabilities, but sample_submission.csv has labels: is it another metric?"
        elif self.ids and not self.examples & set(classes):
            note = f"sample_submission.csv has labels ({some_of(sorted(self.examples))}) that are no classes."
        return replace(form, note=note)

    def _of_one_class(self) -> "SubmissionForm":
        """Return the form whose only column has the probability of the class that it is named after, else of 1."""
        name = self.columns[1].lower()
        words = [name, *re.split(r"[\W_]+", name)]
        named = [number for number, label in enumerate(self.classes) if label.lower() in words]
        if len(named) != 1:
            named = [number for number in positions_among(["1"], self.classes) if number is not None]
        if named:
            return replace(self, probability_of=(named[0],))
        note = (
            f"the column {self.columns[1]!r} is taken as the probability of class {self.classes[1]!r}. If it is that "
            f"of {self.classes[0]!r}, label the training images 1 for that and 0."
        )
        return replace(self, probability_of=(1,), note=note)

    def predictions(self, probabilities: np.ndarray) -> np.ndarray:
        """Return what is submitted of probabilities (n, classes): labels uint8 (n,), or the probabilities."""
        return probabilities if self.probability_of else probabilities.argmax(axis=1).astype(np.uint8)

    def labels(self, predictions: np.ndarray) -> np.ndarray:
        """Return the predicted labels int (n,), of probabilities the most probable ones."""
        return predictions.argmax(axis=1) if self.probability_of else predictions

    def texts(self, predictions: np.ndarray) -> list[list[str]]:
        """Return the fields beside the id of each row of `predictions`."""
        if self.probability_of:  # As many digits as tell two values apart: no ties that the metric would see.
            return predictions[:, self.probability_of].astype(str).tolist()
        return [[self.classes[label]] for label in predictions.tolist()]

    def read_row(self, fields: Sequence[str]) -> int | list[float]:
        """Return the label, a position among the classes, or the probabilities that a row has beside the id."""
        if not self.probability_of:
            (label,), (column,) = fields, self.columns[1:]
            if label not in self.classes:
                classes = f"{self.classes[0]}-{self.classes[-1]}"
                fix = f"Write a class for each image: frame['{column}'].astype(int), or of probabilities argmax(axis=1)"
                raise BadInput(f"expected one of the classes {classes} as {column}, found {label[:40]!r}", fix=fix)
            return self.classes.index(label)
        values = [_probability(text, column) for text, column in zip(fields, self.columns[1:], strict=True)]
        if len(values) > 1 and abs(sum(values) - 1) > LARGEST_SUM_ERROR:
            expected = f"probabilities whose sum is 1, or misses it by {LARGEST_SUM_ERROR:g} at most"
            fix = "Divide them by their sum: frame.div(frame.sum(axis=1), axis=0)"
            raise BadInput(f"expected {expected}, found the sum {sum(values):.6g}", fix=fix)
        return values

    def array(self, rows: Sequence[int | list[float]]) -> np.ndarray:
        """Return what `read_row` gave of each row: labels uint8 (n,), or probabilities float64 (n, classes)."""
        if not self.probability_of:
            return np.array(rows, np.uint8)
        values = np.array(rows, np.float64)
        if len(self.probability_of) == 1:
            values = np.hstack([values, 1 - values])
        order = [*self.probability_of, 1 - self.probability_of[0]][: len(self.classes)]
        return values[:, np.argsort(order)]


def known_form(competition: Competition) -> SubmissionForm:
    """Return the form of a known competition's submissions."""
    return SubmissionForm(competition.header, competition.classes, first_id=competition.first_id)


DIGIT_FORM = known_form(DIGIT_RECOGNIZER)


@dataclass(frozen=True)
class SubmissionFile:
    """The submission that a run wrote."""

    file: str  # Its name in the run's folder.
    copy: str | None  # Where it was copied, relative to the project where it lies in it.
    rows: int
    sha256: str  # Of the predictions, see `content_hash`.
    replaced: str | None = None
    """The hash of the other predictions that `copy` held before; empty where that file was no submission."""


TAG_PREFIX, TAG_DIGITS = "digits:", 12


def _probability(text: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # NaN, too.
        raise BadInput(f"expected a probability from 0 to 1 as {column}, found {text[:40]!r}")
    return value


def write_submission(
    path: Path, ids: np.ndarray, predictions: np.ndarray, form: SubmissionForm = DIGIT_FORM
) -> np.ndarray:
    """Write ids (n,) and their predictions, then read the file back and compare; return them in the file's order.

    Raises BadInput if a label is none of the classes, or the written file says something else.
    """
    least, most = predictions.min(), predictions.max()
    if not form.probability_of and not 0 <= least <= most < len(form.classes):
        message = f"expected labels from 0 to {len(form.classes) - 1}, found {least} to {most}"
        raise BadInput(message, at=display_path(path))
    names = [str(name) for name in ids.tolist()]
    texts = dict(zip(names, form.texts(predictions), strict=True))
    rows = [list(form.columns), *([name, *texts[name]] for name in form.ids or names)]
    with atomic_write(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        if [fields for _, fields in records(temporary.read_bytes())] != rows:
            raise BadInput("what was written is not what was predicted. Is the disk full?", at=display_path(path))
    return form.array([form.read_row(fields) for _, *fields in rows[1:]])


def read_submission(path: Path, rows: int | None = ROWS, form: SubmissionForm = DIGIT_FORM) -> np.ndarray:
    """Read a submission, plain or packed: labels uint8 (n,) or probabilities float64 (n, classes), in the ids' order.

    It must have so many `rows`, or any number from one up where that is None. Raises BadInput, naming the file, the
    line, what was expected and what came, and how to write it right.
    """
    data = read_bytes(path)
    with error_context(display_path(path)):
        predictions = parse_submission(data, form)
        if rows is not None and len(predictions) != rows:
            raise BadInput(f"expected {rows:,} rows below the header, as test.csv has, found {len(predictions):,}")
    return predictions


def parse_submission(data: bytes, form: SubmissionForm) -> np.ndarray:
    """Parse a submission, its rows and columns in any order, and return its predictions as `read_submission` does."""
    header, id_name = ",".join(form.columns), form.columns[0]
    found: dict[str, int | list[float]] = {}
    with error_context(fix=f"A submission has the header {header} and a line for each test image."):
        columns, rows = rows_of(data)
        if sorted(columns) != sorted(form.columns):
            shown, fix = ",".join(columns)[:60], _header_fix(columns, form)
            raise BadInput(f"expected the header {header!r}, found {shown!r}", at="line 1", fix=fix)
        order = [columns.index(name) for name in form.columns]
        for number, fields in rows:
            with error_context(f"line {number}"):
                name, *others = (fields[position] for position in order)
                if form.first_id is not None:
                    if not re.fullmatch(r"[0-9]{1,9}", name):
                        fix = f"Write ids as integers: frame['{id_name}'].astype(int)"
                        raise BadInput(f"expected a whole number as {id_name}, found {name[:40]!r}", fix=fix)
                    name = str(int(name))
                if name in found:
                    raise BadInput(f"expected each {id_name} once, found {name} again")
                found[name] = form.read_row(others)
        if not found:
            raise BadInput("expected rows below the header, found none")
        return form.array([found[name] for name in _ordered(found, form)])


def _ordered(names: Collection[str], form: SubmissionForm) -> Sequence[str]:
    """Return the ids of a submission in their order; BadInput where they are not those that are expected."""
    ids = form.ids or list(names)
    if form.first_id is not None:
        ids = [str(form.first_id + row) for row in range(len(names))]
    missing, known = [name for name in ids if name not in names], set(ids)
    unknown = [name for name in names if name not in known]
    if missing or unknown:
        counts = f"missing: {some_of(missing) or 'none'}; others found: {some_of(unknown) or 'none'}"
        raise BadInput(f"expected the {len(ids):,} ids {ids[0]} to {ids[-1]} as {form.columns[0]}; {counts}")
    return ids


def _header_fix(columns: list[str], form: SubmissionForm) -> str:
    names = ",".join(form.columns)
    if tuple(columns[1:]) == form.columns:
        return "Leave out the row numbers: to_csv(…, index=False), or in R: write.csv(…, row.names=FALSE)"
    are_as_many = len(columns) == len(form.columns)
    if are_as_many and any(re.fullmatch(r"[0-9.]+", name) for name in set(columns) - set(form.columns)):
        return f"Put {names} above the first line"
    fix = f"Name the columns {names}, letter by letter"
    return fix if form.probability_of else f"{fix}; of probabilities write argmax(axis=1)"


def content_hash(predictions: np.ndarray) -> str:
    """Return the sha256 of what `read_submission` returns: the same predictions have the same, however written."""
    are_labels = predictions.dtype.kind != "f"
    return hashlib.sha256((predictions.astype(np.uint8) if are_labels else predictions).tobytes()).hexdigest()


def tag_of(sha256: str) -> str:
    """Return the tag that ends a submission's description: the first digits of `content_hash` tell its predictions."""
    return TAG_PREFIX + sha256[:TAG_DIGITS]


def write_run_submission(
    folder: Path, ids: np.ndarray, probabilities: np.ndarray, form: SubmissionForm, out: Path | None, *, leaked: bool
) -> SubmissionFile:
    """Write a run's submission into its folder, and copy it to `out`; a leaked run's files are named so.

    `ids` are (t,) of the test images, `probabilities` float32 (t, classes).
    """
    mark = "leaked-" if leaked else ""
    path = folder / f"{mark}submission.csv"
    sha256 = content_hash(write_submission(path, ids, form.predictions(probabilities), form))
    copy, replaced = path.absolute(), None
    if out is not None:
        copy = out.with_name(mark + out.name).absolute()
        replaced = _other_predictions(copy, sha256, form)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(copy) as temporary:
            shutil.copyfile(path, temporary)
    shown = copy.relative_to(ROOT) if copy.is_relative_to(ROOT) else copy
    return SubmissionFile(path.name, str(shown), len(probabilities), sha256, replaced)


def _other_predictions(copy: Path, sha256: str, form: SubmissionForm) -> str | None:
    """Return what `SubmissionFile.replaced` says of a file that is about to be replaced."""
    if not copy.is_file():
        return None
    try:
        earlier = content_hash(read_submission(copy, None, form))
    except BadInput:
        return ""
    return None if earlier == sha256 else earlier
