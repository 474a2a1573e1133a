"""Export of a module's private state: memories, mutable globals and tables.

Only the export section grows; the code, which is most of a module, is not parsed. The binary format
is section 5.5 (Modules) of the WebAssembly specification.
"""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from journal.errors import ModuleRefused

PREFIX = "journal:"
"""Prefix of the export names that this module adds."""

START_EXPORT = PREFIX + "start"
"""Export name of the start function if the start section was removed."""

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
    if not module.startswith(_MAGIC):
        raise ModuleRefused("the data is not a WebAssembly module of version 1")
    declarations = _Declarations()
    try:
        for section in _iter_sections(module):
            if section.number == _START:
                declarations.start = section.start, section.stop, section.body.read_number()
            _read_section(section, declarations)
        return _add_exports(module, declarations, functions=functions, start=start)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ModuleRefused(f"the module cannot be read: {error}") from error


def has_start(module: bytes) -> bool:
    """Return whether a module has a start function; false if its sections cannot be parsed."""
    try:
        return any(section.number == _START for section in _iter_sections(module))
    except IndexError:
        return False


class _OpenSection(NamedTuple):
    number: int
    start: int
    """Offset of the section id."""
    body: "_ByteReader"
    stop: int


class _ByteReader:
    """A read position in a byte string."""

    def __init__(self, data: bytes, at: int, stop: int) -> None:
        self._data, self.at, self.stop = data, at, stop

    def read_byte(self) -> int:
        if self.at >= self.stop:
            raise IndexError("a section is truncated")
        self.at += 1
        return self._data[self.at - 1]

    def read_number(self) -> int:
        """Read an unsigned LEB128 number. The value of a signed number is not meaningful."""
        value = 0
        for shift in range(0, _NUMBER_BITS_MAX, 7):
            byte = self.read_byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise IndexError("a LEB128 number is too long")

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > self.stop:
            raise IndexError("a section is truncated")

    def read_name(self) -> str:
        size = self.read_number()
        start = self.at
        self.skip(size)
        return self._data[start : self.at].decode()

    def read_rest(self) -> bytes:
        return self._data[self.at : self.stop]


class _Declarations:
    """Number of declarations of each kind, and the existing exports."""

    def __init__(self) -> None:
        self.counts = [0] * 5
        self.globals: list[tuple[int, str]] = []  # Index and type of each mutable global.
        self.exports: dict[tuple[int, int], str] = {}
        self.names: set[str] = set()
        self.export_section: tuple[int, int, bytes] | None = None  # Start, stop and entries.
        self.exports_offset = 0
        self.start: tuple[int, int, int] | None = None  # Start, stop and function index.


def _iter_sections(module: bytes) -> Iterator[_OpenSection]:
    at = len(_MAGIC)
    while at < len(module):
        head = _ByteReader(module, at, len(module))
        number, size = head.read_byte(), head.read_number()
        stop = head.at + size
        if stop > len(module):
            raise IndexError("the module ends inside a section")
        yield _OpenSection(number, at, _ByteReader(module, head.at, stop), stop)
        at = stop


def _read_section(section: _OpenSection, declarations: _Declarations) -> None:
    body, number = section.body, section.number
    if number != _CUSTOM and number not in _AFTER_EXPORTS:
        declarations.exports_offset = section.stop
    if number == _IMPORTS:
        for _ in range(body.read_number()):
            body.read_name(), body.read_name()
            declarations.counts[_skip_import(body, declarations)] += 1
    elif number in _COUNTED_KINDS:
        declarations.counts[_COUNTED_KINDS[number]] += body.read_number()
    elif number == _GLOBALS:
        for _ in range(body.read_number()):
            _read_global(body, declarations)
            _skip_expression(body)
    elif number == _EXPORTS:
        count, start = body.read_number(), body.at
        entries = body.read_rest()
        for _ in range(count):
            name, kind, index = body.read_name(), body.read_byte(), body.read_number()
            declarations.exports.setdefault((kind, index), name)
            declarations.names.add(name)
        assert body.at - start == len(entries)
        declarations.export_section = section.start, section.stop, entries


def _skip_import(body: _ByteReader, declarations: _Declarations) -> int:
    kind = body.read_byte()
    if kind == _FUNCTION:
        body.read_number()
    elif kind == _TABLE:
        _read_type(body)
        _skip_limits(body)
    elif kind == _MEMORY:
        _skip_limits(body)
    elif kind == _GLOBAL:
        name = _read_type(body)
        if body.read_byte():
            declarations.globals.append((declarations.counts[_GLOBAL], name))
    elif kind == _TAG:
        body.skip(1)
        body.read_number()
    else:
        raise IndexError(f"an import of unknown kind {kind}")
    return kind


def _read_global(body: _ByteReader, declarations: _Declarations) -> None:
    kind, is_mutable = _read_type(body), body.read_byte()
    if is_mutable:
        declarations.globals.append((declarations.counts[_GLOBAL], kind))
    declarations.counts[_GLOBAL] += 1


def _read_type(body: _ByteReader) -> str:
    """Skip a value type and return its name."""
    byte = body.read_byte()
    if byte in (0x63, 0x64):  # A heap type follows.
        body.read_number()
    return _NUMBER_TYPES.get(byte, "ref")


def _skip_limits(body: _ByteReader) -> None:
    flags = body.read_byte()
    body.read_number()
    if flags & 1:
        body.read_number()
    if flags & 8:  # A custom page size follows.
        body.read_number()


def _skip_expression(body: _ByteReader) -> None:
    """Skip a constant expression."""
    while (code := body.read_byte()) != _END:
        operands = _SKIPS.get(code)
        if operands is None:
            raise IndexError(f"a constant expression has the unknown instruction {code:#x}")
        operands(body)


def _skip_number(body: _ByteReader) -> None:
    body.read_number()


def _skip_vector(body: _ByteReader) -> None:
    if body.read_number() != 12:
        raise IndexError("a constant expression has an unknown vector instruction")
    body.skip(16)


def _skip_gc_instruction(body: _ByteReader) -> None:
    """Skip an instruction of garbage collection: structures, arrays and references."""
    code = body.read_number()
    if code in (0, 1, 6, 7):
        body.read_number()
    elif code == 8:
        body.read_number()
        body.read_number()
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
    module: bytes, declarations: _Declarations, *, functions: bool, start: bool
) -> ExportedState:
    new_exports: list[tuple[str, int, int]] = []

    def add_name(kind: int, index: int, word: str) -> str:
        name = declarations.exports.get((kind, index))
        if name is None:
            name = f"{PREFIX}{word}{index}"
            while name in declarations.names:
                name += "'"
            new_exports.append((name, kind, index))
        return name

    def add_names(kind: int, word: str) -> list[str]:
        return [add_name(kind, index, word) for index in range(declarations.counts[kind])]

    memories, tables = add_names(_MEMORY, "memory"), add_names(_TABLE, "table")
    mutable_globals = [
        ExportedGlobal(add_name(_GLOBAL, index, "global"), kind, index)
        for index, kind in declarations.globals
    ]
    function_names = add_names(_FUNCTION, "function") if functions else []
    exports_start = start and declarations.start is not None
    if exports_start and declarations.start is not None:
        new_exports.append((START_EXPORT, _FUNCTION, declarations.start[2]))
        module = _remove_start(module, declarations)
    data = _write_exports(module, declarations, new_exports) if new_exports else module
    return ExportedState(data, memories, mutable_globals, tables, function_names, exports_start)


def _remove_start(module: bytes, declarations: _Declarations) -> bytes:
    """Return the module without its start section, which follows the exports."""
    assert declarations.start is not None
    start, stop, _ = declarations.start
    return module[:start] + module[stop:]


def _write_exports(
    module: bytes, declarations: _Declarations, new_exports: list[tuple[str, int, int]]
) -> bytes:
    start, stop, entries = declarations.export_section or (
        declarations.exports_offset,
        declarations.exports_offset,
        b"",
    )
    start, stop = max(start, len(_MAGIC)), max(stop, len(_MAGIC))
    body = _encode_leb128(len(declarations.names) + len(new_exports)) + entries
    for name, kind, index in new_exports:
        text = name.encode()
        body += _encode_leb128(len(text)) + text + bytes([kind]) + _encode_leb128(index)
    section = bytes([_EXPORTS]) + _encode_leb128(len(body)) + body
    return module[:start] + section + module[stop:]


def _encode_leb128(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
