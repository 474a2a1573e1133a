"""Export of a module's private state: memories, mutable globals and tables.

Only the export section grows, and the start section may go. All other bytes stay as they are.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from journal.engine.wasm import binary
from journal.engine.wasm.module_info import ModuleInfo, read_module_info
from journal.errors import ModuleRefused

PREFIX = "journal:"
"""Prefix of the export names that this module adds."""

START_EXPORT = PREFIX + "start"
"""Export name of the start function if the start section was removed."""

_BEFORE_EXPORTS = binary.ORDER[: binary.ORDER.index(binary.EXPORTS)]


class ExportedGlobal(NamedTuple):
    """A mutable global: its export name, its type (a number type, else "ref"), and its index."""

    name: str
    kind: str
    global_index: int


class ExportedState(NamedTuple):
    """A module that exports all of its state, and the export names in index order.

    ``functions`` is empty unless functions were requested. ``has_start`` is true if the module had
    a start function, which is now exported as ``START_EXPORT`` and not run by itself.
    """

    data: bytes
    memories: list[str]
    globals: list[ExportedGlobal]
    tables: list[str]
    functions: list[str]
    has_start: bool


def export_state(module: bytes, *, functions: bool = False, start: bool = False) -> ExportedState:
    """Return a module that exports its state. The module must be valid.

    With ``functions`` the module exports all functions too. With ``start`` the start function
    becomes an export and does not run at instantiation. Raises ModuleRefused for a module that
    cannot be parsed.
    """
    info = read_module_info(module)
    names: dict[tuple[int, int], str] = {}
    for name, item in info.exports.items():
        names.setdefault(item, name)
    new_exports: list[bytes] = []

    def add_exports(kind: int, word: str, indices: Iterable[int]) -> list[str]:
        """Export each item that is not exported, and return the names of all items."""
        for index in indices:
            if (kind, index) not in names:
                name = f"{PREFIX}{word}{index}"
                while name in info.exports:
                    name += "'"
                names[kind, index] = name
                new_exports.append(binary.encode_export(name, kind, index))
        return [names[kind, index] for index in indices]

    memories = add_exports(binary.MEMORY, "memory", range(info.counts[binary.MEMORY]))
    tables = add_exports(binary.TABLE, "table", range(info.counts[binary.TABLE]))
    global_names = add_exports(binary.GLOBAL, "global", info.mutable_globals)
    function_count = info.counts[binary.FUNCTION] if functions else 0
    function_names = add_exports(binary.FUNCTION, "function", range(function_count))
    start_function = info.start_function if start else None
    if start_function is not None:
        new_exports.append(binary.encode_export(START_EXPORT, binary.FUNCTION, start_function))
    globals_ = [
        ExportedGlobal(name, binary.NUMBER_TYPES.get(type_, "ref"), index)
        for name, (index, type_) in zip(global_names, info.mutable_globals.items(), strict=True)
    ]
    is_start_exported = start_function is not None
    data = module
    if new_exports:
        data = _replace_sections(module, info, new_exports, removes_start=is_start_exported)
    return ExportedState(data, memories, globals_, tables, function_names, is_start_exported)


def _replace_sections(
    module: bytes, info: ModuleInfo, new_exports: list[bytes], *, removes_start: bool
) -> bytes:
    """Return the module with more exports, and without its start section, which follows them."""
    sections = {section.id: section for section in info.sections}
    exports = sections.get(binary.EXPORTS)
    _, body = binary.extend_entries(module, exports, *new_exports)
    if exports is not None:
        start, stop = exports.start, exports.stop
    else:
        before = (section.stop for section in info.sections if section.id in _BEFORE_EXPORTS)
        start = stop = max(before, default=len(binary.MAGIC))
    after = module[stop:]
    if removes_start:
        removed = sections[binary.START]
        after = module[stop : removed.start] + module[removed.stop :]
    return module[:start] + binary.encode_section(binary.EXPORTS, body) + after


def has_start(module: bytes) -> bool:
    """Return whether a module has a start function; false if its sections cannot be parsed."""
    with suppress(ModuleRefused):
        return any(section.id == binary.START for section in binary.iter_sections(module))
    return False
