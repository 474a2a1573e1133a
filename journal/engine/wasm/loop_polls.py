"""Puts a question at the head of every loop of a module: shall the guest leave here?

    global.get $polling
    if
      i32.const 0
      call_indirect $poll (type $none)
    end

The type, the table of one element and the global are new and come last, so that nothing gets
another number. Both are exported; the host puts a function into the table, and sets the global
when it wants to be called.
"""

from itertools import pairwise

from journal.engine.wasm import binary
from journal.engine.wasm.binary import (
    BinaryReader,
    Section,
    encode_leb128,
    rebuild_module,
    with_size_prefix,
)
from journal.engine.wasm.function_bodies import FunctionBody, iter_bodies, iter_notable
from journal.engine.wasm.module_info import read_module_info
from journal.engine.wasm.opcodes import LOOP
from journal.engine.wasm.state_exports import PREFIX
from journal.errors import ModuleRefused

POLL_TABLE = f"{PREFIX}poll"
"""The export that is the table: its one element is what is called."""
POLL_FLAG = f"{PREFIX}polling"
"""The export that is the global, an i32: whether it is called."""

_NO_TYPES = b"\x60\0\0"
_ONE_ELEMENT = b"\x70\x01\x01\x01"  # of functions: one, and never more
_GLOBAL = b"\x7f\x01\x41\0\x0b"  # an i32 that can change, and begins as 0


def insert_polls(module: bytes) -> bytes:
    """The module with a poll at every loop's head; raises ModuleRefused.

    Of its custom sections it keeps the names only.
    """
    found = read_module_info(module)
    taken = {POLL_TABLE, POLL_FLAG} & found.exports
    if taken:
        raise ModuleRefused(f"the module exports {taken.pop()} already")
    own = {section.id: section for section in found.sections}
    table, number = found.counts[binary.TABLE], found.counts[binary.GLOBAL]
    exports = (
        with_size_prefix(POLL_TABLE.encode()) + bytes([binary.TABLE]) + encode_leb128(table),
        with_size_prefix(POLL_FLAG.encode()) + bytes([binary.GLOBAL]) + encode_leb128(number),
    )
    type_, types = _extend_section(module, own.get(binary.TYPES), _NO_TYPES)
    poll = (
        b"\x23"
        + encode_leb128(number)
        + b"\x04\x40\x41\0\x11"
        + encode_leb128(type_)
        + encode_leb128(table)
        + b"\x0b"
    )
    others = {
        binary.TYPES: types,
        binary.TABLES: _extend_section(module, own.get(binary.TABLES), _ONE_ELEMENT)[1],
        binary.GLOBALS: _extend_section(module, own.get(binary.GLOBALS), _GLOBAL)[1],
        binary.EXPORTS: _extend_section(module, own.get(binary.EXPORTS), *exports)[1],
    }
    if found.code is not None:
        others[binary.CODE] = _insert_in_code(module, found.code, poll)
    return rebuild_module(module, others)


def _extend_section(module: bytes, section: Section | None, *entries: bytes) -> tuple[int, bytes]:
    """How many entries a section has, and its body with more of them."""
    if section is None:
        return 0, encode_leb128(len(entries)) + b"".join(entries)
    reader = BinaryReader(module, section.body, section.stop)
    count = reader.read_number()
    own = module[reader.offset : section.stop]
    return count, encode_leb128(count + len(entries)) + own + b"".join(entries)


def _insert_in_code(module: bytes, code: Section, poll: bytes) -> bytes:
    """The code section with ``poll`` behind the head of each loop."""
    made = [_insert_in_body(module, body, poll) for body in iter_bodies(module, code)]
    return encode_leb128(len(made)) + b"".join(made)


def _insert_in_body(module: bytes, body: FunctionBody, poll: bytes) -> bytes:
    heads = [one.stop for one in iter_notable(module, body) if one.code == LOOP]
    cuts = [body.start, *heads, body.stop]
    return with_size_prefix(poll.join(module[start:stop] for start, stop in pairwise(cuts)))
