"""Structure of the tests: helpers are in tests/support, and test modules import no test module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import ROOT

TESTS = ROOT / "tests"
SELF = Path(__file__).resolve()


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names of imported modules and of objects imported from modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def embedded_programs(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the syntax trees of string literals that are programs with imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() as text) if "import " in text:
                try:
                    yield ast.parse(text)
                except SyntaxError:
                    continue


def imported_test_modules(source: str) -> set[str]:
    """Return the test modules that a module imports, also in the programs that it starts."""
    tree = ast.parse(source)
    names = {name for part in (tree, *embedded_programs(tree)) for name in imported_modules(part)}
    return {name for name in names if any(part.startswith("test_") for part in name.split("."))}


@pytest.mark.parametrize(
    "source",
    [
        "import tests.log.test_reader",
        "from tests.log.test_reader import path",
        "from tests.log import test_reader",
        "from .test_reader import path",
        "def run():\n    from tests.log.test_reader import path",
        "PROGRAM = 'from tests.log.test_reader import path'",
    ],
)
def test_an_import_of_a_test_module_is_found(source: str) -> None:
    assert imported_test_modules(source)


def test_no_module_imports_a_test_module() -> None:
    paths = [path for path in sorted(TESTS.rglob("*.py")) if path != SELF]
    assert len(paths) > 100
    found = {str(path.relative_to(ROOT)): imported_test_modules(path.read_text()) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}
