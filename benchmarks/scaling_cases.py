"""Cases of the scaling benchmark: guests, and ways to give each call fresh state."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import wasmtime

from benchmarks.stopwatch import module_folder
from journal.engine import InstancePool, OnDemand, Pooling
from journal.engine.allocation import InstanceAllocationStrategy
from journal.engine.memory.dirty_pages import PAGE_SIZE, KernelDirtyPages

BATCH = 20
"""Calls between two looks at the clock."""

_SLOTS = 64
_MEMORY_SIZE = 1 << 20
_POOL: dict[str, Any] = {
    "total_core_instances": _SLOTS,
    "total_memories": _SLOTS,
    "total_tables": _SLOTS,
    "max_unused_warm_slots": _SLOTS,
    "max_memory_size": 64 << 20,
}

ONE = '(module (func (export "run") (result i32) i32.const 1))'
MEMORY = f"""(module
  (memory (export "memory") {_MEMORY_SIZE >> 16})
  (data (i32.const 0) "first page") (data (i32.const 70000) "another page")
  (func (export "run") (result i32)
    (i32.store (i32.const 4096) (i32.const 7))
    (i32.store (i32.const 70016) (i32.const 7))
    (i32.store (i32.const 200000) (i32.const 7))
    (i32.load (i32.const 4096))))"""
MANY_PAGES = f"""(module
  (memory (export "memory") {_MEMORY_SIZE >> 16})
  (func (export "run") (result i32) (local $at i32)
    (loop $next
      (i32.store (local.get $at) (i32.const 7))
      (local.set $at (i32.add (local.get $at) (i32.const 8192)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const {_MEMORY_SIZE}))))
    (i32.load (i32.const 8192))))"""
COMPUTING = """(module
  (func (export "run") (result i32) (local $left i32)
    (local.set $left (i32.const 1000000))
    (loop $next
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    i32.const 1))"""


@dataclass(frozen=True, slots=True)
class Case:
    """A guest, and how each call gets fresh state.

    Without ``strategy``, one instance per thread is rewound after each call: its written pages are
    found by the kernel and copied back.
    """

    guest: str
    wat: str
    way: str
    strategy: InstanceAllocationStrategy | None


_WAYS: dict[str, InstanceAllocationStrategy | None] = {
    "on demand": OnDemand(),
    "on demand, no copy-on-write": OnDemand(copy_on_write=False),
    "pooling": Pooling(**_POOL),
    "pooling, 16 KiB resident": Pooling(**_POOL, linear_memory_keep_resident=16 << 10),
    "pooling, 1 MiB resident": Pooling(**_POOL, linear_memory_keep_resident=1 << 20),
    "pooling, batches of 16": Pooling(**_POOL, decommit_batch_size=16),
    "rewinding": None,
}
_GUESTS = {
    "returns 1": (ONE, ("on demand", "pooling")),
    "writes 3 pages of 1 MiB": (MEMORY, tuple(_WAYS)),
    "writes 128 pages of 1 MiB": (
        MANY_PAGES,
        ("on demand", "pooling", "pooling, 1 MiB resident", "rewinding"),
    ),
    "computes for 0.3 ms": (COMPUTING, ("pooling",)),
}

CASES = {
    f"{guest}: {way}": Case(guest, wat, way, _WAYS[way])
    for guest, (wat, ways) in _GUESTS.items()
    for way in ways
}
"""All cases by name."""

Operation = Callable[[], None]
"""A batch of calls. Each thread has an operation of its own."""


@contextmanager
def opened(case: Case) -> Iterator[Callable[[], Operation]]:
    """Compile the guest, and yield a function that makes the operation of a thread."""
    module = bytes(wasmtime.wat2wasm(case.wat))
    strategy = case.strategy or OnDemand()
    with InstancePool(module, allocation=strategy, cache=module_folder()) as pool:
        rewinders: list[_Rewinder] = []

        def make_operation() -> Operation:
            if case.strategy is not None:
                return lambda: _call_new_instances(pool)
            rewinders.append(_Rewinder(pool))
            return rewinders[-1].call

        try:
            yield make_operation
        finally:
            for rewinder in rewinders:
                rewinder.close()


_NO_ARGUMENTS: list[tuple[int, ...]] = [()] * BATCH


def _call_new_instances(pool: InstancePool) -> None:
    pool.call_many("run", _NO_ARGUMENTS)


class _Rewinder:
    """An instance whose memory is set back after each call."""

    def __init__(self, pool: InstancePool) -> None:
        self._instance = pool.instantiate()
        self._size = self._instance.get_memory_size()
        self._image = memoryview(self._instance.read(0, self._size))
        self._memory = self._instance._view("memory", 0, self._size)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._pages = KernelDirtyPages(address, self._size)

    def call(self) -> None:
        """Call the guest, and copy the pages that it wrote back, several times."""
        memory, image = self._memory, self._image
        for _ in range(BATCH):
            self._instance.call("run")
            for first, last in self._pages.collect(self._size):
                written = slice(first * PAGE_SIZE, last * PAGE_SIZE)
                memory[written] = image[written]

    def close(self) -> None:
        """Drop the instance."""
        self._pages.close()
        self._instance.close()
