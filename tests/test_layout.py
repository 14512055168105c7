"""The project layout: imports point down, Keras loads late, and nothing happens on import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from digits.files import ROOT

SRC = ROOT / "src"
PACKAGES = ("root", "data", "model", "runs", "kaggle", "report", "inference", "training")
"""A module imports from its own package and from those to its left."""
MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts): path
    for path in sorted((SRC / "digits").rglob("*.py"))
    if path.stem != "__init__"
}
ENTRY_POINTS = {path.stem: path for path in sorted(SRC.glob("*.py"))}
KERAS_MODULES = {f"digits.{name}" for name in ("model.networks", "model.trainer", "model.predict", "model.ensemble")}
"""They need Keras at module level, and are themselves imported inside functions."""


def package_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 2 else "root"


def imported(tree: ast.AST, level: str = "all") -> set[str]:
    """Return the names of the modules that a file imports; with "module", only those that it imports at once."""
    names = set()
    for node in ast.iter_child_nodes(tree):
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if level == "module" and (is_for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        names |= imported(node, level)
    return names


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_a_module_imports_only_from_its_own_package_and_those_before_it():
    for module, path in MODULES.items():
        place = PACKAGES.index(package_of(module))
        for other in imported(tree_of(path)) & MODULES.keys():
            assert PACKAGES.index(package_of(other)) <= place, f"{module} imports {other}, which is above it"


def test_modules_do_not_import_each_other_in_a_circle():
    graph = {module: imported(tree_of(path)) & MODULES.keys() for module, path in MODULES.items()}
    while ready := {module for module, others in graph.items() if not others & graph.keys()}:
        graph = {module: others for module, others in graph.items() if module not in ready}
    assert not graph, f"a circle among {', '.join(sorted(graph))}"


def test_each_module_is_imported_and_no_entry_point_is():
    users = [*MODULES.values(), *ENTRY_POINTS.values()]
    used = set().union(*(imported(tree_of(path)) for path in users))
    assert not used & ENTRY_POINTS.keys()
    started = {"digits.kaggle.child"}  # By its file, in a process of its own.
    assert MODULES.keys() - used <= started


def test_keras_and_its_backends_are_imported_inside_functions():
    for module, path in MODULES.items():
        names = imported(tree_of(path), "module")
        tops = {name.split(".")[0] for name in names}
        assert not tops & {"tensorflow", "jax", "torch", "distributed", "dask"}, module
        if module not in KERAS_MODULES:
            assert "keras" not in tops, module
            assert not names & KERAS_MODULES, module


@pytest.mark.parametrize("path", [*MODULES.values(), *ENTRY_POINTS.values()], ids=lambda path: path.stem)
def test_a_file_says_its_purpose_in_one_sentence_and_does_nothing_when_imported(path):
    tree = tree_of(path)
    assert (ast.get_docstring(tree) or "").splitlines()[0].rstrip().endswith((".", "?", "`", ":"))
    for node in tree.body[1:]:
        called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        harmless = called and ast.unparse(node.value.func).endswith((".insert", ".append", ".update"))
        assert harmless or not called, f"line {node.lineno}: a call"
        assert not isinstance(node, ast.For | ast.While | ast.With), f"line {node.lineno}: work on import"


def test_importing_the_modules_prints_and_writes_nothing(tmp_path):
    modules = sorted(MODULES.keys() - KERAS_MODULES)
    code = f"import sys, importlib\nfor name in {modules}: importlib.import_module(name)\n"
    late = {"keras", "tensorflow", "jax", "torch", "kaggle", "requests", "distributed"}
    code += f"assert not {late} & sys.modules.keys(), 'loaded'"
    environment = {"PYTHONPATH": str(SRC), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} <= {".config", ".cache"}, "Matplotlib makes these two itself"
