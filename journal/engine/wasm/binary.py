"""The binary format of modules, as far as sections and numbers go: read, and written.

It is that of the WebAssembly specification, section 5. Whatever does not fit it raises
ModuleRefused.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from journal.errors import ModuleRefused

MAGIC = b"\0asm\1\0\0\0"

CUSTOM, TYPES, IMPORTS, FUNCTIONS, TABLES, MEMORIES, GLOBALS = range(7)
EXPORTS, START, ELEMENTS, CODE, DATA, DATA_COUNT, TAGS = range(7, 14)
"""The numbers of sections."""
ORDER = (
    *(TYPES, IMPORTS, FUNCTIONS, TABLES, MEMORIES, TAGS, GLOBALS),
    *(EXPORTS, START, ELEMENTS, DATA_COUNT, CODE, DATA),
)
"""How sections that are not custom follow each other."""

FUNCTION, TABLE, MEMORY, GLOBAL, TAG = range(5)
"""Kinds of what is imported and exported."""

NUMBER_TYPES = frozenset({0x7F, 0x7E, 0x7D, 0x7C, 0x7B})
"""Types of values that are no references: i32, i64, f32, f64 and v128."""
TYPED_REFERENCES = (0x63, 0x64)
"""Types of values behind which stands the type that they refer to."""

_LEB_SIZE_MAX = {32: 5, 64: 10}


class BinaryReader:
    """A place in bytes that moves on as they are read, and never past ``stop``."""

    def __init__(self, data: bytes, at: int, stop: int) -> None:
        self.data, self.offset, self.stop = data, at, stop

    def read_byte(self) -> int:
        """The next byte."""
        if self.offset >= self.stop:
            raise ModuleRefused(f"the module is cut short at offset {self.offset}")
        self.offset += 1
        return self.data[self.offset - 1]

    def read_number(self, bits: int = 32) -> int:
        """A number in LEB128, unsigned; of a signed one, something."""
        value = 0
        for index in range(_LEB_SIZE_MAX[bits]):
            byte = self.read_byte()
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value
        raise ModuleRefused(f"the module has a number that is too long at offset {self.offset}")

    def skip(self, size: int) -> None:
        """Pass over bytes."""
        if size > self.stop - self.offset:
            raise ModuleRefused(f"the module is cut short at offset {self.stop}")
        self.offset += size

    def read_name(self) -> str:
        """A name; one that is no UTF-8 comes out damaged."""
        size = self.read_number()
        start = self.offset
        self.skip(size)
        return self.data[start : self.offset].decode(errors="replace")

    def read_type(self) -> int:
        """The first byte of a value's type; what it refers to is passed over."""
        byte = self.read_byte()
        if byte in TYPED_REFERENCES:
            self.read_number()
        return byte


class Section(NamedTuple):
    """A section: its number, and where its head, its body and what follows begin."""

    id: int
    start: int
    body: int
    stop: int


def iter_sections(module: bytes) -> Iterator[Section]:
    """The sections of a module, in the order in which they stand."""
    if not module.startswith(MAGIC):
        raise ModuleRefused("this is no WebAssembly module of version 1")
    reader = BinaryReader(module, len(MAGIC), len(module))
    while reader.offset < len(module):
        start = reader.offset
        number, size = reader.read_byte(), reader.read_number()
        body = reader.offset
        reader.skip(size)
        yield Section(number, start, body, reader.offset)


def encode_leb128(number: int) -> bytes:
    """A number in unsigned LEB128."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def with_size_prefix(data: bytes | memoryview) -> bytes:
    """Bytes behind their size."""
    return encode_leb128(len(data)) + bytes(data)


def rebuild_module(module: bytes, others: Mapping[int, bytes]) -> bytes:
    """The module with other bodies for some of its sections, or more sections.

    Of custom sections only the names are kept: those of compilers and debuggers tell of places in
    the code that may be elsewhere now, or are of no use to who runs it.
    """
    found: dict[int, bytes | memoryview] = {}
    names = b""
    for one in iter_sections(module):
        if one.id != CUSTOM:
            found[one.id] = memoryview(module)[one.body : one.stop]
        elif BinaryReader(module, one.body, one.stop).read_name() == "name":
            names = module[one.start : one.stop]
    found |= others
    made = [
        bytes([number]) + with_size_prefix(found[number]) for number in ORDER if number in found
    ]
    return b"".join((MAGIC, *made, names))
