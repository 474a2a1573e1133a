"""Events of linear memory."""

from enum import IntEnum

from journal.events.definition import Event, Group, Pages, Region, event
from journal.events.wire_types import U32, U64, Blob, U32s

PAGE_SIZE = 1 << 12
"""Bytes of a page."""


class PageKind(IntEnum):
    """What a MemoryPages event says of a page."""

    ZERO = 0
    """It is all zeros: nothing of it stands in the data."""
    WHOLE = 1
    """All its bytes."""
    PATCHED = 2
    """What is different from the page as it was: see :mod:`journal.pages.encoding`."""
    SAME = 3
    """All its bytes stand in the journal already: where, and their hash."""


@event(tag=7, group=Group.MEMORY, rule=Region("start", "data"))
class UpdateMemoryRegion(Event):
    """Bytes of linear memory that changed since the last snapshot.

    ``data`` is what stands from ``start`` to before ``end``, as it is: blocks compress, events do
    not. Memory that is smaller than ``end`` is grown to whole 64 KiB pages to hold it.
    """

    start: U64
    end: U64
    data: Blob


@event(tag=142, group=Group.MEMORY, rule=Pages("numbers", "kinds", ("memory",)))
class MemoryPages(Event):
    """Pages of 4 KiB of a linear memory that changed since the last snapshot.

    ``memory`` is its index in the module, ``size`` the bytes it has now. ``numbers`` are those of
    the pages, ascending; ``kinds`` has a byte for each: 0 it is all zeros, 1 all its 4096 bytes
    stand in ``data``, 2 only what is different from before: a u16 count of patches, at least one,
    then for each the u16 offset in the page and its u16 size, ascending and apart, then the bytes
    of all of them, 3 its bytes stand in the journal already: a u64 by how much the number of the
    event that has them is smaller than this one's, 0 where it is this one, the u16 index of the
    page in that event, counted from 0, and the u64 xxh3-64 of the bytes. That page is of kind 1,
    and stands in front of this one. What stands in ``data`` is in the order of the pages, nothing
    between. Without pages the event tells the size alone.
    """

    memory: U32
    size: U64
    numbers: U32s
    kinds: Blob
    data: Blob
