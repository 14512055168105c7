"""One training command, from the data to a checked submission and a run's folder that tells all about it."""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import logging
import platform
import subprocess
import time
from pathlib import Path

import numpy as np

from digits import checks, dataset, ensemble, pseudo, scoring
from digits.backend import (
    backend_name,
    cpu_count,
    load_keras,
    peak_memory_bytes,
    prepare_process,
    resolve_precision,
)
from digits.competition import CLASSES
from digits.crossval import cross_validate
from digits.folds import split_folds
from digits.jobs import Job
from digits.paths import DATA, ROOT, SUBMISSIONS, written_whole
from digits.recipes import Settings
from digits.results import write_results
from digits.runs import Part, Run, find_run, open_run, resumable

_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pandas", "scikit-learn", "mlxtend")
_CODE = ("augment", "dataset", "ensemble", "fitting", "folds", "jobs", "networks", "optimizers")
"""The modules on which a run's probabilities depend."""


def train(
    settings: Settings,
    *,
    command: str,
    data_dir: Path = DATA,
    test_file: Path | None = None,
    run_name: str | None = None,
    out: Path | None = None,
    submissions: Path = SUBMISSIONS,
    cluster: str | None = None,
) -> Run:
    """Train as `settings` say, and return the finished run.

    Args:
        settings: the whole command.
        command: as it was typed, for the record.
        data_dir: where the competition's files are.
        test_file: a CSV to predict instead of the source's own test images.
        run_name: the run's name; a run of that name that was cut off goes on.
        out: where to copy the submission; None: submission.csv beside the runs.
        submissions: the folder of all runs.
        cluster: the address of a Dask scheduler, whose workers do the training.

    Raises:
        BadInput: if the data or the settings cannot be used.
        KitError: if networks failed.
    """
    started = time.perf_counter()
    source = dataset.load(
        settings.source,
        data_dir,
        limit=settings.limit,
        test_file=test_file,
        allow_leak=settings.allow_leak,
        folds=settings.recipe.folds,
    )
    print(f"Data: {source.facts['description']}.")
    if source.leaked:
        print("LEAKED: test images are among the training images. No score of this run means anything.")
    identity = _identity(settings, source)
    submissions.mkdir(parents=True, exist_ok=True)
    if source.leaked and run_name is None:
        run_name = f"leaked-{settings.recipe.name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    run, again = open_run(identity, run_name, submissions)
    with run.locked(), resumable(run):
        print(f"Run: {run.name}{' (taken up again)' if again else ''}: {_plan(settings, identity)}")
        facts = _first_facts(run, settings, source, identity, command)
        facts["settings"] |= {
            "data_dir": None if data_dir == DATA else str(data_dir.absolute()),
            "test_file": None if test_file is None else str(test_file.absolute()),
        }
        sure = (
            pseudo.from_run(find_run(settings.pseudo_labels, submissions), identity) if settings.pseudo_labels else None
        )
        facts["pseudo_labels"] = sure and sure.facts()
        jobs = _jobs(run, settings, source.train.labels, identity["precision"], sure)
        run.write_facts(facts)
        processes = min(settings.jobs, len(jobs))
        threads = 1 if settings.deterministic else max(1, cpu_count() // processes)
        parts, failures = cross_validate(run, jobs, source.train, source.test, processes, threads, cluster)
        facts |= _results(run, settings, source, parts, failures, out or submissions / "submission.csv")
        facts |= {
            "status": "finished",
            "seconds": round(time.perf_counter() - started, 1),
            "peak_memory_bytes": max([peak_memory_bytes(), *(part.peak_memory_bytes for part in parts)]),
        }
        run.write_facts(facts)
    return run


def _identity(settings: Settings, source: dataset.Source) -> dict:
    """Everything on which the probabilities depend, flat, so that two runs can be compared item by item."""
    recipe = {f"recipe.{name}": value for name, value in dataclasses.asdict(settings.recipe).items()}
    recipe["recipe.networks"] = list(settings.recipe.networks)
    code = hashlib.sha256(b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in _CODE)).hexdigest()
    return {
        "recipe": settings.recipe.name,
        "seed": settings.seed,
        "fold_seed": settings.fold_seed,
        "source": source.name,
        "limit": settings.limit,
        "deterministic": settings.deterministic,
        "pseudo_labels": settings.pseudo_labels,
        "precision": resolve_precision(settings.recipe.precision),
        "backend": backend_name(),
        "data": hashlib.sha256(
            source.train.images.tobytes() + source.train.labels.tobytes() + source.test.images.tobytes()
        ).hexdigest()[:16],
        "code": code[:16],
        **recipe,
    }


def _plan(settings: Settings, identity: dict) -> str:
    recipe = settings.recipe
    networks = f"{settings.recipe.folds} fold{'s' * (settings.recipe.folds > 1)}" + (
        f" × {recipe.members} members" if recipe.members > 1 else ""
    )
    return f"recipe {recipe.name}, {networks}, {recipe.epochs} epochs, {identity['backend']}, {identity['precision']}"


def _first_facts(run: Run, settings: Settings, source: dataset.Source, identity: dict, command: str) -> dict:
    return {
        "run": run.name,
        "status": "running",
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "source": source.name,
        "leaked": source.leaked,
        "recipe": dataclasses.asdict(settings.recipe),
        "settings": {
            **dataclasses.asdict(settings),
            "recipe": settings.recipe.name,
            "folds": settings.recipe.folds,
            "members": settings.recipe.members,
        },
        "identity": identity,
        "data": source.facts,
        "backend": backend_name(),
        "versions": {"python": platform.python_version()} | _versions(),
        "machine": {"system": platform.platform(), "processor": _processor(), "processors": cpu_count()},
        "git": _git_commit(),
    }


def _jobs(
    run: Run, settings: Settings, labels: np.ndarray, precision: str, sure: pseudo.PseudoLabels | None
) -> list[Job]:
    splits = split_folds(labels, settings.recipe.folds, settings.fold_seed)
    return [
        Job(
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
            live=settings.jobs == 1,
            pseudo_labels=sure and sure.by_fold[fold],
        )
        for fold, (train_rows, validation_rows) in enumerate(splits, start=1)
        for member in range(1, settings.recipe.members + 1)
    ]


def _results(
    run: Run, settings: Settings, source: dataset.Source, parts: list[Part], failures: dict[str, str], out: Path
) -> dict:
    """Put the parts together on disk, and return what run.json says of them."""
    labels = source.train.labels
    known, test = ensemble.out_of_fold(parts, len(labels)), ensemble.test_mean(parts)
    _write_history(run, parts)
    rows = [_part_facts(part, labels) for part in parts]
    answers = test.argmax(axis=1)
    verdicts = [
        checks.check_probabilities(test),
        checks.check_not_constant(answers),
        checks.check_class_shares(answers, np.bincount(labels, minlength=CLASSES)),
        checks.check_confidence(known[~np.isnan(known[:, 0])], test),
        checks.check_all_trained(len(parts), failures),
        checks.check_learned({part.label: row["accuracy"] for part, row in zip(parts, rows, strict=True)}),
        checks.check_rows_in_order(
            [run.model_path(part.fold, part.member) for part in parts],
            source.test.images,
            test,
            settings.recipe.tta,
            deterministic=settings.deterministic,
        ),
    ]
    return {
        "folds": rows,
        "checks": [dataclasses.asdict(verdict) for verdict in verdicts],
        **write_results(run.folder, source, known, test, out, leaked=source.leaked),
    }


def _part_facts(part: Part, labels: np.ndarray) -> dict:
    truth = labels[part.validation_rows]
    return {
        "fold": part.fold,
        "member": part.member,
        "network": part.network,
        "epochs": len(part.history),
        **scoring.accuracy(part.validation_probabilities, truth).facts(),
        "loss": scoring.log_loss(part.validation_probabilities, truth),
        "seconds": round(part.seconds, 1),
    }


def _write_history(run: Run, parts: list[Part]) -> None:
    import pandas as pd

    rows = [{"fold": part.fold, "member": part.member, **epoch} for part in parts for epoch in part.history]
    with written_whole(run.folder / "history.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def _versions() -> dict[str, str]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """Return the commit that ran, with "+ changes" where src/ differs from it; None outside git."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + " + changes" * bool(git("status", "--porcelain", "--", "src"))
    except (OSError, subprocess.SubprocessError):
        return None


def export_h5(run: Run) -> Path:
    """Save the run's first network also as mnistModel2.h5, the form and name of the README that this kit grew from."""
    prepare_process(cpu_count(), deterministic=False)
    load_keras()
    from digits.fitting import load_network

    path = run.folder / "mnistModel2.h5"
    logging.getLogger("absl").setLevel(logging.ERROR)  # Keras advises to use .keras, which is there too.
    with written_whole(path) as temporary:
        load_network(run.model_path(1, 1)).save(temporary)
    return path
