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
from journal.engine.wasm.binary import Cursor, Section, leb, rebuilt, sized
from journal.engine.wasm.function_bodies import Body, bodies, notable
from journal.engine.wasm.module_info import outline
from journal.engine.wasm.opcodes import LOOP
from journal.engine.wasm.state_exports import PREFIX
from journal.errors import ModuleRefused

TABLE = f"{PREFIX}poll"
"""The export that is the table: its one element is what is called."""
FLAG = f"{PREFIX}polling"
"""The export that is the global, an i32: whether it is called."""

_NO_TYPES = b"\x60\0\0"
_ONE_ELEMENT = b"\x70\x01\x01\x01"  # of functions: one, and never more
_GLOBAL = b"\x7f\x01\x41\0\x0b"  # an i32 that can change, and begins as 0


def with_polls(module: bytes) -> bytes:
    """The module with a poll at every loop's head; raises ModuleRefused.

    Of its custom sections it keeps the names only.
    """
    found = outline(module)
    taken = {TABLE, FLAG} & found.exports
    if taken:
        raise ModuleRefused(f"the module exports {taken.pop()} already")
    own = {section.number: section for section in found.sections}
    table, number = found.counts[binary.TABLE], found.counts[binary.GLOBAL]
    exports = (
        sized(TABLE.encode()) + bytes([binary.TABLE]) + leb(table),
        sized(FLAG.encode()) + bytes([binary.GLOBAL]) + leb(number),
    )
    type_, types = _longer(module, own.get(binary.TYPES), _NO_TYPES)
    poll = b"\x23" + leb(number) + b"\x04\x40\x41\0\x11" + leb(type_) + leb(table) + b"\x0b"
    others = {
        binary.TYPES: types,
        binary.TABLES: _longer(module, own.get(binary.TABLES), _ONE_ELEMENT)[1],
        binary.GLOBALS: _longer(module, own.get(binary.GLOBALS), _GLOBAL)[1],
        binary.EXPORTS: _longer(module, own.get(binary.EXPORTS), *exports)[1],
    }
    if found.code is not None:
        others[binary.CODE] = _polled(module, found.code, poll)
    return rebuilt(module, others)


def _longer(module: bytes, section: Section | None, *entries: bytes) -> tuple[int, bytes]:
    """How many entries a section has, and its body with more of them."""
    if section is None:
        return 0, leb(len(entries)) + b"".join(entries)
    cursor = Cursor(module, section.body, section.stop)
    count = cursor.number()
    own = module[cursor.at : section.stop]
    return count, leb(count + len(entries)) + own + b"".join(entries)


def _polled(module: bytes, code: Section, poll: bytes) -> bytes:
    """The code section with ``poll`` behind the head of each loop."""
    made = [_body(module, body, poll) for body in bodies(module, code)]
    return leb(len(made)) + b"".join(made)


def _body(module: bytes, body: Body, poll: bytes) -> bytes:
    heads = [one.stop for one in notable(module, body) if one.code == LOOP]
    cuts = [body.start, *heads, body.stop]
    return sized(poll.join(module[start:stop] for start, stop in pairwise(cuts)))
