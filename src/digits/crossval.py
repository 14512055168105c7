"""Folds × members: each network is fitted in a process of its own, and what is finished stays finished."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from digits.backend import load_keras, peak_memory_bytes, prepare_process
from digits.dataset import Digits
from digits.errors import INTERRUPTED, KitError
from digits.recipes import Recipe
from digits.runs import Part, Run, load_part, save_part


@dataclasses.dataclass(frozen=True)
class Job:
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
    """The data of all jobs, as .npy files that each process maps into its memory, so that they share one copy."""

    images: Path
    labels: Path
    test_images: Path

    @classmethod
    def save(cls, folder: Path, train: Digits, test: Digits) -> "Arrays":
        """Write the arrays of `train` and `test` into `folder`."""
        arrays = cls(folder / "images.npy", folder / "labels.npy", folder / "test_images.npy")
        for path, array in (
            (arrays.images, train.images),
            (arrays.labels, train.labels),
            (arrays.test_images, test.images),
        ):
            np.save(path, array)
        return arrays

    def load(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images, labels and test images, mapped."""
        return tuple(
            np.load(path, mmap_mode="r", allow_pickle=False) for path in (self.images, self.labels, self.test_images)
        )


def fit_job(job: Job, arrays: Arrays) -> tuple[Part, bytes]:
    """Fit the job's network; return what it says of unseen images, and the model as the bytes of a .keras file."""
    load_keras(job.deterministic)
    from digits.fitting import Epoch, Fit, predict_probabilities
    from digits.networks import plain
    from digits.progress import Progress

    started = time.perf_counter()
    images, labels, test_images = arrays.load()
    recipe = job.recipe
    fit = Fit(
        recipe,
        job.network,
        images[job.train_rows],
        labels[job.train_rows],
        (job.seed, job.fold, job.member),
        job.precision,
    )
    if job.checkpoint is not None and job.checkpoint.exists():
        fit.load(job.checkpoint)
    held_out, held_out_labels = images[job.validation_rows], labels[job.validation_rows]
    progress = Progress(job.label, recipe.epochs, len(job.train_rows), live=job.live, done=fit.epochs_done)
    while fit.epochs_done < recipe.epochs:
        epoch: Epoch = fit.run_epoch(progress.batch)
        if recipe.evaluate_every and epoch.epoch % recipe.evaluate_every == 0:
            said = predict_probabilities(fit.network, held_out).argmax(axis=1)
            epoch = dataclasses.replace(epoch, held_out_accuracy=float((said == held_out_labels).mean()))
        fit.history.append(epoch)
        progress.epoch(epoch)
        if job.checkpoint is not None:
            fit.save(job.checkpoint)
    network = fit.finish()
    part = Part(
        job.fold,
        job.member,
        job.network,
        job.validation_rows,
        predict_probabilities(network, held_out, recipe.tta),
        predict_probabilities(network, test_images, recipe.tta),
        [dataclasses.asdict(epoch) for epoch in fit.history],
        time.perf_counter() - started,
        peak_memory_bytes(),
    )
    right = part.validation_probabilities.argmax(axis=1) == held_out_labels
    progress.done(f"{right.mean():.2%} of {len(right):,} held-out digits right, {part.seconds:.0f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        plain(network).save(path)
        return part, path.read_bytes()


def cross_validate(run: Run, jobs: list[Job], train: Digits, test: Digits, processes: int, threads: int) -> list[Part]:
    """Fit all jobs that are not finished yet, `processes` at a time, and return the parts of all, in the jobs' order.

    Each finished part is on disk before the next one counts, so whatever ends this process costs the epochs in
    progress at most; and those go on from their checkpoints.

    Raises:
        KitError: if parts could not be finished; the others are kept.
    """
    waiting = [job for job in jobs if not run.part_path(job.fold, job.member).exists()]
    for job in jobs:
        if job not in waiting:
            print(f"{job.label}: done before")
    failures = []
    with tempfile.TemporaryDirectory(prefix="digits-") as folder:
        arrays = Arrays.save(Path(folder), train, test)
        for job, outcome in _outcomes(waiting, arrays, processes, threads):
            if isinstance(outcome, KitError):
                failures.append(f"{job.label}: {outcome}")
                continue
            part, model = outcome
            run.model_path(job.fold, job.member).write_bytes(model)
            save_part(run.part_path(job.fold, job.member), part)
            run.checkpoint_path(job.fold, job.member).unlink(missing_ok=True)
    if failures:
        raise KitError("\n".join([f"{len(failures)} of {len(jobs)} networks failed:", *failures]))
    return [load_part(run.part_path(job.fold, job.member)) for job in jobs]


def _outcomes(
    jobs: list[Job], arrays: Arrays, processes: int, threads: int
) -> Iterator[tuple[Job, tuple[Part, bytes] | KitError]]:
    if not jobs:
        return
    # A fresh process for each network: Keras leaks memory over many fits, and a dead one takes nothing with it.
    executor = concurrent.futures.ProcessPoolExecutor(
        max_workers=min(processes, len(jobs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(threads, jobs[0].deterministic, os.getpid()),
        max_tasks_per_child=1,
    )
    futures = {executor.submit(fit_job, job, arrays): job for job in jobs}
    try:
        for future in concurrent.futures.as_completed(futures):
            try:
                yield futures[future], future.result()
            except KitError as error:
                yield futures[future], error
            except concurrent.futures.process.BrokenProcessPool:
                yield (
                    futures[future],
                    KitError("its process died (out of memory?); the same command goes on from its last epoch"),
                )
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _start_worker(threads: int, deterministic: bool, parent: int) -> None:
    # Ctrl-C reaches the whole group: the parent says what is to be said, the workers just go.
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    prepare_process(threads, deterministic)

    def leave_with_parent():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
