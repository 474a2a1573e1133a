"""Insertion of a poll at the head of every loop, so that the host can suspend a computing guest.

    global.get $polling
    if
      i32.const 0
      call_indirect $poll (type $none)
    end

The type, the table of one element and the global are appended, so that no existing index changes.
The table and the global are exported. The host puts a function into the table, and sets the
global to request a call of the function.
"""

from itertools import pairwise

from journal.engine.wasm import binary
from journal.engine.wasm.binary import (
    Section,
    add_size_prefix,
    encode_export,
    encode_leb128,
    extend_entries,
    rebuild_module,
)
from journal.engine.wasm.function_bodies import FunctionBody, iter_bodies, iter_notable
from journal.engine.wasm.module_info import read_module_info
from journal.engine.wasm.opcodes import LOOP
from journal.engine.wasm.state_exports import PREFIX
from journal.errors import ModuleRefused

POLL_TABLE = f"{PREFIX}poll"
"""Export name of the table whose only element is the polled function."""
POLL_FLAG = f"{PREFIX}polling"
"""Export name of the i32 global that enables the call."""

_NO_TYPES = b"\x60\0\0"
_ONE_ELEMENT = b"\x70\x01\x01\x01"  # Exactly one funcref.
_GLOBAL = b"\x7f\x01\x41\0\x0b"  # A mutable i32, initially 0.


def insert_polls(module: bytes) -> bytes:
    """Return the module with a poll at every loop head; raises ModuleRefused.

    The name section is the only custom section that is kept.
    """
    info = read_module_info(module)
    used_names = {POLL_TABLE, POLL_FLAG} & info.exports.keys()
    if used_names:
        raise ModuleRefused(f"the module already exports {used_names.pop()}, a reserved name")
    existing = {section.id: section for section in info.sections}
    table, flag = info.counts[binary.TABLE], info.counts[binary.GLOBAL]
    exports = (
        encode_export(POLL_TABLE, binary.TABLE, table),
        encode_export(POLL_FLAG, binary.GLOBAL, flag),
    )
    type_, types = extend_entries(module, existing.get(binary.TYPES), _NO_TYPES)
    poll = (
        b"\x23"
        + encode_leb128(flag)
        + b"\x04\x40\x41\0\x11"
        + encode_leb128(type_)
        + encode_leb128(table)
        + b"\x0b"
    )
    new_bodies = {
        binary.TYPES: types,
        binary.TABLES: extend_entries(module, existing.get(binary.TABLES), _ONE_ELEMENT)[1],
        binary.GLOBALS: extend_entries(module, existing.get(binary.GLOBALS), _GLOBAL)[1],
        binary.EXPORTS: extend_entries(module, existing.get(binary.EXPORTS), *exports)[1],
    }
    if info.code is not None:
        new_bodies[binary.CODE] = _insert_in_code(module, info.code, poll)
    return rebuild_module(module, new_bodies)


def _insert_in_code(module: bytes, code: Section, poll: bytes) -> bytes:
    """Return the code section with ``poll`` after the head of each loop."""
    bodies = [_insert_in_body(module, body, poll) for body in iter_bodies(module, code)]
    return encode_leb128(len(bodies)) + b"".join(bodies)


def _insert_in_body(module: bytes, body: FunctionBody, poll: bytes) -> bytes:
    heads = [i.stop for i in iter_notable(module, body) if i.code == LOOP]
    cuts = [body.start, *heads, body.stop]
    return add_size_prefix(poll.join(module[start:stop] for start, stop in pairwise(cuts)))
