"""Each command that the kit prints does, pasted into bash, what it says: with odd names, links and other folders."""

import argparse
import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from digits.files import ROOT

FAKE = '#!/bin/bash\nprintf \'%s\\0\' "$#" "$@" >> "$LOG"\n'
"""In the place of python: it writes down the words that it gets."""


@pytest.fixture
def kit(tmp_path):
    """A copy of the kit in a folder with an odd name, whose folder of runs is a link."""
    kit = tmp_path / "Übung 1's $kit"
    shutil.copytree(ROOT / "src", kit / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "scripts", kit / "scripts", ignore=shutil.ignore_patterns("*.py", "bench"))
    (tmp_path / "elsewhere").mkdir()
    (kit / "submissions").symlink_to(tmp_path / "elsewhere")
    (kit / "inside").mkdir()
    for name in ("python", "python3", "kaggle"):
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(FAKE)
        (tmp_path / "bin" / name).chmod(0o755)
    return kit


def command_in(message: str) -> str:
    for line in message.splitlines():
        for start in range(len(line)):
            with_command = re.match(r"python |'|/|\./|scripts/", line[start:])
            if (start and line[start - 1] != " ") or not with_command:
                continue
            try:
                words = shlex.split(line[start:])
            except ValueError:
                continue
            if words[0].endswith(".sh") or (words[0] == "python" and words[1].endswith(".py")):
                return line[start:]
    raise AssertionError(f"no command in {message!r}")


def pasted(commands: list[str], cwd: Path, folder: Path) -> list[list[str]]:
    """Run commands in one bash, and return the words that Python gets of each."""
    environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "LOG": str(folder / "log")}
    subprocess.run(["bash", "-c", "\n".join(["set -e", *commands])], cwd=cwd, env=environment, check=True, timeout=60)
    words = (folder / "log").read_text().split("\0")[:-1]
    found = []
    while words:
        count = int(words[0])
        found.append(words[1 : count + 1])
        words = words[count + 1 :]
    return found


class ParsedError(Exception):
    """The flags of a command were read without fault."""


def parse_and_stop(parser, argv):
    assert not parser.parse_known_args(argv)[1]
    raise ParsedError


@pytest.mark.parametrize("place", ["the kit's folder", "src", "another folder"])
def test_each_printed_command_is_read_by_bash_and_the_parser_as_it_is_meant(kit, tmp_path, place, monkeypatch):
    cwd = {"the kit's folder": kit, "src": kit / "src", "another folder": tmp_path}[place]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(kit / "src"), str(ROOT / "tests")])}
    own = tmp_path / "the user's"
    own.mkdir()
    command = [sys.executable, str(ROOT / "tests" / "printed_commands.py"), str(own)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    messages = json.loads(done.stdout)
    words = pasted([command_in(message) for message, _ in messages], cwd, tmp_path)
    assert len(words) == len(messages)
    for (message, (script, *expected)), (started, *given) in zip(messages, words, strict=True):
        entry_point = Path(script).stem
        assert (cwd / started).resolve() == kit / "src" / f"{entry_point}.py", message
        assert [plain(word, cwd) for word in given] == [plain(word, cwd) for word in expected], message
        main = importlib.import_module(entry_point).main
        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
            with pytest.raises(ParsedError):
                main(given)


def plain(word: str, cwd: Path) -> str:
    return str((cwd / word).resolve()) if "/" in word and (cwd / word).exists() else word


@pytest.mark.parametrize("path", sorted((ROOT / "src" / "digits").rglob("*.py")), ids=lambda path: path.stem)
def test_a_command_in_a_message_is_made_by_kit_command(path):
    """Else it would work in the kit's own folder only; one with a RUN or FILE to fill in is a pattern, no command."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    documents = [node.body[0].value for node in documented if ast.get_docstring(node)]
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in documents]
    texts = [node.value for node in constants if isinstance(node.value, str)]
    commands = [text for text in texts if re.search(r"python src/|scripts/\w+\.sh.|.scripts/", text)]
    by_hand = [text for text in commands if not re.search(r"\b(RUN|FILE|NAME)\b", text)]
    assert not by_hand or path.stem == "environment", by_hand  # That module is read by Pythons that have nothing else.
