"""Train one network of a run in a process of its own, and resume it where it was interrupted."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from digits.config import Recipe
from digits.console import KitError
from digits.model.backend import peak_memory_bytes
from digits.model.engine import load_engine
from digits.runs.store import REFIT, FoldResult, NetworkKey, ensemble_member
from digits.training.workers import ProcessDiedError, Spare

_REPORT_SECONDS = 0.5
_SCORED_SHARE, _LEAST_SCORED = 1 / 20, 100
"""Held-out images scored after an epoch: for each image trained on in it, 1 to 3 % of a CPU's time; at least 100."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far the training of one network is."""

    fold: int
    member: int
    state: str
    """training or predicting."""
    epoch: int
    """How many epochs are finished."""
    images: int
    """How many images it was trained on, in all epochs together."""
    loss: float | None
    """Of the last finished epoch, as the next two."""
    held_out_accuracy: float | None
    images_per_second: float | None

    @property
    def key(self) -> NetworkKey:
        """Fold and member."""
        return self.fold, self.member


Log = Callable[[str | Progress], None]
"""Takes a message for the user, or progress."""


@dataclasses.dataclass(frozen=True)
class FoldTask:
    """One network to train."""

    recipe: Recipe
    fold: int
    """From 1, or `store.REFIT`."""
    member: int
    """From 1; among the refits, its number."""
    seed: int
    precision: str
    train_rows: np.ndarray
    validation_rows: np.ndarray
    checkpoint: Path | None
    """Where the state is saved after each epoch; None: nowhere."""
    threads: int = 1
    deterministic: bool = False
    pseudo_labels: tuple[np.ndarray, np.ndarray] | None = None
    """Rows of test images that join training, and their labels."""

    @property
    def key(self) -> NetworkKey:
        """Fold and member."""
        return self.fold, self.member

    @property
    def network(self) -> str:
        """The network's name."""
        networks = self.recipe.networks
        return networks[(ensemble_member(self.member, self.recipe.members) - 1) % len(networks)]

    @property
    def label(self) -> str:
        """How messages name it."""
        if self.fold == REFIT:
            return f"refit {self.member}/{self.recipe.refit}"
        member = f", member {self.member}/{self.recipe.members}" if self.recipe.members > 1 else ""
        return f"fold {self.fold}/{self.recipe.folds}{member}"

    @property
    def training_images(self) -> int:
        """How many images it trains on in all epochs together."""
        pseudo_rows, _ = self.pseudo_labels or ((), ())
        rows = len(self.train_rows) + len(pseudo_rows)
        batch_size = min(self.recipe.batch_size, rows)
        return self.recipe.epochs * (rows // batch_size) * batch_size

    @property
    def scored_rows(self) -> np.ndarray:
        """The held-out rows that are scored after an epoch, in whole batches; none where no epoch is scored."""
        if not self.recipe.evaluate_every or not len(self.validation_rows):
            return self.validation_rows[:0]
        count = int(_SCORED_SHARE * self.training_images / self.recipe.epochs)
        count = min(max(count, _LEAST_SCORED), len(self.validation_rows))
        count -= count % min(self.recipe.batch_size, count)
        return self.validation_rows[np.linspace(0, len(self.validation_rows) - 1, count, dtype=int)]


TrainFold = Callable[[FoldTask], tuple[FoldResult, bytes]]
"""Trains a network, and returns its result and the bytes of its .keras file."""


@dataclasses.dataclass(frozen=True)
class Arrays:
    """The data of all tasks: images and test images uint8 (n, height, width, channels), labels uint8 (n,)."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray

    def save(self, folder: Path) -> None:
        """Write them as .npy files into `folder`."""
        folder.mkdir(exist_ok=True)
        for name, array in vars(self).items():
            np.save(folder / f"{name}.npy", array)

    @classmethod
    def mapped(cls, folder: Path) -> "Arrays":
        """Map what `save` wrote into memory, so that all processes share one copy."""
        names = (field.name for field in dataclasses.fields(cls))
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names))


def train_in_worker(
    task: FoldTask,
    data: Arrays | Path,
    *,
    log: Log,
    stopped: Callable[[], bool] = lambda: False,
    environment: Mapping[str, str] | None = None,
    spare: Spare | None = None,
) -> tuple[FoldResult, bytes]:
    """Return train_fold(task, data) from a process of its own; one that is killed is tried once more.

    The process is that of `spare` where it fits. It has the variables of `environment`, and is ended when `stopped` is
    true, asked a few times a second.

    Raises:
        KitError: if the loss is no longer finite, or the second process was killed too.
    """

    def attempt() -> tuple[FoldResult, bytes]:
        worker = (spare or Spare()).take(task.threads, deterministic=task.deterministic, environment=environment)
        return worker.run(train_fold, task, data, log=log, stopped=stopped)

    try:
        return attempt()
    except ProcessDiedError as error:
        log(f"{task.label}: {error}. It is started once more, from its last checkpoint.")
        return attempt()


def train_fold(task: FoldTask, data: Arrays | Path, log: Log) -> tuple[FoldResult, bytes]:
    """Train the task's network; return its predictions of images it never saw, and the model as a .keras file's bytes.

    `data` are the arrays, or the folder into which `Arrays.save` wrote them.

    Raises:
        TrainingFailedError: if the loss is no longer finite.
    """
    started, engine = time.perf_counter(), load_engine()
    recipe = task.recipe
    arrays = Arrays.mapped(data) if isinstance(data, Path) else data
    images, labels = arrays.images[task.train_rows], arrays.labels[task.train_rows]
    if task.pseudo_labels is not None:
        rows, classes = task.pseudo_labels
        images, labels = np.concatenate([images, arrays.test_images[rows]]), np.concatenate([labels, classes])
    held_out, held_out_labels = arrays.images[task.validation_rows], arrays.labels[task.validation_rows]
    scored, scored_labels = arrays.images[task.scored_rows], arrays.labels[task.scored_rows]
    trainer = engine.Trainer(recipe, task.network, images, labels, (task.seed, task.fold, task.member), task.precision)
    if task.checkpoint is not None and task.checkpoint.exists():
        try:
            trainer.load(task.checkpoint)
            log(f"{task.label}: resumed after epoch {trainer.epochs_done} of {recipe.epochs}")
        except KitError as error:
            log(f"{task.label}: {error} It starts again from its first epoch.")
    seconds_before = sum(epoch.seconds for epoch in trainer.history)
    images_done, reported = trainer.epochs_done * trainer.images_per_epoch, 0.0

    def report(state: str = "training") -> None:
        nonlocal reported
        reported = time.monotonic()
        last = trainer.history[-1] if trainer.history else None
        figures = (getattr(last, name, None) for name in ("loss", "held_out_accuracy", "images_per_second"))
        log(Progress(*task.key, state, trainer.epochs_done, images_done, *figures))

    def count(images: int) -> None:
        nonlocal images_done
        images_done += images
        if time.monotonic() - reported > _REPORT_SECONDS:
            report()

    while trainer.epochs_done < recipe.epochs:
        epoch = trainer.run_epoch(count)
        if len(scored) and epoch.epoch % recipe.evaluate_every == 0:
            accuracy = trainer.score(scored, scored_labels)
            epoch = dataclasses.replace(epoch, held_out_accuracy=accuracy, held_out_rows=len(scored))
        trainer.history.append(epoch)
        report()
        if task.checkpoint is not None:
            trainer.save(task.checkpoint)
    report("predicting")
    network = trainer.finish()
    (validation, alone), (test, _) = engine.predict_image_sets(network, [held_out, arrays.test_images], recipe.tta)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        engine.save_network(network, path)
        model = path.read_bytes()
    wrong_without_tta = None
    if recipe.tta.any and len(held_out):
        wrong_without_tta = int((alone.argmax(axis=1) != held_out_labels).sum())
    result = FoldResult(
        task.fold,
        task.member,
        task.network,
        task.validation_rows,
        validation,
        test,
        [dataclasses.asdict(epoch) for epoch in trainer.history],
        seconds_before + time.perf_counter() - started,
        peak_memory_bytes(),
        wrong_without_tta,
    )
    return result, model
