"""Trial of reservations: whether this process can map so many addresses.

wasmtime aborts the process if the reservation of a pool fails, so the pool is reserved once before,
with the same sizes and access, and released.
"""

import mmap
import resource
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from journal.engine.memory.mapping import reserve, unmap

MARGIN_SIZE = 64 << 20
"""Addresses in bytes that must remain for the rest of the process."""

_MAPPINGS_MAX_DEFAULT = 65530
_MAPPINGS_MARGIN = 1000
_MAPPINGS_LIMIT = Path("/proc/sys/vm/max_map_count")
_MAPPINGS = Path("/proc/self/maps")


class Reservation(NamedTuple):
    """Addresses to reserve: their size in bytes, and whether they can be read and written."""

    size: int
    is_accessible: bool = False


def can_reserve(reservations: Sequence[Reservation]) -> bool:
    """Return whether the reservations fit into the address space at the same time."""
    with ExitStack() as stack:
        for size, is_accessible in (*reservations, Reservation(MARGIN_SIZE, is_accessible=True)):
            protection = mmap.PROT_READ | mmap.PROT_WRITE if is_accessible else 0
            try:
                address = reserve(size, protection) if size else 0
            except (OSError, OverflowError):
                return False
            if size:
                stack.callback(unmap, address, size)
    return True


def count_free_mappings() -> int:
    """Return the number of mappings that this process can still make, with a margin."""
    limit, used = _MAPPINGS_MAX_DEFAULT, 0
    with suppress(OSError, ValueError):
        limit = int(_MAPPINGS_LIMIT.read_text())
        used = _MAPPINGS.read_bytes().count(b"\n")
    return max(0, limit - used - _MAPPINGS_MARGIN)


def describe_limit() -> str:
    """Return the limit of the address space of this process as a phrase."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return "the address space of the process"
    return f"the limit of addresses of this process (ulimit -v), which is {soft} bytes"
