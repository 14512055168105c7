"""The data of the measurements, as arrays that a fresh process loads without reading CSVs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.config import Metric, Options

SMALL_TRAIN = 600


@dataclass(frozen=True)
class Prepared:
    """The data that all measurements of a command read."""

    folder: Path
    description: str
    sha256: str
    input_shape: tuple[int, int, int]  # Height, width and channels.
    classes: int
    metric: Metric = Metric.ACCURACY

    @property
    def loss(self) -> str:
        """What settings are chosen by, in words; see `metrics.loss`."""
        by_value = self.metric in (Metric.AUC, Metric.MACRO_F1)
        return f"1 − {self.metric.text}" if by_value else "calibrated log-loss"


def prepare(
    folder: Path, data_dir: Path | None, *, small: bool = False, limit: int | None = None, metric: str | None = None
) -> Prepared:
    """Fill `folder` with the training images and labels as .npy, where the measuring processes find them.

    They are those in `data_dir`, None for the default, or the embedded sample if that is empty; the first `limit`. With
    `small` they are a few of the sample, which show only that the measurement works.
    """
    from digits.data import dataset
    from digits.runs.identity import data_hash

    source, limit = ("sample", SMALL_TRAIN) if small else ("auto", limit)
    data = dataset.load(source, data_dir, limit=limit, options=Options(metric=metric))
    images = data.train.images
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", data.train.labels)
    note = ", cut small: the figures mean nothing" if small else ""
    shape = images.shape[1:]
    return Prepared(folder, data.summary.description + note, data_hash(data), shape, len(data.classes), data.metric)


def held_out_split(options: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images and labels to train on, and others held out, by the options' `split`, else `seed`.

    Nine tenths train and one is held out; with the option `few`, one fifth trains and two others are held out; with
    `fold`, that one of `folds` is held out. Images are uint8 (n, 28, 28, 1), labels uint8 (n,).
    """
    from digits.data.folds import split_folds

    images, labels = (np.load(Path(options["folder"]) / f"{name}.npy") for name in ("images", "labels"))
    seed = options.get("split", options["seed"])
    if "fold" in options:
        train, held_out = split_folds(labels, folds=options["folds"], seed=seed)[options["fold"]]
    elif options.get("few"):
        train, *others = (rows for _, rows in split_folds(labels, folds=5, seed=seed)[:3])
        held_out = np.concatenate(others)
    else:
        train, held_out = split_folds(labels, folds=1, seed=seed)[0]
    return images[train], labels[train], images[held_out], labels[held_out]
