"""A finished run for TensorBoard: curves, errors and settings."""

import contextlib
import dataclasses
import importlib.util
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from digits.console import BadInput
from digits.data.dataset import Dataset
from digits.report import analysis
from digits.runs.record import FinishedRecord
from digits.runs.store import Run

FOLDER = "tensorboard"
MOST_MISTAKES = 60
_CURVES = {
    "accuracy": "accuracy/training",
    "held_out_accuracy": "accuracy/held out",
    "loss": "loss/training",
    "learning_rate": "learning rate",
    "images_per_second": "images per second",
}


def require_tensorboard() -> None:
    """Raise BadInput where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise BadInput("--tensorboard needs the package tensorboard. Install it: pip install tensorboard")


def write_tensorboard(run: Run, dataset: Dataset | None = None) -> Path:
    """Write a finished run for TensorBoard into its folder `tensorboard`, and return that folder.

    TensorBoard's own writer is used, so any backend of Keras will do. What was written before is replaced.

    Raises:
        BadInput: if TensorBoard is not installed, or the run is not finished.
    """
    require_tensorboard()
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    data = analysis.gather(run, dataset)
    folder = run.folder / FOLDER
    for old in folder.rglob("events.out.tfevents.*"):
        old.unlink()
    for result in data.results:
        with contextlib.closing(_Events(EventFileWriter(str(folder / result.label)))) as events:
            for epoch in result.history:
                for name, tag in _CURVES.items():
                    if epoch.get(name) is not None:
                        events.scalar(tag, epoch[name], epoch["epoch"])
    with contextlib.closing(_Events(EventFileWriter(str(folder / "run")))) as events:
        events.scalar("accuracy/out of fold", data.record.out_of_fold.accuracy, 0)
        events.settings(_flat(data.record), run.name)
        for number, (title, image) in enumerate(_mistakes(data)):
            events.image(f"errors/{title}", image, number)
    return folder


class _Events:
    """One event file."""

    def __init__(self, writer):
        self._writer = writer
        self.close = writer.close

    def scalar(self, tag: str, value: float, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(Summary(value=[Summary.Value(tag=tag, simple_value=float(value))]), step)

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """Write an image uint8 (28, 28), four times as large."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        png, large = io.BytesIO(), np.kron(image, np.ones((4, 4), np.uint8))
        Image.fromarray(large).save(png, format="PNG")
        encoded = Summary.Image(height=len(large), width=len(large), colorspace=1, encoded_image_string=png.getvalue())
        self._add(Summary(value=[Summary.Value(tag=tag, image=encoded)]), step)

    def settings(self, values: dict[str, float | str | bool], name: str) -> None:
        """Write hyper-parameters, with the out-of-fold accuracy as what they are judged by."""
        from tensorboard.plugins.hparams import api_pb2, summary

        metric = api_pb2.MetricInfo(name=api_pb2.MetricName(tag="accuracy/out of fold"))
        infos = [api_pb2.HParamInfo(name=key) for key in values]
        self._add(summary.experiment_pb(hparam_infos=infos, metric_infos=[metric]), 0)
        self._add(summary.session_start_pb(hparams=values, group_name=name), 0)
        self._add(summary.session_end_pb(api_pb2.STATUS_SUCCESS), 0)

    def _add(self, summary, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        # The summary may be of TensorFlow's classes, where that is installed: the same message by another name.
        same = Summary.FromString(summary.SerializeToString())
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=same))


def _flat(record: FinishedRecord) -> dict[str, float | str | bool]:
    """Return the recipe's and the command's settings as TensorBoard takes them: numbers, words and yes or no."""
    flat: dict[str, float | str | bool] = {}

    def take(prefix: str, values: dict) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                take(f"{prefix}{name}.", value)
            elif isinstance(value, list | tuple):
                flat[prefix + name] = " ".join(map(str, value))
            elif value is not None:
                flat[prefix + name] = value

    take("", vars(record.settings))
    take(
        "recipe.",
        dataclasses.asdict(record.recipe.changed(sources={})) if record.recipe else {"name": record.recipe_name},
    )
    return flat


def _mistakes(data: analysis.RunData) -> list[tuple[str, np.ndarray]]:
    """Return a title and the image uint8 (side, side) of the most confident errors, where the images are there."""
    if data.train is None:
        return []
    labels, names = data.train.labels[data.scored], data.record.data.names
    wrong = analysis.mistakes(data.probabilities, labels)[:MOST_MISTAKES]
    predicted = data.probabilities[wrong].argmax(axis=1)
    titles = [
        f"{number:02}: {names[label]} predicted as {names[guess]}"
        for number, (label, guess) in enumerate(zip(labels[wrong], predicted, strict=True), start=1)
    ]
    return list(zip(titles, data.train.images[data.scored[wrong]], strict=True))
