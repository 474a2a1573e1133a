"""Opcode table of WebAssembly 3.0: immediates and class of each instruction.

The codes are from the "Index of Instructions" of the specification. The legacy exception
instructions (``try``) are included, because compilers still emit them.
"""

from collections.abc import Iterable, Mapping
from enum import Enum

Opcode = tuple[int, int]
"""First byte of an opcode, and the number after a prefix byte; -1 without a prefix."""

PREFIXES = {0xFB, 0xFC, 0xFD, 0xFE}
LOOP = (0x03, -1)
END = (0x0B, -1)
CALLS = frozenset({(0x10, -1), (0x11, -1), (0x14, -1)})


class InstructionClass(Enum):
    """Class of an instruction that the feature check reports; the value completes "the function
    has".
    """

    LOOP = "a loop"
    EXCEPTIONS = "exceptions"
    TAIL_CALL = "a tail call"
    ATOMICS = "atomic instructions"
    OBJECTS = "objects of garbage collection"
    TABLE_CHANGE = "an instruction that changes a table"
    SEGMENT_DROP = "an instruction that drops a segment"


# Each letter is one immediate: u a 32-bit number, l a 64-bit number, m a memory argument, b a byte,
# 4, 8 and x that many bytes (x is 16), t a block type, h a heap type, L a list of labels, T a list
# of value types, C a list of catch clauses.
_ONE_BYTE: Mapping[str, Iterable[int]] = {
    "": (
        *(0x00, 0x01, 0x05, 0x0A, 0x0B, 0x0F, 0x19, 0x1A, 0x1B, 0xD1, 0xD3, 0xD4),
        *range(0x45, 0xC5),
    ),
    "u": (
        *(0x07, 0x08, 0x09, 0x0C, 0x0D, 0x10, 0x12, 0x14, 0x15, 0x18, 0x3F, 0x40, 0x41),
        *range(0x20, 0x27),
        *(0xD2, 0xD5, 0xD6),
    ),
    "uu": (0x11, 0x13),
    "l": (0x42,),
    "m": range(0x28, 0x3F),
    "4": (0x43,),
    "8": (0x44,),
    "t": (0x02, 0x03, 0x04, 0x06),
    "h": (0xD0,),
    "L": (0x0E,),
    "T": (0x1C,),
    "tC": (0x1F,),
}
_GC: Mapping[str, Iterable[int]] = {
    "": (15, 26, 27, 28, 29, 30),
    "u": (0, 1, 6, 7, 11, 12, 13, 14, 16),
    "uu": (2, 3, 4, 5, 8, 9, 10, 17, 18, 19),
    "h": (20, 21, 22, 23),
    "buhh": (24, 25),
}
_BULK: Mapping[str, Iterable[int]] = {
    "": (*range(8), *range(19, 23)),  # The latter are wide arithmetic, a later proposal.
    "u": (9, 11, 13, 15, 16, 17),
    "uu": (8, 10, 12, 14),
}
_NO_VECTORS = {
    *(0x9A, 0xA2, 0xA5, 0xA6, 0xAF, 0xB0, 0xB2, 0xB3, 0xB4, 0xBB),
    *(0xC2, 0xC5, 0xC6, 0xCF, 0xD0, 0xD2, 0xD3, 0xD4, 0xE2, 0xEE),
}
_VECTORS: Mapping[str, Iterable[int]] = {
    "m": (*range(12), 92, 93),
    "x": (12, 13),
    "b": range(21, 35),
    "mb": range(84, 92),
    "": (
        *range(14, 21),
        *range(35, 84),
        *(code for code in range(94, 256) if code not in _NO_VECTORS),
        *range(0x100, 0x114),
    ),
}
_ATOMICS: Mapping[str, Iterable[int]] = {"m": (0, 1, 2, *range(0x10, 0x4F)), "b": (3,)}


def _make_immediates() -> dict[Opcode, str]:
    table = {(code, -1): letters for letters, codes in _ONE_BYTE.items() for code in codes}
    prefixed = {0xFB: _GC, 0xFC: _BULK, 0xFD: _VECTORS, 0xFE: _ATOMICS}
    for prefix, group in prefixed.items():
        table |= {(prefix, code): letters for letters, codes in group.items() for code in codes}
    return table


IMMEDIATES: Mapping[Opcode, str] = _make_immediates()
"""Immediates of each known opcode."""


def _make_classes() -> dict[Opcode, InstructionClass]:
    classes = {code: InstructionClass.OBJECTS for code in IMMEDIATES if code[0] == 0xFB}
    classes |= {code: InstructionClass.ATOMICS for code in IMMEDIATES if code[0] == 0xFE}
    exceptions = (0x06, 0x07, 0x08, 0x09, 0x0A, 0x18, 0x19, 0x1F)
    classes |= {(code, -1): InstructionClass.EXCEPTIONS for code in exceptions}
    classes |= {(code, -1): InstructionClass.TAIL_CALL for code in (0x12, 0x13, 0x15)}
    classes |= {(0xFC, code): InstructionClass.TABLE_CHANGE for code in (12, 14, 15, 17)}
    classes |= {(0xFC, code): InstructionClass.SEGMENT_DROP for code in (9, 13)}
    return classes | {LOOP: InstructionClass.LOOP, (0x26, -1): InstructionClass.TABLE_CHANGE}


INSTRUCTION_CLASSES: Mapping[Opcode, InstructionClass] = _make_classes()
"""Class of each notable instruction; all other instructions are skipped."""
assert INSTRUCTION_CLASSES.keys() <= IMMEDIATES.keys()
