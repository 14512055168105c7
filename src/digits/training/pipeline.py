"""One training command, from the data to a checked submission and the record of its run."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import logging
import math
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digits.config import Settings, describe_differences
from digits.console import BadInput, KitError
from digits.data import dataset
from digits.data.competition import find_competition
from digits.data.folds import split_folds
from digits.data.preparation import load_extra
from digits.files import SUBMISSIONS, atomic_write, display_path
from digits.inference import predictor
from digits.model import check, custom
from digits.model.backend import cpu_count, load_keras, peak_memory_bytes, prepare_process
from digits.runs import averaging, checks, metrics
from digits.runs.checks import Check
from digits.runs.identity import identity_of
from digits.runs.pseudo_labels import PseudoLabels, pseudo_labels_of
from digits.runs.record import ExtraImages, FoldScore, Record, Refit, machine
from digits.runs.store import REFIT, FoldResult, Run, find_run, fold_name, open_run, resumable
from digits.training.crossval import cross_validate
from digits.training.fold import FoldTask
from digits.training.progress import ProgressDisplay
from digits.training.workers import Slots, Worker, share_machine

ROWS_PREDICTED_AGAIN = 100


def check_saved_models(
    member: predictor.SavedMember, images: np.ndarray, probabilities: np.ndarray, *, deterministic: bool = False
) -> Check:
    """Check that the saved models, loaded in a fresh process, predict what is written for some of the test rows.

    Args:
        member: the models whose predictions were averaged.
        images: the test images uint8 (n, side, side).
        probabilities: what was written of them, float32 (n, classes).
        deterministic: whether to compute the same bits each time.
    """
    rows = np.unique(np.linspace(0, len(images) - 1, ROWS_PREDICTED_AGAIN).astype(int))
    try:
        worker = Worker(cpu_count(), deterministic=deterministic)
        return worker.run(predictor.check_saved_models, member, images[rows], probabilities[rows])
    except KitError as error:  # The process was killed.
        return checks.failed_check(predictor.SAVED_MODELS_CHECK, error)


def train(
    settings: Settings,
    *,
    command: str,
    data_dir: Path | None = None,
    run_name: str | None = None,
    out: Path | None = None,
    submissions: Path = SUBMISSIONS,
    cluster_address: str | None = None,
    minutes: int | None = None,
    tensorboard: bool = False,
    report: bool = True,
    resume_flags: Sequence[str] = (),
    slots: Slots | None = None,
) -> Run:
    """Train as `settings` say, and return the finished run.

    Args:
        settings: the whole command.
        command: as it was typed, for the record.
        data_dir: where train.csv and test.csv are; None: the competition's default folder.
        run_name: the run's name; an unfinished run of that name is resumed.
        out: where to copy the submission; None: submission.csv beside the runs, if it is the competition's.
        submissions: the folder of all runs.
        cluster_address: of a Dask scheduler, whose workers do the training.
        minutes: after which nothing more is trained; the run is finished with the networks that there are.
        tensorboard: whether to write the finished run for TensorBoard too.
        report: whether to draw its figures and build its page.
        resume_flags: what the command that resumes the run needs beside --run.
        slots: the share of the machine, where processes were started for these settings already.

    Raises:
        BadInput: if the data or the settings cannot be used; a new run leaves no folder then.
        KitError: if no network of a fold could be trained, or another process works on the run.
    """
    started = time.perf_counter()
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    if tensorboard:
        from digits.report.tensorboard import require_tensorboard, write_tensorboard

        require_tensorboard()
    if cluster_address is not None:
        from digits.training.cluster import require_scheduler

        require_scheduler(cluster_address)
    for flag, given, sources in (
        ("--data-dir", data_dir, ("sample",)),
        ("--competition", settings.competition, ("sample", "keras")),
    ):
        if given and settings.source in sources:
            raise BadInput(
                f"{flag} {given}: expected no such flag with --source {settings.source}, which does not use it"
            )
    data = dataset.load(
        settings.source,
        data_dir,
        competition=find_competition(settings.competition) if settings.competition else None,
        limit=settings.limit,
        allow_leak=settings.allow_leak,
        folds=settings.recipe.folds,
    )
    print(f"Data: {data.summary.description}.")
    for warning in data.summary.warnings:
        print(f"Note: {warning}")
    if data.leaked:
        print("LEAKED: test images are among the training images. No score of this run means anything.")
    train_split, extra = data.train, None
    if settings.extra:
        train_split, extra = _with_extra(data, Path(settings.extra))
        print(f"Extra: {extra.folder} joins training in every fold ({extra.images:,} images), and is not scored.")
    identity = identity_of(settings, data) | ({"extra": extra.sha256[:16]} if extra else {})
    pseudo_labels = (
        pseudo_labels_of(find_run(settings.pseudo_labels, submissions), identity) if settings.pseudo_labels else None
    )
    if cluster_address is not None:
        slots = Slots((1,) * settings.recipe.network_count, ({},))  # Not known here: the workers choose the threads.
    slots = slots or share_machine(settings.recipe.network_count, settings.jobs, deterministic=settings.deterministic)
    if settings.recipe.sources:
        shape = identity["precision"], (*data.train.images.shape[1:], 1), len(data.classes)
        Worker(cpu_count()).run(check.check_networks, settings.recipe, *shape)
    run, resumed = open_run(identity, run_name, submissions)
    resume_command = shlex.join(["python", "src/train.py", "--run", run.name, *resume_flags])
    with run.locked(), resumable(resume_command), _removed_if_unusable(run, resumed):
        if changes := describe_differences(settings.recipe):
            print(f"Recipe: {changes}.")
        print(f"Run: {run.name}{' (resumed)' if resumed else ''}: {_plan(settings, identity, slots)}")
        before = run.record() if resumed else None
        trained_on = dataclasses.replace(
            machine(),
            networks_at_a_time=slots.at_a_time,
            threads_a_network=slots.threads[0],
            threads_in_last_round=slots.threads[-1],
        )
        record = Record.begin(
            run.name,
            settings,
            data,
            identity,
            command=command,
            data_dir=data_dir,
            machine=trained_on if cluster_address is None else None,
            pseudo_labels=pseudo_labels.used() if pseudo_labels else None,
            extra=extra,
        )
        if before:
            record.created, record.command, record.git = before.created, before.command, before.git
            started -= before.seconds  # Those before the interruption count too.
        tasks = _tasks(run, settings, data, identity["precision"], slots, pseudo_labels)
        extra_rows = np.arange(len(data.train.labels), len(train_split.labels))
        tasks = [dataclasses.replace(task, train_rows=np.concatenate([task.train_rows, extra_rows])) for task in tasks]
        custom.write_sources(settings.recipe, run.folder)
        with ProgressDisplay(tasks, len(data.test.images), slots.at_a_time) as display:
            with _seconds_kept(run, record, started) as keep_seconds:
                results, failures = cross_validate(
                    run, tasks, train_split, data.test, slots, display, cluster_address, deadline, keep_seconds
                )
            results.sort(key=lambda result: (result.fold == REFIT, result.fold, result.member))
            display.stage("checking the saved models, drawing the figures" if report else "checking the saved models")
            with concurrent.futures.ThreadPoolExecutor(1) as executor:  # The figures are drawn during the check.
                row_check = executor.submit(
                    check_saved_models,
                    predictor.SavedMember(
                        [run.model_path(result.fold, result.member) for result in results],
                        settings.recipe.tta,
                        settings.recipe.sources,
                    ),
                    data.test.images,
                    averaging.test_mean(results),
                    deterministic=settings.deterministic,
                )
                finished = record.finish(
                    **_results(run, data, results, failures, out),
                    seconds=_seconds_since(started),
                    peak_memory_bytes=max([peak_memory_bytes(), *(result.peak_memory_bytes for result in results)]),
                )
                finished.checks.append(row_check.result())
                finished.seconds = _seconds_since(started)
                run.write_record(finished)
            if report:
                from digits.report.charts import draw_all
                from digits.report.html import build_report

                draw_all(run, data)
                build_report(run, data)
        if tensorboard:
            write_tensorboard(run, data)
    return run


@contextlib.contextmanager
def _removed_if_unusable(run: Run, resumed: bool) -> Iterator[None]:
    """Remove a new run's folder where the input turns out to be bad before anything was trained."""
    try:
        yield
    except BadInput:
        if not resumed and not any(run.results_folder.iterdir()):
            shutil.rmtree(run.folder)
        raise


def _with_extra(data: dataset.Dataset, folder: Path) -> tuple[dataset.LabelledSplit, ExtraImages]:
    """Return the training images followed by those in a folder of the user's own, and what the record says of these."""
    train, test = data.train, data.test
    images, labels = load_extra(folder, data.classes, np.concatenate([train.images, test.images]))
    both_labels = np.concatenate([train.labels, labels])
    both = dataset.LabelledSplit(np.concatenate([train.images, images]), both_labels, np.arange(len(both_labels)))
    sha256 = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    counts = np.bincount(labels, minlength=len(data.classes)).tolist()
    return both, ExtraImages(display_path(folder), counts, sha256)


def _seconds_since(started: float) -> float:
    return round(time.perf_counter() - started, 1)


@contextlib.contextmanager
def _seconds_kept(run: Run, record: Record, started: float) -> Iterator[Callable[[], None]]:
    """Write into run.json how long the run has taken, at the start and however it ends; yield what does it between."""

    def write() -> None:
        record.seconds = _seconds_since(started)
        run.write_record(record)

    write()
    try:
        yield write
    finally:
        with contextlib.suppress(OSError):  # The user is to read about what ended the work.
            write()


def _plan(settings: Settings, identity: dict, slots: Slots) -> str:
    recipe = settings.recipe
    folds = f"{recipe.folds} fold{'s' * (recipe.folds > 1)}"
    members = f" × {recipe.members} members" if recipe.members > 1 else ""
    members += f" and {recipe.refit} refit{'s' * (recipe.refit > 1)}" if recipe.refit else ""
    epochs = f"{recipe.epochs} epoch{'s' * (recipe.epochs > 1)}"
    together = f", {slots.at_a_time} networks at a time" if slots.at_a_time > 1 else ""
    return f"recipe {recipe.name}, {folds}{members}, {epochs}, {identity['backend']}, {identity['precision']}{together}"


def _tasks(
    run: Run,
    settings: Settings,
    data: dataset.Dataset,
    precision: str,
    slots: Slots,
    pseudo_labels: PseudoLabels | None,
) -> list[FoldTask]:
    recipe, rows = settings.recipe, np.arange(len(data.train.labels))
    splits = dict(enumerate(split_folds(data.train.labels, recipe.folds, settings.fold_seed, data.groups), start=1))
    splits[REFIT] = rows, rows[:0]
    # Member by member: a run that is cut short has scored all rows, and the largest network, listed first, is not left
    # for the end, where other processors would be idle.
    networks = [(fold, member) for member in range(1, recipe.members + 1) for fold in range(1, recipe.folds + 1)]
    networks += [(REFIT, number) for number in range(1, recipe.refit + 1)]
    return [
        FoldTask(
            recipe=recipe,
            fold=fold,
            member=member,
            folds=recipe.folds,
            seed=settings.seed,
            precision=precision,
            train_rows=splits[fold][0],
            validation_rows=splits[fold][1],
            checkpoint=run.checkpoint_path(fold, member),
            threads=threads,
            deterministic=settings.deterministic,
            pseudo_labels=pseudo_labels.by_fold[fold] if pseudo_labels else None,
        )
        for (fold, member), threads in zip(networks, slots.threads, strict=True)
    ]


def _results(
    run: Run,
    data: dataset.Dataset,
    results: list[FoldResult],
    failures: dict[str, str],
    out: Path | None,
) -> dict[str, Any]:
    """Write the run's probabilities, submission and history, and return the fields of `FinishedRecord` about them."""
    labels, folds = data.train.labels, [result for result in results if result.fold != REFIT]
    out_of_fold, test = averaging.out_of_fold(folds, len(labels)), averaging.test_mean(results)
    _write_history(run, results)
    scores = [
        FoldScore(
            fold=result.fold,
            member=result.member,
            network=result.network,
            epochs=len(result.history),
            seconds=round(result.seconds, 1),
            wrong_without_tta=result.wrong_without_tta,
            **vars(metrics.score(result.validation_probabilities, labels[result.validation_rows])),
        )
        for result in folds
    ]
    folds_answers = averaging.test_mean(folds).argmax(axis=1)
    refits = [
        Refit(
            number=result.member,
            network=result.network,
            epochs=len(result.history),
            seconds=round(result.seconds, 1),
            agreement=float((result.test_probabilities.argmax(axis=1) == folds_answers).mean()),
        )
        for result in results
        if result.fold == REFIT
    ]
    learned = {result.label: score.accuracy for result, score in zip(folds, scores, strict=True)}
    learned |= {fold_name(REFIT, refit.number): refit.agreement for refit in refits}
    answers = test.argmax(axis=1)
    asked = [
        checks.check_probabilities(test),
        checks.check_not_constant(answers, len(data.classes)),
        checks.check_class_shares(answers, np.bincount(labels, minlength=len(data.classes))),
        checks.check_confidence(out_of_fold[~np.isnan(out_of_fold[:, 0])], test),
        checks.check_all_trained(len(results), failures),
        checks.check_learned(learned),
    ]
    if data.source == "kaggle" and data.expected:
        detail = "; ".join(f"{file.name}: {file.text}" for file in data.summary.files)
        asked.append(Check("the test images are the competition's", data.competition is not None, detail))
    return {
        "folds": scores,
        "refits": refits,
        "checks": asked,
        "averaging_gain": averaging.averaging_gain(results),
        **run.write_results(data, out_of_fold, test, out, leaked=data.leaked),
    }


def _write_history(run: Run, results: list[FoldResult]) -> None:
    import pandas as pd

    rows = [{"fold": result.fold, "member": result.member, **epoch} for result in results for epoch in result.history]
    with atomic_write(run.folder / "history.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def export_h5(run: Run) -> Path:
    """Save the first network that was trained as mnistModel2.h5, in HDF5 as the README that this kit grew from."""
    prepare_process(cpu_count(), deterministic=False)
    load_keras()
    from digits.model.predict import load_network

    first, path = run.finished_record().folds[0], run.folder / "mnistModel2.h5"
    logging.getLogger("absl").setLevel(logging.ERROR)  # Keras recommends .keras, which is there too.
    with atomic_write(path) as temporary:
        load_network(run.model_path(first.fold, first.member)).save(temporary)
    return path
