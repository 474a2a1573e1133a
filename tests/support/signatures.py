"""Types in the signatures of public functions, and whether a value fits them."""

from __future__ import annotations

import ast
import inspect
import os
import sys
import typing
from collections.abc import Container, Iterable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any

from journal.compaction import OnlineCompactionResult
from journal.errors import JournalError


def read_hints(function: Any) -> dict[str, Any]:
    """Return the types of a signature; modules may import some of them for type checkers alone."""
    module = sys.modules[function.__module__]
    # An alias of another module may name a class by its text.
    names = {"OnlineCompactionResult": OnlineCompactionResult, "JournalError": JournalError}
    return typing.get_type_hints(function, None, names | _names_in(module))


@cache
def _names_in(module: ModuleType) -> dict[str, Any]:
    names = dict(vars(module))
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module.__name__, "exec"), names)
    return names


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type; True where that is hard to say."""
    arguments = typing.get_args(hint)
    if isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union:
        return any(fits(value, each) for each in arguments)
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        is_number = isinstance(value, int if hint is int else int | float)
        return is_number and not isinstance(value, bool) and (hint is int or abs(value) < 1e300)
    if hint is bytes:
        return isinstance(value, bytes | bytearray | memoryview)
    if hint is Path:
        return isinstance(value, str | os.PathLike)
    if isinstance(hint, type) and issubclass(hint, Enum):
        is_value = isinstance(value, str | int) and not isinstance(value, bool)
        return isinstance(value, hint) or (is_value and value in [each.value for each in hint])
    if getattr(hint, "_is_protocol", False):
        names = [name for name in vars(hint) if name[0] != "_"]
        return not isinstance(value, type) and all(hasattr(value, name) for name in names)
    origin = typing.get_origin(hint)
    if isinstance(origin, type):
        return _fits_generic(value, origin, arguments)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _fits_generic(value: Any, origin: type, arguments: tuple[Any, ...]) -> bool:
    if origin is type or not issubclass(origin, Iterable | Container):
        return isinstance(value, origin)
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(value, str | bytes | bytearray | type | Mapping):
        return False
    if not isinstance(value, Iterable if issubclass(origin, Iterable) else Container):
        return False
    items = list(value) if isinstance(value, list | tuple | set | frozenset) else []
    return all(fits(item, arguments[0]) for item in items) if arguments else True
