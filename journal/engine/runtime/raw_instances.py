"""Raw calls of wasmtime's C layer that make and drop an instance in microseconds.

All pointers are plain addresses: the conversion of ctypes objects costs as much as the calls.
"""

import ctypes
from collections.abc import Mapping
from ctypes import CFUNCTYPE, c_bool, c_int64, c_size_t, c_uint64, c_void_p, cast
from typing import Any

import wasmtime
from wasmtime import _ffi

_ErrorPointer = ctypes.POINTER(_ffi.wasmtime_error_t)
_TrapPointer = ctypes.POINTER(_ffi.wasm_trap_t)


def _bind(name: str, result: Any, *arguments: Any) -> Any:
    address = cast(getattr(_ffi.dll, name), c_void_p).value or 0
    return CFUNCTYPE(result, *arguments)(address)


new_store = _bind("wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p)
"""Return a store of an engine. The further arguments are None."""
delete_store = _bind("wasmtime_store_delete", None, c_void_p)
get_context = _bind("wasmtime_store_context", c_void_p, c_void_p)
limit_store = _bind("wasmtime_store_limiter", None, c_void_p, *[c_int64] * 5)
"""Limit the memory size, table elements, instances, tables and memories of a store; -1: no limit"""
set_deadline = _bind("wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)
instantiate = _bind("wasmtime_instance_pre_instantiate", c_void_p, *[c_void_p] * 4)
"""Make an instance: pre-instance, context, result, trap. Return an error, or None."""
get_export = _bind(
    "wasmtime_instance_export_get", c_bool, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p
)
"""Find an export: context, instance, name, size of the name, result."""
call_function = _bind(
    "wasmtime_func_call_unchecked", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p
)
"""Call a function: context, function, cells, number of cells, trap. Return an error, or None."""
get_memory_address = _bind("wasmtime_memory_data", c_void_p, c_void_p, c_void_p)
get_memory_size = _bind("wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)

CELL_SIZE = 16
"""Size of an argument or a result in bytes."""
INSTANCE_SIZE = ctypes.sizeof(_ffi.wasmtime_instance_t)
EXPORT_SIZE = ctypes.sizeof(_ffi.wasmtime_extern_t)
EXPORT_VALUE_AT: int = _ffi.wasmtime_extern_t.of.offset
"""Offset of the function or of the memory in an export."""


def set_pooling_allocation(config: Any, knobs: Mapping[str, int]) -> None:
    """Let an engine allocate instances from a pool with these knobs of wasmtime."""
    pool = _ffi.wasmtime_pooling_allocation_config_new()
    for name, value in knobs.items():
        getattr(_ffi, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
    _ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    _ffi.wasmtime_pooling_allocation_config_delete(pool)


def get_address(managed: Any) -> int:
    """Return the address of an object of wasmtime, such as an engine."""
    return cast(managed.ptr(), c_void_p).value or 0


def take_error(address: int) -> wasmtime.WasmtimeError:
    """Return the error at an address, which belongs to the result from now on."""
    return wasmtime.WasmtimeError._from_ptr(cast(address, _ErrorPointer))


def take_trap(address: int) -> wasmtime.Trap:
    """Return the trap at an address, which belongs to the result from now on."""
    return wasmtime.Trap._from_ptr(cast(address, _TrapPointer))
