"""Read the data, and start programs: nothing here loads Keras."""

import os
import subprocess
import time
from pathlib import Path

import numpy as np

from digits.data.dataset import LabelledSplit, Split


def prepare(folder: Path, train: LabelledSplit, test: Split, data_dir: Path | None) -> None:
    """Fill `folder` with what all measurements read: arrays as .npy, and csv/ with train.csv and test.csv.

    The CSVs are links to those in `data_dir`, so that caches are left here and not there; None writes them anew.
    """
    (folder / "csv").mkdir()
    for name, digits in (("train", train), ("test", test)):
        np.save(folder / f"{name}_images.npy", digits.images)
        if data_dir is not None:
            (folder / "csv" / f"{name}.csv").symlink_to((data_dir / f"{name}.csv").resolve())
            continue
        pixels = digits.images.reshape(len(digits.images), -1)
        header = ",".join(f"pixel{index}" for index in range(pixels.shape[1]))
        if name == "train":
            header, pixels = f"label,{header}", np.hstack([train.labels[:, np.newaxis], pixels])
        np.savetxt(folder / "csv" / f"{name}.csv", pixels, "%d", ",", header=header, comments="")
    np.save(folder / "train_labels.npy", train.labels)


def arrays(options: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return train images uint8 (n, 28, 28), labels uint8 (n,) and test images uint8 (m, 28, 28)."""
    names = ("train_images", "train_labels", "test_images")
    return tuple(np.load(Path(options["folder"]) / f"{name}.npy") for name in names)


def held_out_split(options: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images and labels to train on, and others held out, by the options' `split`, else `seed`.

    Nine tenths train and one is held out; with the option `few`, one fifth trains and two others are held out; with
    `fold`, that one of `folds` is held out.
    """
    from digits.data.folds import split_folds

    images, labels, _ = arrays(options)
    seed = options.get("split", options["seed"])
    if "fold" in options:
        train, held_out = split_folds(labels, folds=options["folds"], seed=seed)[options["fold"]]
    elif options.get("few"):
        train, *others = (rows for _, rows in split_folds(labels, folds=5, seed=seed)[:3])
        held_out = np.concatenate(others)
    else:
        train, held_out = split_folds(labels, folds=1, seed=seed)[0]
    return images[train], labels[train], images[held_out], labels[held_out]


def kit(options: dict) -> dict:
    """Load both CSVs with every check of the kit; "forget" removes its cache before."""
    from digits.data import dataset

    folder = Path(options["folder"]) / "csv"
    if options.get("forget"):
        for path in folder.glob(".*.cache.*"):
            path.unlink()
    started = time.perf_counter()
    dataset.load("kaggle", folder)
    return {"seconds": time.perf_counter() - started}


def pandas_defaults(options: dict) -> dict:
    """Load both CSVs with `pandas.read_csv` as it comes."""
    import pandas as pd

    folder = Path(options["folder"]) / "csv"
    started = time.perf_counter()
    for name in ("train.csv", "test.csv"):
        pd.read_csv(folder / name)
    return {"seconds": time.perf_counter() - started}


def only_bytes(options: dict) -> dict:
    """Read the bytes of both CSVs and do nothing with them."""
    folder = Path(options["folder"]) / "csv"
    started = time.perf_counter()
    for name in ("train.csv", "test.csv"):
        (folder / name).read_bytes()
    return {"seconds": time.perf_counter() - started}


def command(options: dict) -> dict:
    """Run the command line `words` to its end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    started = time.perf_counter()
    subprocess.run(options["words"], check=True, stdout=subprocess.DEVNULL, env=environment)
    return {"seconds": time.perf_counter() - started}
