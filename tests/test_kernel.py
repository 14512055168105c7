import ast
import json
import os
import re
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

import build_kernel
from digits.files import ROOT
from digits.runs.record import FoldScore
from made_run import SCORE, made_record, make_run
from torn_files import PIXEL_COLUMNS, TRAIN_COLUMNS


@pytest.fixture(scope="module")
def notebook():
    return build_kernel.notebook(training_cells())


def training_cells():
    return build_kernel.cells(build_kernel.TRAIN, build_kernel.training_files())


def prediction_cells():
    return build_kernel.cells(build_kernel.PREDICT, build_kernel.prediction_files())


def sources(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def modules_of(text):
    parts = text.partition("\n")[2].removeprefix("# ==> ").split("\n# ==> ")
    return {path: content.rstrip("\n") + "\n" for path, _, content in (part.partition("\n") for part in parts)}


def test_the_notebooks_in_the_repository_are_those_that_src_makes():
    for name, text in build_kernel.texts().items():
        committed = (ROOT / "kernels" / name).read_text(encoding="utf-8")
        assert committed == text, f"kernels/{name} is not of this src/: run python scripts/build_kernel.py"


def test_they_are_valid_notebooks_without_outputs(notebook):
    nbformat = pytest.importorskip("nbformat")
    for book in (notebook, build_kernel.notebook(prediction_cells())):
        nbformat.validate(nbformat.from_dict(book))
        assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
        assert all(not cell.get("outputs") for cell in book["cells"])


def test_each_file_is_written_verbatim_in_a_folded_cell_and_all_that_it_imports_is_there():
    for cells in (training_cells(), prediction_cells()):
        written = {}
        for kind, text in cells:
            if text.startswith("%%write_modules"):
                assert kind == "folded"
                written |= modules_of(text)
        for name, content in written.items():
            assert content == (ROOT / name).read_text(encoding="utf-8").rstrip("\n") + "\n", name
        assert "src/digits/model/networks.py" in written
        assert not any("/kaggle/" in name for name in written)


def test_what_is_left_out_is_imported_inside_functions_only():
    for file in {*build_kernel.training_files(), *build_kernel.prediction_files()}:
        if file.suffix == ".py":
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("digits."):
                    names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                    for name in names:
                        assert not name.startswith(build_kernel.LEFT_OUT), f"{file.name}: {name}"


def test_its_results_are_drawn_of_a_finished_run(monkeypatch, tmp_path):
    """All cells that draw, on a made-up run; the training and the network's summary are left out."""
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    monkeypatch.setattr(display, "display", lambda value, **_: shown.append(value))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    make_run(monkeypatch, tmp_path / "submissions", "notebook")
    values = {"Path": Path, "ARGUMENTS": ["--recipe", "quick", "--limit", "600"]}
    (tmp_path / "submission.csv").write_bytes((tmp_path / "submissions" / "notebook" / "submission.csv").read_bytes())
    for kind, text in training_cells():
        if kind == "code" and not text.startswith(("ARGUMENTS", "SUMMARY", "train = ")):
            with plt.rc_context():
                exec(text.replace("/kaggle/input", "/no/such/folder"), values)
    plt.close("all")
    assert len(shown) > 10


def test_the_check_says_what_was_edited(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(build_kernel, "KERNELS", tmp_path)
    assert build_kernel.main([]) == 0
    assert build_kernel.main(["--check"]) == 0
    (tmp_path / "kit" / "kernel-metadata.json").write_text("{}")
    assert build_kernel.main(["--check"]) == 1
    assert "Note: kernels/kit/kernel-metadata.json edited" in capsys.readouterr().out
    assert (tmp_path / "kit" / "kernel-metadata.json").read_text() == "{}"


def test_it_reads_as_an_article(notebook):
    prose = "\n".join(sources(notebook, "markdown"))
    assert prose.startswith("# ")
    shown = [cell for cell in notebook["cells"] if not cell["metadata"]]
    assert 18 <= len(shown) <= 26
    contents = re.findall(r"\]\(#([^)]+)\)", prose)
    headings = {heading.replace(" ", "-") for heading in re.findall(r"^## (.+)$", prose, re.M)}
    assert len(contents) == 9
    assert set(contents) <= headings


def test_it_installs_nothing_and_hides_no_failure(notebook):
    for text in sources(notebook, "code"):
        lines = [] if text.startswith("%%write_modules") else text.splitlines()
        assert not any(line.lstrip().startswith(("!", "%")) for line in lines), "a failing !command fails nothing"
        assert not any("pip install" in line for line in lines)
        if lines:
            ast.parse(text)


def test_the_metadata_are_what_kaggle_takes():
    metadata = json.loads((ROOT / "kernels" / "kit" / "kernel-metadata.json").read_text())
    slug = re.sub(r"[^a-z0-9]+", "-", metadata["title"].lower())
    assert metadata["id"].endswith(f"/{slug}"), "the client warns where title and id do not agree"
    assert len(metadata["title"]) >= 5
    assert (ROOT / "kernels" / "kit" / metadata["code_file"]).exists()
    assert metadata["competition_sources"] == ["digit-recognizer"]
    assert (metadata["enable_gpu"], metadata["enable_internet"]) == (True, False)


def write_csv(path, header, rows, random):
    """Write images in which the digit is the place of a bright block, so that any network learns them."""
    labels = np.arange(rows) % 10
    images = random.integers(0, 40, (rows, 28, 28))
    for image, label in zip(images, labels, strict=True):
        image[4 + 12 * (label // 5) :, 2 + 5 * (label % 5) :][:8, :5] = 230
    table = images.reshape(rows, -1)
    if header is TRAIN_COLUMNS:
        table = np.column_stack([labels, table])
    np.savetxt(path, table, fmt="%d", delimiter=",", header=",".join(header), comments="")


def run_notebook(notebook, folder, arguments=()):
    """Execute the notebook as Kaggle would, with its /kaggle in `folder`."""
    import nbformat
    from nbclient import NotebookClient

    text = json.dumps(notebook).replace("/kaggle/input", str(folder / "input"))
    text = text.replace(json.dumps('"--recipe", "standard"')[1:-1], json.dumps(json.dumps(arguments)[1:-1])[1:-1])
    working = folder / "working"
    working.mkdir(parents=True, exist_ok=True)
    book = nbformat.reads(text, as_version=4)
    NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(working)}}).execute()
    return book, working


@pytest.fixture
def kernel_of_this_python(monkeypatch, tmp_path):
    """Let Jupyter find the Python that runs the tests, and its packages, whatever is installed elsewhere."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if "site-packages" in path))


def write_data(folder):
    """Write a little competition into a folder that may only be read."""
    folder.mkdir(parents=True)
    write_csv(folder / "train.csv", TRAIN_COLUMNS, 400, np.random.default_rng(0))
    write_csv(folder / "test.csv", PIXEL_COLUMNS, 60, np.random.default_rng(1))
    rows = "".join(f"{number},0\n" for number in range(1, 61))
    (folder / "sample_submission.csv").write_text(f"ImageId,Label\n{rows}")
    folder.chmod(0o555)
    return folder


def test_the_prediction_s_notebook_predicts_also_a_training_image(monkeypatch, tmp_path, environment):
    from digits.model import backend, predict

    data = write_data(tmp_path / "input" / "data")
    train, test = data / "train.csv", data / "test.csv"
    lines = [*test.read_text().splitlines()[:-1], train.read_text().splitlines()[1].partition(",")[2]]
    test.write_text("\n".join(lines) + "\n")
    (tmp_path / "input" / "models").mkdir()
    score = FoldScore(fold=1, member=1, network="compact", epochs=1, seconds=1.0, **vars(SCORE))
    made_record(folds=[score]).write(tmp_path / "input" / "models" / "run.json")
    (tmp_path / "input" / "models" / "fold-1.keras").touch()
    monkeypatch.setattr(backend, "load_keras", lambda: None)
    monkeypatch.setattr(predict, "load_network", lambda *_: None)
    monkeypatch.setattr(predict, "predict_probabilities", lambda network, images, tta: np.eye(10)[np.zeros(60, int)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    values = {}
    for kind, text in prediction_cells():
        if kind == "code":
            exec(text.replace("/kaggle/input", str(tmp_path / "input")), values)
    assert len((tmp_path / "submission.csv").read_text().splitlines()) == 61


@pytest.mark.slow
@pytest.mark.parametrize("mount", ["digit-recognizer", "competitions/digit-recognizer"])
def test_the_notebook_runs_as_at_kaggle_and_the_other_predicts(notebook, kernel_of_this_python, tmp_path, mount):
    data = write_data(tmp_path / "input" / mount)
    arguments = ["--recipe", "quick", "--folds", "2", "--epochs", "3"]
    book, working = run_notebook(notebook, tmp_path, arguments)
    outputs = json.dumps([cell.get("outputs", []) for cell in book.cells])
    assert len((working / "submission.csv").read_text().splitlines()) == 61
    for words in ("out-of-fold", "submission.csv: 60 rows, checked", "Expected score", "fold 2/2"):
        assert words in outputs
    assert outputs.count('"image/png"') == 8
    assert len(list(data.iterdir())) == 3 or os.geteuid() == 0
    shutil.copytree(working / "submissions" / "notebook", tmp_path / "input" / "digits-notebook")
    (working / "submission.csv").rename(tmp_path / "first.csv")
    run_notebook(build_kernel.notebook(prediction_cells()), tmp_path)
    first, second = (
        (folder / name).read_text().split() for folder, name in ((tmp_path, "first.csv"), (working, "submission.csv"))
    )
    assert len(first) == len(second) == 61
    assert sum(one != other for one, other in zip(first, second, strict=True)) <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param([], r"no train\.csv", id="no data"),
        pytest.param(["--pseudo-labels", "none"], "training ended with exit code 2", id="training fails"),
    ],
)
def test_a_notebook_that_cannot_train_fails(notebook, kernel_of_this_python, tmp_path, flags, message):
    from nbclient.exceptions import CellExecutionError

    (tmp_path / "input").mkdir()
    if flags:
        write_data(tmp_path / "input" / "digit-recognizer")
    with pytest.raises(CellExecutionError, match=message):
        run_notebook(notebook, tmp_path, ["--recipe", "quick", *flags])
