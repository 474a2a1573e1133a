"""Looks through a module's code for what snapshots of it must respect, and for what asyncify cannot
instrument.
"""

from typing import NamedTuple

from journal.engine.wasm.binary import NUMBER_TYPES
from journal.engine.wasm.function_bodies import bodies, makes_calls, notable
from journal.engine.wasm.module_info import Limits, Outline, outline
from journal.engine.wasm.opcodes import NOTES, Note
from journal.errors import ModuleRefused

_UNFIT = {
    Note.EXCEPTIONS: "which cannot be unwound",
    Note.TAIL_CALL: "which cannot be unwound",
    Note.ATOMICS: "which belong to threads",
    Note.OBJECTS: "which cannot be written into a memory",
}


class Facts(NamedTuple):
    """What a module's code has that a snapshot of it must respect."""

    functions: int
    loops: int
    changes_tables: bool
    drops_segments: bool
    has_start: bool


def facts(module: bytes) -> Facts:
    """Look through a module's code; raises ModuleRefused for what it cannot read."""
    found = outline(module)
    firsts, loops = _noted(module, found)
    return Facts(
        functions=len(found.functions),
        loops=loops,
        changes_tables=Note.TABLE_CHANGE in firsts,
        drops_segments=Note.SEGMENT_DROP in firsts,
        has_start=found.has_start,
    )


def why_not(module: bytes) -> str | None:
    """Why asyncify cannot instrument a module, if that can be seen; one sentence.

    Raises ModuleRefused for what it cannot read.
    """
    found = outline(module)
    if any(name.startswith("asyncify_") for name in found.exports):
        return "the module uses asyncify itself"
    for index, memory in enumerate(found.memories):
        reason = _why_not_memory(memory)
        if reason is not None:
            return f"memory {index} of the module {reason}"
    firsts, _ = _noted(module, found)
    for note, why in _UNFIT.items():
        if note in firsts:
            return f"function {firsts[note]} of the module has {note.value}, {why}"
    if found.has_objects:
        return f"the module has types of {Note.OBJECTS.value}, {_UNFIT[Note.OBJECTS]}"
    return _why_not_references(module, found)


def _noted(module: bytes, found: Outline) -> tuple[dict[Note, int], int]:
    """The first function that has each thing of note, and how many loops there are."""
    firsts: dict[Note, int] = {}
    loops = 0
    if found.code is None:
        return firsts, loops
    for index, body in enumerate(bodies(module, found.code)):
        for one in notable(module, body):
            note = NOTES[one.code]
            loops += note is Note.LOOP
            firsts.setdefault(note, found.number_of(index))
    return firsts, loops


def _why_not_memory(memory: Limits) -> str | None:
    if memory.is_shared:
        return "is shared between threads"
    if memory.has_64_bits:
        return "has addresses of 64 bits"
    if memory.has_page_size:
        return "has pages of a size of its own"
    return None


def _why_not_references(module: bytes, found: Outline) -> str | None:
    """A reference that a function holds while it calls another would have to be kept."""
    if found.code is None:
        return None
    for index, body in enumerate(bodies(module, found.code)):
        try:
            held = body.locals | found.parameters[found.functions[index]]
        except IndexError:
            raise ModuleRefused(f"the module has no type for its function {index}") from None
        if held - NUMBER_TYPES and makes_calls(module, body):
            number = found.number_of(index)
            return f"function {number} of the module has references in its locals while it calls"
    return None
