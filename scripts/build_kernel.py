"""Write the Kaggle notebooks from their sources in kernels/ and from src/: `python scripts/build_kernel.py`.

python scripts/build_kernel.py --check      compare those in kernels/ with what src/ makes, and write nothing
"""

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
KERNELS = ROOT / "kernels"
TRAIN, PREDICT = KERNELS / "digit-recognizer.py", KERNELS / "predict" / "predict.py"
"""What the notebooks say and show, with the modules of src/ in the place of `# %% [modules]`."""
LEFT_OUT = ("digits/kaggle/", "digits/report/html", "digits/report/tensorboard", "digits/training/cluster")
"""Modules that src/ imports inside functions only, and that no notebook reaches."""
PACKAGES = {
    "": "Base",
    "data": "Data",
    "model": "Networks",
    "runs": "Runs and metrics",
    "report": "Charts",
    "inference": "Prediction",
    "training": "Training",
    "recipes": "Recipes and the command",
}
"""The appendix: a cell for each of these, in the order in which they import each other."""
FOLDED = {"_kg_hide-input": True, "jupyter": {"source_hidden": True}}
"""The metadata by which Kaggle and Jupyter show a cell folded in."""
METADATA: dict[str, Any] = {
    "id": "INSERT_USER_NAME/digit-recognizer-kit",
    "title": "Digit Recognizer Kit",
    "code_file": "digit-recognizer.ipynb",
    "language": "python",
    "kernel_type": "notebook",
    "is_private": True,
    "enable_gpu": True,
    "enable_internet": False,
    "dataset_sources": [],
    "competition_sources": ["digit-recognizer"],
    "kernel_sources": [],
    "model_sources": [],
}
PREDICT_METADATA = METADATA | {
    "id": "INSERT_USER_NAME/digits-predict",
    "title": "Digits predict",
    "code_file": "predict.ipynb",
    "enable_gpu": False,
}

MAGIC = '''\
import pathlib

from IPython.core.magic import register_cell_magic


@register_cell_magic
def write_modules(line, cell):
    """Write the files of a cell; each begins with a line `# ==> its path`."""
    for part in f"\\n{cell}".split("\\n# ==> ")[1:]:
        name, _, text = part.partition("\\n")
        file = pathlib.Path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.rstrip("\\n") + "\\n", encoding="utf-8")'''


def module_path(name: str) -> Path | None:
    """Return the file of a dotted module below src/, or None if `name` is no module or is left out."""
    path = name.replace(".", "/")
    file = SRC / f"{path}.py"
    return file if file.exists() and not path.startswith(LEFT_OUT) else None


def imports_of(path: Path) -> set[Path]:
    """Return the files of the kit's modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {file for name in names if name.startswith("digits.") and (file := module_path(name))}


def modules_for(starts: Iterable[Path]) -> list[Path]:
    """Return all modules that some files need, with them, each after those that it imports."""
    order: list[Path] = []

    def visit(module: Path) -> None:
        if module not in order:
            for other in sorted(imports_of(module)):
                visit(other)
            order.append(module)

    for module in sorted(starts):
        visit(module)
    return order


def training_files() -> list[Path]:
    """Return the files that the notebook which trains is made of."""
    charts = [SRC / "digits" / "report" / f"{name}.py" for name in ("analysis", "charts")]
    modules = modules_for([SRC / "train.py", *charts])
    return [*modules, *sorted((SRC / "recipes").glob("*.toml"))]


def prediction_files() -> list[Path]:
    """Return the files that the notebook which predicts is made of."""
    names = ("data/dataset", "model/predict", "runs/record")
    return modules_for(SRC / "digits" / f"{name}.py" for name in names)


def code_cells(files: list[Path]) -> Iterator[str]:
    """Yield a cell for each package, which writes its files."""
    folders = {file.parent for file in files if file.is_relative_to(SRC / "digits")}
    files = [*(folder / "__init__.py" for folder in sorted(folders)), *files]
    for package, title in PACKAGES.items():
        place = SRC / "recipes" if package == "recipes" else SRC / "digits" / package
        places = {place, SRC} if package == "recipes" else {place}
        texts = [
            f"# ==> {file.relative_to(ROOT).as_posix()}\n{file.read_text(encoding='utf-8')}"
            for file in files
            if file.parent in places
        ]
        if texts:
            yield f"%%write_modules {title}\n" + "\n".join(texts).removesuffix("\n")


def cells(source: Path, files: list[Path]) -> Iterator[tuple[str, str]]:
    """Yield the kind and text of each cell of a source: markdown, code, or folded code, which writes the files."""
    for part in re.split(r"^# %%", source.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        kind, _, text = part.partition("\n")
        if kind == " [modules]":
            yield from (("folded", cell) for cell in (MAGIC, *code_cells(files)))
        elif kind == " [markdown]":
            yield "markdown", re.sub(r"^# ?", "", text.strip(), flags=re.MULTILINE)
        else:
            yield "code", text.strip()


def notebook(cells: Iterable[tuple[str, str]]) -> dict:
    """Return a notebook of cells, without outputs."""
    made: list[dict] = []
    for number, (kind, text) in enumerate(cells, start=1):
        cell = {
            "cell_type": "markdown" if kind == "markdown" else "code",
            "id": f"cell-{number:02}",
            "metadata": FOLDED if kind == "folded" else {},
            "source": text.splitlines(keepends=True),
        }
        made.append(cell | ({} if kind == "markdown" else {"execution_count": None, "outputs": []}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def texts() -> dict[str, str]:
    """Return the text of each file in kernels/."""

    def text(value: dict, indent: int) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=False) + "\n"

    return {
        METADATA["code_file"]: text(notebook(cells(TRAIN, training_files())), 1),
        "kernel-metadata.json": text(METADATA, 2),
        f"predict/{PREDICT_METADATA['code_file']}": text(notebook(cells(PREDICT, prediction_files())), 1),
        "predict/kernel-metadata.json": text(PREDICT_METADATA, 2),
    }


def main() -> int:
    """Write the files, or with --check compare them with what src/ makes."""
    made = texts()
    if sys.argv[1:] == ["--check"]:
        different = [name for name, text in made.items() if not _is(KERNELS / name, text)]
        if different:
            print(
                f"Note: kernels/{', kernels/'.join(different)} edited, or made of an earlier src/: pushed as it is. "
                "To make it anew (edits in it are lost): python scripts/build_kernel.py"
            )
        return bool(different)
    for name, text in made.items():
        (KERNELS / name).parent.mkdir(parents=True, exist_ok=True)
        (KERNELS / name).write_text(text, encoding="utf-8")
    print(f"kernels/: {len(training_files())} files of src/ to train, {len(prediction_files())} to predict")
    return 0


def _is(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
