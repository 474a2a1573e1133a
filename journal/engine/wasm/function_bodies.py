"""Walks through the bodies of a module's functions, and stops at the instructions of note.

A regular expression, made from the table of opcodes, passes over all others at the speed of C;
where it stops, one instruction is read byte by byte. What does not fit raises ModuleRefused.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from journal.engine.wasm.binary import TYPED_REFERENCES, BinaryReader, Section
from journal.engine.wasm.opcodes import CALLS, IMMEDIATES, INSTRUCTION_CLASSES, PREFIXES, Opcode
from journal.errors import ModuleRefused

_END = 0x0B
_NOTABLE = frozenset(INSTRUCTION_CLASSES)
_ALL = frozenset(IMMEDIATES)


class FunctionBody(NamedTuple):
    """A function's body: where its locals begin, its instructions, and what follows it.

    ``locals`` are their types, each once.
    """

    start: int
    code: int
    stop: int
    locals: frozenset[int]


def iter_bodies(module: bytes, code: Section) -> Iterator[FunctionBody]:
    """The bodies in a code section, one after the other."""
    reader = BinaryReader(module, code.body, code.stop)
    for _ in range(reader.read_number()):
        size = reader.read_number()
        start = reader.offset
        reader.skip(size)
        stop = reader.offset
        yield _parse_body(module, start, stop)
    if reader.offset != code.stop:
        raise ModuleRefused("the module's functions do not fill their section")


def _parse_body(module: bytes, start: int, stop: int) -> FunctionBody:
    if stop == start or module[stop - 1] != _END:
        raise ModuleRefused(f"a function has no end at offset {stop}")
    if module[start] == 0:  # as most have none
        return FunctionBody(start, start + 1, stop, frozenset())
    reader = BinaryReader(module, start, stop)
    types = set()
    for _ in range(reader.read_number()):
        reader.read_number()
        types.add(reader.read_type())
    return FunctionBody(start, reader.offset, stop, frozenset(types))


class Instruction(NamedTuple):
    """An instruction: where it stands, and what follows it."""

    code: Opcode
    start: int
    stop: int


def iter_notable(module: bytes, body: FunctionBody) -> Iterator[Instruction]:
    """The instructions of a body that are of note, as NOTES has them."""
    return _iter_selected(module, body, _NOTABLE)


def makes_calls(module: bytes, body: FunctionBody) -> bool:
    """Whether a function calls another, and so may have to wait for its return."""
    return any(True for _ in _iter_selected(module, body, CALLS))


def iter_instructions(module: bytes, body: FunctionBody) -> Iterator[Instruction]:
    """All instructions of a body, one by one: slow."""
    return _iter_selected(module, body, _ALL)


def _iter_selected(
    module: bytes, body: FunctionBody, wanted: frozenset[Opcode]
) -> Iterator[Instruction]:
    passing = _skip_pattern(wanted)
    reader = BinaryReader(module, body.code, body.stop)
    while True:
        found = passing.match(module, reader.offset, body.stop)
        assert found is not None, "it matches nothing, too"
        reader.offset = found.end()
        if reader.offset == body.stop:
            return
        start = reader.offset
        code = _read_instruction(reader)
        if code in wanted:
            yield Instruction(code, start, reader.offset)


def _read_instruction(reader: BinaryReader) -> Opcode:
    """Pass over one instruction."""
    start = reader.offset
    first = reader.read_byte()
    code = (first, reader.read_number() if first in PREFIXES else -1)
    shape = IMMEDIATES.get(code)
    if shape is None:
        name = f"{first:#x}" + (f" {code[1]:#x}" if first in PREFIXES else "")
        raise ModuleRefused(f"the module has the unknown instruction {name} at offset {start}")
    for letter in shape:
        _SKIPS[letter](reader)
    return code


def _skip_memory_argument(reader: BinaryReader) -> None:
    if reader.read_number() & 0x40:  # the number of a memory follows
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
        if reader.read_byte() < 2:  # it names what it catches
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
"""What can be passed over at once; _TAKES does the same for every encoding of it."""


@cache
def _skip_pattern(stops: frozenset[Opcode]) -> re.Pattern[bytes]:
    """What matches any number of whole instructions that are none of ``stops``.

    Nothing in it goes back: the time it takes grows with the bytes, whatever they are.
    """
    groups: dict[tuple[bytes, bytes, str], list[int]] = {}
    for code, shape in IMMEDIATES.items():
        if code not in stops and set(shape) <= _PATTERNS.keys():
            head, byte, tail = _split_opcode(code)
            groups.setdefault((head, tail, shape), []).append(byte)
    ways = [
        re.escape(head)
        + _byte_class(found)
        + re.escape(tail)
        + b"".join(_PATTERNS[one] for one in shape)
        for (head, tail, shape), found in groups.items()
    ]
    return re.compile(b"(?:%b)*+" % b"|".join(ways), re.DOTALL)


def _split_opcode(code: Opcode) -> tuple[bytes, int, bytes]:
    """The shortest encoding: what stands before and behind the byte that tells codes apart."""
    first, second = code
    if second < 0:
        return b"", first, b""
    if second < 0x80:
        return bytes([first]), second, b""
    return bytes([first]), second & 0x7F | 0x80, bytes([second >> 7])


def _byte_class(found: list[int]) -> bytes:
    return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in found)
