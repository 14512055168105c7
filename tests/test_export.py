import dataclasses
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from digits.config import Tta, load_recipe, override
from digits.console import BadInput, KitError
from digits.data import dataset
from digits.inference import export as export_module
from digits.inference.export import export, require_packages
from digits.inference.predictor import Predictor
from digits.model.backend import load_keras
from digits.runs.blend import BlendOptions, blend
from digits.runs.store import Run
from made_run import make_run

load_keras()

from digits.model.networks import build_network
from digits.model.predict import save_network


@pytest.fixture(autouse=True)
def _few_images(monkeypatch):
    """Check exports on fewer images than a user's, to spare time."""
    monkeypatch.setattr(export_module, "CHECKED", 100)


@pytest.fixture(scope="module")
def images():
    return dataset.load("sample").test.images[:40]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two folds whose saved networks, one of them of mixed precision, have random weights."""
    recipe = override(load_recipe("quick"), {"folds": 2, "epochs": 1, "tta.shift_pixels": 1, "tta.rotation_degrees": 8})
    with pytest.MonkeyPatch.context() as patch:
        run = make_run(patch, tmp_path_factory.mktemp("runs"), "small", recipe=recipe)
    for fold, precision in ((1, "float32"), (2, "mixed_bfloat16")):
        save_network(build_network("seed", (28, 28, 1), precision), run.model_path(fold, 1))
    return run


@pytest.fixture(scope="module")
def predictor(run):
    return Predictor(run)


def test_one_model_predicts_what_the_networks_do_one_by_one(predictor, images):
    assert predictor.members[0].tta == Tta(shift_pixels=1, rotation_degrees=8, below=0.92)
    together, one_by_one = predictor.probabilities(images), predictor.probabilities(images, one_by_one=True)
    assert together.shape == (40, 10)
    assert np.abs(together - one_by_one).max() < 1e-5
    assert np.abs(predictor.probabilities(images[:1]) - one_by_one[:1]).max() < 1e-5


def test_the_report_shows_the_layers_of_the_saved_networks(run):
    from digits.report.html import build_report

    page = build_report(run, dataset.load("sample", limit=600)).read_text(encoding="utf-8")
    assert "693,962 weights, 0.9 million multiply-adds" in page
    assert "<td>5408</td><td>320</td><td>194,688</td>" in page


def test_a_blend_is_one_model_too(run, images):
    submissions = run.folder.parent
    other = shutil.copytree(run.folder, submissions / "other")
    second = blend([run, Run(other)], BlendOptions(weights="2,1", mean="logarithmic", name="both"), submissions)
    predictor = Predictor(second)
    assert len(predictor.members) == 2
    assert np.abs(predictor.probabilities(images) - predictor.probabilities(images, one_by_one=True)).max() < 1e-5


def test_an_exported_keras_file_loads_without_the_kit_and_the_user_s_readme_is_left_alone(predictor, tmp_path):
    (tmp_path / "README.md").write_text("# My project\n")
    lines, path = export(predictor, "keras", tmp_path), tmp_path / "small.keras"
    assert (tmp_path / "README.md").read_text() == "# My project\n"
    assert "no prediction differs from the run's networks" in lines[1]
    code = (
        "import sys, json, numpy as np, keras\n"
        f"model = keras.models.load_model({str(path)!r})\n"
        "assert model.input.name == 'images_0_to_255' and model.input.dtype == 'uint8'\n"
        "assert 'digits' not in sys.modules\n"
        "print(json.dumps(model.predict(np.full((2, 28, 28), 9, np.uint8), verbose=0).tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    found = np.array(json.loads(done.stdout.splitlines()[-1]))
    assert np.abs(found - predictor.probabilities(np.full((2, 28, 28, 1), 9, np.uint8), one_by_one=True)).max() < 1e-5
    readme = (tmp_path / "small.md").read_text(encoding="utf-8")
    assert "do not divide by 255" in readme
    assert "## small.keras" in readme
    assert "small.onnx" not in readme


@pytest.mark.slow  # It needs requirements-export.txt.
@pytest.mark.parametrize("form", ["onnx", "litert", "saved-model"])
def test_every_format_agrees_with_the_run_in_its_own_runtime(predictor, tmp_path, form, capfd):
    export(predictor, form, tmp_path)
    assert capfd.readouterr() == ("", ""), "no runtime's own messages, those of C++ code among them"
    path = tmp_path / export_module.FORMATS[form].file.replace("RUN", "small")
    assert path.exists()
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        assert session.get_inputs()[0].shape == ["n", 28, 28]
        assert session.get_outputs()[0].name == "probabilities"
        assert "do not divide" in session.get_modelmeta().description
        assert json.loads(session.get_modelmeta().custom_metadata_map["classes"])[9] == "9"


def test_a_file_that_does_not_agree_with_the_run_is_not_kept(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "_open", lambda form, path: lambda images: np.full((len(images), 10), 0.1))
    with pytest.raises(KitError, match="does not agree with run small"):
        export(predictor, "keras", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_hdf5_file_is_of_the_first_network_that_was_trained(run, tmp_path):
    other = Run(shutil.copytree(run.folder, tmp_path / "other"))
    record = other.finished_record()
    other.write_record(dataclasses.replace(record, folds=record.folds[1:]))
    other.model_path(1, 1).unlink()
    predictor = Predictor(other)
    export(predictor, "h5", tmp_path)
    assert (tmp_path / "mnistModel2.h5").stat().st_size > 1_000_000
    assert "## mnistModel2.h5" in (tmp_path / "other.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("free", "message"),
    [
        pytest.param(1 << 30, "cannot be exported as keras: RuntimeError: no such operation. Other", id="converter"),
        pytest.param(0, "No space left on device: ", id="full disk"),
    ],
)
def test_a_failed_export_is_one_line_and_leaves_nothing(predictor, tmp_path, monkeypatch, free, message):
    def fail(ensemble, form, path):
        path.write_bytes(b"half")
        raise RuntimeError("no such operation\nand more")

    monkeypatch.setattr(export_module, "_write", fail)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(KitError) as refusal:
        export(predictor, "keras", tmp_path)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"needs onnx, onnxruntime, tf2onnx, not installed\. Install: pip"):
        require_packages("onnx")
