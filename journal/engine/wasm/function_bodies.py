"""Scanner for the instructions in the function bodies of a module.

A regular expression, made from the opcode table, skips uninteresting instructions at the speed of
C. The scanner reads each other instruction byte by byte. Invalid code raises
ModuleRefused.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from journal.engine.wasm.binary import TYPED_REFERENCES, BinaryReader, Section
from journal.engine.wasm.opcodes import (
    CALLS,
    END,
    IMMEDIATES,
    INSTRUCTION_CLASSES,
    PREFIXES,
    Opcode,
)
from journal.errors import ModuleRefused

_NOTABLE = frozenset(INSTRUCTION_CLASSES)
_ALL = frozenset(IMMEDIATES)


class FunctionBody(NamedTuple):
    """A function body: the offsets of its locals, of its instructions and of its end.

    ``locals`` is the set of the types of its locals.
    """

    start: int
    code: int
    stop: int
    locals: frozenset[int]


def iter_bodies(module: bytes, code: Section) -> Iterator[FunctionBody]:
    """Yield the function bodies of a code section in order."""
    reader = BinaryReader(module, code.body, code.stop)
    for _ in range(reader.read_number()):
        size = reader.read_number()
        start = reader.offset
        reader.skip(size)
        stop = reader.offset
        yield _parse_body(module, start, stop)
    if reader.offset != code.stop:
        raise ModuleRefused(
            f"function bodies end at offset {reader.offset}, the code section at {code.stop}"
        )


def _parse_body(module: bytes, start: int, stop: int) -> FunctionBody:
    if stop == start or module[stop - 1] != END[0]:
        raise ModuleRefused(f"function body has no end instruction at offset {stop}")
    if module[start] == 0:  # Most functions have no locals.
        return FunctionBody(start, start + 1, stop, frozenset())
    reader = BinaryReader(module, start, stop)
    types = set()
    for _ in range(reader.read_number()):
        reader.read_number()
        types.add(reader.read_type())
    return FunctionBody(start, reader.offset, stop, frozenset(types))


class Instruction(NamedTuple):
    """An instruction: its opcode, its offset and the offset of the next instruction."""

    code: Opcode
    start: int
    stop: int


def iter_notable(module: bytes, body: FunctionBody) -> Iterator[Instruction]:
    """Yield the instructions of a body that INSTRUCTION_CLASSES lists."""
    return _iter_selected(module, body, _NOTABLE)


def makes_calls(module: bytes, body: FunctionBody) -> bool:
    """Return whether a function calls another function."""
    return any(True for _ in _iter_selected(module, body, CALLS))


def iter_instructions(module: bytes, body: FunctionBody) -> Iterator[Instruction]:
    """Yield all instructions of a body, one by one; slow."""
    return _iter_selected(module, body, _ALL)


def _iter_selected(
    module: bytes, body: FunctionBody, opcodes: frozenset[Opcode]
) -> Iterator[Instruction]:
    pattern = _skip_pattern(opcodes)
    reader = BinaryReader(module, body.code, body.stop)
    while True:
        match = pattern.match(module, reader.offset, body.stop)
        assert match is not None, "the pattern also matches the empty string"
        reader.offset = match.end()
        if reader.offset == body.stop:
            return
        start = reader.offset
        code = _read_instruction(reader)
        if code in opcodes:
            yield Instruction(code, start, reader.offset)


def skip_expression(reader: BinaryReader) -> None:
    """Skip a constant expression, such as the initial value of a global."""
    while _read_instruction(reader) != END:
        pass


def _read_instruction(reader: BinaryReader) -> Opcode:
    """Skip one instruction and return its opcode."""
    start = reader.offset
    first = reader.read_byte()
    code = (first, reader.read_number() if first in PREFIXES else -1)
    immediates = IMMEDIATES.get(code)
    if immediates is None:
        name = f"{first:#x}" + (f" {code[1]:#x}" if first in PREFIXES else "")
        raise ModuleRefused(f"the module has the unknown instruction {name} at offset {start}")
    for letter in immediates:
        _SKIPS[letter](reader)
    return code


def _skip_memory_argument(reader: BinaryReader) -> None:
    if reader.read_number() & 0x40:  # A memory index follows.
        reader.read_number()
    reader.read_number(64)


def _skip_block_type(reader: BinaryReader) -> None:
    if reader.read_byte() not in TYPED_REFERENCES:
        reader.offset -= 1
    reader.read_number()


def _skip_labels(reader: BinaryReader) -> None:
    for _ in range(reader.read_number() + 1):
        reader.read_number()


def _skip_types(reader: BinaryReader) -> None:
    for _ in range(reader.read_number()):
        reader.read_type()


def _skip_catches(reader: BinaryReader) -> None:
    for _ in range(reader.read_number()):
        if reader.read_byte() < 2:  # A tag index follows.
            reader.read_number()
        reader.read_number()


_SKIPS: Mapping[str, Callable[[BinaryReader], object]] = {
    "u": BinaryReader.read_number,
    "l": lambda reader: reader.read_number(64),
    "m": _skip_memory_argument,
    "b": lambda reader: reader.skip(1),
    "4": lambda reader: reader.skip(4),
    "8": lambda reader: reader.skip(8),
    "x": lambda reader: reader.skip(16),
    "t": _skip_block_type,
    "h": BinaryReader.read_number,
    "L": _skip_labels,
    "T": _skip_types,
    "C": _skip_catches,
}

_U32 = rb"[\x80-\xff]{0,4}+[\x00-\x7f]"
_U64 = rb"[\x80-\xff]{0,9}+[\x00-\x7f]"
_PATTERNS = {
    "u": _U32,
    "l": _U64,
    "m": rb"(?:[\x00-\x3f]|[\x40-\x7f]" + _U32 + rb")" + _U64,
    "b": rb".",
    "4": rb".{4}",
    "8": rb".{8}",
    "x": rb".{16}",
    "t": rb"[\x63\x64]?+" + _U32,
    "h": _U32,
}
"""Patterns of the immediates that can be skipped by the expression; _SKIPS does the same for every
encoding.
"""


@cache
def _skip_pattern(stops: frozenset[Opcode]) -> re.Pattern[bytes]:
    """Return a pattern of any number of whole instructions that are not in ``stops``.

    The pattern never backtracks, so that its time is linear in the number of bytes.
    """
    groups: dict[tuple[bytes, bytes, str], list[int]] = {}
    for code, immediates in IMMEDIATES.items():
        if code not in stops and set(immediates) <= _PATTERNS.keys():
            head, byte, tail = _split_opcode(code)
            groups.setdefault((head, tail, immediates), []).append(byte)
    alternatives = [
        re.escape(head)
        + _byte_class(bytes_)
        + re.escape(tail)
        + b"".join(_PATTERNS[letter] for letter in immediates)
        for (head, tail, immediates), bytes_ in groups.items()
    ]
    return re.compile(b"(?:%b)*+" % b"|".join(alternatives), re.DOTALL)


def _split_opcode(code: Opcode) -> tuple[bytes, int, bytes]:
    """Return the shortest encoding of an opcode, split at the byte that differs between opcodes."""
    first, second = code
    if second < 0:
        return b"", first, b""
    if second < 0x80:
        return bytes([first]), second, b""
    return bytes([first]), second & 0x7F | 0x80, bytes([second >> 7])


def _byte_class(bytes_: list[int]) -> bytes:
    return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in bytes_)
