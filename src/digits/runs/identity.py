"""What a run's probabilities depend on, as hashes and settings: two runs that agree in it are one."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digits import config
from digits.config import Settings
from digits.data.dataset import Dataset
from digits.model.backend import backend_name, resolve_precision

MODEL_CODE = ("model/augment", "model/networks", "model/predict", "model/trainer")
"""The modules on which a trained network depends."""
RUN_CODE = (*MODEL_CODE, "data/folds", "runs/averaging", "training/fold")
"""The modules on which a run's probabilities depend."""


def data_hash(dataset: Dataset) -> str:
    """Return a hash of the training images, their labels and the test images."""
    digest = hashlib.sha256()
    for array in (dataset.train.images, dataset.train.labels, dataset.test.images):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def code_hashes(modules: Sequence[str] = RUN_CODE) -> dict[str, str]:
    """Return a hash of each module's text."""
    package = Path(__file__).parents[1]
    return {module: hashlib.sha256((package / f"{module}.py").read_bytes()).hexdigest()[:16] for module in modules}


def identity_of(settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """Return everything on which a run's probabilities depend, flat, so that two runs can be compared item by item."""
    sources = settings.recipe.sources
    return {
        "recipe": settings.recipe.name,
        "seed": settings.seed,
        "fold_seed": settings.fold_seed,
        "source": dataset.source,
        "limit": settings.limit,
        "deterministic": settings.deterministic,
        "pseudo_labels": settings.pseudo_labels,
        "precision": resolve_precision(settings.recipe.precision),
        "backend": backend_name(),
        "data": data_hash(dataset),
        **{f"code.{module}": code for module, code in code_hashes().items()},
        **{f"network {file}": hashlib.sha256(text.encode()).hexdigest()[:16] for file, text in sources.items()},
        **{f"recipe.{key}": value for key, value in config.flat(settings.recipe).items()},
    }
