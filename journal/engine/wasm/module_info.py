"""What a module declares: its types, imports, memories and exports, and where its code is."""

from collections.abc import Iterator
from typing import NamedTuple

from journal.engine.wasm import binary
from journal.engine.wasm.binary import BinaryReader, Section
from journal.errors import ModuleRefused

_FUNCTION_TYPE = 0x60
_HAS_MAXIMUM, _IS_SHARED, _HAS_64_BITS, _HAS_PAGE_SIZE = 1, 2, 4, 8


class MemoryLimits(NamedTuple):
    """The size of a memory in pages, and what else is said of it."""

    minimum: int
    maximum: int | None
    is_shared: bool = False
    has_64_bits: bool = False
    has_page_size: bool = False


class ModuleInfo:
    """What a module declares. Imports come first in ``counts`` and ``memories``.

    ``parameters`` has the types of the parameters of each type, each once, up to the first type
    that is no function's: then ``has_objects``. ``functions`` has the type's number of each
    function that is not imported.
    """

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.parameters: list[frozenset[int]] = []
        self.has_objects = False
        self.functions: list[int] = []
        self.memories: list[MemoryLimits] = []
        self.imported = [0] * 5
        self.counts = [0] * 5
        self.exports: set[str] = set()
        self.has_start = False
        self.code: Section | None = None

    def number_of(self, index: int) -> int:
        """The number of the function whose body has this index."""
        return self.imported[binary.FUNCTION] + index


def read_module_info(module: bytes) -> ModuleInfo:
    """Read what a module declares; raises ModuleRefused."""
    found = ModuleInfo()
    for section in binary.iter_sections(module):
        found.sections.append(section)
        _read_section(section.number, BinaryReader(module, section.body, section.stop), found)
        if section.number == binary.CODE:
            found.code = section
    return found


def _read_section(number: int, cursor: BinaryReader, found: ModuleInfo) -> None:
    match number:
        case binary.TYPES:
            _read_types(cursor, found)
        case binary.IMPORTS:
            _read_imports(cursor, found)
        case binary.FUNCTIONS:
            found.functions += (cursor.number() for _ in _iter_entries(cursor))
            found.counts[binary.FUNCTION] += len(found.functions)
        case binary.MEMORIES:
            found.memories += (_read_limits(cursor) for _ in _iter_entries(cursor))
            found.counts[binary.MEMORY] = len(found.memories)
        case binary.TABLES | binary.GLOBALS:
            kind = binary.TABLE if number == binary.TABLES else binary.GLOBAL
            found.counts[kind] += cursor.number()
        case binary.EXPORTS:
            found.exports.update(_read_export_name(cursor) for _ in _iter_entries(cursor))
        case binary.START:
            found.has_start = True


def _iter_entries(cursor: BinaryReader) -> Iterator[int]:
    return iter(range(cursor.number()))


def _read_types(cursor: BinaryReader, found: ModuleInfo) -> None:
    for _ in _iter_entries(cursor):
        if cursor.byte() != _FUNCTION_TYPE:
            found.has_objects = True
            return
        found.parameters.append(frozenset(cursor.type() for _ in _iter_entries(cursor)))
        for _ in _iter_entries(cursor):
            cursor.type()


def _read_imports(cursor: BinaryReader, found: ModuleInfo) -> None:
    for _ in _iter_entries(cursor):
        _read_import(cursor, found)
    found.imported = found.counts.copy()


def _read_import(cursor: BinaryReader, found: ModuleInfo) -> None:
    cursor.name(), cursor.name()
    kind = cursor.byte()
    match kind:
        case binary.FUNCTION:
            cursor.number()
        case binary.TABLE:
            cursor.type()
            _read_limits(cursor)
        case binary.MEMORY:
            found.memories.append(_read_limits(cursor))
        case binary.GLOBAL:
            cursor.type()
            cursor.skip(1)
        case binary.TAG:
            cursor.skip(1)
            cursor.number()
        case _:
            raise ModuleRefused(f"the module has an import of the unknown kind {kind}")
    found.counts[kind] += 1


def _read_export_name(cursor: BinaryReader) -> str:
    name = cursor.name()
    cursor.skip(1)
    cursor.number()
    return name


def _read_limits(cursor: BinaryReader) -> MemoryLimits:
    flags = cursor.byte()
    minimum = cursor.number(64)
    maximum = cursor.number(64) if flags & _HAS_MAXIMUM else None
    if flags & _HAS_PAGE_SIZE:
        cursor.number()
    return MemoryLimits(
        minimum,
        maximum,
        bool(flags & _IS_SHARED),
        bool(flags & _HAS_64_BITS),
        bool(flags & _HAS_PAGE_SIZE),
    )
