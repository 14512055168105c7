"""One training command, from the data to a checked submission and the record of its run."""

import contextlib
import datetime
import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digits.config import Settings, Tta, describe_differences
from digits.console import KitError
from digits.data import dataset
from digits.data.competition import CLASSES, SIDE
from digits.data.dataset import split_folds
from digits.files import SUBMISSIONS, atomic_write
from digits.model import check, custom
from digits.model.backend import cpu_count, load_keras, peak_memory_bytes, prepare_process
from digits.runs import ensemble, metrics
from digits.runs.metrics import Check
from digits.runs.record import FoldScore, Record, identity_of
from digits.runs.store import FoldResult, Run, find_run, open_run, resumable
from digits.training.crossval import cross_validate
from digits.training.fold import FoldTask
from digits.training.workers import Slots, run_fresh, share_machine

ROWS_PREDICTED_AGAIN = 100


def check_rows_in_order(
    models: Sequence[Path], images: np.ndarray, probabilities: np.ndarray, tta: Tta, *, deterministic: bool = False
) -> Check:
    """Ask whether the saved models, in a fresh process, say of some test images what is written for their rows.

    Args:
        models: the .keras files whose mean was taken.
        images: the test images uint8 (n, 28, 28).
        probabilities: what was written of them, float32 (n, 10).
        tta: the views whose mean was taken.
        deterministic: whether to compute the same bits each time.
    """
    name = "the saved models say the same of each row"
    rows = np.unique(np.linspace(0, len(images) - 1, ROWS_PREDICTED_AGAIN).astype(int))
    try:
        again = run_fresh(
            ensemble.predict_saved, list(models), images[rows], tta, threads=cpu_count(), deterministic=deterministic
        )
    except KitError as error:
        return Check(name, False, f"it could not be asked: {error}")
    worst = np.abs(again - probabilities[rows]).max(axis=1)
    wrong = int((worst > 0.02).sum())  # bfloat16 on another number of threads moves them by some thousandths.
    detail = f"{len(rows)} rows predicted again, {wrong} of them otherwise; {worst.max():.0e} off at most"
    return Check(name, wrong == 0, detail)


def train(
    settings: Settings,
    *,
    command: str,
    data_dir: Path | None = None,
    run_name: str | None = None,
    out: Path | None = None,
    submissions: Path = SUBMISSIONS,
    cluster: str | None = None,
    minutes: int | None = None,
    tensorboard: bool = False,
    report: bool = True,
) -> Run:
    """Train as `settings` say, and return the finished run.

    Args:
        settings: the whole command.
        command: as it was typed, for the record.
        data_dir: where train.csv and test.csv are; None: the competition's default folder.
        run_name: the run's name; a run of that name that was cut off goes on.
        out: where to copy the submission; None: submission.csv beside the runs, if it is the competition's.
        submissions: the folder of all runs.
        cluster: the address of a Dask scheduler, whose workers do the training.
        minutes: after which no more is trained; the run is finished with the networks that there are.
        tensorboard: whether to write the finished run for TensorBoard too.
        report: whether to draw its figures and build its page.

    Raises:
        BadInput: if the data or the settings cannot be used.
        KitError: if networks failed.
    """
    started = time.perf_counter()
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    if tensorboard:
        from digits.report.tensorboard import require_tensorboard, write_tensorboard

        require_tensorboard()
    source = dataset.load(
        settings.source,
        data_dir,
        limit=settings.limit,
        allow_leak=settings.allow_leak,
        folds=settings.recipe.folds,
    )
    print(f"Data: {source.facts['description']}.")
    for warning in source.facts["warnings"]:
        print(f"Note: {warning}")
    if source.leaked:
        print("LEAKED: test images are among the training images. No score of this run means anything.")
    identity = identity_of(settings, source)
    submissions.mkdir(parents=True, exist_ok=True)
    if source.leaked and run_name is None:
        run_name = f"leaked-{settings.recipe.name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    pseudo_labels = (
        ensemble.pseudo_labels_of(find_run(settings.pseudo_labels, submissions), identity)
        if settings.pseudo_labels
        else None
    )
    slots = _slots(settings)
    if settings.recipe.sources:
        shape = identity["precision"], (SIDE, SIDE, 1), CLASSES
        run_fresh(check.check_networks, settings.recipe, *shape, threads=cpu_count())
    run, again = open_run(identity, run_name, submissions)
    with run.locked(), resumable(run):
        if changes := describe_differences(settings.recipe):
            print(f"Recipe: {changes}.")
        print(f"Run: {run.name}{' (resumed)' if again else ''}: {_plan(settings, identity)}")
        if again:
            started -= run.record().seconds  # Those of the pieces before count too.
        record = Record.begin(
            run.name,
            settings,
            source,
            identity,
            command=command,
            data_dir=data_dir,
            networks_at_a_time=slots.at_a_time,
            threads_a_network=slots.threads,
            pseudo_labels=pseudo_labels.used() if pseudo_labels else None,
        )
        tasks = _tasks(run, settings, source, identity["precision"], pseudo_labels, live=slots.at_a_time == 1)
        custom.write_sources(settings.recipe, run.folder)
        with _seconds_kept(run, record, started):
            parts, failures = cross_validate(run, tasks, source.train, source.test, slots, cluster, deadline)
        record = record.finish(
            **_results(run, settings, source, parts, failures, out),
            seconds=_seconds_since(started),
            peak_memory_bytes=max([peak_memory_bytes(), *(part.peak_memory_bytes for part in parts)]),
        )
        run.write_record(record)
        if report:
            from digits.report.charts import draw_all
            from digits.report.html import build_report

            draw_all(run, source, parts)
            build_report(run, source)
        if tensorboard:
            write_tensorboard(run, source)
    return run


def _seconds_since(started: float) -> float:
    return round(time.perf_counter() - started, 1)


@contextlib.contextmanager
def _seconds_kept(run: Run, record: Record, started: float) -> Iterator[None]:
    """Write into run.json how long the run has taken so far, also when the work ends early."""

    def write() -> None:
        record.seconds = _seconds_since(started)
        run.write_record(record)

    write()
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # What ended the work is what is to be said.
            write()
        raise


def _plan(settings: Settings, identity: dict) -> str:
    recipe = settings.recipe
    networks = f"{settings.recipe.folds} fold{'s' * (settings.recipe.folds > 1)}" + (
        f" × {recipe.members} members" if recipe.members > 1 else ""
    )
    return f"recipe {recipe.name}, {networks}, {recipe.epochs} epochs, {identity['backend']}, {identity['precision']}"


def _slots(settings: Settings) -> Slots:
    return share_machine(
        settings.recipe.folds * settings.recipe.members,
        settings.jobs,
        deterministic=settings.deterministic,
    )


def _tasks(
    run: Run,
    settings: Settings,
    source: dataset.Dataset,
    precision: str,
    sure: ensemble.PseudoLabels | None,
    *,
    live: bool,
) -> list[FoldTask]:
    splits = split_folds(source.train.labels, settings.recipe.folds, settings.fold_seed, source.groups)
    return [
        FoldTask(
            recipe=settings.recipe,
            fold=fold,
            member=member,
            folds=settings.recipe.folds,
            seed=settings.seed,
            precision=precision,
            train_rows=train_rows,
            validation_rows=validation_rows,
            checkpoint=run.checkpoint_path(fold, member),
            deterministic=settings.deterministic,
            live=live,
            pseudo_labels=sure.by_fold[fold] if sure else None,
        )
        for fold, (train_rows, validation_rows) in enumerate(splits, start=1)
        for member in range(1, settings.recipe.members + 1)
    ]


def _results(
    run: Run,
    settings: Settings,
    source: dataset.Dataset,
    parts: list[FoldResult],
    failures: dict[str, str],
    out: Path | None,
) -> dict[str, Any]:
    """Put the fold results together on disk, and return the fields of `FinishedRecord` that tell of them."""
    labels = source.train.labels
    known, test = ensemble.out_of_fold(parts, len(labels)), ensemble.test_mean(parts)
    _write_history(run, parts)
    rows = [_fold_score(part, labels) for part in parts]
    answers = test.argmax(axis=1)
    verdicts = [
        metrics.check_probabilities(test),
        metrics.check_not_constant(answers),
        metrics.check_class_shares(answers, np.bincount(labels, minlength=CLASSES)),
        metrics.check_confidence(known[~np.isnan(known[:, 0])], test),
        metrics.check_all_trained(len(parts), failures),
        metrics.check_learned({part.label: row.accuracy for part, row in zip(parts, rows, strict=True)}),
        check_rows_in_order(
            [run.model_path(part.fold, part.member) for part in parts],
            source.test.images,
            test,
            settings.recipe.tta,
            deterministic=settings.deterministic,
        ),
    ]
    if source.name == "kaggle" and source.facts["expected_competition"]:
        detail = "; ".join(f"{file['name']}: {file['form']}" for file in source.facts["files"])
        verdicts.append(Check("the test images are the competition's", source.competition is not None, detail))
    return {
        "folds": rows,
        "checks": verdicts,
        "averaging_gain": ensemble.averaging_gain(parts),
        **run.write_results(source, known, test, out, leaked=source.leaked),
    }


def _fold_score(part: FoldResult, labels: np.ndarray) -> FoldScore:
    return FoldScore(
        fold=part.fold,
        member=part.member,
        network=part.network,
        epochs=len(part.history),
        seconds=round(part.seconds, 1),
        wrong_without_tta=part.wrong_without_tta,
        **vars(metrics.score(part.validation_probabilities, labels[part.validation_rows])),
    )


def _write_history(run: Run, parts: list[FoldResult]) -> None:
    import pandas as pd

    rows = [{"fold": part.fold, "member": part.member, **epoch} for part in parts for epoch in part.history]
    with atomic_write(run.folder / "history.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def export_h5(run: Run) -> Path:
    """Save the run's first network also as mnistModel2.h5, the form and name of the README that this kit grew from."""
    prepare_process(cpu_count(), deterministic=False)
    load_keras()
    from digits.model.predict import load_network

    path = run.folder / "mnistModel2.h5"
    logging.getLogger("absl").setLevel(logging.ERROR)  # Keras advises to use .keras, which is there too.
    with atomic_write(path) as temporary:
        load_network(run.model_path(1, 1)).save(temporary)
    return path
