"""The public names of the library: no class name has two meanings, and every type has a place."""

from __future__ import annotations

import ast
import inspect
import sys
import typing
from collections import defaultdict
from collections.abc import Iterator
from enum import Enum
from functools import cache
from importlib import import_module
from types import FunctionType, ModuleType

import journal
from journal import engine
from journal.adapters import PipeSink, PipeSource
from journal.events import FAMILIES
from tests.support.programs import ROOT
from tests.support.public_calls import ROOMS as CALLED_ROOMS

ROOMS = (
    *CALLED_ROOMS,
    "journal.events.definition",
    "journal.events.wire_types",
    "journal.format",
    "journal.vfs",
    "journal.replay.state",
)
"""Modules with public names: docs/reference/api.md describes each."""

MADE_BY_FUNCTIONS = {
    journal.Recorder,
    PipeSink,
    PipeSource,
    engine.AsyncOutput,
    engine.AsyncSession,
    engine.AsyncPooledSession,
    engine.AsyncSandboxSession,
    engine.GuestSession,
    engine.PooledSession,
    engine.PooledInstance,
    engine.SandboxSession,
    engine.Session,
    engine.SessionOpener,
}
"""Classes that users get from a function: their constructors are private."""


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for folder in ("journal", "cli/journaltool"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_name_that_is_listed_can_be_imported() -> None:
    for room in ROOMS:
        module = import_module(room)
        for name in public_names(module):
            assert hasattr(module, name), f"{room}.{name}"


def test_every_type_in_a_public_signature_has_a_public_place() -> None:
    public = {id(found) for found in public_objects()}
    missing = {
        f"{kind.__module__}.{kind.__name__} (in {owner})"
        for found in public_objects()
        for owner, kind in types_of(found)
        if id(kind) not in public
    }
    assert sorted(missing) == []


def public_names(module: ModuleType) -> list[str]:
    names = getattr(module, "__all__", None)
    return list(names) if names is not None else [n for n in vars(module) if n[0] != "_"]


def public_objects() -> list[object]:
    """Return everything that a room or a family of events exports."""
    modules = [*map(import_module, ROOMS), *FAMILIES, journal.errors]
    return [getattr(module, name) for module in modules for name in public_names(module)]


def types_of(found: object) -> Iterator[tuple[str, type]]:
    """Yield the classes of this library in the signatures of a function or of a class."""
    functions: list[FunctionType] = []
    if isinstance(found, FunctionType):
        functions = [found]
    elif isinstance(found, type) and not issubclass(found, Enum):
        functions = [member for name, member in members(found) if is_public(found, name)]
    for function in functions:
        if function.__module__.startswith("journal."):
            for hint in hints(function).values():
                for kind in classes_in(hint):
                    yield function.__qualname__, kind


def members(owner: type) -> Iterator[tuple[str, FunctionType]]:
    for name, member in inspect.getmembers_static(owner):
        while isinstance(member, property | classmethod | staticmethod):
            member = member.fget if isinstance(member, property) else member.__func__
        if isinstance(member, FunctionType):
            yield name, member


def is_public(owner: type, name: str) -> bool:
    if name == "__init__":
        return owner not in MADE_BY_FUNCTIONS
    return not name.startswith("_") or name in ("__enter__", "__iter__", "__call__")


def hints(function: FunctionType) -> dict[str, object]:
    """Return the types of a signature; modules may import some of them for type checkers alone."""
    names = names_in(sys.modules[function.__module__])
    return typing.get_type_hints(function, names, names)


@cache
def names_in(module: ModuleType) -> dict[str, object]:
    """Return what the annotations of a module can name."""
    types = [found for found in public_objects() if isinstance(found, type)]
    names: dict[str, object] = {found.__name__: found for found in types}
    names |= vars(module)
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module.__name__, "exec"), names)
    names["array"] = list  # Python 3.11 has no array[int] at run time
    return names


def classes_in(hint: object) -> Iterator[type]:
    if isinstance(hint, type) and hint.__module__.partition(".")[0] == "journal":
        yield hint
    for part in typing.get_args(hint):
        for one in part if isinstance(part, list) else [part]:
            yield from classes_in(one)
