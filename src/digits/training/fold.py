"""One network to fit: what it takes, and the fitting itself, taken up again where it was cut off."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from digits.config import Recipe
from digits.console import KitError
from digits.console import say as print_line
from digits.data.dataset import LabelledSplit, Split
from digits.model.backend import load_keras, peak_memory_bytes
from digits.runs.store import FoldResult
from digits.training.workers import ProcessDiedError, run_fresh


@dataclasses.dataclass(frozen=True)
class FoldTask:
    """One network to fit."""

    recipe: Recipe
    fold: int
    member: int
    folds: int
    seed: int
    precision: str
    train_rows: np.ndarray
    validation_rows: np.ndarray
    checkpoint: Path | None
    """Where to keep the state after each epoch; None keeps none."""
    deterministic: bool = False
    live: bool = True
    """Whether a progress bar may be drawn."""
    pseudo_labels: tuple[np.ndarray, np.ndarray] | None = None
    """Rows of test images that join training, and as what digits."""

    @property
    def network(self) -> str:
        """The network's name."""
        return self.recipe.networks[(self.member - 1) % len(self.recipe.networks)]

    @property
    def label(self) -> str:
        """What a person sees of it."""
        member = f", member {self.member}/{self.recipe.members}" if self.recipe.members > 1 else ""
        return f"fold {self.fold}/{self.folds}{member}"


@dataclasses.dataclass(frozen=True)
class Arrays:
    """The data of all jobs: images and test images uint8 (n, 28, 28), labels uint8 (n,)."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray

    @classmethod
    def of(cls, train: LabelledSplit, test: Split) -> "Arrays":
        """Return what jobs need of the digits."""
        return cls(train.images, train.labels, test.images)

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


def fit_fresh(
    function: Callable,
    job: FoldTask,
    data: Arrays | Path,
    *,
    threads: int,
    say: Callable[[str], None] = print_line,
    stopped: Callable[[], bool] = lambda: False,
    environment: Mapping[str, str] | None = None,
) -> tuple[FoldResult, bytes]:
    """Return function(job, data), one of the two below, from a process of its own; one that is killed gets another try.

    Raises:
        KitError: if the loss stops being a number, or the second process was killed too.
    """

    def fit():
        return run_fresh(
            function,
            job,
            data,
            threads=1 if job.deterministic else threads,
            deterministic=job.deterministic,
            say=say,
            stopped=stopped,
            environment=environment,
        )

    try:
        return fit()
    except ProcessDiedError as error:
        say(f"{job.label}: {error}. It is tried once more, from the last whole epoch that was kept.")
        return fit()


def fit_mapped(job: FoldTask, folder: Path, say: Callable[[str], None] = print_line) -> tuple[FoldResult, bytes]:
    """Do as `fit_job`, with the arrays that `Arrays.save` wrote into `folder`."""
    return fit_job(job, Arrays.mapped(folder), say)


def fit_job(job: FoldTask, arrays: Arrays, say: Callable[[str], None] = print_line) -> tuple[FoldResult, bytes]:
    """Fit the job's network; return what it says of unseen images, and the model as the bytes of a .keras file.

    Raises:
        KitError: if the loss stops being a number.
    """
    load_keras(job.deterministic)
    from digits.console import Progress
    from digits.model.predict import predict_probabilities

    started = time.perf_counter()
    recipe = job.recipe
    fit = _fit_or_go_on(job, arrays, say)
    seconds_before = sum(epoch.seconds for epoch in fit.history)
    images, labels = arrays.images[job.validation_rows], arrays.labels[job.validation_rows]
    progress = Progress(job.label, recipe.epochs, fit.images_an_epoch, live=job.live, done=fit.epochs_done, say=say)
    while fit.epochs_done < recipe.epochs:
        epoch = fit.run_epoch(progress.batch)
        if recipe.evaluate_every and epoch.epoch % recipe.evaluate_every == 0:
            said = predict_probabilities(fit.network, images).argmax(axis=1)
            epoch = dataclasses.replace(epoch, held_out_accuracy=float((said == labels).mean()))
        fit.history.append(epoch)
        progress.epoch(epoch)
        if job.checkpoint is not None:
            fit.save(job.checkpoint)
    network = fit.finish()
    part = FoldResult(
        job.fold,
        job.member,
        job.network,
        job.validation_rows,
        predict_probabilities(network, images, recipe.tta),
        predict_probabilities(network, arrays.test_images, recipe.tta),
        [dataclasses.asdict(epoch) for epoch in fit.history],
        seconds_before + time.perf_counter() - started,
        peak_memory_bytes(),
        int((predict_probabilities(network, images).argmax(axis=1) != labels).sum()) if recipe.tta.any else None,
    )
    right = part.validation_probabilities.argmax(axis=1) == labels
    progress.done(f"{right.mean():.2%} of {len(right):,} held-out digits right, {part.seconds:.0f} s")
    return part, _model_bytes(network)


def _fit_or_go_on(job: FoldTask, arrays: Arrays, say: Callable[[str], None]):
    """Return a Fit in the state of the job's checkpoint, or a new one where there is none that can be used."""
    from digits.model.trainer import Trainer

    images, labels = arrays.images[job.train_rows], arrays.labels[job.train_rows]
    if job.pseudo_labels is not None:
        rows, digits = job.pseudo_labels
        images, labels = np.concatenate([images, arrays.test_images[rows]]), np.concatenate([labels, digits])
    fit = Trainer(
        job.recipe,
        job.network,
        images,
        labels,
        (job.seed, job.fold, job.member),
        job.precision,
    )
    if job.checkpoint is not None and job.checkpoint.exists():
        try:
            fit.load(job.checkpoint)
        except KitError as error:
            say(f"{job.label}: {error} It starts again from its first epoch.")
    return fit


def _model_bytes(network) -> bytes:
    from digits.model.networks import plain

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        plain(network).save(path)
        return path.read_bytes()
