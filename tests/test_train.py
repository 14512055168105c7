"""The front doors train.py and predict.py, from flags to files, on the smallest data that will do."""

import gzip
import json
import os
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

ROOT = Path(__file__).parents[1]
FAST = ["--recipe", "quick", "--epochs", "1", "--limit", "300", "--no-tta"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which one run of two folds on the sample has finished."""
    folder = tmp_path_factory.mktemp("home")
    outcome = command(folder, "train", *FAST, "--folds", "2", "--seed", "7", "--source", "sample", "--run", "first")
    assert outcome.returncode == 0, outcome.stderr
    return folder, outcome


@pytest.fixture(scope="module")
def other(home):
    """Another run of the same folds, from another seed."""
    outcome = command(home[0], "train", *FAST, "--folds", "2", "--seed", "8", "--source", "sample", "--run", "other")
    assert outcome.returncode == 0, outcome.stderr
    return home[0] / "submissions" / "other"


def command(folder, door, *flags):
    """Run a front door in a process of its own, with `folder` for submissions."""
    code = (
        "import sys; from pathlib import Path; from digits import files\n"
        f"files.SUBMISSIONS = Path({str(folder / 'submissions')!r})\n"
        f"import {door}; sys.exit({door}.main())"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-c", code, *flags], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )


def test_help_answers_without_loading_keras_numpy_or_pandas():
    code = (
        "import sys, train\ntry: train.parse(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "--folds K" in run.stdout
    assert not {"keras", "tensorflow", "numpy", "pandas"} & set(run.stderr.split())


@pytest.mark.parametrize("flag", ["--fold", "--recipes", "--epoch=3"])
def test_a_mistyped_flag_is_refused(flag, capsys):
    with pytest.raises(SystemExit) as refusal:
        train.main([flag, "3"])
    assert refusal.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--folds", "--members", "--epochs", "--limit", "--jobs", "--minutes"])
def test_a_number_out_of_range_is_refused_by_name(flag, capsys):
    assert train.main([flag, "0"]) == 2
    assert f"error: {flag} 0: expected a whole number from 1 " in capsys.readouterr().err


def test_a_backend_that_keras_does_not_know_is_refused_before_anything_trains(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    assert train.main(["--source", "sample"]) == 2
    assert "KERAS_BACKEND is 'theano'; expected one of tensorflow, jax, torch" in capsys.readouterr().err


def test_a_missing_data_folder_is_named_with_its_remedy(tmp_path, capsys):
    assert train.main(["--source", "kaggle", "--data-dir", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert "train.csv" in said
    assert "scripts/download.sh" in said


def test_a_broken_csv_is_refused_with_its_place_and_leaves_nothing_behind(tmp_path, capsys):
    header = ",".join(["label", *(f"pixel{i}" for i in range(784))])
    rows = [",".join(["3", *["0"] * 784]) for _ in range(30)]
    rows[12] = rows[12][:-1] + "256"
    (tmp_path / "train.csv").write_text("\n".join([header, *rows]) + "\n")
    before = sorted(tmp_path.iterdir())
    assert train.main(["--source", "kaggle", "--data-dir", str(tmp_path), "--run", "never"]) == 2
    said = capsys.readouterr().err
    assert "train.csv, line 14, column pixel783" in said
    assert "256" in said
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_leaves_its_files_and_says_what_it_came_to(home):
    folder, outcome = home
    run = folder / "submissions" / "first"
    assert {path.name for path in run.iterdir()} >= {
        "run.json", "submission.csv", "out_of_fold.npy", "test_probabilities.npy", "history.csv",
        "fold-1.keras", "fold-2.keras",
    }  # fmt: skip
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["out_of_fold"]["rows"] == 300
    assert "Out-of-fold accuracy" in outcome.stdout
    assert "Test accuracy" in outcome.stdout
    known, test = (np.load(run / f"{name}.npy") for name in ("out_of_fold", "test_probabilities"))
    assert known.shape == (300, 10)
    assert not np.isnan(known).any()
    assert np.allclose(test.sum(axis=1), 1, atol=1e-3)
    submission = pd.read_csv(folder / "submissions" / "submission.csv")
    assert submission["ImageId"].tolist() == list(range(1, 1001))
    assert (submission["Label"] == test.argmax(axis=1)).all()


def test_no_start_up_noise_reaches_the_terminal(home):
    _, outcome = home
    assert outcome.stderr == ""
    assert "WARNING" not in outcome.stdout


def test_the_same_seed_gives_the_same_submission_and_another_a_different_one(home, other):
    folder, _ = home
    outcome = command(folder, "train", *FAST, "--folds", "2", "--seed", "7", "--source", "sample", "--run", "again")
    assert outcome.returncode == 0, outcome.stderr
    first, again = ((folder / "submissions" / name / "submission.csv").read_bytes() for name in ("first", "again"))
    assert again == first
    assert (other / "submission.csv").read_bytes() != first


def test_predict_blends_runs_into_one_with_its_own_record(home, other):
    folder, _ = home
    outcome = command(folder, "predict", "first", "other", "--weights", "greedy", "--run", "both")
    assert outcome.returncode == 0, outcome.stderr
    facts = json.loads((folder / "submissions" / "both" / "run.json").read_text())
    assert facts["blend"]["out_of_fold_by"] == "nested folds"
    assert sum(facts["blend"]["weights"].values()) == pytest.approx(1, abs=1e-3)
    assert "nested folds" in outcome.stdout


def test_predict_by_the_saved_models_gives_the_runs_own_answers(home):
    folder, _ = home
    outcome = command(folder, "predict", "first", "--from-models")
    assert outcome.returncode == 0, outcome.stderr
    assert "differ from the runs' own in 0 of 1,000 rows" in outcome.stdout


def test_predict_names_the_runs_there_are_when_asked_for_another(capsys):
    assert predict.main(["no-such-run"]) == 2
    assert "There is no run 'no-such-run'" in capsys.readouterr().err


@pytest.fixture
def mnist_npz(tmp_path):
    """A small mnist.npz in Keras's form, of the sample's digits."""
    from digits.data.dataset import load

    sample = load("sample")
    arrays = {
        "x_train": sample.train.images[::10], "y_train": sample.train.labels[::10],
        "x_test": sample.test.images[::10], "y_test": sample.test.labels[::10],
    }  # fmt: skip
    np.savez(tmp_path / "mnist.npz", **arrays)
    return tmp_path


def test_the_seed_recipe_does_what_the_first_readme_did_with_kerass_mnist(mnist_npz):
    flags = ["--recipe", "seed", "--source", "keras", "--data-dir", str(mnist_npz), "--epochs", "1", "--export", "h5"]
    outcome = command(mnist_npz, "train", *flags, "--run", "seed")
    assert outcome.returncode == 0, outcome.stderr
    assert "Test accuracy" in outcome.stdout
    assert "not for Kaggle" in outcome.stdout
    assert (mnist_npz / "submissions" / "seed" / "mnistModel2.h5").stat().st_size > 1_000_000


@pytest.mark.slow
def test_the_real_data_train_to_a_submission_of_28000_rows(tmp_path):
    where = os.environ.get("DIGITS_DATA")
    if not where:
        pytest.skip("DIGITS_DATA names no folder with digit-recognizer.zip")
    outcome = command(tmp_path, "train", "--recipe", "quick", "--epochs", "2", "--data-dir", where, "--run", "real")
    assert outcome.returncode == 0, outcome.stderr
    facts = json.loads((tmp_path / "submissions" / "real" / "run.json").read_text())
    assert facts["out_of_fold"]["accuracy"] > 0.985
    assert facts["submission"]["rows"] == 28_000


def test_a_cut_of_the_real_data_trains_end_to_end(tmp_path):
    where = os.environ.get("DIGITS_DATA")
    if not where:
        pytest.skip("DIGITS_DATA names no folder with digit-recognizer.zip")
    archive = Path(where) / "digit-recognizer.zip"
    with zipfile.ZipFile(archive) as file:
        for name, rows in (("train.csv", 1501), ("test.csv", 201)):
            with file.open(name) as member, gzip.open(tmp_path / f"{name}.gz", "wb") as cut:
                cut.writelines(line for _, line in zip(range(rows), member, strict=False))
    started = time.time()
    outcome = command(tmp_path, "train", *FAST[:4], "--folds", "2", "--data-dir", str(tmp_path), "--run", "cut")
    assert outcome.returncode == 0, outcome.stderr
    facts = json.loads((tmp_path / "submissions" / "cut" / "run.json").read_text())
    assert facts["source"] == "kaggle"
    assert facts["submission"]["rows"] == 200
    assert 0 < facts["seconds"] <= time.time() - started
