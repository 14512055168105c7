"""Prepare a training command: its data, its run and its networks; what cannot be done is refused here."""

import dataclasses
import hashlib
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from digits.config import Execution, Recipe, Settings, describe_differences, recipe_names
from digits.console import BadInput, counted, error_context
from digits.data import by_id
from digits.data.dataset import Dataset, LabelledSplit
from digits.data.folder import find_file
from digits.data.folds import Pairs, split_folds
from digits.data.image_form import ImageForm
from digits.data.preparation import load_extra
from digits.files import display_path, kit_command
from digits.model import check
from digits.model.backend import cpu_count
from digits.runs.identity import identity_of
from digits.runs.pseudo_labels import PseudoLabels, pseudo_labels_of
from digits.runs.record import ExtraImages, FinishedRecord, Record, load_dataset, machine
from digits.runs.store import REFIT, Run, find_run, open_run
from digits.training.fold import FoldTask
from digits.training.workers import Slots, Spare, Worker, share_machine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What the work of a training command needs, once its settings have been understood."""

    run: Run
    before: Record | None  # The record so far of a run that is resumed.
    record: Record
    recipe: Recipe
    dataset: Dataset
    train: LabelledSplit  # The dataset's training images, followed by extra ones.
    tasks: list[FoldTask]
    slots: Slots
    execution: Execution
    started: float  # In seconds of `time.perf_counter`; earlier pieces of the run count too.
    spare: Spare = dataclasses.field(default_factory=Spare)
    deadline: float = math.inf  # In seconds of `time.monotonic`; nothing is trained after it.
    final_seconds: float | None = None  # Of a finished run that has all its networks, whose results are written again.

    @property
    def seconds(self) -> float:
        """How long the run has taken so far, all its pieces together."""
        return round(time.perf_counter() - self.started, 1) if self.final_seconds is None else self.final_seconds

    @property
    def resume_command(self) -> str:
        """The command that resumes the run."""
        return kit_command("src/train.py", "--run", self.run.name, *self.execution.resume_words)


def prepare(settings: Settings, execution: Execution, spare: Spare) -> Plan:
    """Load the data, open the run, and list the networks to train; print what is assumed.

    Meanwhile `spare` starts the process of the first network.

    Raises BadInput if the data or the settings cannot be used; a new run leaves no folder then.
    """
    started, recipe = time.perf_counter(), settings.recipe
    deadline = time.monotonic() + 60 * (execution.minutes or math.inf)
    if execution.tensorboard:
        from digits.report import tensorboard

        tensorboard.require_tensorboard()
    if execution.cluster is not None:
        from digits.training import cluster

        cluster.require_scheduler(execution.cluster)
    slots = _slots(settings, execution, spare)
    data = _load_data(settings, execution.data_dir)
    identity = identity_of(settings, data)
    folds = _folds(settings, data, execution.data_dir)
    if settings.folds_file or settings.groups:
        identity["folds"] = hashlib.sha256(b"".join(rows.tobytes() + b"|" for _, rows in folds)).hexdigest()[:16]
    train, extra = data.train, None
    if settings.extra:
        train, extra = _with_extra(data, Path(settings.extra))
        identity["extra"] = extra.sha256[:16]
        joins = f"joins training in every fold ({extra.images:,} images), and is not scored"
        print(f"Extra: {extra.folder} {joins}; labels are from folders.")
        if data.summary.form and data.summary.form.note:
            print(data.summary.form.note)
    pseudo_labels = None
    if settings.pseudo_labels:
        pseudo_labels = pseudo_labels_of(find_run(settings.pseudo_labels, execution.submissions), identity)
    if recipe.sources:
        shape = identity["precision"], data.train.images.shape[1:], len(data.classes)
        Worker(cpu_count()).run(check.check_networks, recipe, *shape)
    splits = _splits(folds, data, train)
    run, before = open_run(identity, execution.run, execution.submissions)
    if changes := describe_differences(recipe):
        print(f"Recipe: {changes}.")
    record = Record.begin(run.name, settings, data, identity, execution)
    record.extra = extra
    record.pseudo_labels = pseudo_labels.used() if pseudo_labels else None
    if execution.cluster is None:
        record.machine = dataclasses.replace(
            machine(),
            networks_at_a_time=slots.at_a_time,
            threads_a_network=slots.threads[0],
            threads_in_last_round=slots.threads[-1],
        )
    if before:
        record.created, record.command, record.git = before.created, before.command, before.git
        given = {name: getattr(before.settings, name) for name in ("folds_file", "groups")}
        record.settings = dataclasses.replace(record.settings, **given)
        started -= before.seconds
    name = f"{run.name} (resumed)" if before else run.name
    print(f"Run: {name}: {_describe(recipe, identity, slots)}")
    tasks = _tasks(run, settings, identity["precision"], splits, slots, pseudo_labels)
    has_all = all(run.result_path(*task.key).exists() and run.model_path(*task.key).exists() for task in tasks)
    return Plan(
        run=run,
        before=before,
        record=record,
        recipe=recipe,
        dataset=data,
        train=train,
        tasks=tasks,
        slots=slots,
        spare=spare,
        execution=execution,
        started=started,
        deadline=deadline,
        final_seconds=before.seconds if has_all and isinstance(before, FinishedRecord) else None,
    )


def _slots(settings: Settings, execution: Execution, spare: Spare) -> Slots:
    """Divide the machine among the run's networks, and start the first one's process."""
    networks = settings.recipe.network_count
    if execution.cluster is not None:
        return Slots((1,) * networks, ({},))  # The workers choose the threads.
    slots = share_machine(networks, execution.jobs, deterministic=settings.deterministic)
    if not any(slots.environments):  # Two processes would contend for a GPU's memory.
        spare.start(slots.threads[0], deterministic=settings.deterministic)
    return slots


def _load_data(settings: Settings, data_dir: Path | None) -> Dataset:
    unused = {"sample": {"data-dir": data_dir, "competition": settings.competition}}
    unused["keras"] = {"competition": settings.competition}
    for flag, value in unused.get(settings.source, {}).items():
        if value:
            problem = f"expected no such flag with --source {settings.source}, which does not use it"
            raise BadInput(problem, at=f"--{flag} {value}")
    data = load_dataset(settings, data_dir, settings.recipe.folds)
    print(f"Data: {data.summary.description}.")
    for warning in data.summary.warnings:
        print(f"Note: {warning}")
    recipe, form = settings.recipe, data.summary.form or ImageForm()
    if not form.is_drawn and recipe.name in recipe_names() and recipe.base != "photo":
        print(f"Note: the recipe {recipe.name} is for digits; for images such as these there is --recipe photo.")
    if data.leaked:
        print("LEAKED: test images are among the training images. No score of this run means anything.")
    return data


def _with_extra(data: Dataset, folder: Path) -> tuple[LabelledSplit, ExtraImages]:
    """Return the training images followed by those in a folder of the user's own, and what the record says of these."""
    train, test = data.train, data.test
    form = data.summary.form or ImageForm()
    images, labels = load_extra(folder, data.classes, np.concatenate([train.images, test.images]), form)
    all_labels = np.concatenate([train.labels, labels])
    both = LabelledSplit(np.concatenate([train.images, images]), all_labels, np.arange(len(all_labels)))
    sha256 = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    counts = np.bincount(labels, minlength=len(data.classes)).tolist()
    return both, ExtraImages(display_path(folder), counts, sha256)


def _describe(recipe: Recipe, identity: dict[str, Any], slots: Slots) -> str:
    """Return a run's recipe, size, backend and precision in a line."""
    networks = counted(recipe.folds, "fold")
    if recipe.members > 1:
        networks += f" × {recipe.members} members"
    if recipe.refit:
        networks += f" and {counted(recipe.refit, 'refit')}"
    words = [f"recipe {recipe.name}", networks, counted(recipe.epochs, "epoch")]
    words += [identity["backend"], identity["precision"]]
    if slots.at_a_time > 1:
        words.append(f"{slots.at_a_time} networks at a time")
    return ", ".join(words)


def _folds(settings: Settings, data: Dataset, data_dir: Path | None) -> Pairs:
    """Return the folds that the settings name; print from where, if from a file or with groups."""
    train, more, groups = data.train, settings.limit is not None, data.groups
    if settings.folds_file:
        if settings.groups:
            raise BadInput("expected no such flag with --folds FILE, which gives the folds", at="--groups")
        path = Path(settings.folds_file)
        with error_context("--folds"):
            folds = by_id.read_folds(path, train.ids, train.labels, data.classes, more=more)
        if len(folds) != settings.recipe.folds:
            raise BadInput(f"expected {settings.recipe.folds} folds, found {len(folds)}", at=display_path(path))
        print(f"Folds: the {len(folds)} of {display_path(path)}.")
        return folds
    with error_context("--groups" if settings.groups else ""):
        if settings.groups:
            table, column = _groups(settings.groups, data, data_dir)
            values = by_id.column_of(by_id.of_images(table, train.ids, more=more), column)
            groups = by_id.group_numbers(values.to_numpy(str), data.groups)
            print(f"Groups: {len(set(groups.tolist())):,} of {len(groups):,} images; each stays in one fold.")
        return split_folds(train.labels, settings.recipe.folds, settings.fold_seed, groups, data.classes)


def _groups(groups: str, data: Dataset, data_dir: Path | None) -> tuple[pd.DataFrame, str]:
    """Return a table by ids and its column of groups: of the user's CSV, or train.csv and the column so named."""
    if groups.endswith(".csv"):
        return by_id.read_table(Path(groups)), "group"
    folder = data_dir or getattr(data.expected, "data_dir", None)
    file = data.source == "kaggle" and folder and find_file(folder, "train", data.expected)
    if not file:
        raise BadInput("expected a CSV of ids and groups, for these data have no train.csv", fix="--groups FILE.csv")
    return by_id.read_table(file.path, file.member), groups


def _splits(folds: Pairs, data: Dataset, train: LabelledSplit) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return for each fold, and for refits, the rows to train on and those to validate; extra images train in all."""
    rows, extra_rows = np.split(np.arange(len(train.labels)), [len(data.train.labels)])
    splits = dict(enumerate(folds, 1)) | {REFIT: (rows, rows[:0])}
    return {fold: (np.concatenate([chosen, extra_rows]), held_out) for fold, (chosen, held_out) in splits.items()}


def _tasks(
    run: Run,
    settings: Settings,
    precision: str,
    splits: dict[int, tuple[np.ndarray, np.ndarray]],
    slots: Slots,
    pseudo_labels: PseudoLabels | None,
) -> list[FoldTask]:
    recipe = settings.recipe
    # Member by member: a run that is cut short has scored all rows, and the largest network, listed first, is not left
    # for the end, where other CPU cores would be idle.
    networks = [(fold, member) for member in range(1, recipe.members + 1) for fold in range(1, recipe.folds + 1)]
    networks += [(REFIT, number) for number in range(1, recipe.refit + 1)]
    return [
        FoldTask(
            recipe=recipe,
            fold=fold,
            member=member,
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
