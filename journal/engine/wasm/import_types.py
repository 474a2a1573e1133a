"""Types of the functions that a module imports."""

from journal.engine.wasm import binary
from journal.engine.wasm.binary import BinaryReader
from journal.engine.wasm.module_info import read_limits
from journal.errors import ModuleRefused

_VECTOR = 0x7B
_RECURSIVE_GROUP = 0x4E
_SUBTYPES = (0x4F, 0x50)
_FUNCTION, _STRUCT, _ARRAY = 0x60, 0x5F, 0x5E
_KINDS_WITH_LIMITS = (binary.TABLE, binary.MEMORY)


def find_vector_imports(module: bytes) -> set[tuple[str, str]]:
    """Return module and name of each imported function with a ``v128`` parameter or result.

    The module must be valid. The C interface of wasmtime aborts the process when it is asked for
    the type of such a function.
    """
    have_vectors: list[bool] = []
    found: set[tuple[str, str]] = set()
    for section in binary.iter_sections(module):
        reader = BinaryReader(module, section.body, section.stop)
        if section.id == binary.TYPES:
            for _ in range(reader.read_number()):
                _read_types(reader, have_vectors)
        elif section.id == binary.IMPORTS and any(have_vectors):
            for _ in range(reader.read_number()):
                name = reader.read_name(), reader.read_name()
                if _reads_vector_function(reader, have_vectors):
                    found.add(name)
    return found


def _read_types(reader: BinaryReader, have_vectors: list[bool]) -> None:
    """Read a type or a recursive group of types, and append for each whether it has a vector."""
    kind = reader.read_byte()
    if kind != _RECURSIVE_GROUP:
        have_vectors.append(_has_vector(reader, kind))
        return
    count = reader.read_number()
    have_vectors.extend(_has_vector(reader, reader.read_byte()) for _ in range(count))


def _has_vector(reader: BinaryReader, kind: int) -> bool:
    """Read a type of this kind, and return whether it is a function type with a vector."""
    if kind in _SUBTYPES:
        for _ in range(reader.read_number()):
            reader.read_number()
        kind = reader.read_byte()
    if kind == _FUNCTION:
        values = [reader.read_type() for _ in range(2) for _ in range(reader.read_number())]
        return _VECTOR in values
    if kind not in (_STRUCT, _ARRAY):
        raise ModuleRefused(f"the module has a type of the unknown kind {kind:#x}")
    for _ in range(reader.read_number() if kind == _STRUCT else 1):
        reader.read_type(), reader.read_byte()
    return False


def _reads_vector_function(reader: BinaryReader, have_vectors: list[bool]) -> bool:
    """Read the rest of an import, and return whether it is a function with a vector."""
    kind = reader.read_byte()
    if kind == binary.FUNCTION:
        return have_vectors[reader.read_number()]
    if kind == binary.TABLE:
        reader.read_type()
    if kind in _KINDS_WITH_LIMITS:
        read_limits(reader)
    elif kind == binary.GLOBAL:
        reader.read_type(), reader.read_byte()
    else:
        reader.skip(1)
        reader.read_number()
    return False
