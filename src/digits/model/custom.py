"""Networks from a user's own file, by its source text, which goes wherever the recipe goes."""

import functools
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path

from digits.config import Recipe
from digits.console import BadInput

FOLDER = "networks"
"""Where a run keeps copies of these files."""


def write_sources(recipe: Recipe, run_folder: Path) -> None:
    """Copy the recipe's network files into a run's folder, for people and for `load_network`."""
    for file, source in recipe.sources.items():
        (run_folder / FOLDER).mkdir(exist_ok=True)
        (run_folder / FOLDER / Path(file).name).write_text(source, encoding="utf-8")


@functools.cache
def load_module(file: str, source: str) -> types.ModuleType:
    """Run a network file's source, once, and return it as a module; its own layers can be loaded from then on.

    Raises:
        BadInput: naming the line, for whatever goes wrong in it.
    """
    import keras

    module = types.ModuleType(Path(file).stem)
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"{line_of(error, file)}: there is no module {error.name!r}. Put what the network needs into {file} "
            "itself, or install the package."
        ) from None
    except Exception as error:
        raise BadInput(f"{line_of(error, file)}: {type(error).__name__}: {error}") from None
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:  # Defined here, and not imported.
            keras.saving.register_keras_serializable(module.__name__)(value)
    return module


def load_function(name: str, sources: Mapping[str, str]) -> Callable:
    """Return the function that `name`, FILE.py:FUNCTION, means."""
    file, _, function = name.partition(":")
    return getattr(load_module(file, sources[file]), function)


def line_of(error: BaseException, file: str) -> str:
    """Return the file and, where the error's trace passes it, the last line of it."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"{file}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}, line {lines[-1]}" if lines else file
