"""What a run's probabilities depend on, as hashes and settings: two runs that agree in it are one."""

import ast
import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from digits import config
from digits.config import Settings
from digits.data.dataset import Dataset
from digits.model.backend import backend_name, resolve_precision

MODEL_CODE = ("model/augment", "model/networks", "model/predict", "model/trainer")
"""The modules on which a fitted network depends."""
RUN_CODE = (*MODEL_CODE, "data/folds", "runs/averaging", "training/fold")
"""The modules on which a run's probabilities depend."""


def data_hash(dataset: Dataset) -> str:
    """Return a hash of the training images, their labels and the test images."""
    arrays = (dataset.train.images, dataset.train.labels, dataset.test.images)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def code_hashes(networks: Collection[str], modules: Sequence[str] = RUN_CODE) -> dict[str, str]:
    """Return a hash of each module's code as it is now.

    Comments, docstrings and layout do not count, nor do networks other than `networks`: they change no probability.
    """
    hashes, others = {}, set(config.NETWORKS) - set(networks)
    for module in modules:
        tree = ast.parse((Path(__file__).parents[1] / f"{module}.py").read_bytes())
        if module == "model/networks":
            named = (ast.FunctionDef, ast.AnnAssign)
            tree.body = [
                node
                for node in tree.body
                if not isinstance(node, named) or getattr(node, "name", "NETWORKS") not in (*others, "NETWORKS")
            ]
        for node in ast.walk(tree):
            if isinstance(body := getattr(node, "body", None), list):
                node.body = [each for each in body if not _is_text(each)] or [ast.Pass()]  # type: ignore[attr-defined]
        hashes[module] = hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]
    return hashes


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


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
        **{f"code.{module}": code for module, code in code_hashes(settings.recipe.networks).items()},
        **{f"network {file}": hashlib.sha256(text.encode()).hexdigest()[:16] for file, text in sources.items()},
        **{f"recipe.{key}": value for key, value in config.flat(settings.recipe).items()},
    }
