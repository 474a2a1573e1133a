"""Declarations of a module: types, imports, globals and exports, and the offset of its code."""

from collections.abc import Iterator
from typing import NamedTuple

from journal.engine.wasm import binary
from journal.engine.wasm.binary import NUMBER_TYPES, BinaryReader, Section
from journal.engine.wasm.function_bodies import skip_expression
from journal.errors import ModuleRefused

_FUNCTION_TYPE = 0x60
_FUNCTION_REFERENCES = (0x70, 0x73)
"""Types of references to functions, and of the null among them."""
_TABLE_WITH_EXPRESSION = 0x40
_HAS_MAXIMUM, _IS_SHARED, _HAS_64_BITS, _HAS_PAGE_SIZE = 1, 2, 4, 8


class MemoryLimits(NamedTuple):
    """Minimum and maximum size of a memory in pages or of a table in elements, and other flags."""

    minimum: int
    maximum: int | None
    is_shared: bool = False
    has_64_bits: bool = False
    has_page_size: bool = False


class ModuleInfo:
    """Declarations of a module. Imports come first in ``counts``, ``memories`` and ``tables``.

    ``parameters`` has the set of parameter types of each function type, up to the first type that
    is not a function type; then ``has_objects`` is true. ``functions`` has the type index of each
    function that is not imported. ``mutable_globals`` has the value type of each mutable global by
    its index, ``exports`` the kind and the index of each exported item by its name.
    ``has_references`` is true if a table or a global holds references other than functions.
    """

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.parameters: list[frozenset[int]] = []
        self.has_objects = False
        self.functions: list[int] = []
        self.memories: list[MemoryLimits] = []
        self.tables: list[MemoryLimits] = []
        self.has_references = False
        self.mutable_globals: dict[int, int] = {}
        self.import_counts = [0] * 5
        self.counts = [0] * 5
        self.exports: dict[str, tuple[int, int]] = {}
        self.start_function: int | None = None
        self.code: Section | None = None

    def function_index(self, index: int) -> int:
        """Return the index of the function whose body has this position in the code section."""
        return self.import_counts[binary.FUNCTION] + index


def read_module_info(module: bytes) -> ModuleInfo:
    """Read the declarations of a module; raises ModuleRefused."""
    info = ModuleInfo()
    for section in binary.iter_sections(module):
        info.sections.append(section)
        _read_section(section.id, BinaryReader(module, section.body, section.stop), info)
        if section.id == binary.CODE:
            info.code = section
    return info


def _read_section(id_: int, reader: BinaryReader, info: ModuleInfo) -> None:
    match id_:
        case binary.TYPES:
            _read_types(reader, info)
        case binary.IMPORTS:
            _read_imports(reader, info)
        case binary.FUNCTIONS:
            info.functions += (reader.read_number() for _ in _iter_entries(reader))
            info.counts[binary.FUNCTION] += len(info.functions)
        case binary.MEMORIES:
            info.memories += (read_limits(reader) for _ in _iter_entries(reader))
            info.counts[binary.MEMORY] = len(info.memories)
        case binary.TABLES:
            _read_tables(reader, info)
        case binary.TAGS:
            info.counts[binary.TAG] += reader.read_count()
        case binary.GLOBALS:
            _read_globals(reader, info)
        case binary.EXPORTS:
            info.exports.update(_read_export(reader) for _ in _iter_entries(reader))
        case binary.START:
            info.start_function = reader.read_number()


def _iter_entries(reader: BinaryReader) -> Iterator[int]:
    return iter(range(reader.read_number()))


def _read_types(reader: BinaryReader, info: ModuleInfo) -> None:
    for _ in _iter_entries(reader):
        if reader.read_byte() != _FUNCTION_TYPE:
            info.has_objects = True
            return
        info.parameters.append(frozenset(reader.read_type() for _ in _iter_entries(reader)))
        for _ in _iter_entries(reader):
            reader.read_type()


def _read_imports(reader: BinaryReader, info: ModuleInfo) -> None:
    for _ in _iter_entries(reader):
        _read_import(reader, info)
    info.import_counts = info.counts.copy()


def _read_import(reader: BinaryReader, info: ModuleInfo) -> None:
    reader.read_name(), reader.read_name()
    kind = reader.read_byte()
    match kind:
        case binary.FUNCTION:
            reader.read_number()
        case binary.TABLE:
            _read_table_type(reader.read_type(), reader, info)
        case binary.MEMORY:
            info.memories.append(read_limits(reader))
        case binary.GLOBAL:
            _read_global_type(reader, info)
            return
        case binary.TAG:
            reader.skip(1)
            reader.read_number()
        case _:
            raise ModuleRefused(
                f"the module has an import of the unknown kind {kind}; 0 to 4 are known"
            )
    info.counts[kind] += 1


def _read_globals(reader: BinaryReader, info: ModuleInfo) -> None:
    for _ in _iter_entries(reader):
        _read_global_type(reader, info)
        skip_expression(reader)


def _read_tables(reader: BinaryReader, info: ModuleInfo) -> None:
    for _ in _iter_entries(reader):
        _read_table(reader, info)
    info.counts[binary.TABLE] = len(info.tables)


def _read_table(reader: BinaryReader, info: ModuleInfo) -> None:
    """Read a table, which may have an expression for its first elements."""
    first = reader.read_byte()
    if first != _TABLE_WITH_EXPRESSION:
        reader.offset -= 1
        _read_table_type(reader.read_type(), reader, info)
        return
    reader.skip(1)
    _read_table_type(reader.read_type(), reader, info)
    skip_expression(reader)


def _read_table_type(type_: int, reader: BinaryReader, info: ModuleInfo) -> None:
    info.has_references |= type_ not in _FUNCTION_REFERENCES
    info.tables.append(read_limits(reader))


def _read_global_type(reader: BinaryReader, info: ModuleInfo) -> None:
    type_, is_mutable = reader.read_type(), reader.read_byte()
    info.has_references |= type_ not in NUMBER_TYPES and type_ not in _FUNCTION_REFERENCES
    if is_mutable:
        info.mutable_globals[info.counts[binary.GLOBAL]] = type_
    info.counts[binary.GLOBAL] += 1


def _read_export(reader: BinaryReader) -> tuple[str, tuple[int, int]]:
    return reader.read_name(), (reader.read_byte(), reader.read_number())


def read_limits(reader: BinaryReader) -> MemoryLimits:
    """Read the limits of a memory or a table."""
    flags = reader.read_byte()
    minimum = reader.read_number(64)
    maximum = reader.read_number(64) if flags & _HAS_MAXIMUM else None
    if flags & _HAS_PAGE_SIZE:
        reader.read_number()
    return MemoryLimits(
        minimum,
        maximum,
        bool(flags & _IS_SHARED),
        bool(flags & _HAS_64_BITS),
        bool(flags & _HAS_PAGE_SIZE),
    )
