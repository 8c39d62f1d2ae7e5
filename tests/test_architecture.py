"""The shape of the code: what imports what, what no file may do, and how large things may grow."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import faults

ROOT = Path(__file__).parents[1]
# From the bottom up: a package imports those before it and itself, never those after it.
LAYERS = ("vault", "blocks", "tasks", "flows", "deployments", "cli", "console")
MAX_FILE, MAX_FUNCTION = 300, 50
# What is larger, and how large it may be at most. Shrink it or split it before adding to this list.
LARGER_FILES = {
    "vault/archive.py": 330,
    "vault/spool.py": 340,
    "blocks/destinations/local.py": 350,
}
LARGER_FUNCTIONS: dict[str, int] = {}

OURS = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
each_of_ours = pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[str]:
    """The absolute names of all modules that *path* imports, wherever in the file."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*base, *([node.module] if node.module else [])])


def calls(path: Path, dotted: str) -> list[int]:
    return [n.lineno for n in ast.walk(tree(path)) if isinstance(n, ast.Call) and ast.unparse(n.func) == dotted]


@each_of_ours
def test_imports_go_down_only(path):
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    upward = {name for name in imports(path) if name.split(".")[0] in (*LAYERS[layer + 1 :], "tests", "bench")}
    assert not upward


def test_every_package_of_ours_is_installed():
    there = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in OURS}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("path", sorted((ROOT / "vault").rglob("*.py")), ids=lambda path: path.name)
def test_the_vault_knows_neither_prefect_nor_a_network_nor_a_clock(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert roots.isdisjoint({"prefect", "prefect_aws", "socket", "http", "httpx", "requests", "paramiko", "boto3"})
    assert not calls(path, "datetime.now")
    assert not calls(path, "time.time")


def test_no_flow_file_shadows_a_module():
    """Prefect puts flows/ first on sys.path when it loads an entrypoint."""
    names = {path.stem for path in (ROOT / "flows").glob("*.py")} - {"__init__"}
    top = {path.stem for path in ROOT.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert names.isdisjoint(top | sys.stdlib_module_names)


@each_of_ours
def test_no_shell_ever_reads_a_command(path):
    keywords = {
        keyword.arg: ast.unparse(keyword.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
    }
    assert keywords.get("shell") in (None, "False")
    assert not calls(path, "os.system")
    assert not calls(path, "os.popen")


@each_of_ours
def test_no_error_is_swallowed(path):
    silent = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and all(isinstance(line, ast.Pass) for line in node.body)
    ]
    assert not silent


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_waits_for_time_to_pass(path):
    """Wait for what must happen, with a bound, not for a time that is too short on a busy machine."""
    assert not calls(path, "time.sleep")
    assert not calls(path, "sleep")


@each_of_ours
def test_files_and_functions_stay_small(path):
    name = str(path.relative_to(ROOT))
    assert len(path.read_text().splitlines()) <= LARGER_FILES.get(name, MAX_FILE)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :] or node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1
            assert lines <= LARGER_FUNCTIONS.get(f"{name}:{node.name}", MAX_FUNCTION), node.name


def test_every_case_in_scope_is_in_the_catalogue():
    text = faults.CATALOGUE.read_text()
    assert faults.scope(text) <= set(faults.cases(text))
    assert len(set(faults.cases(text))) == len(faults.cases(text))
