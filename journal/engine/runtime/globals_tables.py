"""Globals and tables of an instance, read and written as bits through wasmtime's C layer.

wasmtime's Python API supports neither vectors nor the identity of a function in a table.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import wasmtime
from wasmtime import _ffi

from journal.engine.wasm.state_exports import ExportedGlobal
from journal.errors import EngineError
from journal.events.threads import TABLE_NULL

_TYPE_CODES = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "v128": 0x7B}
_KINDS = {0x7F: 0, 0x7E: 1, 0x7D: 2, 0x7C: 3, 0x7B: 4}
_SIZES = {0x7F: 4, 0x7E: 8, 0x7D: 4, 0x7C: 8, 0x7B: 16}
_BITS_SIZE = 16
_FUNCREF, _EXTERNREF = 5, 6

GlobalValue = tuple[int, int, bytes]
"""Index, type and bits, as in GlobalsSet."""


class InstanceGlobals:
    """Mutable globals of an instance with number types."""

    def __init__(self, store: Any, exports: Any, names: Sequence[ExportedGlobal]) -> None:
        self._store = store
        self._globals = [
            (global_.global_index, _TYPE_CODES[global_.kind], exports[global_.name]._global)
            for global_ in names
            if global_.kind in _TYPE_CODES
        ]
        self._raw: Any = _ffi.wasmtime_val_t()
        self._bits = ctypes.addressof(self._raw.of)

    def read(self) -> tuple[GlobalValue, ...]:
        """Return the values of all globals."""
        values = []
        for index, code, raw_global in self._globals:
            ctypes.memset(self._bits, 0, _BITS_SIZE)
            _ffi.wasmtime_global_get(
                self._store._context(), ctypes.byref(raw_global), ctypes.byref(self._raw)
            )
            bits = ctypes.string_at(self._bits, _SIZES[code])
            values.append((index, code, bits.ljust(_BITS_SIZE, b"\0")))
        return tuple(values)

    def write(self, values: Sequence[GlobalValue]) -> None:
        """Set all globals; raises EngineError unless the values match the module's globals."""
        if [value[:2] for value in values] != [entry[:2] for entry in self._globals]:
            raise EngineError("the globals of the snapshot do not match the globals of the module")
        for (_, code, bits), (_, _, raw_global) in zip(values, self._globals, strict=True):
            self._raw.kind = _KINDS[code]
            ctypes.memmove(self._bits, bits, _BITS_SIZE)
            error = _ffi.wasmtime_global_set(
                self._store._context(), ctypes.byref(raw_global), ctypes.byref(self._raw)
            )
            if error:
                raise wasmtime.WasmtimeError._from_ptr(error)


def _null_kind(type_: Any) -> int:
    return _FUNCREF if str(type_.element) == "funcref" else _EXTERNREF


class InstanceTables:
    """Function tables of an instance; an element is a function index."""

    def __init__(
        self, store: Any, exports: Any, tables: Sequence[str], functions: Sequence[str]
    ) -> None:
        self._store = store
        self._tables = [exports[name]._table for name in tables]
        self._null_kinds = [_null_kind(exports[name].type(store)) for name in tables]
        self._functions = [exports[name]._func for name in functions]
        self._indexes = {bytes(function): index for index, function in enumerate(self._functions)}
        self._raw: Any = _ffi.wasmtime_val_t()
        self._reference = ctypes.addressof(self._raw.of)
        self._reference_size = ctypes.sizeof(_ffi.wasmtime_func_t)

    def __len__(self) -> int:
        return len(self._tables)

    def read(self, table: int) -> list[int]:
        """Return the elements of a table; raises EngineError for an element that is no function of
        the module.
        """
        raw, context = self._tables[table], self._store._context()
        size = _ffi.wasmtime_table_size(context, ctypes.byref(raw))
        return [self._read_element(context, raw, index) for index in range(size)]

    def _read_element(self, context: Any, table: Any, index: int) -> int:
        ctypes.memset(self._reference, 0, self._reference_size)
        _ffi.wasmtime_table_get(context, ctypes.byref(table), index, ctypes.byref(self._raw))
        reference = ctypes.string_at(self._reference, self._reference_size)
        if not any(reference[:8]):  # A null reference has no store.
            return TABLE_NULL
        if self._raw.kind != _FUNCREF or reference not in self._indexes:
            raise EngineError(f"element {index} of a table is not a function of the module")
        return self._indexes[reference]

    def write(self, table: int, functions: Sequence[int]) -> None:
        """Grow a table and set its elements; raises EngineError for invalid values."""
        if table >= len(self._tables):
            raise EngineError(f"the module has no table {table}, only {len(self._tables)} tables")
        raw, context = self._tables[table], self._store._context()
        size = _ffi.wasmtime_table_size(context, ctypes.byref(raw))
        if size > len(functions):
            raise EngineError(
                f"table {table} has {size} elements, but only {len(functions)} in the snapshot"
            )
        self._put(TABLE_NULL, self._null_kinds[table])
        old_size = ctypes.c_uint64()
        self._check(
            _ffi.wasmtime_table_grow(
                context,
                ctypes.byref(raw),
                len(functions) - size,
                ctypes.byref(self._raw),
                ctypes.byref(old_size),
            )
        )
        for index, function in enumerate(functions):
            self._put(function, self._null_kinds[table])
            self._check(
                _ffi.wasmtime_table_set(context, ctypes.byref(raw), index, ctypes.byref(self._raw))
            )

    def _put(self, function: int, null_kind: int) -> None:
        """Set the raw value to a function or to the null reference."""
        ctypes.memset(self._reference, 0, self._reference_size)
        self._raw.kind = null_kind if function == TABLE_NULL else _FUNCREF
        if function == TABLE_NULL:
            return
        if function >= len(self._functions):
            raise EngineError(
                f"the module has no function {function}, only {len(self._functions)} functions"
            )
        ctypes.memmove(
            self._reference,
            ctypes.addressof(self._functions[function]),
            self._reference_size,
        )

    def _check(self, error: Any) -> None:
        if error:
            raise EngineError(str(wasmtime.WasmtimeError._from_ptr(error)).strip())
