"""Networks from a user's own file, by its source text, which goes wherever the recipe goes."""

import contextlib
import functools
import hashlib
import importlib.abc
import importlib.util
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path

from digits.config import Recipe, nearest
from digits.console import BadInput
from digits.files import ROOT

FOLDER = "networks"
"""Where a run keeps copies of these files, for people; the kit takes the text from run.json."""
TRUSTED = ROOT / ".trusted-networks"
"""The hashes of the network files that may be run here: those trained with, and those of other people's runs that the
user trusts."""


def write_sources(recipe: Recipe, run_folder: Path) -> None:
    """Copy the recipe's network files into a run's folder."""
    for file, source in recipe.sources.items():
        (run_folder / FOLDER).mkdir(exist_ok=True)
        (run_folder / FOLDER / Path(file).name).write_text(source, encoding="utf-8")
    trust(recipe.sources)


def trust(sources: Mapping[str, str]) -> None:
    """Remember network files as ones that may be run here, where the project's folder can be written."""
    if new := _untrusted(sources):
        with contextlib.suppress(OSError), TRUSTED.open("a", encoding="utf-8") as file:
            file.writelines(f"{text_hash}\n" for text_hash in new.values())


def require_trust(run_name: str, sources: Mapping[str, str], *, trusted: bool) -> None:
    """Check that a run's network files were run here before, or that the user trusts them; then remember that.

    Raises BadInput, naming the files and what to do.
    """
    unknown = _untrusted(sources)
    if unknown and not trusted:
        raise BadInput(
            f"Run {run_name} runs code of its own that was not run here before: {', '.join(unknown)}. Read it in the "
            f"run's folder {FOLDER}/ or in run.json; if you trust it, add --trust"
        )
    trust(sources)


def _untrusted(sources: Mapping[str, str]) -> dict[str, str]:
    trusted = TRUSTED.read_text(encoding="utf-8").split() if TRUSTED.exists() else []
    hashes = {file: hashlib.sha256(text.encode()).hexdigest() for file, text in sources.items()}
    return {file: text_hash for file, text_hash in hashes.items() if text_hash not in trusted}


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
    """Run a network file's source, once, and return it as a module.

    Raises BadInput, naming the line, for whatever goes wrong in it.
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
    return module


def register(sources: Mapping[str, str]) -> None:
    """Run network files, and let Keras find what they define under the names by which saved networks refer to it.

    Of two versions of a file the last that was registered counts, so this comes before each saving and loading. Raises
    BadInput as `load_module`.
    """
    import keras

    for file, source in sources.items():
        module = load_module(file, source)
        for value in vars(module).values():
            is_own = getattr(value, "__module__", None) == module.__name__  # Defined here, and not imported.
            is_layer = isinstance(value, type) and hasattr(value, "get_config")
            if is_own and (is_layer or isinstance(value, types.FunctionType)):
                keras.saving.register_keras_serializable(Path(file).stem)(value)


def load_function(name: str, sources: Mapping[str, str]) -> Callable:
    """Return the function that `name`, FILE.py:FUNCTION, means; BadInput if there is none, or as `load_module`."""
    register(sources)
    file, _, function = name.partition(":")
    defined = vars(load_module(file, sources[file]))
    if function not in defined:
        raise BadInput(f"The network {name}: {file} defines no function {function}.{nearest(function, defined)}")
    return defined[function]


def line_of(error: BaseException, file: str) -> str:
    """Return the file and, where the error's trace passes it, the last line of it."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    lines = [line for code_file, line in places if code_file.startswith(f"{file}@")]
    return f"{file}, line {lines[-1]}" if lines else file
