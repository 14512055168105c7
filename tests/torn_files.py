"""Tiny data files that the data tests make and break."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np

from digits.data.competition import DIGIT_RECOGNIZER
from digits.data.csv_reader import Table

SIDE, CLASSES = 28, 10
ARCHIVE = DIGIT_RECOGNIZER.archive
PIXEL_COLUMNS = tuple(f"pixel{index}" for index in range(SIDE * SIDE))
TRAIN_COLUMNS = ("label", *PIXEL_COLUMNS)


def tiny_rows(rows: int, labelled: bool = True, seed: int = 0) -> np.ndarray:
    """Return uint8 (rows, 785 or 784) like the competition's: mostly 0, no two images alike; labels go 0 … 9, 0 …."""
    random = np.random.default_rng([seed, labelled])
    pixels = random.integers(0, 256, (rows, SIDE * SIDE), np.uint8) * (random.random((rows, SIDE * SIDE)) < 0.2)
    labels = np.arange(rows, dtype=np.uint8)[:, None] % CLASSES
    return np.hstack([labels, pixels]).astype(np.uint8) if labelled else pixels.astype(np.uint8)


def csv_bytes(rows: np.ndarray, header: tuple[str, ...], ending: str = "\n", quote: str = "") -> bytes:
    """Return rows as a CSV, written field by field."""
    lines = [header, *rows.tolist()]
    return "".join(",".join(f"{quote}{field}{quote}" for field in line) + ending for line in lines).encode()


def train_bytes(rows: int = 40, **form: str) -> bytes:
    return csv_bytes(tiny_rows(rows), TRAIN_COLUMNS, **form)


def predict_bytes(rows: int = 6, **form: str) -> bytes:
    return csv_bytes(tiny_rows(rows, labelled=False), PIXEL_COLUMNS, **form)


def sample_bytes(rows: int = 6) -> bytes:
    return b"ImageId,Label\n" + b"".join(b"%d,0\n" % row for row in range(1, rows + 1))


def write_pair(folder: Path, train: bytes | None = None, test: bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.csv").write_bytes(train_bytes() if train is None else train)
    (folder / "test.csv").write_bytes(predict_bytes() if test is None else test)
    return folder


def zip_bytes(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def competition_members() -> dict[str, bytes]:
    return {"sample_submission.csv": sample_bytes(), "test.csv": predict_bytes(), "train.csv": train_bytes()}


def write_zip(folder: Path, members: dict[str, bytes] | None = None, name: str = ARCHIVE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(zip_bytes(competition_members() if members is None else members))
    return path


def gzip_bytes(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def npz_arrays(train: int = 100, test: int = 20) -> dict[str, np.ndarray]:
    """Return the arrays of a tiny mnist.npz, test images unlike the training images."""
    rows = tiny_rows(train + test)
    images, labels = rows[:, 1:].reshape(-1, SIDE, SIDE), rows[:, 0]
    return {"x_train": images[:train], "y_train": labels[:train], "x_test": images[train:], "y_test": labels[train:]}


def write_npz(folder: Path, arrays: dict[str, np.ndarray] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mnist.npz"
    np.savez(path, **(npz_arrays() if arrays is None else arrays))
    return path


def everything_in(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content, to see that nothing has changed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def pixels(table: Table) -> np.ndarray:
    """Return a table's images uint8 (n, side²), in row-major order."""
    return table.images.reshape(len(table.images), -1)
