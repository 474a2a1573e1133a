"""wasmtime engines: their settings, and their strategy of allocation.

wasmtime aborts the process if it cannot make an engine. So each reason for that is a check here.
"""

from dataclasses import replace
from typing import Any

import wasmtime

from journal.engine.allocation import (
    DEFAULT_STRATEGY,
    GUARD_SIZE,
    KNOBS,
    InstanceAllocationStrategy,
    Pooling,
)
from journal.engine.configuration import PAGE_SIZE, Configuration
from journal.engine.memory.address_space import (
    Reservation,
    can_reserve,
    count_free_mappings,
    describe_limit,
)
from journal.engine.program.asyncify_worker import STACK_MEMORY_PAGES
from journal.engine.runtime import bindings, raw_instances
from journal.errors import OptionError

EngineSettings = dict[str, int | bool]
"""wasmtime's settings by name. Compiled code is reused only with the same settings."""

_HOST_PAGE_SIZE = 1 << 12
_TABLE_ELEMENT_SIZE = 8
_ASYNC_STACK_MARGIN = 1 << 20
_MAPPINGS_PER_STACK = 2
"""Mappings of a stack: itself and its guard."""


def make_engine(
    configuration: Configuration, allocation: InstanceAllocationStrategy = DEFAULT_STRATEGY
) -> Any:
    """Return a wasmtime engine whose runs are repeatable.

    The engine fixes details that the specification leaves open: the bits of a NaN, relaxed SIMD,
    and the call depth. Raises ``OptionError`` for a pool that this process cannot reserve.
    """
    config = wasmtime.Config()
    # The async stack must be larger than max_wasm_stack, else wasmtime aborts the process.
    async_stack_size = configuration.native_stack_size + _ASYNC_STACK_MARGIN
    bindings.set_async_stack_size(config, async_stack_size)
    for name, value in make_settings(configuration, allocation).items():
        setattr(config, name, value)
    strategy = _with_instrumentation(allocation, configuration)
    if isinstance(strategy, Pooling):
        _check_pool(strategy, async_stack_size)
        knobs = {name: getattr(strategy, name) for name in KNOBS}
        raw_instances.set_pooling_allocation(config, knobs)
    return wasmtime.Engine(config)


def make_settings(
    configuration: Configuration, allocation: InstanceAllocationStrategy = DEFAULT_STRATEGY
) -> EngineSettings:
    """Return the settings of :func:`make_engine`."""
    settings: EngineSettings = {
        "max_wasm_stack": configuration.native_stack_size,
        "epoch_interruption": True,
        "cranelift_nan_canonicalization": True,
        "wasm_relaxed_simd_deterministic": True,
        # GuestMemory requires that a memory grows without moving.
        "memory_reservation": _with_instrumentation(allocation, configuration).reservation,
        "memory_may_move": False,
        "wasm_threads": False,
        "wasm_exceptions": True,
        "wasm_tail_call": True,
        "wasm_multi_memory": True,
    }
    if allocation.guard_size != GUARD_SIZE:
        settings["memory_guard_size"] = allocation.guard_size
    if not allocation.copy_on_write:
        settings["memory_init_cow"] = False
    return settings


def _with_instrumentation(
    allocation: InstanceAllocationStrategy, configuration: Configuration
) -> InstanceAllocationStrategy:
    """Return the strategy with room for the memory and the table that instrumentation adds.

    The knobs of the user count what the guest's module defines.
    """
    if not configuration.instrumentation or not isinstance(allocation, Pooling):
        return allocation
    stack_size = STACK_MEMORY_PAGES * PAGE_SIZE
    size = max(allocation.max_memory_size, stack_size)
    reservation = allocation.memory_reservation
    return replace(
        allocation,
        max_memories_per_module=allocation.max_memories_per_module + 1,
        max_tables_per_module=allocation.max_tables_per_module + 1,
        total_memories=allocation.total_memories + allocation.total_core_instances,
        total_tables=allocation.total_tables + allocation.total_core_instances,
        max_memory_size=size,
        memory_reservation=None if reservation is None else max(reservation, size),
    )


def _check_pool(pool: Pooling, async_stack_size: int) -> None:
    """Raise ``OptionError`` unless this process can reserve the pool."""
    slot_size = pool.reservation + pool.guard_size
    memories = pool.total_memories * slot_size + pool.guard_size
    tables = pool.total_tables * _round_up(pool.table_elements * _TABLE_ELEMENT_SIZE)
    stacks = pool.total_stacks * (_round_up(async_stack_size) + _HOST_PAGE_SIZE)
    reservations = (
        Reservation(memories),
        Reservation(tables, is_accessible=True),
        Reservation(stacks, is_accessible=True),
    )
    if not can_reserve(reservations):
        raise OptionError(
            f"the pool does not fit into {describe_limit()}: total_memories="
            f"{pool.total_memories} of {slot_size} bytes, total_tables={pool.total_tables} "
            f"of {pool.table_elements} elements and total_stacks={pool.total_stacks} need "
            f"{memories + tables + stacks} bytes; lower one of these, or memory_reservation"
        )
    free = count_free_mappings()
    if pool.total_stacks * _MAPPINGS_PER_STACK > free:
        raise OptionError(
            f"the pool needs {_MAPPINGS_PER_STACK} mappings for each of total_stacks="
            f"{pool.total_stacks}, and this process can make {free} more "
            "(vm.max_map_count): lower total_stacks"
        )


def _round_up(size: int) -> int:
    return -(-size // _HOST_PAGE_SIZE) * _HOST_PAGE_SIZE
