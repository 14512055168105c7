"""MNIST as `keras.datasets.mnist` has it, from a local mnist.npz or downloaded by Keras, and checked."""

import contextlib
import hashlib
import math
import os
import re
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np

from digits.data.competition import CLASSES, SIDE
from digits.data.csv_reader import MAX_BYTES
from digits.errors import BadInput
from digits.paths import shown

NAME = "mnist.npz"
ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
REMEDY = f"Remove the file and fetch it again, or put a good {NAME} there: python src/train.py --source keras"
HEADER = re.compile(
    rb"\x93NUMPY[\x01-\x03]\0.{2,4}?"
    rb"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': \(([\d, ]{0,60})\), \} *\n",
    re.DOTALL,
)
"""How an array begins. Matched, not evaluated: a file gets no say in what is run or allocated."""
SHAPES = {"x_train": (SIDE, SIDE), "y_train": (), "x_test": (SIDE, SIDE), "y_test": ()}


def load(data_dir: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Return x_train, x_test uint8 (n, 28, 28), y_train, y_test uint8 (n,), and the file's name, rows, sha256 and form.

    The file is `mnist.npz` in `data_dir` or in Keras's own folder, else Keras downloads it there.

    Raises:
        BadInput: if it cannot be downloaded, or is not what it should be.
    """
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    places = [Path(data_dir) / NAME, keras_home / "datasets" / NAME]
    path = next((place for place in places if place.exists()), None) or _download(places[0])
    arrays = read_npz(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    form = "exact" if sha256 == SHA256 else "different data"
    rows = len(arrays["x_train"]) + len(arrays["x_test"])
    return arrays, {"name": NAME, "rows": rows, "sha256": sha256, "form": form}


def _download(wanted: Path) -> Path:
    import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):
            return Path(keras.utils.get_file(NAME, origin=ORIGIN, file_hash=SHA256))
    except Exception as error:  # Keras raises plain `Exception` for whatever a network can do
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BadInput(
            f"{NAME}: expected to download it from {ORIGIN}, but: {reason}. Put it at {shown(wanted)} by hand, or use "
            "--source sample, which needs no network"
        ) from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read and check mnist.npz: four uint8 arrays of the right shapes, never a pickle, never larger than the file says.

    Raises:
        BadInput: naming the file and the array, what was expected and what came.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _member(archive, name, path) for name in SHAPES}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BadInput(f"{shown(path)}: expected a whole {NAME}, found a damaged one ({reason}). {REMEDY}") from None
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if len(images) != len(labels) or not len(images):
            raise BadInput(
                f"{shown(path)}, y_{part}: expected one label an image, found {len(labels)} for {len(images)}. {REMEDY}"
            )
        if labels.max() >= CLASSES:
            raise BadInput(f"{shown(path)}, y_{part}: expected digits 0-9, found {labels.max()}. {REMEDY}")
    return arrays


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """Read one array of the archive, its header believed only where it agrees with the number of bytes."""
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise BadInput(f"{shown(path)}: expected the array {name}, found {archive.namelist()[:6]}. {REMEDY}") from None
    if info.file_size > MAX_BYTES:
        raise BadInput(
            f"{shown(path)}, {name}: expected at most {MAX_BYTES:,} bytes, found {info.file_size:,}. {REMEDY}"
        )
    content = archive.read(info)
    header = HEADER.match(content)
    if header is None:
        raise ValueError(f"{name} is no plain NumPy array")
    dtype, order, shape_text = (group.decode() for group in header.groups())
    shape = tuple(int(size) for size in shape_text.replace(",", " ").split())
    if dtype != "|u1" or order != "False" or len(shape) != 1 + len(SHAPES[name]) or shape[1:] != SHAPES[name]:
        wanted = ("n", *SHAPES[name])
        raise BadInput(f"{shown(path)}, {name}: expected uint8 {wanted}, found {dtype} {shape}. {REMEDY}")
    if len(content) - header.end() != math.prod(shape):
        found = len(content) - header.end()
        raise BadInput(f"{shown(path)}, {name}: expected {math.prod(shape):,} bytes, found {found:,}. {REMEDY}")
    return np.frombuffer(content, np.uint8, offset=header.end()).reshape(shape)
