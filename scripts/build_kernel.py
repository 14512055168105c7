"""Write the Kaggle notebooks in kernels/ from the .py beside each and from src/: `python scripts/build_kernel.py`."""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
KERNELS = ROOT / "kernels"
READ, TRAIN, PREDICT = (KERNELS / name for name in ("digit-recognizer.py", "kit/kit.py", "predict/predict.py"))
"""What the notebooks say and show: one for readers, of Keras alone, and two with the modules of src/ in the place of
`# %% [modules]`, which run the kit on Kaggle."""
LEFT_OUT = (
    "digits.kaggle",
    *(f"digits.report.{name}" for name in ("comparison", "html", "leaderboard", "tensorboard")),
    "digits.training.cluster",
)
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
    "code_file": "kit.ipynb",
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
READ_METADATA = METADATA | {
    "id": "INSERT_USER_NAME/digit-recognizer-five-networks",
    "title": "Digit Recognizer Five Networks",
    "code_file": "digit-recognizer.ipynb",
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


def modules_for(*names: str) -> list[Path]:
    """Return the files of some modules of src/ and of all of it that they import, also inside functions."""
    finder = ModuleFinder([str(SRC)], excludes=LEFT_OUT)
    for name in names:
        finder.import_hook(name)
    files = (getattr(module, "__file__", None) for module in finder.modules.values())
    return sorted(Path(file) for file in files if file)


def training_files() -> list[Path]:
    """Return the files that the notebook which trains is made of."""
    modules = modules_for("train", "digits.report.analysis", "digits.report.charts")
    return [*modules, *sorted((SRC / "recipes").glob("*.toml"))]


def prediction_files() -> list[Path]:
    """Return the files that the notebook which predicts is made of."""
    return modules_for("digits.inference.predictor")


def code_cells(files: list[Path]) -> Iterator[str]:
    """Yield a cell for each package, which writes its files."""
    by_package: dict[str, list[str]] = {package: [] for package in PACKAGES}
    for file in files:
        package = "recipes" if file.parent == SRC else file.parent.relative_to(SRC).as_posix().removeprefix("digits")
        text = f"# ==> {file.relative_to(ROOT).as_posix()}\n{file.read_text(encoding='utf-8')}"
        by_package[package.lstrip("/")].append(text)
    for package, texts in by_package.items():
        if texts:
            yield f"%%write_modules {PACKAGES[package]}\n" + "\n".join(texts).removesuffix("\n")


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
    written = []
    for number, (kind, text) in enumerate(cells, start=1):
        cell: dict[str, Any] = {"cell_type": "markdown" if kind == "markdown" else "code", "id": f"cell-{number:02}"}
        cell |= {"metadata": FOLDED if kind == "folded" else {}, "source": text.splitlines(keepends=True)}
        written.append(cell if kind == "markdown" else cell | {"execution_count": None, "outputs": []})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": written, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def texts() -> dict[str, str]:
    """Return the text of each generated file, by its path below kernels/."""
    files = {}
    for source, modules, metadata in (
        (READ, [], READ_METADATA),
        (TRAIN, training_files(), METADATA),
        (PREDICT, prediction_files(), PREDICT_METADATA),
    ):
        folder = source.parent.relative_to(ROOT / "kernels")
        for name, value, indent in (
            (metadata["code_file"], notebook(cells(source, modules)), 1),
            ("kernel-metadata.json", metadata, 2),
        ):
            files[(folder / name).as_posix()] = json.dumps(value, indent=indent, ensure_ascii=False) + "\n"
    return files


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or with --check compare them with what src/ makes."""
    parser = argparse.ArgumentParser(prog="build_kernel.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="compare kernels/ with src/ and write nothing")
    check = parser.parse_args(argv).check
    different = []
    for name, text in texts().items():
        file = KERNELS / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            different.append(f"kernels/{name}")
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
    if not check:
        print(f"Written: {', '.join(different) or 'nothing, all are up to date'}")
    elif different:
        print(
            f"Note: {', '.join(different)} edited, or generated from an earlier src/: pushed as it is. To generate it "
            "again (edits in it are lost): python scripts/build_kernel.py"
        )
    return int(check and bool(different))


if __name__ == "__main__":
    sys.exit(main())
