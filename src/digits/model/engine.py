"""What trains, saves, loads and predicts with networks, loaded when it is needed."""

import importlib
import os
import types

from digits.model.backend import load_keras


def load_engine(deterministic: bool = False) -> types.ModuleType | types.SimpleNamespace:
    """Load Keras, and return what has `Trainer` and the functions of `digits.model.predict`.

    DIGITS_ENGINE names a module in its place: tests of what surrounds training have one that needs no Keras. Raises
    BadInput as `load_keras`.
    """
    if replacement := os.environ.get("DIGITS_ENGINE"):
        return importlib.import_module(replacement)
    load_keras(deterministic)
    from digits.model import predict, trainer

    return types.SimpleNamespace(**vars(predict), Trainer=trainer.Trainer)
