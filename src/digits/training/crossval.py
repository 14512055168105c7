"""Cross-validation and refits: each network is trained in a process of its own; what is finished is kept."""

import concurrent.futures
import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator

import numpy as np

from digits.console import BadInput, KitError
from digits.files import BrokenFileError, atomic_write
from digits.model.backend import cpu_count
from digits.runs.store import REFIT, FoldResult, NetworkKey, Run, load_fold_result, save_fold_result
from digits.training.fold import Arrays, FoldTask, Progress, TrainFold, train_in_worker
from digits.training.plan import Plan
from digits.training.progress import ProgressDisplay
from digits.training.workers import StoppedError


def cross_validate(
    plan: Plan, display: ProgressDisplay, on_result: Callable[[], None] = lambda: None
) -> tuple[list[FoldResult], dict[NetworkKey, str]]:
    """Train the networks that are not finished; return the results in the tasks' order, and why others are missing.

    Each result is on disk before the next one counts, so an interruption costs at most the epochs in progress, and
    those resume from their checkpoints. A network that fails affects no other. `on_result` is called for each result on
    disk. Raises BadInput if a task cannot be done as asked; KitError if not one network of a fold could be trained.
    """
    results = _finished(plan.run, plan.tasks, display)
    failures: dict[NetworkKey, str] = {}
    waiting = [task for task in plan.tasks if task.key not in results]
    with contextlib.closing(_outcomes(waiting, plan, display)) as outcomes:
        for task, outcome in outcomes:
            if isinstance(outcome, StoppedError):
                failures[task.key] = "it was not finished when the time was up"
            elif isinstance(outcome, KitError):
                failures[task.key] = str(outcome)
                display.finish(task.key, f"FAILED: {outcome}", "bold red")
            else:
                result, model = outcome
                _save(plan.run, result, model)
                results[task.key] = result
                on_result()
                display.finish(task.key, f"{_score(result, plan.train.labels)}, {result.seconds:.0f} s", "bold")
    if all(fold == REFIT for fold, _ in results):
        reasons = (f"{task.label}: {failures[task.key]}" for task in plan.tasks if task.key in failures)
        raise KitError("\n".join(["no network could be trained:", *reasons]))
    return [results[task.key] for task in plan.tasks if task.key in results], failures


def _save(run: Run, result: FoldResult, model: bytes) -> None:
    """Write a network and its result; in this order, a result on disk is that of the model beside it at any moment."""
    run.result_path(*result.key).unlink(missing_ok=True)
    with atomic_write(run.model_path(*result.key)) as temporary:
        temporary.write_bytes(model)
    save_fold_result(run.result_path(*result.key), result)
    run.checkpoint_path(*result.key).unlink(missing_ok=True)


def _score(result: FoldResult, labels: np.ndarray) -> str:
    if result.fold == REFIT:
        return "trained on all images"
    predictions = result.validation_probabilities.argmax(axis=1)
    accuracy = float((predictions == labels[result.validation_rows]).mean())
    return f"{accuracy:.2%} of {len(predictions):,} held-out images"


def _finished(run: Run, tasks: list[FoldTask], display: ProgressDisplay) -> dict[NetworkKey, FoldResult]:
    """Return the results of the networks whose result and model are both there."""
    results = {}
    for task in tasks:
        path, model = run.result_path(*task.key), run.model_path(*task.key)
        if not path.exists():
            continue
        if not model.exists():
            display.log(f"{task.label}: {model.name} is missing. It is trained again.")
            continue
        try:
            results[task.key] = load_fold_result(path)
            display.finish(task.key, "finished before")
        except BrokenFileError as error:
            path.unlink()
            display.log(f"{task.label}: {error} It is trained again.")
    return results


def _outcomes(
    tasks: list[FoldTask], plan: Plan, display: ProgressDisplay
) -> Generator[tuple[FoldTask, tuple[FoldResult, bytes] | KitError], None, None]:
    """Yield each task with its outcome as it ends; closing the iterator ends the others."""
    if not tasks:
        return
    stopping = threading.Event()

    def stopped() -> bool:
        return stopping.is_set() or time.monotonic() > plan.deadline

    arrays = Arrays(plan.train.images, plan.train.labels, plan.dataset.test.images)
    if plan.execution.cluster is not None:
        from digits.training import cluster

        trainers, at_a_time = cluster.connected(plan.execution.cluster, arrays, display, stopped), len(tasks)
    else:
        trainers, at_a_time = _local(plan, arrays, display, stopped), plan.slots.at_a_time
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
def _local(plan: Plan, arrays: Arrays, display: ProgressDisplay, stopped: Callable[[], bool]) -> Iterator[TrainFold]:
    """Yield a function that trains in a process of this machine; all processes share one copy of the arrays."""
    folder, acquire = plan.run.results_folder / "arrays", plan.slots.acquirer()

    def log(message: str | Progress) -> None:
        ends = isinstance(message, Progress) and message.state == "predicting" and message.key == plan.tasks[-1].key
        if ends and not any(plan.slots.environments):
            plan.spare.start(cpu_count(), deterministic=plan.record.settings.deterministic)
        display.log(message)

    def train(task: FoldTask) -> tuple[FoldResult, bytes]:
        with acquire() as environment:
            if stopped():
                raise StoppedError("stopped")
            return train_in_worker(task, folder, log=log, stopped=stopped, environment=environment, spare=plan.spare)

    try:
        arrays.save(folder)
        yield train
    finally:
        shutil.rmtree(folder, ignore_errors=True)
