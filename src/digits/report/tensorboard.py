"""A finished run for TensorBoard: curves and settings."""

import dataclasses
import importlib.util
from pathlib import Path

from digits import config
from digits.console import BadInput
from digits.data.dataset import Dataset
from digits.runs.store import Run

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

    Raises BadInput if tensorboardX is not installed, or the run is not finished.
    """
    require_tensorboard()
    from tensorboardX import SummaryWriter

    record, folder = run.finished_record(), run.folder / "tensorboard"
    for old in folder.rglob("events.out.tfevents.*"):
        old.unlink()
    for result in run.fold_results():
        with SummaryWriter(str(folder / result.label)) as writer:
            for epoch in result.history:
                for name, tag in _CURVES.items():
                    if epoch.get(name) is not None:
                        writer.add_scalar(tag, epoch[name], epoch["epoch"])
    recipe = config.flat(record.recipe) if record.recipe else {"name": record.recipe_name}
    values = dataclasses.asdict(record.settings) | {f"recipe.{key}": value for key, value in recipe.items()}
    settings = {key: value if isinstance(value, bool | int | float) else str(value) for key, value in values.items()}
    with SummaryWriter(str(folder)) as writer:  # The settings are put into a folder `run` in it.
        writer.add_hparams(settings, {"accuracy/out_of_fold": record.out_of_fold.accuracy}, "run", 0)
    return folder
