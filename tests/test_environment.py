"""An entry point started with a Python that cannot run the kit."""

import shutil
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


def test_every_entry_point_looks_for_the_packages_first():
    for path in (ROOT / "src").glob("*.py"):
        first = next(line for line in path.read_text().splitlines() if "import digits" in line or "from digits" in line)
        assert first.startswith("import digits.environment"), path


def test_older_pythons_understand_the_module():
    import ast

    ast.parse((ROOT / "src" / "digits" / "environment.py").read_text(), feature_version=(3, 7))
