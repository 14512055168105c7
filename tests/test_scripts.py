"""What a person types in a shell, as far as it can be asked without installing anything."""

import importlib
import os
import subprocess
from pathlib import Path

import pytest

from digits.files import ROOT

SHELL_SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
ENTRY_POINT = sorted(path.stem for path in (ROOT / "src").glob("*.py"))


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_a_script(script):
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_a_script_that_is_run_may_be_run_and_stops_at_the_first_fault(script):
    sourced = script.name == "environment.sh"
    assert os.access(script, os.X_OK) != sourced
    assert sourced or "set -euo pipefail" in script.read_text()


@pytest.mark.parametrize("door", ENTRY_POINT)
def test_a_front_door_explains_itself(door, capsys):
    with pytest.raises(SystemExit) as leaving:
        importlib.import_module(door).main(["--help"])
    assert leaving.value.code == 0
    assert f"usage: {door}.py" in capsys.readouterr().out


def quickstart(tmp_path, *flags):
    """Run quickstart.sh twice in a copy of the kit whose Python only says what it is asked to do."""
    kit = tmp_path / "a kit"
    (kit / ".venv" / "bin").mkdir(parents=True)
    (kit / "scripts").mkdir()
    for name in ("environment.sh", "quickstart.sh"):
        (kit / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
    (kit / "requirements.txt").write_text("numpy\n")
    python = kit / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nif [ "$1" = -m ]; then echo installs; else echo "$@"; fi\n')
    python.chmod(0o755)
    command = ["bash", str(kit / "scripts" / "quickstart.sh"), *flags]
    said = [
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.replace(f"{kit}/", "")
        for _ in range(2)
    ]
    return [text.splitlines() for text in said]


def test_quickstart_installs_once_fetches_and_trains_with_the_users_flags(tmp_path):
    first, second = quickstart(tmp_path, "--folds", "3")
    assert [line for line in first if not line.startswith("Installing")] == [
        "installs", "src/download.py --if-possible", "src/train.py --folds 3",
    ]  # fmt: skip
    assert second == ["src/download.py --if-possible", "src/train.py --folds 3"]


@pytest.mark.parametrize(
    ("data", "trained"),
    [(None, "src/train.py --folds 4"), ("train.csv.gz", "src/train.py"), ("digit-recognizer.zip", "src/train.py")],
)
def test_quickstart_alone_divides_the_sample_in_four_and_leaves_the_competition_to_the_recipe(tmp_path, data, trained):
    if data:
        (tmp_path / "a kit" / "data").mkdir(parents=True)
        (tmp_path / "a kit" / "data" / data).touch()
    assert quickstart(tmp_path)[1] == ["src/download.py --if-possible", trained]


@pytest.mark.parametrize("flags", [("--source", "sample"), ("--data-dir", "elsewhere"), ("--help",)])
def test_quickstart_fetches_nothing_where_the_user_says_where_the_data_are(tmp_path, flags):
    assert quickstart(tmp_path, *flags)[1] == [f"src/train.py {' '.join(flags)}"]


def test_a_python_that_is_too_old_is_refused_with_the_version_that_is_needed(tmp_path):
    for name in ("python3", "python3.13", "python3.12", "python3.11", "python"):
        (tmp_path / name).write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
        (tmp_path / name).chmod(0o755)
    code = f"source {str(ROOT / 'scripts' / 'environment.sh')!r}; suitable_python"
    environment = {"PATH": f"{tmp_path}:{Path('/usr/bin')}:/bin"}
    done = subprocess.run(["bash", "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed; found Python 3.9.2" in done.stderr
