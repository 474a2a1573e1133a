"""Events of linear memory."""

from enum import IntEnum

from journal.events.definition import Event, Group, Merged, Role, Staged, event
from journal.events.wire_types import U32, U64, MemoryBytes, PublicBytes, U32s

PAGE_SIZE = 1 << 12
"""Size of a page in bytes."""


class PageKind(IntEnum):
    """Form of a page in a MemoryPages event."""

    ZERO = 0
    """The page is all zeros and has no data."""
    WHOLE = 1
    """The data has all bytes of the page."""
    PATCHED = 2
    """The data has the differences from the earlier page: see :mod:`journal.pages.encoding`."""
    SAME = 3
    """The data refers to an equal page earlier in the journal and has the hash of its bytes."""


@event(tag=7, group=Group.MEMORY, role=Role.EFFECT, rule=Staged())
class UpdateMemoryRegion(Event):
    """Bytes of linear memory that changed since the last snapshot.

    ``data`` is the memory from ``start`` to before ``end``, uncompressed: blocks are compressed,
    events are not. A memory smaller than ``end`` grows to whole 64 KiB pages that contain ``end``.
    """

    start: U64
    end: U64
    data: MemoryBytes


@event(tag=142, group=Group.MEMORY, role=Role.RECORDING, rule=Merged())
class MemoryPages(Event):
    """Pages of 4 KiB of a linear memory that changed since the last snapshot.

    ``memory`` is the index of the memory in the module, ``size`` its current size in bytes.
    ``numbers`` are the page numbers, ascending. ``kinds`` has one byte for each page:

    - 0: the page is all zeros and has no data;
    - 1: ``data`` has all 4096 bytes;
    - 2: ``data`` has the differences from the earlier page: a u16 count of patches, at least 1; for
      each patch its u16 offset in the page and its u16 size, ascending and not overlapping; then
      the bytes of all patches;
    - 3: ``data`` refers to an earlier page of the journal: a u64 by which the sequence number of
      the event with that page is smaller than this event's, 0 for this event; the u16 index of the
      page in that event, from 0; and the u64 xxh3-64 of the bytes. The referenced page has kind 1
      and is stored before this page.

    ``data`` holds the data of all pages in the order of the pages, without gaps. An event without
    pages reports only the size.
    """

    memory: U32
    size: U64
    numbers: U32s
    kinds: PublicBytes
    data: MemoryBytes
