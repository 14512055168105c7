import ast
import json
import os
import re
import sys

import numpy as np
import pytest

import build_kernel
from digits.files import ROOT
from torn_files import PIXEL_COLUMNS, TRAIN_COLUMNS


@pytest.fixture(scope="module")
def notebook():
    return build_kernel.notebook()


def sources(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_the_notebook_in_the_repository_is_the_one_that_src_makes():
    for name, text in build_kernel.texts().items():
        committed = (ROOT / "kernels" / name).read_text(encoding="utf-8")
        assert committed == text, f"kernels/{name} is not of this src/: run python scripts/build_kernel.py"


def test_it_is_a_valid_notebook_without_outputs(notebook):
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.from_dict(notebook))
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert all(not cell.get("outputs") for cell in notebook["cells"])


def test_each_file_is_written_verbatim_and_after_those_that_it_imports(notebook):
    written = []
    for text in sources(notebook, "code"):
        magic = re.match(r"%%writefile (\S+)\n", text)
        if not magic:
            continue
        path = ROOT / magic[1]
        assert text[magic.end() :] + "\n" == path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            assert {file.relative_to(ROOT).as_posix() for file in build_kernel.imports_of(path)} <= set(written)
        written.append(magic[1])
    assert written[-1] == "src/train.py"
    assert "src/digits/model/networks.py" in written


def test_it_reads_as_an_article(notebook):
    prose = "\n".join(sources(notebook, "markdown"))
    assert prose.startswith("# ")
    for words in ("**What.**", "**How.**", "## Training", "## Results", "## The submission", "build_kernel.py"):
        assert words in prose


def test_it_installs_nothing_and_hides_no_failure(notebook):
    for text in sources(notebook, "code"):
        lines = [] if text.startswith("%%writefile") else text.splitlines()
        assert not any(line.lstrip().startswith(("!", "%")) for line in lines), "a failing !command fails nothing"
        assert not any("pip install" in line for line in lines)
        if lines:
            ast.parse(text)


def test_the_metadata_are_what_kaggle_takes():
    metadata = json.loads((ROOT / "kernels" / "kernel-metadata.json").read_text())
    slug = re.sub(r"[^a-z0-9]+", "-", metadata["title"].lower())
    assert metadata["id"].endswith(f"/{slug}"), "the client warns where title and id do not agree"
    assert len(metadata["title"]) >= 5
    assert (ROOT / "kernels" / metadata["code_file"]).exists()
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


def run_notebook(notebook, folder, arguments):
    """Execute the notebook as Kaggle would, with its /kaggle in `folder`."""
    import nbformat
    from nbclient import NotebookClient

    text = json.dumps(notebook).replace("/kaggle/input", str(folder / "input"))
    text = text.replace(json.dumps('"--recipe", "standard"')[1:-1], json.dumps(json.dumps(arguments)[1:-1])[1:-1])
    working = folder / "working"
    working.mkdir(parents=True)
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


@pytest.mark.slow
@pytest.mark.parametrize("mount", ["digit-recognizer", "competitions/digit-recognizer"])
def test_the_whole_notebook_runs_in_a_kaggle_like_folder(notebook, kernel_of_this_python, tmp_path, mount):
    data = tmp_path / "input" / mount
    data.mkdir(parents=True)
    write_csv(data / "train.csv", TRAIN_COLUMNS, 400, np.random.default_rng(0))
    write_csv(data / "test.csv", PIXEL_COLUMNS, 60, np.random.default_rng(1))
    data.chmod(0o555)
    arguments = ["--recipe", "quick", "--folds", "2", "--epochs", "3"]
    book, working = run_notebook(notebook, tmp_path, arguments)
    outputs = json.dumps([cell.get("outputs", []) for cell in book.cells])
    assert len((working / "submission.csv").read_text().splitlines()) == 61
    assert "out of fold" in outputs
    assert "submission.csv: 60 rows, checked" in outputs
    assert outputs.count('"image/png"') == len(list((working / "submissions" / "notebook").glob("*.png")))
    assert sorted(path.name for path in data.iterdir()) == ["test.csv", "train.csv"] or os.geteuid() == 0


@pytest.mark.slow
def test_a_notebook_without_data_fails(notebook, kernel_of_this_python, tmp_path):
    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError, match=r"no train\.csv"):
        run_notebook(notebook, tmp_path, ["--recipe", "quick"])


@pytest.mark.slow
def test_a_notebook_whose_training_fails_fails(notebook, kernel_of_this_python, tmp_path):
    from nbclient.exceptions import CellExecutionError

    data = tmp_path / "input" / "digit-recognizer"
    data.mkdir(parents=True)
    for name in ("train.csv", "test.csv"):
        (data / name).write_text("not,what,it,should,be\n")
    with pytest.raises(CellExecutionError, match="training ended with exit code 2"):
        run_notebook(notebook, tmp_path, ["--recipe", "quick"])
