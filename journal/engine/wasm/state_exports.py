"""Makes a module's private state visible: appends exports for memories, mutable globals and tables.

It only adds to the export section, so that the code, which is most of a module, is not looked at.
The binary format is that of the WebAssembly specification, section 5.5 (Modules).
"""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from journal.errors import ModuleRefused

PREFIX = "journal:"
"""What the names of our own exports begin with."""

START_EXPORT = PREFIX + "start"
"""What was the start function, where it is not run by itself."""

_IMPORTS, _FUNCTIONS, _TABLES, _MEMORIES, _GLOBALS, _EXPORTS, _START = 2, 3, 4, 5, 6, 7, 8
_CUSTOM, _TAGS, _DATA_COUNT = 0, 13, 12
_FUNCTION, _TABLE, _MEMORY, _GLOBAL, _TAG = range(5)
_NUMBER_BITS_MAX = 70
_MAGIC = b"\0asm\1\0\0\0"
_END = 0x0B
_COUNTED_KINDS = {_FUNCTIONS: _FUNCTION, _TABLES: _TABLE, _MEMORIES: _MEMORY}
_AFTER_EXPORTS = {8, 9, 10, 11, _DATA_COUNT}
_NUMBER_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128"}


class ExportedGlobal(NamedTuple):
    """A mutable global: its export's name, its type (of a number, else "ref"), and its number."""

    name: str
    kind: str
    global_index: int


class ExportedState(NamedTuple):
    """A module all of whose state is exported, and the names, in the order of their indices.

    ``functions`` is empty unless they were asked for. ``has_start`` says that the module had a
    start function: it is exported as ``START_EXPORT`` and not run by itself.
    """

    data: bytes
    memories: list[str]
    globals: list[ExportedGlobal]
    tables: list[str]
    functions: list[str]
    has_start: bool


def export_state(module: bytes, *, functions: bool = False, start: bool = False) -> ExportedState:
    """Give a module that exports its state, else the same. It must be one that is valid.

    With ``functions`` it exports all of those too, with ``start`` the start function in place of
    running it. Raises ModuleRefused for what this does not know how to read.
    """
    if not module.startswith(_MAGIC):
        raise ModuleRefused("this is no WebAssembly module of version 1")
    found = _Declarations()
    try:
        for section in _iter_sections(module):
            if section.number == _START:
                found.start = section.start, section.stop, section.body.number()
            _read_section(section, found)
        return _add_exports(module, found, functions=functions, start=start)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ModuleRefused(f"the module cannot be read: {error}") from error


def has_start(module: bytes) -> bool:
    """Whether a module has a start function, as far as its sections can be told apart."""
    try:
        return any(section.number == _START for section in _iter_sections(module))
    except IndexError:
        return False


class _OpenSection(NamedTuple):
    number: int
    start: int
    """Where its number stands."""
    body: "_ByteReader"
    stop: int


class _ByteReader:
    """A place in bytes that moves on as they are read."""

    def __init__(self, data: bytes, at: int, stop: int) -> None:
        self._data, self.at, self.stop = data, at, stop

    def byte(self) -> int:
        if self.at >= self.stop:
            raise IndexError("a section ends too early")
        self.at += 1
        return self._data[self.at - 1]

    def number(self) -> int:
        """An unsigned number in LEB128; of a signed one, something."""
        value = 0
        for shift in range(0, _NUMBER_BITS_MAX, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise IndexError("a number has no end")

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > self.stop:
            raise IndexError("a section ends too early")

    def name(self) -> str:
        size = self.number()
        start = self.at
        self.skip(size)
        return self._data[start : self.at].decode()

    def rest(self) -> bytes:
        return self._data[self.at : self.stop]


class _Declarations:
    """What a module has: how many of each, and what it exports already."""

    def __init__(self) -> None:
        self.counts = [0] * 5
        self.globals: list[tuple[int, str]] = []  # the index and type of each that is mutable
        self.exports: dict[tuple[int, int], str] = {}
        self.names: set[str] = set()
        self.export_section: tuple[int, int, bytes] | None = None  # from, to, the entries
        self.exports_belong = 0
        self.start: tuple[int, int, int] | None = None  # from, to, the function's index


def _iter_sections(module: bytes) -> Iterator[_OpenSection]:
    at = len(_MAGIC)
    while at < len(module):
        head = _ByteReader(module, at, len(module))
        number, size = head.byte(), head.number()
        stop = head.at + size
        if stop > len(module):
            raise IndexError("the module ends inside a section")
        yield _OpenSection(number, at, _ByteReader(module, head.at, stop), stop)
        at = stop


def _read_section(section: _OpenSection, found: _Declarations) -> None:
    body, number = section.body, section.number
    if number != _CUSTOM and number not in _AFTER_EXPORTS:
        found.exports_belong = section.stop
    if number == _IMPORTS:
        for _ in range(body.number()):
            body.name(), body.name()
            found.counts[_skip_import(body, found)] += 1
    elif number in _COUNTED_KINDS:
        found.counts[_COUNTED_KINDS[number]] += body.number()
    elif number == _GLOBALS:
        for _ in range(body.number()):
            _read_global(body, found)
            _skip_expression(body)
    elif number == _EXPORTS:
        count, start = body.number(), body.at
        entries = body.rest()
        for _ in range(count):
            name, kind, index = body.name(), body.byte(), body.number()
            found.exports.setdefault((kind, index), name)
            found.names.add(name)
        assert body.at - start == len(entries)
        found.export_section = section.start, section.stop, entries


def _skip_import(body: _ByteReader, found: _Declarations) -> int:
    kind = body.byte()
    if kind == _FUNCTION:
        body.number()
    elif kind == _TABLE:
        _read_type(body)
        _skip_limits(body)
    elif kind == _MEMORY:
        _skip_limits(body)
    elif kind == _GLOBAL:
        name = _read_type(body)
        if body.byte():
            found.globals.append((found.counts[_GLOBAL], name))
    elif kind == _TAG:
        body.skip(1)
        body.number()
    else:
        raise IndexError(f"an import of the unknown kind {kind}")
    return kind


def _read_global(body: _ByteReader, found: _Declarations) -> None:
    kind, is_mutable = _read_type(body), body.byte()
    if is_mutable:
        found.globals.append((found.counts[_GLOBAL], kind))
    found.counts[_GLOBAL] += 1


def _read_type(body: _ByteReader) -> str:
    """Pass over the type of a value."""
    byte = body.byte()
    if byte in (0x63, 0x64):  # a reference to a type that has a number
        body.number()
    return _NUMBER_TYPES.get(byte, "ref")


def _skip_limits(body: _ByteReader) -> None:
    flags = body.byte()
    body.number()
    if flags & 1:
        body.number()
    if flags & 8:  # a page size of its own
        body.number()


def _skip_expression(body: _ByteReader) -> None:
    """Pass over a constant expression."""
    while (code := body.byte()) != _END:
        operands = _SKIPS.get(code)
        if operands is None:
            raise IndexError(f"a constant expression has the unknown instruction {code:#x}")
        operands(body)


def _skip_number(body: _ByteReader) -> None:
    body.number()


def _skip_vector(body: _ByteReader) -> None:
    if body.number() != 12:
        raise IndexError("a constant expression has an unknown vector instruction")
    body.skip(16)


def _skip_gc_instruction(body: _ByteReader) -> None:
    """Instructions of garbage collection: structures, arrays and what refers to them."""
    code = body.number()
    if code in (0, 1, 6, 7):
        body.number()
    elif code == 8:
        body.number()
        body.number()
    elif code not in (26, 27, 28):
        raise IndexError(f"a constant expression has the unknown instruction 0xfb {code}")


_SKIPS: dict[int, Callable[[_ByteReader], None]] = {
    0x23: _skip_number,  # global.get
    0x41: _skip_number,  # i32.const
    0x42: _skip_number,  # i64.const
    0x43: lambda body: body.skip(4),  # f32.const
    0x44: lambda body: body.skip(8),  # f64.const
    0xD0: _skip_number,  # ref.null
    0xD2: _skip_number,  # ref.func
    0xFB: _skip_gc_instruction,
    0xFD: _skip_vector,
    **dict.fromkeys((0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E), lambda body: None),  # +, -, *
}


def _add_exports(
    module: bytes, found: _Declarations, *, functions: bool, start: bool
) -> ExportedState:
    added: list[tuple[str, int, int]] = []

    def name_of(kind: int, index: int, word: str) -> str:
        name = found.exports.get((kind, index))
        if name is None:
            name = f"{PREFIX}{word}{index}"
            while name in found.names:
                name += "'"
            added.append((name, kind, index))
        return name

    def names_of(kind: int, word: str) -> list[str]:
        return [name_of(kind, index, word) for index in range(found.counts[kind])]

    memories, tables = names_of(_MEMORY, "memory"), names_of(_TABLE, "table")
    mutable = [
        ExportedGlobal(name_of(_GLOBAL, index, "global"), kind, index)
        for index, kind in found.globals
    ]
    shown = names_of(_FUNCTION, "function") if functions else []
    had_start = start and found.start is not None
    if had_start and found.start is not None:
        added.append((START_EXPORT, _FUNCTION, found.start[2]))
        module = _without_start(module, found)
    data = _write_exports(module, found, added) if added else module
    return ExportedState(data, memories, mutable, tables, shown, had_start)


def _without_start(module: bytes, found: _Declarations) -> bytes:
    """Give the module without its start section, which stands behind the exports."""
    assert found.start is not None
    start, stop, _ = found.start
    return module[:start] + module[stop:]


def _write_exports(module: bytes, found: _Declarations, added: list[tuple[str, int, int]]) -> bytes:
    start, stop, entries = found.export_section or (found.exports_belong, found.exports_belong, b"")
    start, stop = max(start, len(_MAGIC)), max(stop, len(_MAGIC))
    body = _encode_leb128(len(found.names) + len(added)) + entries
    for name, kind, index in added:
        text = name.encode()
        body += _encode_leb128(len(text)) + text + bytes([kind]) + _encode_leb128(index)
    section = bytes([_EXPORTS]) + _encode_leb128(len(body)) + body
    return module[:start] + section + module[stop:]


def _encode_leb128(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
