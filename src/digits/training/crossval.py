"""Folds × members: each network is fitted in a process of its own, and what is finished stays finished."""

import concurrent.futures
import contextlib
import math
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator

from digits.console import BadInput, KitError, say
from digits.data.dataset import LabelledSplit, Split
from digits.files import BrokenFileError, atomic_write
from digits.runs.store import FoldResult, Run, load_fold_result, save_fold_result
from digits.training.fold import Arrays, FoldTask, fit_fresh, fit_mapped
from digits.training.workers import Slots, StoppedError

Trainer = Callable[[FoldTask], tuple[FoldResult, bytes]]


def cross_validate(
    run: Run,
    jobs: list[FoldTask],
    train: LabelledSplit,
    test: Split,
    places: Slots,
    address: str | None = None,
    deadline: float = math.inf,
) -> tuple[list[FoldResult], dict[str, str]]:
    """Fit all jobs that are not finished yet; return the parts there are, in the jobs' order, and why others are not.

    Each finished part is on disk before the next one counts, so whatever ends this process costs the epochs in
    progress at most; and those go on from their checkpoints. A network that fails takes no other with it.

    Args:
        run: where parts, models and checkpoints are.
        jobs: what to fit.
        train: the digits to train on and to validate with.
        test: the digits to predict.
        places: where they are fitted here.
        address: of a Dask scheduler, whose workers then do the work instead.
        deadline: in seconds of `time.monotonic`: what is not fitted then is left, with the epochs that it has.

    Raises:
        BadInput: if no job can be done as asked.
        KitError: if not one part could be finished.
    """
    parts, failures = _finished(run, jobs), {}
    waiting = [job for job in jobs if job.label not in parts]
    arrays = Arrays.of(train, test)
    with contextlib.closing(_outcomes(waiting, arrays, run, places, address, deadline)) as outcomes:
        for job, outcome in outcomes:
            if isinstance(outcome, StoppedError):
                failures[job.label] = "it was not done when the time was up"
            elif isinstance(outcome, KitError):
                failures[job.label] = str(outcome)
                say(f"{job.label}: FAILED: {outcome}")
            else:
                parts[job.label] = _keep(run, job, *outcome)
    labels = [job.label for job in jobs]
    failures = {label: failures[label] for label in labels if label in failures}
    if not parts:
        raise KitError("\n".join(["no network could be trained:", *(f"{who}: {why}" for who, why in failures.items())]))
    return [parts[label] for label in labels if label in parts], failures


def _finished(run: Run, jobs: list[FoldTask]) -> dict[str, FoldResult]:
    parts = {}
    for job in jobs:
        path = run.result_path(job.fold, job.member)
        if not path.exists():
            continue
        try:
            parts[job.label] = load_fold_result(path)
            say(f"{job.label}: done before")
        except BrokenFileError as error:
            path.unlink()
            say(f"{job.label}: {error} It is trained again.")
    return parts


def _keep(run: Run, job: FoldTask, part: FoldResult, model: bytes) -> FoldResult:
    """Put a finished part on disk, in an order in which what is there is whole at any moment."""
    with atomic_write(run.model_path(job.fold, job.member)) as temporary:
        temporary.write_bytes(model)
    save_fold_result(run.result_path(job.fold, job.member), part)
    run.checkpoint_path(job.fold, job.member).unlink(missing_ok=True)
    return part


def _outcomes(
    jobs: list[FoldTask], arrays: Arrays, run: Run, places: Slots, address: str | None, deadline: float
) -> Generator[tuple[FoldTask, tuple[FoldResult, bytes] | KitError], None, None]:
    """Yield each job as it ends, with what came of it; whoever leaves early ends the others."""
    if not jobs:
        return
    stopping = threading.Event()

    def stopped() -> bool:
        return stopping.is_set() or time.monotonic() > deadline

    if address is not None:
        from digits.training import cluster

        where, at_once = cluster.connected(address, arrays, stopped), len(jobs)
    else:
        where, at_once = _here(run, arrays, places, stopped), places.at_a_time
    with where as fit:
        executor = concurrent.futures.ThreadPoolExecutor(at_once)  # Each thread does nothing but wait for one process.
        try:
            futures = {executor.submit(fit, job): job for job in jobs}
            for future in concurrent.futures.as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BadInput:
                    raise
                except KitError as error:
                    yield futures[future], error
        finally:
            stopping.set()
            executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _here(run: Run, arrays: Arrays, places: Slots, stopped: Callable[[], bool]) -> Iterator[Trainer]:
    """Fit each job in a process of this machine's, all fed from one copy of the arrays."""
    folder, place = run.results_folder / "arrays", places.in_turns()

    def fit(job: FoldTask) -> tuple[FoldResult, bytes]:
        with place() as environment:
            if stopped():
                raise StoppedError("stopped")
            return fit_fresh(fit_mapped, job, folder, threads=places.threads, stopped=stopped, environment=environment)

    try:
        arrays.save(folder)
        yield fit
    finally:
        shutil.rmtree(folder, ignore_errors=True)
