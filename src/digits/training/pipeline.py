"""One training command: prepare, work, finish; from the data to a checked submission and the record of its run."""

import contextlib
import importlib
import shutil
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from digits.config import Execution, Settings
from digits.console import BadInput, KitError
from digits.data.by_id import write_folds
from digits.inference import predictor
from digits.model import custom
from digits.model.backend import cpu_count, peak_memory_bytes
from digits.runs import averaging, checks
from digits.runs.checks import Check
from digits.runs.record import FinishedRecord
from digits.runs.store import FOLDS_CSV, REFIT, FoldResult, NetworkKey, Run, resumable
from digits.training.crossval import cross_validate
from digits.training.plan import Plan, prepare
from digits.training.progress import ProgressDisplay
from digits.training.results import write_results
from digits.training.workers import Spare, Worker

ROWS_PREDICTED_AGAIN = 100


def train(settings: Settings, execution: Execution) -> Run:
    """Train as `settings` say, and return the finished run.

    Raises BadInput if the data or the settings cannot be used, where a new run leaves no folder; KitError if no network
    of a fold could be trained, or another process works on the run.
    """
    with contextlib.ExitStack() as contexts:
        plan = prepare(settings, execution, contexts.enter_context(Spare()))
        display = ProgressDisplay(plan.tasks, len(plan.dataset.test.images))
        for context in (plan.run.locked(), resumable(plan.resume_command), _removed_if_unusable(plan), display):
            contexts.enter_context(context)
        results, failures = work(plan, display)
        display.stage("checking the saved models")
        finish(plan, results, failures)
        if execution.report:
            from digits.report import charts, html

            display.stage("drawing the report")
            charts.draw_all(plan.run, plan.dataset)
            html.build_report(plan.run, plan.dataset)
        if execution.tensorboard:
            from digits.report import tensorboard

            tensorboard.write_tensorboard(plan.run, plan.dataset)
    return plan.run


def work(plan: Plan, display: ProgressDisplay) -> tuple[list[FoldResult], dict[NetworkKey, str]]:
    """Train the networks that are missing; return all results, refits last, and why others are missing.

    run.json counts the seconds from the beginning on, at each network that ends, and however the work ends.
    """
    custom.write_sources(plan.recipe, plan.run.folder)
    validated = [task.validation_rows for task in plan.tasks if task.member == 1 and task.fold != REFIT]
    write_folds(plan.run.folder / FOLDS_CSV, plan.dataset.train.ids, validated)

    def count_seconds() -> None:
        plan.record.seconds = plan.seconds
        plan.run.write_record(plan.record)

    count_seconds()
    try:
        results, failures = cross_validate(plan, display, count_seconds)
    finally:
        with contextlib.suppress(OSError):  # The user is to read about what ended the work.
            count_seconds()
    return sorted(results, key=lambda result: (result.fold == REFIT, *result.key)), failures


def finish(plan: Plan, results: Sequence[FoldResult], failures: Mapping[NetworkKey, str]) -> FinishedRecord:
    """Write, score and check what the networks predicted, and the finished record."""
    record = plan.record
    finished = record.finish(write_results(plan, results, failures))
    models = [plan.run.model_path(*result.key) for result in results]
    member = predictor.SavedMember(models, plan.recipe.tta, plan.recipe.sources)
    images, test = plan.dataset.test.images, averaging.test_mean(results)
    report_modules = ["digits.report.html"] if plan.execution.report else []
    worker = plan.spare.take(cpu_count(), deterministic=record.settings.deterministic)
    check = check_saved_models(worker, member, images, test, imported_meanwhile=report_modules)
    finished.checks.append(check)
    finished.peak_memory_bytes = max([peak_memory_bytes(), *(result.peak_memory_bytes for result in results)])
    finished.seconds = plan.seconds
    plan.run.write_record(finished)
    return finished


def check_saved_models(
    worker: Worker,
    member: predictor.SavedMember,
    images: np.ndarray,
    probabilities: np.ndarray,
    *,
    imported_meanwhile: Sequence[str] = (),
) -> Check:
    """Check that the saved models, loaded in a fresh worker, predict what was written for some of the test rows.

    `images` are uint8 (n, height, width, channels), and `probabilities` what was written of them, float32 (n, classes).
    """
    rows = np.unique(np.linspace(0, len(images) - 1, ROWS_PREDICTED_AGAIN).astype(int))
    try:
        with worker:
            for module in imported_meanwhile:  # While the process loads Keras: a second less a run.
                importlib.import_module(module)
            return worker.run(predictor.check_saved_models, member, images[rows], probabilities[rows])
    except KitError as error:  # The process was killed.
        return checks.failed_check(predictor.SAVED_MODELS_CHECK, error)


@contextlib.contextmanager
def _removed_if_unusable(plan: Plan) -> Iterator[None]:
    """Remove a new run's folder where the input turns out to be bad before anything was trained."""
    try:
        yield
    except BadInput:
        if plan.before is None and not any(plan.run.results_folder.iterdir()):
            shutil.rmtree(plan.run.folder)
        raise
