"""Feature check of a module's code, for snapshots and for the instrumentation with asyncify."""

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
    """Features of a module's code that a snapshot must respect."""

    functions: int
    loops: int
    changes_tables: bool
    drops_segments: bool
    has_start: bool


def find_features(module: bytes) -> ModuleFeatures:
    """Scan a module's code for features; raises ModuleRefused if the code cannot be parsed."""
    info = read_module_info(module)
    first_functions, loops = _scan_code(module, info)
    return ModuleFeatures(
        functions=len(info.functions),
        loops=loops,
        changes_tables=InstructionClass.TABLE_CHANGE in first_functions,
        drops_segments=InstructionClass.SEGMENT_DROP in first_functions,
        has_start=info.start_function is not None,
    )


def unsupported_reason(module: bytes) -> str | None:
    """Return why asyncify cannot instrument a module, as one sentence, or None.

    Raises ModuleRefused if the module cannot be parsed.
    """
    info = read_module_info(module)
    if any(name.startswith("asyncify_") for name in info.exports):
        return "the module uses asyncify itself"
    for index, memory in enumerate(info.memories):
        reason = _unsupported_memory(memory)
        if reason is not None:
            return f"memory {index} of the module {reason}"
    first_functions, _ = _scan_code(module, info)
    for class_, reason in _UNSUPPORTED.items():
        if class_ in first_functions:
            return f"function {first_functions[class_]} of the module has {class_.value}, {reason}"
    if info.has_objects:
        objects = InstructionClass.OBJECTS
        return f"the module has types of {objects.value}, {_UNSUPPORTED[objects]}"
    return _unsupported_references(module, info)


def _scan_code(module: bytes, info: ModuleInfo) -> tuple[dict[InstructionClass, int], int]:
    """Return the first function that contains each instruction class, and the number of loops."""
    first_functions: dict[InstructionClass, int] = {}
    loops = 0
    if info.code is None:
        return first_functions, loops
    for index, body in enumerate(iter_bodies(module, info.code)):
        for instruction in iter_notable(module, body):
            class_ = INSTRUCTION_CLASSES[instruction.code]
            loops += class_ is InstructionClass.LOOP
            first_functions.setdefault(class_, info.function_index(index))
    return first_functions, loops


def _unsupported_memory(memory: MemoryLimits) -> str | None:
    if memory.is_shared:
        return "is shared between threads"
    if memory.has_64_bits:
        return "has addresses of 64 bits"
    if memory.has_page_size:
        return "has a custom page size"
    return None


def _unsupported_references(module: bytes, info: ModuleInfo) -> str | None:
    """Return why references prevent instrumentation: asyncify cannot save a reference that a
    function holds during a call.
    """
    if info.code is None:
        return None
    for index, body in enumerate(iter_bodies(module, info.code)):
        try:
            types = body.locals | info.parameters[info.functions[index]]
        except IndexError:
            raise ModuleRefused(f"function {index} of the module has an undefined type") from None
        if types - NUMBER_TYPES.keys() and makes_calls(module, body):
            number = info.function_index(index)
            reason = "has references in its locals while it calls another"
            return f"function {number} of the module {reason}"
    return None
