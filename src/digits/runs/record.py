"""run.json, the record of a run: what was asked for, what ran, and what came of it."""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.config import Augmentation, Recipe, Settings, Tta
from digits.console import BadInput
from digits.data.competition import CLASSES, write_answers
from digits.data.dataset import Dataset
from digits.files import DATA, ROOT, SUBMISSIONS, atomic_write
from digits.model.backend import backend_name, cpu_count, resolve_precision
from digits.runs import metrics
from digits.runs.store import RUN_JSON, Run, differences, find_run

_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pandas", "scikit-learn", "mlxtend")
_CODE = (
    *("data/dataset", "model/augment", "model/networks", "model/trainer"),
    *("model/predict", "runs/ensemble", "training/fold"),
)
"""The modules on which a run's probabilities depend."""


def identity_of(settings: Settings, source: Dataset) -> dict:
    """Return everything on which a run's probabilities depend, flat, so that two runs can be compared item by item."""
    recipe = {f"recipe.{name}": value for name, value in dataclasses.asdict(settings.recipe).items()}
    recipe["recipe.networks"] = list(settings.recipe.networks)
    code = hashlib.sha256(
        b"".join((Path(__file__).parents[1] / f"{name}.py").read_bytes() for name in _CODE)
    ).hexdigest()
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


def first_facts(run_name: str, settings: Settings, source: Dataset, identity: dict, command: str) -> dict:
    """Return what run.json says of a run when it begins."""
    return {
        "run": run_name,
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
        **machine_facts(),
    }


def machine_facts() -> dict:
    """Return what ran: "versions" of Python and packages, "machine", and "git", the commit."""
    return {
        "versions": {"python": platform.python_version()} | _versions(),
        "machine": {"system": platform.platform(), "processor": _processor(), "processors": cpu_count()},
        "git": _git_commit(),
    }


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


def write_results(
    folder: Path, source: Dataset, out_of_fold: np.ndarray, test: np.ndarray, out: Path, *, leaked: bool
) -> dict:
    """Write a run's probabilities and submission, and return what run.json says of them.

    Args:
        folder: the run's.
        source: the digits that were trained on and predicted.
        out_of_fold: probabilities float32 (n, 10) of the training rows, NaN where a row was never held out.
        test: probabilities float32 (t, 10) of the test images.
        out: where the submission is copied.
        leaked: whether test images were trained on.
    """
    for name, array in (("out_of_fold", out_of_fold), ("test_probabilities", test)):
        with atomic_write(folder / f"{name}.npy") as temporary:
            np.save(temporary, array)
    scored = ~np.isnan(out_of_fold[:, 0])
    known = _figures(out_of_fold[scored], source.train.labels[scored])
    answers = test.argmax(axis=1)
    facts = {
        "out_of_fold": known,
        "expected_score": metrics.expected_score(metrics.Accuracy(known["rows"] - known["wrong"], known["rows"])),
        "test": {"rows": len(test), "class_counts": np.bincount(answers, minlength=CLASSES).tolist()},
        "submission": write_answers(folder, answers, out, leaked=leaked),
    }
    if source.test.labels is not None:
        facts["test"] |= _figures(test, source.test.labels)
    return facts


def _figures(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    return metrics.accuracy(probabilities, labels).facts() | {"loss": metrics.log_loss(probabilities, labels)}


@dataclass(frozen=True)
class Command:
    """What a run was asked to do."""

    settings: Settings
    data_dir: Path
    test_file: Path | None


def command_of(run: Run) -> Command:
    """Return what `run` was asked to do, overridden settings included.

    Raises:
        BadInput: if its record lacks something, as that of a blend or of another version of this kit does.
    """
    facts = run.facts()
    try:
        recorded, recipe = facts["settings"], dict(facts["recipe"])
        recipe |= {
            "networks": tuple(recipe["networks"]),
            "augmentation": Augmentation(**recipe["augmentation"]),
            "tta": Tta(**recipe["tta"]),
        }
        names = {field.name for field in dataclasses.fields(Settings)} - {"recipe"}
        settings = Settings(Recipe(**recipe), **{name: recorded[name] for name in names & recorded.keys()})
        files = recorded.get("data_dir"), recorded.get("test_file")
        return Command(settings, Path(files[0]) if files[0] else DATA, Path(files[1]) if files[1] else None)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"Run {run.name} cannot be repeated from its record ({error!r}): it is a blend, or of another version of "
            "this kit. Its command and commit are in its run.json."
        ) from None


def repeated(
    from_run: str | None, run_name: str | None, given: Sequence[str], submissions: Path = SUBMISSIONS
) -> Command | None:
    """Return the command to do again: that of `from_run`'s record, or of `run_name`'s where nothing else is given.

    Args:
        from_run: a run's record, folder or name, which is repeated as a new run.
        run_name: a run to go on with; its record counts where `given` is empty.
        given: the flags that say what to train.
        submissions: the folder of all runs.

    Returns:
        The command, or None where the flags alone decide.

    Raises:
        BadInput: if there is no such run, or flags contradict it.
    """
    if from_run is not None:
        if given:
            raise BadInput(f"--from-run repeats a run with the settings of its record; leave out {', '.join(given)}.")
        return command_of(find_run(from_run, submissions))
    if run_name is not None and not given and (submissions / run_name / RUN_JSON).is_file():
        return command_of(Run(submissions / run_name))
    return None


def compare(run: Run, first: Run) -> str:
    """Say in one sentence whether a repeated run came to the answers of the first, and what was different."""
    facts, before = run.facts(), first.facts()
    if facts["submission"]["sha256"] == before.get("submission", {}).get("sha256"):
        return f"All {facts['submission']['rows']:,} answers are those of run {first.name}."
    different = differences(before["identity"], facts["identity"])
    reason = "; ".join(different) if different else "no --deterministic, or another machine"
    return f"Not all answers are those of run {first.name} ({reason})."
