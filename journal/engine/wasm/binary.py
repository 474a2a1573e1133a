"""Reader and writer of the WebAssembly binary format: sections and LEB128 numbers.

The format is section 5 of the WebAssembly specification. Invalid input raises ModuleRefused.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from journal.errors import ModuleRefused

MAGIC = b"\0asm\1\0\0\0"

CUSTOM, TYPES, IMPORTS, FUNCTIONS, TABLES, MEMORIES, GLOBALS = range(7)
EXPORTS, START, ELEMENTS, CODE, DATA, DATA_COUNT, TAGS = range(7, 14)
"""Section ids."""
ORDER = (
    *(TYPES, IMPORTS, FUNCTIONS, TABLES, MEMORIES, TAGS, GLOBALS),
    *(EXPORTS, START, ELEMENTS, DATA_COUNT, CODE, DATA),
)
"""Order of the sections that are not custom sections."""

FUNCTION, TABLE, MEMORY, GLOBAL, TAG = range(5)
"""Kinds of imports and exports."""

NUMBER_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128"}
"""Value types that are not references, and their names."""
TYPED_REFERENCES = (0x63, 0x64)
"""Value types that are followed by a heap type."""

_LEB_SIZE_MAX = {32: 5, 64: 10}


class BinaryReader:
    """A read position in a byte string that never passes ``stop``."""

    def __init__(self, data: bytes, offset: int, stop: int) -> None:
        self.data, self.offset, self.stop = data, offset, stop

    def read_byte(self) -> int:
        """Read one byte."""
        if self.offset >= self.stop:
            raise ModuleRefused(f"the module is truncated at offset {self.offset}")
        self.offset += 1
        return self.data[self.offset - 1]

    def read_number(self, bits: int = 32) -> int:
        """Read an unsigned LEB128 number. The value of a signed number is not meaningful."""
        value = 0
        for index in range(_LEB_SIZE_MAX[bits]):
            byte = self.read_byte()
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value
        raise ModuleRefused(
            f"LEB128 number at offset {self.offset} is longer than {_LEB_SIZE_MAX[bits]} bytes"
        )

    def read_count(self) -> int:
        """Read the number of entries that follow, at most one for each byte before ``stop``."""
        count = self.read_number()
        if count > self.stop - self.offset:
            raise ModuleRefused(f"the module is truncated at offset {self.stop}")
        return count

    def skip(self, size: int) -> None:
        """Skip ``size`` bytes."""
        if size > self.stop - self.offset:
            raise ModuleRefused(f"the module is truncated at offset {self.stop}")
        self.offset += size

    def read_name(self) -> str:
        """Read a name; invalid UTF-8 is replaced."""
        size = self.read_number()
        start = self.offset
        self.skip(size)
        return self.data[start : self.offset].decode(errors="replace")

    def read_type(self) -> int:
        """Read the first byte of a value type, and skip the heap type that may follow."""
        byte = self.read_byte()
        if byte in TYPED_REFERENCES:
            self.read_number()
        return byte


class Section(NamedTuple):
    """A section: its id, and the offsets of its header, of its body and of its end."""

    id: int
    start: int
    body: int
    stop: int


def iter_sections(module: bytes) -> Iterator[Section]:
    """Yield the sections of a module in file order."""
    if not module.startswith(MAGIC):
        raise ModuleRefused("the data is not a WebAssembly module of version 1")
    reader = BinaryReader(module, len(MAGIC), len(module))
    while reader.offset < len(module):
        start = reader.offset
        id_, size = reader.read_byte(), reader.read_number()
        body = reader.offset
        reader.skip(size)
        yield Section(id_, start, body, reader.offset)


def encode_leb128(number: int) -> bytes:
    """Return a number as unsigned LEB128."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def add_size_prefix(data: bytes | memoryview) -> bytes:
    """Return the data, preceded by its size."""
    return encode_leb128(len(data)) + bytes(data)


def encode_section(id_: int, body: bytes | memoryview) -> bytes:
    """Return a section with its header."""
    return bytes([id_]) + add_size_prefix(body)


def encode_export(name: str, kind: int, index: int) -> bytes:
    """Return an entry of the export section."""
    return add_size_prefix(name.encode()) + bytes([kind]) + encode_leb128(index)


def extend_entries(module: bytes, section: Section | None, *entries: bytes) -> tuple[int, bytes]:
    """Return the number of entries of a section, and its body with more entries appended."""
    if section is None:
        return 0, encode_leb128(len(entries)) + b"".join(entries)
    reader = BinaryReader(module, section.body, section.stop)
    count = reader.read_number()
    entries_before = module[reader.offset : section.stop]
    return count, encode_leb128(count + len(entries)) + entries_before + b"".join(entries)


def rebuild_module(module: bytes, new_bodies: Mapping[int, bytes]) -> bytes:
    """Return a module in which ``new_bodies`` replaces section bodies or adds sections.

    The name section is the only custom section that is kept. Custom sections of compilers and
    debuggers refer to code offsets that may have changed.
    """
    bodies: dict[int, bytes | memoryview] = {}
    names = b""
    for section in iter_sections(module):
        if section.id != CUSTOM:
            bodies[section.id] = memoryview(module)[section.body : section.stop]
        elif BinaryReader(module, section.body, section.stop).read_name() == "name":
            names = module[section.start : section.stop]
    bodies |= new_bodies
    sections = [encode_section(id_, bodies[id_]) for id_ in ORDER if id_ in bodies]
    return b"".join((MAGIC, *sections, names))
