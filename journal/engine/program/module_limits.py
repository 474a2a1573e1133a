"""Limits of an allocation strategy: whether a module fits, and whether a resume is exact."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import NamedTuple

from journal.engine.allocation import InstanceAllocationStrategy, ModuleLimits, Pooling
from journal.engine.configuration import PAGE_SIZE, Configuration
from journal.engine.program.module import GuestModule, to_binary
from journal.engine.wasm import binary
from journal.engine.wasm.function_types import read_types
from journal.engine.wasm.module_info import MemoryLimits, ModuleInfo, read_module_info
from journal.errors import ModuleRefused, OptionError

_KINDS = {
    "functions": binary.FUNCTION,
    "tables": binary.TABLE,
    "memories": binary.MEMORY,
    "globals": binary.GLOBAL,
}


class _Need(NamedTuple):
    """Need of a module for a limit; ``reason`` names its cause."""

    limit: str
    size: int
    reason: str


def check_limits(module: GuestModule, allocation: InstanceAllocationStrategy) -> None:
    """Raise ``ModuleRefused`` if a module does not fit into the limits of a strategy.

    The declarations are compared, so the module is not compiled for that. wasmtime itself checks
    only ``max_core_instance_size``, which depends on its own records.
    """
    limits = allocation.module_limits
    if not limits.are_set and not isinstance(allocation, Pooling):
        return
    data = to_binary(module)
    info = read_module_info(data)
    if limits.are_set:
        for each in _iter_module_needs(info, len(read_types(data))):
            limit = getattr(limits, each.limit)
            if limit is not None and each.size > limit:
                _refuse(each, f"module_limits.{each.limit}", limit)
    if isinstance(allocation, Pooling):
        for each in _iter_pool_needs(info):
            limit = getattr(allocation, each.limit)
            if each.size > limit:
                _refuse(each, each.limit, limit)


def _refuse(need: _Need, name: str, limit: int) -> None:
    raise ModuleRefused(
        f"the allocation strategy has {name}={limit}, but the module needs {need.size}: "
        f"{need.reason}"
    )


def _iter_module_needs(info: ModuleInfo, types: int) -> Iterator[_Need]:
    """Yield what a module needs of each of ``ModuleLimits``."""
    yield _Need("types", types, "the number of its types")
    for name, kind in _KINDS.items():
        imported = info.import_counts[kind]
        yield _Need(f"imported_{name}", imported, f"the number of {name} that it imports")
        yield _Need(name, info.counts[kind] - imported, f"the number of {name} that it defines")
    for index, table in enumerate(info.tables):
        yield _Need("table_elements", table.minimum, f"the first size of table {index}")
    for index, memory in enumerate(info.memories):
        yield _Need("memory_pages", memory.minimum, f"the first size of memory {index}")


def _iter_pool_needs(info: ModuleInfo) -> Iterator[_Need]:
    """Yield what an instance of a module needs of each knob of a pool."""
    first_memory, first_table = (info.import_counts[kind] for kind in (binary.MEMORY, binary.TABLE))
    memories, tables = len(info.memories) - first_memory, len(info.tables) - first_table
    has_heap = info.has_references or info.has_objects or bool(info.counts[binary.TAG])
    heap = " and the heap of its objects" if has_heap else ""
    yield _Need("total_core_instances", 1, "one instance")
    yield _Need("max_memories_per_module", memories, "the number of its memories")
    yield _Need("total_memories", memories + has_heap, f"the number of its memories{heap}")
    yield _Need("max_tables_per_module", tables, "the number of its tables")
    yield _Need("total_tables", tables, "the number of its tables")
    yield _Need("total_gc_heaps", int(has_heap), "the heap of its objects")
    for index, memory in enumerate(info.memories[first_memory:], first_memory):
        size = memory.minimum * PAGE_SIZE
        yield _Need("max_memory_size", size, f"the first size of memory {index} in bytes")
    for index, table in enumerate(info.tables[first_table:], first_table):
        yield _Need("table_elements", table.minimum, f"the first size of table {index}")


# -- limits that a guest can observe -------------------------------------------------------------


def lower_limits(
    configuration: Configuration, allocation: InstanceAllocationStrategy
) -> Configuration:
    """Return the configuration of a new run with the limits of growth of a strategy.

    They are recorded, because a guest observes them. So a resume with any strategy that can give as
    much continues exactly.
    """
    elements = allocation.table_elements_max
    if elements is None:
        elements = configuration.table_elements_max
    return replace(
        configuration,
        memory_size_max=max(
            PAGE_SIZE, min(configuration.memory_size_max, allocation.memory_size_max)
        ),
        table_elements_max=min(configuration.table_elements_max, elements),
    )


def check_growth(
    module: GuestModule, configuration: Configuration, allocation: InstanceAllocationStrategy
) -> None:
    """Raise ``OptionError`` if a guest could grow further in its recorded run than with a strategy.

    Then the resumed guest would differ from the recorded one.
    """
    elements = allocation.table_elements_max
    has_elements = elements is None or elements >= configuration.table_elements_max
    if has_elements and allocation.memory_size_max >= configuration.memory_size_max:
        return
    info = read_module_info(to_binary(module))
    memory_size = _find_largest(info.memories, configuration.memory_size_max, PAGE_SIZE)
    if memory_size > allocation.memory_size_max:
        raise OptionError(
            f"the recorded guest may grow a memory to {memory_size} bytes, and the allocation "
            f"strategy allows {allocation.memory_size_max}: raise max_memory_size, "
            "memory_reservation or module_limits.memory_pages"
        )
    table_size = _find_largest(info.tables, configuration.table_elements_max, 1)
    if elements is not None and table_size > elements:
        raise OptionError(
            f"the recorded guest may grow a table to {table_size} elements, and the allocation "
            f"strategy allows {elements}: raise table_elements"
        )


def _find_largest(limits: list[MemoryLimits], size_max: int, unit: int) -> int:
    """Return the largest size that a memory or a table can have."""
    sizes = (each.maximum * unit for each in limits if each.maximum is not None)
    has_no_limit = any(each.maximum is None for each in limits)
    return min(size_max, max(sizes, default=0)) if not has_no_limit else size_max


assert {each.name for each in fields(ModuleLimits)} >= {f"imported_{name}" for name in _KINDS}
