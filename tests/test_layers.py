"""The ground plan, kept: imports point down, Keras loads late, and nothing happens on import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from digits.paths import ROOT

ROOMS = {path.stem: path for path in (ROOT / "src" / "digits").glob("*.py") if path.stem != "__init__"}
FRONT_DOORS = {path.stem: path for path in (ROOT / "src").glob("*.py")}

LAYERS = (
    "terminal paths recipes competition",
    "errors",
    "backend npz credentials warps csv_careful folds submission kaggle_child",
    "augment networks optimizers progress csv_reader processes kaggle_process pictures placement",
    "csv_cache mnist_npz fitting prediction runs scoring ledger",
    "dataset ensemble records checks candidate kaggle_cli",
    "archive jobs provenance results findings standings pseudo kernel_push",
    "blending cluster charts downloading submitting summary tracking",
    "crossval figures pages",
    "report comparison",
    "training",
)
"""From the ground up; a room may import those of lower lines."""
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms.split()}
KERAS_ROOMS = {"augment", "networks", "optimizers", "fitting", "prediction"}
"""They are Keras through and through, and are themselves imported late."""


def imported(tree: ast.AST, level: str = "all") -> set[str]:
    """Return the names of the modules that a file imports; with "module", only those outside functions."""
    names = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and level == "module":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "digits" else set()
            names.add(node.module)
        names |= imported(node, level)
    return names


def rooms_in(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("digits.")}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_from_below(room):
    assert room in LAYER, f"{room} has no place in LAYERS"
    for other in rooms_in(imported(tree_of(ROOMS[room]))):
        assert LAYER[other] < LAYER[room], f"{room} imports {other}, which is not below it"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_nothing_imports_a_front_door(room):
    assert not imported(tree_of(ROOMS[room])) & FRONT_DOORS.keys()


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_room_loads_a_backend_at_module_level(room):
    names = {name.split(".")[0] for name in imported(tree_of(ROOMS[room]), "module")}
    assert not names & {"tensorflow", "jax", "torch", "distributed", "dask"}
    if room not in KERAS_ROOMS:
        assert "keras" not in names
        assert not rooms_in(imported(tree_of(ROOMS[room]), "module")) & KERAS_ROOMS


@pytest.mark.parametrize("path", sorted([*ROOMS.values(), *FRONT_DOORS.values()]), ids=lambda path: path.stem)
def test_a_file_says_its_purpose_in_one_sentence_and_does_nothing_when_imported(path):
    tree = tree_of(path)
    assert (ast.get_docstring(tree) or "").splitlines()[0].rstrip().endswith((".", "?", "`", ":"))
    for node in tree.body[1:]:
        called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        harmless = called and ast.unparse(node.value.func).endswith((".insert", ".append", ".update"))
        assert harmless or not called, f"line {node.lineno}: a call"
        assert not isinstance(node, ast.For | ast.While | ast.With), f"line {node.lineno}: work on import"


def test_importing_the_rooms_prints_and_writes_nothing(tmp_path):
    rooms = sorted(ROOMS.keys() - KERAS_ROOMS)
    code = f"import sys, importlib\nfor room in {rooms}: importlib.import_module('digits.' + room)\n"
    code += "assert not {'keras', 'tensorflow', 'jax', 'torch', 'kaggle', 'distributed'} & sys.modules.keys(), 'loaded'"
    environment = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} <= {".config", ".cache"}, "Matplotlib makes these two itself"


@pytest.mark.parametrize("path", sorted(ROOMS.values()), ids=lambda path: path.stem)
def test_a_room_is_not_a_hall_and_a_function_not_a_corridor(path):
    tree = tree_of(path)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            documented = isinstance(node.body[0], ast.Expr) and len(node.body) > 1
            first = node.body[1 if documented else 0].lineno
            assert node.end_lineno - first < 50, f"{node.name} has {node.end_lineno - first + 1} lines"
