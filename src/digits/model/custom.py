"""Networks from a user's own file, by its source text, which goes wherever the recipe goes."""

import functools
import hashlib
import importlib.abc
import importlib.util
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from digits.config import Recipe
from digits.console import BadInput

FOLDER = "networks"
"""Where a run keeps copies of these files, for people; the kit takes the text from run.json."""


def write_sources(recipe: Recipe, run_folder: Path) -> None:
    """Copy the recipe's network files into a run's folder."""
    for file, source in recipe.sources.items():
        (run_folder / FOLDER).mkdir(exist_ok=True)
        (run_folder / FOLDER / Path(file).name).write_text(source, encoding="utf-8")


class _TextLoader(importlib.abc.InspectLoader):
    """Loads a module from its text, so that what asks for a function's source (tf.function) gets just that."""

    def __init__(self, text: str, path: str):
        self._text, self._path = text, path

    def get_source(self, fullname: str) -> str:
        """Return the text."""
        return self._text

    def get_code(self, fullname: str) -> types.CodeType:
        """Compile the text."""
        return self.source_to_code(self._text, self._path)


@functools.cache
def load_module(file: str, source: str) -> types.ModuleType:
    """Run a network file's source, once, and return it as a module; its own layers can be saved from then on.

    Raises:
        BadInput: naming the line, for whatever goes wrong in it.
    """
    # Named after its text: a blend may hold two versions of a file, and a file may be called random.py.
    text_hash = hashlib.sha256(source.encode()).hexdigest()[:8]
    path = f"{file}@{text_hash}"
    loader = _TextLoader(source, path)
    spec = importlib.util.spec_from_loader(f"{Path(file).stem}_{text_hash}", loader, origin=path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # None only without a loader.
    module.__file__ = path
    sys.modules[module.__name__] = module  # Where dataclasses and pickle look it up.
    try:
        loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"{line_of(error, file)}: there is no module {error.name!r}. Put what the network needs into {file} "
            "itself, or install the package."
        ) from None
    except Exception as error:
        raise BadInput(f"{line_of(error, file)}: {type(error).__name__}: {error}") from None
    import keras

    for name, value in _own_objects(module).items():
        keras.saving.register_keras_serializable(name.partition(">")[0])(value)
    return module


def _own_objects(module: types.ModuleType) -> dict[str, Any]:
    """Return the classes and functions that Keras may meet in a saved network, by their names there."""
    package = module.__name__.rpartition("_")[0]
    return {
        f"{package}>{name}": value
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__  # Defined here, and not imported.
        and (isinstance(value, types.FunctionType) or (isinstance(value, type) and hasattr(value, "get_config")))
    }


def custom_objects(sources: Mapping[str, str]) -> dict[str, Any]:
    """Return what the network files define, by the names under which saved networks refer to it; their code is run.

    Raises:
        BadInput: as `load_module`.
    """
    modules = [load_module(file, source) for file, source in sources.items()]
    return {name: value for module in modules for name, value in _own_objects(module).items()}


def load_function(name: str, sources: Mapping[str, str]) -> Callable:
    """Return the function that `name`, FILE.py:FUNCTION, means."""
    file, _, function = name.partition(":")
    return getattr(load_module(file, sources[file]), function)


def line_of(error: BaseException, file: str) -> str:
    """Return the file and, where the error's trace passes it, the last line of it."""
    if isinstance(error, SyntaxError) and _is_of(error.filename, file):
        return f"{file}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _is_of(frame.filename, file)]
    return f"{file}, line {lines[-1]}" if lines else file


def _is_of(code_file: str | None, file: str) -> bool:
    return (code_file or "").startswith(f"{file}@")
