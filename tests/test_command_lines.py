"""No command line ends in a traceback, whatever the values of its flags: see command_lines.py."""

import os
import shutil
import subprocess
import sys

import pytest

from digits.files import ROOT

COUNT = pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])


@COUNT
def test_random_command_lines_of_real_flags_end_with_an_exit_code_and_a_message(count, tmp_path):
    for folder in ("src", "kernels"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "src"), str(ROOT / "tests")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, str(ROOT / "tests" / "command_lines.py"), str(count), str(count)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert f"{count} command lines, 0 failures" in done.stdout
