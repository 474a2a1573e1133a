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

    def function_index(self, index: int) -> int:
        """The number of the function whose body has this index."""
        return self.imported[binary.FUNCTION] + index


def read_module_info(module: bytes) -> ModuleInfo:
    """Read what a module declares; raises ModuleRefused."""
    found = ModuleInfo()
    for section in binary.iter_sections(module):
        found.sections.append(section)
        _read_section(section.id, BinaryReader(module, section.body, section.stop), found)
        if section.id == binary.CODE:
            found.code = section
    return found


def _read_section(number: int, reader: BinaryReader, found: ModuleInfo) -> None:
    match number:
        case binary.TYPES:
            _read_types(reader, found)
        case binary.IMPORTS:
            _read_imports(reader, found)
        case binary.FUNCTIONS:
            found.functions += (reader.read_number() for _ in _iter_entries(reader))
            found.counts[binary.FUNCTION] += len(found.functions)
        case binary.MEMORIES:
            found.memories += (_read_limits(reader) for _ in _iter_entries(reader))
            found.counts[binary.MEMORY] = len(found.memories)
        case binary.TABLES | binary.GLOBALS:
            kind = binary.TABLE if number == binary.TABLES else binary.GLOBAL
            found.counts[kind] += reader.read_number()
        case binary.EXPORTS:
            found.exports.update(_read_export_name(reader) for _ in _iter_entries(reader))
        case binary.START:
            found.has_start = True


def _iter_entries(reader: BinaryReader) -> Iterator[int]:
    return iter(range(reader.read_number()))


def _read_types(reader: BinaryReader, found: ModuleInfo) -> None:
    for _ in _iter_entries(reader):
        if reader.read_byte() != _FUNCTION_TYPE:
            found.has_objects = True
            return
        found.parameters.append(frozenset(reader.read_type() for _ in _iter_entries(reader)))
        for _ in _iter_entries(reader):
            reader.read_type()


def _read_imports(reader: BinaryReader, found: ModuleInfo) -> None:
    for _ in _iter_entries(reader):
        _read_import(reader, found)
    found.imported = found.counts.copy()


def _read_import(reader: BinaryReader, found: ModuleInfo) -> None:
    reader.read_name(), reader.read_name()
    kind = reader.read_byte()
    match kind:
        case binary.FUNCTION:
            reader.read_number()
        case binary.TABLE:
            reader.read_type()
            _read_limits(reader)
        case binary.MEMORY:
            found.memories.append(_read_limits(reader))
        case binary.GLOBAL:
            reader.read_type()
            reader.skip(1)
        case binary.TAG:
            reader.skip(1)
            reader.read_number()
        case _:
            raise ModuleRefused(f"the module has an import of the unknown kind {kind}")
    found.counts[kind] += 1


def _read_export_name(reader: BinaryReader) -> str:
    name = reader.read_name()
    reader.skip(1)
    reader.read_number()
    return name


def _read_limits(reader: BinaryReader) -> MemoryLimits:
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
