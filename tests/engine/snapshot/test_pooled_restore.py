"""A snapshot that is restored in a slot of a pool leaves nothing for the next instance."""

from __future__ import annotations

import os
from typing import Any

import pytest
import wasmtime

from journal.engine.allocation import InstanceAllocationStrategy, OnDemand, Pooling
from journal.engine.configuration import MEMORY_SIZE_MAX, PAGE_SIZE, Configuration
from journal.engine.memory.mapping import Mirror
from journal.engine.program.engine import make_engine
from journal.engine.runtime.bindings import Instance
from journal.engine.snapshot.capture import MachineState, TrackedMemory
from journal.engine.snapshot.memory_image import ImageMemory, MemoryImage
from journal.engine.snapshot.restore import SnapshotRestorer
from tests.support.wat import module

SIZE = 20 * PAGE_SIZE
MODULE = module('(module (memory (export "memory") 3) (data (i32.const 70000) "initial"))')
ONE_SLOT = Pooling(total_core_instances=1, total_memories=1, total_tables=1, total_stacks=0)
SECRETS = {0: b"secret", 5 * PAGE_SIZE + 77: b"another", SIZE - 3: b"end"}


def make_image() -> MemoryImage:
    """Return the image of a memory with three pages and holes between them."""
    fd = os.memfd_create("image")
    os.ftruncate(fd, SIZE)
    for offset, data in SECRETS.items():
        os.pwrite(fd, data, offset)
    return MemoryImage(fd, (ImageMemory(0, SIZE, 0, 0),))


def restore(memory: Any, *, is_pooled: bool) -> None:
    tracked = TrackedMemory(0, memory, Mirror(MEMORY_SIZE_MAX))
    empty: Any = None
    machine = MachineState([tracked], empty, None, is_pooled=is_pooled)
    restorer = SnapshotRestorer(empty, empty, make_image(), lambda tags: (), is_last=True)
    restorer._apply_memories(machine)
    machine.close()


@pytest.mark.parametrize(
    "allocation",
    [OnDemand(), ONE_SLOT, Pooling(total_memories=1, linear_memory_keep_resident=SIZE)],
    ids=["on demand", "one slot", "resident slot"],
)
def test_an_instance_does_not_see_the_snapshot_of_the_last_one(
    allocation: InstanceAllocationStrategy,
) -> None:
    engine = make_engine(Configuration(), allocation)
    compiled = wasmtime.Module(engine, MODULE)
    expected = bytearray(SIZE)
    for offset, data in SECRETS.items():
        expected[offset : offset + len(data)] = data
    for _ in range(3):
        instance = Instance(engine, lambda: None)
        memory = instance.instantiate(compiled)
        restore(memory, is_pooled=isinstance(allocation, Pooling))
        assert memory.read(0, SIZE) == expected
        instance.close()
        instance = Instance(engine, lambda: None)
        memory = instance.instantiate(compiled)
        memory.grow(SIZE)
        content = memory.read(0, SIZE)
        assert content.strip(b"\0") == b"initial"
        instance.close()
