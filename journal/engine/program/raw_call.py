"""Calls of exported functions through raw cells: conversion of values, and the memory for them."""

from collections.abc import Callable, Sequence
from ctypes import addressof, c_uint64, create_string_buffer
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple

from journal._arguments import quote
from journal.engine.runtime import raw_instances
from journal.engine.wasm.binary import NUMBER_TYPES
from journal.engine.wasm.function_types import FunctionType
from journal.errors import OptionError

Value = int | float
Result = Value | tuple[Value, ...] | None

_TRAP_AT = raw_instances.INSTANCE_SIZE
_EXPORT_AT = _TRAP_AT + 8
_CELL_SIZE = raw_instances.CELL_SIZE
_CELLS_AT = -(-(_EXPORT_AT + raw_instances.EXPORT_SIZE) // _CELL_SIZE) * _CELL_SIZE

_ARGUMENT_CODES = {"i32": "I12x", "i64": "Q8x", "f32": "f12x", "f64": "d8x"}
_RESULT_CODES = {"i32": "i12x", "i64": "q8x", "f32": "f12x", "f64": "d8x"}
_BITS = {"i32": 32, "i64": 64}


class CallBuffers:
    """Memory for the results of raw calls: an instance, a trap, an export, and values.

    The attributes that end with ``_at`` are addresses.
    """

    __slots__ = ("array", "cells_at", "export_at", "instance_at", "trap_at", "value_at", "words")

    def __init__(self, cells: int) -> None:
        self.array = (c_uint64 * ((_CELLS_AT + cells * _CELL_SIZE) // 8))()
        self.words = memoryview(self.array).cast("B").cast("Q")
        start = addressof(self.array)
        self.instance_at, self.trap_at = start, start + _TRAP_AT
        self.export_at, self.cells_at = start + _EXPORT_AT, start + _CELLS_AT
        self.value_at = self.export_at + raw_instances.EXPORT_VALUE_AT

    def take_trap(self) -> int:
        """Return the address of the trap of the last call, or 0."""
        trap = self.words[_TRAP_AT // 8]
        if trap:
            self.words[_TRAP_AT // 8] = 0
        return trap


class ExportedFunction(NamedTuple):
    """An exported function: its name in memory, and how its values lie in the cells."""

    name: str
    encoded: Any
    name_at: int
    name_size: int
    parameters: tuple[str, ...]
    pack: Callable[..., None]
    unpack: Callable[..., tuple[Value, ...]]
    results: int
    cells: int

    def write_arguments(self, buffers: CallBuffers, arguments: Sequence[Value]) -> None:
        """Write the arguments into the cells; raises ``OptionError`` unless they fit."""
        if not arguments and not self.parameters:
            return
        try:
            if len(arguments) == len(self.parameters):
                self.pack(buffers.array, _CELLS_AT, *map(_to_unsigned, self.parameters, arguments))
                return
        except (StructError, TypeError, OverflowError):
            pass
        values = ", ".join(map(quote, arguments))
        raise OptionError(
            f"{quote(self.name)} takes ({', '.join(self.parameters)}), got ({values})"
        )

    def read_results(self, buffers: CallBuffers) -> Result:
        """Return the results in the cells: None, one value, or a tuple."""
        values = self.unpack(buffers.array, _CELLS_AT)
        return values[0] if self.results == 1 else values or None


def make_function(name: str, type_: FunctionType) -> ExportedFunction:
    """Return an exported function of this type; raises ``OptionError`` if values are no numbers."""
    parameters, results = _list_names(type_.parameters), _list_names(type_.results)
    if not _ARGUMENT_CODES.keys() >= {*parameters, *results}:
        raise OptionError(f"{quote(name)} cannot be called: its values are not all numbers")
    encoded = name.encode()
    memory = create_string_buffer(encoded, len(encoded) + 1)
    return ExportedFunction(
        name=name,
        encoded=memory,
        name_at=addressof(memory),
        name_size=len(encoded),
        parameters=parameters,
        pack=Struct("<" + "".join(map(_ARGUMENT_CODES.__getitem__, parameters))).pack_into,
        unpack=Struct("<" + "".join(map(_RESULT_CODES.__getitem__, results))).unpack_from,
        results=len(results),
        cells=count_cells(type_),
    )


def count_cells(type_: FunctionType) -> int:
    """Return the number of cells that a call of a function needs."""
    return max(len(type_.parameters), len(type_.results))


def _list_names(types: Sequence[int]) -> tuple[str, ...]:
    return tuple(NUMBER_TYPES.get(type_, "reference") for type_ in types)


def _to_unsigned(kind: str, value: Value) -> Value:
    """Return an integer as an unsigned one of its size. Raises ``OverflowError``."""
    bits = _BITS.get(kind)
    if bits is None:
        return value
    if not isinstance(value, int):
        raise TypeError(kind)
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise OverflowError(value)
    return value & (1 << bits) - 1
