"""A finished run for TensorBoard: curves, errors and settings."""

import dataclasses
import importlib.util
from pathlib import Path

from digits import config
from digits.console import BadInput
from digits.data.dataset import Dataset
from digits.report import analysis
from digits.runs.record import FinishedRecord
from digits.runs.store import Run

FOLDER = "tensorboard"
MOST_ERRORS = 60
_CURVES = {
    "accuracy": "accuracy/training",
    "held_out_accuracy": "accuracy/held_out",
    "loss": "loss/training",
    "learning_rate": "learning_rate",
    "images_per_second": "images_per_second",
}


def require_tensorboard() -> None:
    """Raise BadInput where the package that writes the logs is not installed."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise BadInput("--tensorboard needs tensorboardX. Install it: pip install -r requirements-tensorboard.txt")


def write_tensorboard(run: Run, dataset: Dataset | None = None) -> Path:
    """Write a finished run for TensorBoard into its folder `tensorboard`, replacing earlier logs; return that folder.

    Raises:
        BadInput: if tensorboardX is not installed, or the run is not finished.
    """
    require_tensorboard()
    from tensorboardX import SummaryWriter

    data = analysis.gather(run, dataset)
    folder = run.folder / FOLDER
    for old in folder.rglob("events.out.tfevents.*"):
        old.unlink()
    for result in data.results:
        with SummaryWriter(str(folder / result.label)) as writer:
            for epoch in result.history:
                for name, tag in _CURVES.items():
                    if epoch.get(name) is not None:
                        writer.add_scalar(tag, epoch[name], epoch["epoch"])
    with SummaryWriter(str(folder)) as writer:
        accuracy = {"accuracy/out_of_fold": data.record.out_of_fold.accuracy}
        writer.add_hparams(_settings(data.record), accuracy, "run", 0)  # Into a folder `run` of their own.
        _add_errors(writer, data)
    return folder


def _settings(record: FinishedRecord) -> dict[str, float | str | bool]:
    """Return the command's settings and the recipe's, as TensorBoard takes them: numbers, words and yes or no."""
    recipe = config.flat(record.recipe) if record.recipe else {"name": record.recipe_name}
    values = dataclasses.asdict(record.settings) | {f"recipe.{key}": value for key, value in recipe.items()}
    return {
        key: value if isinstance(value, bool | int | float | str) else " ".join(map(str, value))
        for key, value in values.items()
        if value is not None
    }


def _add_errors(writer, data: analysis.RunData) -> None:
    """Add the images of the most confident errors, four times as large, where the images are there."""
    if data.train is None:
        return
    labels, names = data.train.labels[data.scored], data.record.data.names
    wrong = analysis.mistakes(data.probabilities, labels)[:MOST_ERRORS]
    for number, position in enumerate(wrong, start=1):
        predicted = data.probabilities[position].argmax()
        image = data.train.images[data.scored[position]].repeat(4, axis=0).repeat(4, axis=1)
        tag = f"errors/{number:02}-{names[labels[position]]}-predicted-as-{names[predicted]}"
        writer.add_image(tag, image, number, dataformats="HW")
