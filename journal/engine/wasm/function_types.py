"""Function types of a module, and the types of its imported and exported functions."""

from collections.abc import Iterator
from typing import NamedTuple

from journal.engine.wasm import binary
from journal.engine.wasm.binary import BinaryReader
from journal.engine.wasm.module_info import read_limits
from journal.errors import ModuleRefused

VECTOR = 0x7B
"""Value type ``v128``."""

_RECURSIVE_GROUP = 0x4E
_SUBTYPES = (0x4F, 0x50)
_FUNCTION, _STRUCT, _ARRAY = 0x60, 0x5F, 0x5E
_KINDS_WITH_LIMITS = (binary.TABLE, binary.MEMORY)


class FunctionType(NamedTuple):
    """Value types of the parameters and of the results of a function."""

    parameters: tuple[int, ...]
    results: tuple[int, ...]

    @property
    def has_vector(self) -> bool:
        """Return whether a parameter or a result is a vector."""
        return VECTOR in self.parameters or VECTOR in self.results


def read_types(module: bytes) -> list[FunctionType | None]:
    """Return the types of a module, in all recursive groups; None for one that is no function."""
    types: list[FunctionType | None] = []
    for section in binary.iter_sections(module):
        if section.id == binary.TYPES:
            reader = BinaryReader(module, section.body, section.stop)
            for _ in range(reader.read_number()):
                types += _iter_group(reader)
    return types


def find_vector_imports(module: bytes) -> set[tuple[str, str]]:
    """Return module and name of each imported function with a ``v128`` parameter or result.

    The module must be valid. The C interface of wasmtime aborts the process when it is asked for
    the type of such a function.
    """
    types = read_types(module)
    if not any(type_ is not None and type_.has_vector for type_ in types):
        return set()
    return {
        name
        for name, index in _iter_imported_functions(module)
        if index < len(types) and (type_ := types[index]) is not None and type_.has_vector
    }


def list_functions(module: bytes) -> list[FunctionType | None]:
    """Return the type of each function of a valid module, those of its imports first."""
    types = read_types(module)
    indexes = [index for _, index in _iter_imported_functions(module)]
    for section in binary.iter_sections(module):
        if section.id == binary.FUNCTIONS:
            reader = BinaryReader(module, section.body, section.stop)
            indexes += (reader.read_number() for _ in range(reader.read_count()))
    return [types[index] for index in indexes]


def _iter_group(reader: BinaryReader) -> Iterator[FunctionType | None]:
    """Read a type or a recursive group of types."""
    kind = reader.read_byte()
    if kind != _RECURSIVE_GROUP:
        yield _read_type(reader, kind)
        return
    for _ in range(reader.read_number()):
        yield _read_type(reader, reader.read_byte())


def _read_type(reader: BinaryReader, kind: int) -> FunctionType | None:
    """Read a type of this kind, and return it if it is the type of a function."""
    if kind in _SUBTYPES:
        for _ in range(reader.read_number()):
            reader.read_number()
        kind = reader.read_byte()
    if kind == _FUNCTION:
        return FunctionType(_read_values(reader), _read_values(reader))
    if kind not in (_STRUCT, _ARRAY):
        raise ModuleRefused(f"the module has a type of the unknown kind {kind:#x}")
    for _ in range(reader.read_number() if kind == _STRUCT else 1):
        reader.read_type(), reader.read_byte()
    return None


def _read_values(reader: BinaryReader) -> tuple[int, ...]:
    return tuple(reader.read_type() for _ in range(reader.read_number()))


def _iter_imported_functions(module: bytes) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield module and name of each imported function, and the index of its type."""
    for section in binary.iter_sections(module):
        if section.id != binary.IMPORTS:
            continue
        reader = BinaryReader(module, section.body, section.stop)
        for _ in range(reader.read_number()):
            name = reader.read_name(), reader.read_name()
            kind = reader.read_byte()
            if kind == binary.FUNCTION:
                yield name, reader.read_number()
            else:
                _skip_import(reader, kind)


def _skip_import(reader: BinaryReader, kind: int) -> None:
    """Read the rest of an import that is not a function."""
    if kind == binary.TABLE:
        reader.read_type()
    if kind in _KINDS_WITH_LIMITS:
        read_limits(reader)
    elif kind == binary.GLOBAL:
        reader.read_type(), reader.read_byte()
    else:
        reader.skip(1)
        reader.read_number()
