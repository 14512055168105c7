"""An entry point started with a Python that cannot run the kit."""

import ast
import os
import shutil
import signal
import subprocess
import sys

import pytest

from digits.files import ROOT


@pytest.fixture
def kit(tmp_path):
    """A kit of one entry point, to be run by a Python without site-packages; return how to run it."""
    (tmp_path / "src" / "digits").mkdir(parents=True)
    (tmp_path / "src" / "digits" / "__init__.py").touch()
    shutil.copy(ROOT / "src" / "digits" / "environment.py", tmp_path / "src" / "digits")
    (tmp_path / "src" / "train.py").write_text("import digits.environment\nimport numpy\n")
    command = [sys.executable, "-S", str(tmp_path / "src" / "train.py"), "--folds", "5"]
    return tmp_path, lambda: subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_python_without_the_packages_runs_on_with_the_kits_own(kit):
    folder, run = kit
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").write_text('#!/bin/sh\necho "$@"; exit 3\n')
    (folder / ".venv" / "bin" / "python").chmod(0o755)
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (3, f"{folder / 'src' / 'train.py'} --folds 5\n", "")


def test_without_an_environment_one_line_says_what_to_run(kit):
    done = kit[1]()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "it lacks the packages keras, matplotlib, numpy" in done.stderr
    assert "run: scripts/quickstart.sh" in done.stderr


def test_every_entry_point_looks_for_the_packages_first_in_a_module_that_older_pythons_understand():
    for path in (ROOT / "src").glob("*.py"):
        first = next(line for line in path.read_text().splitlines() if "import digits" in line or "from digits" in line)
        assert first.startswith("import digits.environment"), path
    ast.parse((ROOT / "src" / "digits" / "environment.py").read_text(), feature_version=(3, 7))


def test_an_entry_point_finds_the_kit_where_python_leaves_its_folder_out(tmp_path):
    (tmp_path / "digits.py").write_text("raise SystemExit('the wrong module')")
    command = [sys.executable, str(ROOT / "src" / "train.py"), "--list-settings"]
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "learning_rate" in done.stdout


def test_ctrl_c_while_the_modules_are_imported_ends_quietly(tmp_path):
    (tmp_path / "tomllib.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    command = [sys.executable, str(ROOT / "src" / "train.py"), "--run", "mine"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.strip() in ("", "Interrupted.")


def test_charts_are_drawn_whatever_a_matplotlibrc_and_a_notebook_say(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\n")
    code = (
        "import digits.environment, numpy as np; from digits.report import charts; "
        "print(len(charts.svg(charts.draw_confusion, np.eye(3, dtype=int), ['a', 'b', 'c'])))"
    )
    (tmp_path / "src").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    sizes = {
        subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, check=True).stdout
        for cwd in (tmp_path, tmp_path / "src")
    }
    assert len(sizes) == 1
