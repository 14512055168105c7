"""The entry points train.py and predict.py, from flags to files, on the smallest data that will do."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import predict
import train
from digits.files import REFERENCE
from torn_files import train_bytes, write_npz
from train_process import EXACT, finish

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def home(stub_run, tmp_path_factory):
    """A folder in which two runs of the stub trainer on the same folds, from two seeds, have finished."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(stub_run, folder / "first")
    code, out, err = finish(folder, *EXACT, "--seed", "8", "--run", "other")
    assert (code, err) == (0, ""), out
    assert "Out-of-fold accuracy" in out
    assert "Test accuracy" in out
    return folder


def test_help_answers_without_loading_keras_numpy_or_pandas():
    code = (
        "import sys, train\ntry: train.parse(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "--folds K" in run.stdout
    assert not {"keras", "tensorflow", "numpy", "pandas"} & set(run.stderr.split())


def test_a_mistyped_flag_is_refused(capsys):
    for flag in ("--fold", "--recipes", "--epoch=3"):
        with pytest.raises(SystemExit) as refusal:
            train.main([flag, "3"])
        assert refusal.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err


NO_SUCH = "{} {}: expected no such flag with --source {}"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        *(
            (f"{flag} 0", f"error: {flag} 0: expected a whole number from 1 ")
            for flag in ("--folds", "--members", "--epochs", "--limit", "--jobs", "--minutes")
        ),
        *(
            (f"--source {source} {flag} {value}", NO_SUCH.format(flag, value, source))
            for source, flag, value in (
                ("sample", "--data-dir", "data"), ("sample", "--competition", "kannada-mnist"),
                ("keras", "--competition", "kannada-mnist"),
            )
        ),
        ("--source sample", "KERAS_BACKEND is 'theano'; expected one of tensorflow, jax, torch"),
        ("--source sample --cluster tcp://127.0.0.1:1", "no Dask scheduler answers there"),
        ("--source sample --recipe quick --pseudo-labels none", "There is no run 'none'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_a_run_begins(monkeypatch, capsys, flags, message):
    monkeypatch.setenv("KERAS_BACKEND", "theano" if "theano" in message else "tensorflow")
    assert train.main(flags.split()) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert "Run: " not in out


def test_missing_and_broken_data_are_named_with_place_and_remedy_and_leave_nothing(tmp_path, capsys):
    flags = ["--source", "kaggle", "--run", "never", "--data-dir"]
    assert train.main([*flags, str(tmp_path / "none")]) == 2
    assert re.search("(?s)train.csv.*scripts/download.sh", capsys.readouterr().err)
    (tmp_path / "train.csv").write_bytes(train_bytes(30).replace(b"\n3,", b"\n3,256"))
    assert train.main([*flags, str(tmp_path)]) == 2
    assert re.search("train.csv, line 5, column pixel0.*'256", capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]


def test_a_run_leaves_its_files_and_reports_its_accuracy(real_run):
    assert {path.name for path in real_run.iterdir()} >= {
        "run.json", "submission.csv", "out_of_fold.npy", "test_probabilities.npy", "history.csv",
        "fold-1.keras", "report.html", "confusion-matrix.png",
    }  # fmt: skip
    facts = json.loads((real_run / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["out_of_fold"]["rows"] == 30
    assert all(check["passed"] for check in facts["checks"] if "saved models" in check["name"])
    out_of_fold, test = (np.load(real_run / f"{name}.npy") for name in ("out_of_fold", "test_probabilities"))
    assert out_of_fold.shape == (300, 10)
    assert np.isnan(out_of_fold[:, 0]).sum() == 270
    assert np.allclose(test.sum(axis=1), 1, atol=1e-3)
    submission = pd.read_csv(real_run / "submission.csv")
    assert submission["ImageId"].tolist() == list(range(1, 1001))
    assert (submission["Label"] == test.argmax(axis=1)).all()


@pytest.mark.parametrize("flag", ["--seed", "--refit"])
def test_a_flag_whose_value_is_0_is_given_too(flag, tmp_path, capsys):
    """Else `--from-run` would ignore it and train with the recorded value."""
    words = ["--from-run", str(REFERENCE / "quick"), flag, "0", "--save-recipe", str(tmp_path / "my.toml")]
    assert train.main(words) == 2
    assert f"leave out {flag}" in capsys.readouterr().err


def test_predict_by_the_saved_models_gives_the_runs_own_answers(real_run, capsys, environment):
    assert predict.main([str(real_run), "--from-models"]) == 0
    assert "differ from the run's own in 0 of 1,000 rows" in capsys.readouterr().out


def test_another_seed_gives_another_submission(home):
    assert (home / "first" / "submission.csv").read_bytes() != (home / "other" / "submission.csv").read_bytes()


def test_predict_blends_runs_into_one_with_its_own_record(home):
    code, out, err = finish(home, "first", "other", "--weights", "greedy", "--run", "both", command="predict")
    assert code == 0, err
    facts = json.loads((home / "both" / "run.json").read_text())
    assert facts["blend"]["out_of_fold_by"] == "nested folds"
    assert sum(member["weight"] for member in facts["blend"]["members"]) == pytest.approx(1, abs=1e-3)
    assert "nested folds" in out


def test_images_of_ones_own_are_found_from_another_folder_when_the_run_is_resumed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = train.settings_of(train.parse(["--extra", "own"]))
    assert settings.extra == str(tmp_path / "own")
    assert train.settings_of(train.parse([])).extra is None


@pytest.mark.slow
def test_the_seed_recipe_does_what_the_first_readme_did_with_kerass_mnist(tmp_path):
    write_npz(tmp_path)
    flags = ["--recipe", "seed", "--source", "keras", "--data-dir", str(tmp_path), "--epochs", "1"]
    code, out, err = finish(tmp_path, *flags, "--run", "seed", real=True)
    assert code == 0, err
    assert "Test accuracy" in out
    assert "not for Kaggle" in out


@pytest.mark.slow
def test_the_real_data_train_to_a_submission_of_28000_rows(tmp_path):
    flags = ["--recipe", "quick", "--epochs", "2", "--competition", "digit-recognizer", "--data-dir", real_data()]
    code, _, err = finish(tmp_path, *flags, "--run", "real", real=True)
    assert code == 0, err
    facts = json.loads((tmp_path / "real" / "run.json").read_text())
    assert facts["out_of_fold"]["accuracy"] > 0.985
    assert facts["submission"]["rows"] == 28_000


def real_data() -> str:
    folder = os.environ.get("DIGITS_DATA")
    if not folder:
        pytest.skip("DIGITS_DATA names no folder with digit-recognizer.zip")
    return folder


def test_a_cut_of_the_real_data_trains_end_to_end(tmp_path):
    with zipfile.ZipFile(Path(real_data()) / "digit-recognizer.zip") as file:
        for name, rows in (("train.csv", 1501), ("test.csv", 201)):
            with file.open(name) as member, gzip.open(tmp_path / f"{name}.gz", "wb") as cut:
                cut.writelines(line for _, line in zip(range(rows), member, strict=False))
    flags = ["--recipe", "quick", "--epochs", "1", "--folds", "2", "--data-dir", str(tmp_path), "--run", "cut"]
    started = time.time()
    code, _, err = finish(tmp_path / "submissions", *flags, real=True)
    assert code == 0, err
    facts = json.loads((tmp_path / "submissions" / "cut" / "run.json").read_text())
    assert facts["source"] == "kaggle"
    assert facts["submission"]["rows"] == 200
    assert 0 < facts["seconds"] <= time.time() - started
