"""Looks through a module's code for what snapshots of it must respect, and for what asyncify cannot
instrument.
"""

from typing import NamedTuple

from journal.engine.wasm.binary import NUMBER_TYPES
from journal.engine.wasm.function_bodies import iter_bodies, iter_notable, makes_calls
from journal.engine.wasm.module_info import MemoryLimits, ModuleInfo, read_module_info
from journal.engine.wasm.opcodes import INSTRUCTION_CLASSES, InstructionClass
from journal.errors import ModuleRefused

_UNSUPPORTED = {
    InstructionClass.EXCEPTIONS: "which cannot be unwound",
    InstructionClass.TAIL_CALL: "which cannot be unwound",
    InstructionClass.ATOMICS: "which belong to threads",
    InstructionClass.OBJECTS: "which cannot be written into a memory",
}


class ModuleFeatures(NamedTuple):
    """What a module's code has that a snapshot of it must respect."""

    functions: int
    loops: int
    changes_tables: bool
    drops_segments: bool
    has_start: bool


def find_features(module: bytes) -> ModuleFeatures:
    """Look through a module's code; raises ModuleRefused for what it cannot read."""
    found = read_module_info(module)
    firsts, loops = _scan_code(module, found)
    return ModuleFeatures(
        functions=len(found.functions),
        loops=loops,
        changes_tables=InstructionClass.TABLE_CHANGE in firsts,
        drops_segments=InstructionClass.SEGMENT_DROP in firsts,
        has_start=found.has_start,
    )


def unsupported_reason(module: bytes) -> str | None:
    """Why asyncify cannot instrument a module, if that can be seen; one sentence.

    Raises ModuleRefused for what it cannot read.
    """
    found = read_module_info(module)
    if any(name.startswith("asyncify_") for name in found.exports):
        return "the module uses asyncify itself"
    for index, memory in enumerate(found.memories):
        reason = _unsupported_memory(memory)
        if reason is not None:
            return f"memory {index} of the module {reason}"
    firsts, _ = _scan_code(module, found)
    for note, why in _UNSUPPORTED.items():
        if note in firsts:
            return f"function {firsts[note]} of the module has {note.value}, {why}"
    if found.has_objects:
        objects = InstructionClass.OBJECTS
        return f"the module has types of {objects.value}, {_UNSUPPORTED[objects]}"
    return _unsupported_references(module, found)


def _scan_code(module: bytes, found: ModuleInfo) -> tuple[dict[InstructionClass, int], int]:
    """The first function that has each thing of note, and how many loops there are."""
    firsts: dict[InstructionClass, int] = {}
    loops = 0
    if found.code is None:
        return firsts, loops
    for index, body in enumerate(iter_bodies(module, found.code)):
        for one in iter_notable(module, body):
            note = INSTRUCTION_CLASSES[one.code]
            loops += note is InstructionClass.LOOP
            firsts.setdefault(note, found.function_index(index))
    return firsts, loops


def _unsupported_memory(memory: MemoryLimits) -> str | None:
    if memory.is_shared:
        return "is shared between threads"
    if memory.has_64_bits:
        return "has addresses of 64 bits"
    if memory.has_page_size:
        return "has pages of a size of its own"
    return None


def _unsupported_references(module: bytes, found: ModuleInfo) -> str | None:
    """A reference that a function holds while it calls another would have to be kept."""
    if found.code is None:
        return None
    for index, body in enumerate(iter_bodies(module, found.code)):
        try:
            held = body.locals | found.parameters[found.functions[index]]
        except IndexError:
            raise ModuleRefused(f"the module has no type for its function {index}") from None
        if held - NUMBER_TYPES and makes_calls(module, body):
            number = found.function_index(index)
            return f"function {number} of the module has references in its locals while it calls"
    return None
