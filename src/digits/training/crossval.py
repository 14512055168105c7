"""Cross-validation and refits: each network is trained in a process of its own; what is finished is kept."""

import concurrent.futures
import contextlib
import math
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator

from digits.console import BadInput, KitError
from digits.data.dataset import LabelledSplit, Split
from digits.files import BrokenFileError, atomic_write
from digits.runs.store import REFIT, FoldResult, Run, load_fold_result, save_fold_result
from digits.training.fold import Arrays, FoldTask, train_in_worker
from digits.training.progress import ProgressDisplay
from digits.training.workers import Slots, StoppedError

TrainFold = Callable[[FoldTask], tuple[FoldResult, bytes]]


def cross_validate(
    run: Run,
    tasks: list[FoldTask],
    train: LabelledSplit,
    test: Split,
    slots: Slots,
    display: ProgressDisplay,
    cluster_address: str | None = None,
    deadline: float = math.inf,
    on_result: Callable[[], None] = lambda: None,
) -> tuple[list[FoldResult], dict[str, str]]:
    """Train the networks that are not finished; return the results in the tasks' order, and why others are missing.

    Each result is on disk before the next one counts, so an interruption costs at most the epochs in progress, and
    those resume from their checkpoints. A network that fails affects no other.

    Args:
        run: where results, models and checkpoints are.
        tasks: what to train.
        train: the images to train on and to validate with.
        test: the images to predict.
        slots: where the networks are trained on this machine.
        display: shows the progress.
        cluster_address: of a Dask scheduler, whose workers train instead.
        deadline: in seconds of `time.monotonic`, after which nothing more is trained; checkpoints stay.
        on_result: called after each network whose result is on disk.

    Raises:
        BadInput: if a task cannot be done as asked.
        KitError: if not one network of a fold could be trained.
    """
    results = _finished(run, tasks, display)
    failures: dict[str, str] = {}
    waiting = [task for task in tasks if task.label not in results]
    arrays = Arrays(train.images, train.labels, test.images)
    with contextlib.closing(_outcomes(waiting, arrays, run, slots, display, cluster_address, deadline)) as outcomes:
        for task, outcome in outcomes:
            if isinstance(outcome, StoppedError):
                failures[task.label] = "it was not finished when the time was up"
            elif isinstance(outcome, KitError):
                failures[task.label] = str(outcome)
                display.finish(task.label, f"FAILED: {outcome}")
            else:
                result, model = outcome
                # In this order, a result on disk is that of the model beside it at any moment.
                run.result_path(task.fold, task.member).unlink(missing_ok=True)
                with atomic_write(run.model_path(task.fold, task.member)) as temporary:
                    temporary.write_bytes(model)
                save_fold_result(run.result_path(task.fold, task.member), result)
                run.checkpoint_path(task.fold, task.member).unlink(missing_ok=True)
                results[task.label] = result
                on_result()
                text = "trained on all images"
                if task.fold != REFIT:
                    answers = result.validation_probabilities.argmax(axis=1)
                    accuracy = float((answers == train.labels[result.validation_rows]).mean())
                    text = f"{accuracy:.2%} of {len(answers):,} held-out images"
                display.finish(task.label, f"{text}, {result.seconds:.0f} s")
    labels = [task.label for task in tasks]
    failures = {label: failures[label] for label in labels if label in failures}
    if all(result.fold == REFIT for result in results.values()):
        reasons = (f"{label}: {reason}" for label, reason in failures.items())
        raise KitError("\n".join(["no network could be trained:", *reasons]))
    return [results[label] for label in labels if label in results], failures


def _finished(run: Run, tasks: list[FoldTask], display: ProgressDisplay) -> dict[str, FoldResult]:
    """Return the results of the networks whose result and model are both there."""
    results = {}
    for task in tasks:
        path, model = run.result_path(task.fold, task.member), run.model_path(task.fold, task.member)
        if not path.exists():
            continue
        if not model.exists():
            display.log(f"{task.label}: {model.name} is missing. It is trained again.")
            continue
        try:
            results[task.label] = load_fold_result(path)
            display.finish(task.label, "finished before")
        except BrokenFileError as error:
            path.unlink()
            display.log(f"{task.label}: {error} It is trained again.")
    return results


def _outcomes(
    tasks: list[FoldTask],
    arrays: Arrays,
    run: Run,
    slots: Slots,
    display: ProgressDisplay,
    cluster_address: str | None,
    deadline: float,
) -> Generator[tuple[FoldTask, tuple[FoldResult, bytes] | KitError], None, None]:
    """Yield each task with its outcome as it ends; closing the iterator ends the others."""
    if not tasks:
        return
    stopping = threading.Event()

    def stopped() -> bool:
        return stopping.is_set() or time.monotonic() > deadline

    if cluster_address is not None:
        from digits.training import cluster

        trainers, at_a_time = cluster.connected(cluster_address, arrays, display, stopped), len(tasks)
    else:
        trainers, at_a_time = _local(run, arrays, slots, display, stopped), slots.at_a_time
    with trainers as train:
        executor = concurrent.futures.ThreadPoolExecutor(at_a_time)  # Each thread only waits for one process.
        try:
            futures = {executor.submit(train, task): task for task in tasks}
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
def _local(
    run: Run, arrays: Arrays, slots: Slots, display: ProgressDisplay, stopped: Callable[[], bool]
) -> Iterator[TrainFold]:
    """Yield a function that trains in a process of this machine; all processes share one copy of the arrays."""
    folder, acquire = run.results_folder / "arrays", slots.acquirer()

    def train(task: FoldTask) -> tuple[FoldResult, bytes]:
        with acquire() as environment:
            if stopped():
                raise StoppedError("stopped")
            worker = slots.take_worker(task.threads, environment)
            return train_in_worker(
                task, folder, log=display.log, stopped=stopped, environment=environment, worker=worker
            )

    try:
        arrays.save(folder)
        yield train
    finally:
        shutil.rmtree(folder, ignore_errors=True)
