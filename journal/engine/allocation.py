"""Strategies by which wasmtime allocates the memories and tables of instances.

The names are those of wasmtime 50 and of its RFC on the pooling allocator: see
``wasmtime::InstanceAllocationStrategy`` and ``wasmtime::PoolingAllocationConfig``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from journal._arguments import (
    check_flag,
    check_int,
    check_optional,
    check_seconds,
    check_text,
    check_type,
    quote,
)
from journal.errors import OptionError

WASM_PAGE_SIZE = 1 << 16
RESERVATION_MAX = 1 << 32
"""Largest memory reservation in bytes: a memory of 32-bit addresses never needs more."""
GUARD_SIZE = 32 << 20
"""Default size of the guard behind a memory in bytes, as in wasmtime."""

_SLOTS_MAX = 1 << 20
"""Largest number of slots of one kind. wasmtime allocates a record for each of them."""
_U32_MAX = (1 << 32) - 1
_SIZE_MAX = 1 << 47
"""Size of the address space of a process on x86-64 and AArch64 in bytes."""
_POOL_SIZE_MAX = 1 << 46
"""Largest size of the memory slots together up to which each slot has a full reservation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleLimits:
    """Limits of the declarations of a module, by the names of the RFC. None means no limit.

    A module that exceeds one is refused before it is compiled. ``table_elements`` and
    ``memory_pages`` (of 64 KiB) bound each table and each memory, also when it grows. ``types``
    counts the types of all recursive groups. ``functions``, ``tables``, ``memories`` and
    ``globals`` count what the module defines itself, without its imports.
    """

    types: int | None = None
    imported_functions: int | None = None
    imported_tables: int | None = None
    imported_memories: int | None = None
    imported_globals: int | None = None
    functions: int | None = None
    tables: int | None = None
    memories: int | None = None
    globals: int | None = None
    table_elements: int | None = None
    memory_pages: int | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            check_optional(each.name, getattr(self, each.name), check_int, 0, _U32_MAX)

    @property
    def are_set(self) -> bool:
        """Return whether any limit is set."""
        return any(getattr(self, each.name) is not None for each in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceAllocationStrategy:
    """Options that all allocation strategies share. Use :class:`OnDemand` or :class:`Pooling`.

    The compiler is tuned to them. ``memory_reservation`` is the size of the addresses that a
    memory reserves, in bytes. A memory cannot grow beyond it, because it never moves. With 4 GiB,
    which is the default, code needs no bounds checks. ``memory_guard_size`` is the size of the
    inaccessible addresses behind a memory in bytes (default: 32 MiB); code checks the bounds of
    accesses with larger offsets. Both are multiples of 64 KiB. With ``copy_on_write`` the initial
    content of a memory is mapped, else it is copied.
    """

    memory_reservation: int | None = None
    memory_guard_size: int | None = None
    copy_on_write: bool = True
    module_limits: ModuleLimits = field(default_factory=ModuleLimits)

    def __post_init__(self) -> None:
        check_optional("memory_reservation", self.memory_reservation, _check_reservation)
        check_optional("memory_guard_size", self.memory_guard_size, _check_guard)
        check_flag("copy_on_write", self.copy_on_write)
        check_type("module_limits", self.module_limits, ModuleLimits)

    @property
    def reservation(self) -> int:
        """Return the size of the addresses that each memory reserves, in bytes."""
        return RESERVATION_MAX if self.memory_reservation is None else self.memory_reservation

    @property
    def guard_size(self) -> int:
        """Return the size of the guard behind each memory in bytes."""
        return GUARD_SIZE if self.memory_guard_size is None else self.memory_guard_size

    @property
    def memory_size_max(self) -> int:
        """Return the size in bytes up to which each memory can grow."""
        return _bound_memory(self.reservation, self.module_limits)

    @property
    def table_elements_max(self) -> int | None:
        """Return the number of elements up to which each table can grow, None without a limit."""
        return self.module_limits.table_elements


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemand(InstanceAllocationStrategy):
    """Allocation of each instance when it is made: nothing is reserved, and nothing is reused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling(InstanceAllocationStrategy):
    """Allocation from slots that are reserved once, when the engine is made.

    The 20 knobs have the names and the defaults of wasmtime. Names that end with ``size`` or
    ``resident`` are bytes, ``table_elements`` are elements of 8 bytes, the others are counts.

    * ``total_component_instances``, ``total_core_instances``, ``total_memories``,
      ``total_tables``, ``total_stacks`` and ``total_gc_heaps`` are the slots of the pool: so many
      can exist at a time, in all instances together.
    * ``max_core_instance_size`` bounds the record of a module's instance, and
      ``max_component_instance_size`` that of a component's.
    * ``max_memories_per_module`` and ``max_tables_per_module`` bound what one module defines;
      ``max_core_instances_per_component``, ``max_memories_per_component`` and
      ``max_tables_per_component`` bound what one component contains.
    * ``max_memory_size`` bounds each memory, a multiple of 64 KiB, and ``table_elements`` each
      table. A memory or a table cannot grow beyond them.
    * ``max_unused_warm_slots`` is the number of unused slots that keep the image of their last
      module, for the next instance of the same module.
    * ``decommit_batch_size`` is the number of dropped memories, tables and stacks whose pages are
      returned to the kernel together.
    * ``linear_memory_keep_resident``, ``table_keep_resident`` and ``async_stack_keep_resident``
      are the first bytes of a dropped one that are cleared in place rather than returned.

    Without ``memory_reservation`` each memory reserves 4 GiB if the slots together then fit into
    64 TiB, and else ``max_memory_size``.

    An instance that finds no free slot waits for one for ``full_wait_seconds``, and then raises
    ``PoolFull``.
    """

    total_component_instances: int = 1000
    max_component_instance_size: int = 1 << 20
    max_core_instances_per_component: int = _U32_MAX
    max_memories_per_component: int = _U32_MAX
    max_tables_per_component: int = _U32_MAX
    total_core_instances: int = 1000
    total_memories: int = 1000
    total_tables: int = 1000
    total_stacks: int = 1000
    total_gc_heaps: int = 1000
    max_core_instance_size: int = 1 << 20
    max_tables_per_module: int = 1
    table_elements: int = 20_000
    max_memories_per_module: int = 1
    max_memory_size: int = 1 << 32
    max_unused_warm_slots: int = 100
    decommit_batch_size: int = 1
    linear_memory_keep_resident: int = 0
    table_keep_resident: int = 0
    async_stack_keep_resident: int = 0
    full_wait_seconds: float = 0.0

    def __post_init__(self) -> None:
        InstanceAllocationStrategy.__post_init__(self)
        for name in KNOBS:
            check_int(name, getattr(self, name), 0, _find_maximum(name))
        _check_pages("max_memory_size", self.max_memory_size, WASM_PAGE_SIZE)
        check_seconds("full_wait_seconds", self.full_wait_seconds)
        if self.memory_reservation is not None and self.memory_reservation < self.max_memory_size:
            raise OptionError(
                f"memory_reservation must be at least max_memory_size ({self.max_memory_size}), "
                f"got {self.memory_reservation}"
            )

    @property
    def reservation(self) -> int:
        """Return the size of the addresses that each memory reserves, in bytes."""
        if self.memory_reservation is not None:
            return self.memory_reservation
        is_small = self.total_memories * (RESERVATION_MAX + self.guard_size) <= _POOL_SIZE_MAX
        return RESERVATION_MAX if is_small else self.max_memory_size

    @property
    def memory_size_max(self) -> int:
        """Return the size in bytes up to which each memory can grow."""
        return _bound_memory(self.max_memory_size, self.module_limits)

    @property
    def table_elements_max(self) -> int | None:
        """Return the number of elements up to which each table can grow."""
        limit = self.module_limits.table_elements
        return self.table_elements if limit is None else min(limit, self.table_elements)


_SHARED = {each.name for each in fields(InstanceAllocationStrategy)} | {"full_wait_seconds"}

KNOBS = tuple(each.name for each in fields(Pooling) if each.name not in _SHARED)
"""Names of the knobs of wasmtime's pooling allocator."""
assert len(KNOBS) == 20


def check_allocation(name: str, value: Any) -> InstanceAllocationStrategy:
    """Return an allocation strategy."""
    if not isinstance(value, OnDemand | Pooling):
        raise OptionError(f"{name} must be OnDemand(...) or Pooling(...), got {quote(value)}")
    return value


def _find_maximum(knob: str) -> int:
    if knob.endswith(("_size", "_resident")) and knob != "decommit_batch_size":
        return _SIZE_MAX
    return _SLOTS_MAX if knob.startswith("total_") else _U32_MAX


def _check_reservation(name: str, value: Any) -> int:
    return _check_pages(name, value, WASM_PAGE_SIZE)


def _check_guard(name: str, value: Any) -> int:
    return _check_pages(name, value, 0)


def _check_pages(name: str, value: Any, low: int) -> int:
    check_int(name, value, low, RESERVATION_MAX)
    if value % WASM_PAGE_SIZE:
        raise OptionError(f"{name} must be a multiple of {WASM_PAGE_SIZE} bytes, got {value}")
    return int(value)


def _bound_memory(size: int, limits: ModuleLimits) -> int:
    pages = limits.memory_pages
    return size if pages is None else min(size, pages * WASM_PAGE_SIZE)


DEFAULT_STRATEGY = OnDemand()

# -- the text form -------------------------------------------------------------------------------

_STRATEGIES: dict[str, type[InstanceAllocationStrategy]] = {
    "on-demand": OnDemand,
    "pooling": Pooling,
}
_UNITS = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_DIGITS_MAX = 19
_FLAGS = {"true": True, "false": False}
_LIMITS_PREFIX = "module_limits."


def parse_allocation(text: str) -> InstanceAllocationStrategy:
    """Return the strategy of a text such as ``pooling:total_memories=10,max_memory_size=1MiB``.

    The text is ``on-demand`` or ``pooling``, followed by the names and values of its options.
    Numbers may end with KiB, MiB or GiB, and module limits begin with ``module_limits.``. Raises
    ``OptionError``.
    """
    check_text("text", text)
    name, _, options = text.partition(":")
    kind = _STRATEGIES.get(name)
    if kind is None:
        raise OptionError(
            f"{quote(name)} is not an allocation strategy: use on-demand or pooling, for example "
            "pooling:total_memories=10,max_memory_size=64MiB"
        )
    parsers = _list_parsers(kind)
    values: dict[str, Any] = {}
    for option in options.split(",") if options else ():
        key, _, value = option.partition("=")
        if key in values:
            raise OptionError(f"{key} is given twice for the allocation strategy {name}")
        values[key] = _parse_option(name, key, value, parsers)
    size = len(_LIMITS_PREFIX)
    limits = {key[size:]: values.pop(key) for key in list(values) if key.startswith(_LIMITS_PREFIX)}
    return kind(**values, module_limits=ModuleLimits(**limits))


def _list_parsers(kind: type[InstanceAllocationStrategy]) -> dict[str, Callable[[str], Any]]:
    """Return the parser of each option of a strategy."""
    parsers: dict[str, Callable[[str], Any]] = {
        each.name: _parse_number for each in fields(kind) if each.name != "module_limits"
    }
    parsers |= {_LIMITS_PREFIX + each.name: _parse_number for each in fields(ModuleLimits)}
    parsers["copy_on_write"] = _FLAGS.__getitem__
    if "full_wait_seconds" in parsers:
        parsers["full_wait_seconds"] = float
    return parsers


def _parse_option(
    strategy: str, key: str, value: str, parsers: Mapping[str, Callable[[str], Any]]
) -> Any:
    parse = parsers.get(key)
    if parse is None:
        similar = get_close_matches(key, parsers, n=1)
        hint = f": {similar[0]} is similar" if similar else ""
        raise OptionError(f"the allocation strategy {strategy} has no option {quote(key)}{hint}")
    try:
        return parse(value)
    except (ValueError, KeyError):
        allowed = "true or false" if key == "copy_on_write" else "a number, such as 1000 or 64MiB"
        raise OptionError(f"{key} must be {allowed}, got {quote(value)}") from None


def _parse_number(text: str) -> int:
    """Return a number, which may have a unit. Raises ``ValueError`` or ``KeyError``."""
    digits = text.rstrip("BKMGIbkmgi")
    if not digits.isascii() or not digits.isdigit() or len(digits) > _DIGITS_MAX:
        raise ValueError(text)
    return int(digits) * _UNITS[text[len(digits) :].upper()]
