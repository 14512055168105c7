"""The shell scripts and the entry points' help, as far as they can be tried without installing anything."""

import importlib
import os
import re
import subprocess

import pytest

from digits.files import ROOT

SHELL_SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
ENTRY_POINTS = sorted(path.stem for path in (ROOT / "src").glob("*.py"))
SYSTEM_PATH = "/usr/bin:/bin"  # Without uv, which would be used for installing.


def test_bash_reads_every_script_and_those_that_are_run_stop_at_the_first_fault():
    subprocess.run(["bash", "-n", *SHELL_SCRIPTS], check=True)
    for script in SHELL_SCRIPTS:
        sourced = script.name == "environment.sh"
        assert os.access(script, os.X_OK) != sourced, script
        assert sourced or "set -euo pipefail" in script.read_text(), script


def test_every_entry_point_explains_itself(capsys):
    for name in ENTRY_POINTS:
        with pytest.raises(SystemExit) as leaving:
            importlib.import_module(name).main(["--help"])
        assert leaving.value.code == 0
        assert f"usage: {name}.py" in capsys.readouterr().out


def quickstart(folder, *flags):
    """Run quickstart.sh twice in a copy of the kit whose Python only prints what it is asked to do."""
    kit = folder / "a kit"
    (kit / ".venv" / "bin").mkdir(parents=True)
    (kit / "scripts").mkdir()
    for name in ("environment.sh", "quickstart.sh"):
        (kit / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
    (kit / "requirements.txt").write_text("numpy\n")
    (kit / "requirements.lock").write_text("numpy==2.4\n")
    python = kit / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nif [ "$1" = -m ]; then echo installs "$7" "$9"; else echo "$@"; fi\n')
    python.chmod(0o755)
    command = ["bash", str(kit / "scripts" / "quickstart.sh"), *flags]
    environment = {"PATH": SYSTEM_PATH}
    runs = [
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    return [run.stdout.replace(f"{kit}/", "").splitlines() for run in runs]


def test_quickstart_installs_the_locked_versions_once_downloads_and_trains_with_the_users_flags(tmp_path):
    first, second = quickstart(tmp_path, "--folds", "3")
    assert [line for line in first if not line.startswith("Installing")] == [
        "installs requirements.txt requirements.lock", "src/download.py --if-possible", "src/train.py --folds 3",
    ]  # fmt: skip
    assert second == ["src/download.py --if-possible", "src/train.py --folds 3"]


PHOTO = "--recipe photo --competition land-cover --folds 3"
IF_POSSIBLE = ["src/download.py --if-possible"]


@pytest.mark.parametrize(
    ("data", "flags", "downloads", "trained"),
    [
        pytest.param(None, "", IF_POSSIBLE, "--recipe small", id="the sample"),
        pytest.param("train.csv.gz", "", IF_POSSIBLE, "", id="the competition's files"),
        pytest.param("digit-recognizer.zip", "", IF_POSSIBLE, "", id="its archive"),
        pytest.param(None, PHOTO, ["src/download.py --competition land-cover"], PHOTO, id="another competition"),
        *(pytest.param(None, flags, [], flags, id=flags) for flags in ("--source sample", "--data-dir x", "--help")),
    ],
)
def test_quickstart_downloads_and_trains_what_is_there_or_asked_for(tmp_path, data, flags, downloads, trained):
    (tmp_path / "a kit" / "data").mkdir(parents=True)
    if data:
        (tmp_path / "a kit" / "data" / data).touch()
    assert quickstart(tmp_path, *flags.split())[1] == [*downloads, f"src/train.py {trained}".strip()]


def test_an_environment_that_was_left_half_made_is_made_again(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "environment.sh").write_text((ROOT / "scripts" / "environment.sh").read_text())
    half_made = "mkdir -p .venv/bin && cp python3 .venv/bin/python && echo venv && exit 1"
    program = f'#!/bin/sh\ncase "$*" in *-m\\ venv*) {half_made};; *-m\\ pip*) exit 1;; esac\n'
    (tmp_path / "python3").write_text(program)
    (tmp_path / "python3").chmod(0o755)
    command = ["bash", "-c", "source scripts/environment.sh; environment requirements.txt"]
    for _ in range(2):
        environment = {"PATH": f"{tmp_path}:{SYSTEM_PATH}"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stdout.splitlines()[-1] == "venv"
        assert "sudo apt install python3-venv" in done.stderr


def test_the_notebook_is_checked_only_where_it_is_pushed(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "push_kernel.sh").write_text((ROOT / "scripts" / "push_kernel.sh").read_text())
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text('#!/bin/sh\nbasename "$1"\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    for flags, ran in [
        ([], ["build_kernel.py", "push_kernel.py"]),
        (["--recipe", "quick"], ["build_kernel.py", "push_kernel.py"]),
        *(([flag], ["push_kernel.py"]) for flag in ("--help", "-h", "--status", "--status=3", "--fetch")),
    ]:
        command = ["bash", str(tmp_path / "scripts" / "push_kernel.sh"), *flags]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ran, flags


def suitable_python(folder, version, system="Linux", machine="x86_64"):
    """Ask environment.sh for a Python on a machine with only one of this version, on this system and processor."""
    folder.mkdir()
    answers = f"*sys.version_info*) exit {int(version not in ('3.11', '3.12', '3.13'))};; *machine*) echo {machine};;"
    programs = {
        f"python{name}": f'case "$*" in --version) echo Python {version}.2;; {answers} esac' for name in (3, "")
    }
    programs |= {f"python3.{minor}": "exit 127" for minor in (11, 12, 13)} | {"uname": f"echo {system}"}
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    code = f"source {str(ROOT / 'scripts' / 'environment.sh')!r}; suitable_python"
    environment = {"PATH": f"{folder}:{SYSTEM_PATH}"}
    return subprocess.run(["bash", "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_a_python_without_tensorflow_is_refused_before_anything_is_installed(tmp_path):
    for version in ("3.11", "3.13"):
        assert suitable_python(tmp_path / version, version).stdout == f"{tmp_path / version}/python3\n"
    for version in ("3.9", "3.10", "3.14"):
        done = suitable_python(tmp_path / version, version)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"Python 3.11, 3.12 or 3.13 is needed; found Python {version}.2" in done.stderr
    assert suitable_python(tmp_path / "arm", "3.12", "Darwin", "arm64").returncode == 0
    done = suitable_python(tmp_path / "intel", "3.12", "Darwin", "x86_64")
    assert done.returncode == 2
    assert "TensorFlow has no packages for Python on Intel Macs" in done.stderr
    assert "Kaggle or Colab" in done.stderr


def test_the_lock_has_one_exact_version_for_each_requirement_and_python():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    packages = [line for line in lines if not line.lstrip().startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", line) for line in packages)
    locked = {line.split("==")[0] for line in packages}
    for file in ROOT.glob("requirements*.txt"):
        for line in file.read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                name = re.match(r"[\w.-]+", line)[0].lower()
                assert name in locked, f"{file.name}: {name} is not in requirements.lock. Run scripts/lock.sh"
