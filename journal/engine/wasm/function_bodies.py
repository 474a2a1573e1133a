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
    cursor = BinaryReader(module, code.body, code.stop)
    for _ in range(cursor.number()):
        size = cursor.number()
        start = cursor.at
        cursor.skip(size)
        stop = cursor.at
        yield _parse_body(module, start, stop)
    if cursor.at != code.stop:
        raise ModuleRefused("the module's functions do not fill their section")


def _parse_body(module: bytes, start: int, stop: int) -> FunctionBody:
    if stop == start or module[stop - 1] != _END:
        raise ModuleRefused(f"a function has no end at offset {stop}")
    if module[start] == 0:  # as most have none
        return FunctionBody(start, start + 1, stop, frozenset())
    cursor = BinaryReader(module, start, stop)
    types = set()
    for _ in range(cursor.number()):
        cursor.number()
        types.add(cursor.type())
    return FunctionBody(start, cursor.at, stop, frozenset(types))


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
    cursor = BinaryReader(module, body.code, body.stop)
    while True:
        found = passing.match(module, cursor.at, body.stop)
        assert found is not None, "it matches nothing, too"
        cursor.at = found.end()
        if cursor.at == body.stop:
            return
        start = cursor.at
        code = _read_instruction(cursor)
        if code in wanted:
            yield Instruction(code, start, cursor.at)


def _read_instruction(cursor: BinaryReader) -> Opcode:
    """Pass over one instruction."""
    start = cursor.at
    first = cursor.byte()
    code = (first, cursor.number() if first in PREFIXES else -1)
    shape = IMMEDIATES.get(code)
    if shape is None:
        name = f"{first:#x}" + (f" {code[1]:#x}" if first in PREFIXES else "")
        raise ModuleRefused(f"the module has the unknown instruction {name} at offset {start}")
    for letter in shape:
        _SKIPS[letter](cursor)
    return code


def _skip_memory_argument(cursor: BinaryReader) -> None:
    if cursor.number() & 0x40:  # the number of a memory follows
        cursor.number()
    cursor.number(64)


def _skip_block_type(cursor: BinaryReader) -> None:
    if cursor.byte() not in TYPED_REFERENCES:
        cursor.at -= 1
    cursor.number()


def _skip_labels(cursor: BinaryReader) -> None:
    for _ in range(cursor.number() + 1):
        cursor.number()


def _skip_types(cursor: BinaryReader) -> None:
    for _ in range(cursor.number()):
        cursor.type()


def _skip_catches(cursor: BinaryReader) -> None:
    for _ in range(cursor.number()):
        if cursor.byte() < 2:  # it names what it catches
            cursor.number()
        cursor.number()


_SKIPS: Mapping[str, Callable[[BinaryReader], object]] = {
    "u": BinaryReader.number,
    "l": lambda cursor: cursor.number(64),
    "m": _skip_memory_argument,
    "b": lambda cursor: cursor.skip(1),
    "4": lambda cursor: cursor.skip(4),
    "8": lambda cursor: cursor.skip(8),
    "x": lambda cursor: cursor.skip(16),
    "t": _skip_block_type,
    "h": BinaryReader.number,
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
