"""Where a run's numbers come from: its settings, data, code, packages and machine."""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

from digits.data.dataset import Source
from digits.model.backend import backend_name, cpu_count, resolve_precision
from digits.paths import ROOT
from digits.recipes import Settings

_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pandas", "scikit-learn", "mlxtend")
_CODE = (
    *("model/augment", "data/dataset", "runs/ensemble", "model/fitting", "data/folds"),
    *("training/jobs", "model/networks", "model/optimizers", "model/prediction", "model/warps"),
)
"""The modules on which a run's probabilities depend."""


def identity_of(settings: Settings, source: Source) -> dict:
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


def first_facts(run_name: str, settings: Settings, source: Source, identity: dict, command: str) -> dict:
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
