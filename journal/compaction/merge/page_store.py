"""Merged memories and tables of snapshots, in bounded memory.

The store holds two states: at the current snapshot, and at the last kept snapshot (the base).
"""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from journal.compaction.liveness.dependency_graph import DependsOnDroppedSnapshot
from journal.compaction.merge.spill_file import SpillFile
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.events.threads import TABLE_NULL, TableSet
from journal.pages import encoding
from journal.pages.encoding import ZERO_PAGE, ChangedPage
from journal.replay.limits import ELEMENTS_COUNT_MAX, MEMORIES_COUNT_MAX

_READ_PAGES = 64
"""Pages compared at a time."""
SIZE_MAX = 1 << 34
"""Limit for the bytes of all memories; above it all snapshots are kept unmerged."""
_PAGES_PER_MEMORY = encoding.SIZE_MAX // PAGE_SIZE
"""Number of page slots that each memory has in a spill file."""
assert MEMORIES_COUNT_MAX * encoding.SIZE_MAX < 1 << 63


class _MergedMemory:
    """One memory: its size in bytes, and three sets of its pages, with a byte for each page.

    ``touched`` are the pages set since the last kept snapshot, ``fresh`` the pages set by the
    current snapshot, ``present`` the pages that may differ from zeros.
    """

    __slots__ = ("first", "fresh", "present", "size", "touched")

    def __init__(self, first: int) -> None:
        self.first = first  # Slot of page 0 in the spill files.
        self.size = -1  # The memory does not exist.
        self.touched = bytearray()
        self.fresh = bytearray()
        self.present = bytearray()

    def grow(self, size: int) -> None:
        """Set the size, and extend the sets to one byte for each page."""
        self.size = size
        missing = size // PAGE_SIZE - len(self.touched)
        if missing > 0:
            for flags in (self.touched, self.fresh, self.present):
                flags += bytes(missing)

    def reset(self) -> None:
        """Set all pages to zeros, and the size to unknown."""
        self.size = -1
        self.touched = bytearray(
            (
                int.from_bytes(self.touched, "little") | int.from_bytes(self.present, "little")
            ).to_bytes(len(self.touched), "little")
        )
        self.present = bytearray(len(self.present))

    def mark(self, numbers: Iterable[int]) -> None:
        """Add pages to all three sets."""
        fresh, touched, present = self.fresh, self.touched, self.present
        for number in numbers:
            fresh[number] = touched[number] = present[number] = 1


class MergedState:
    """Memories and tables; a context manager. The files in ``folder`` exist while it is open."""

    def __init__(self, folder: Path) -> None:
        self._current, self._base = SpillFile(folder), SpillFile(folder)
        self._memories: dict[int, _MergedMemory] = {}
        self._base_sizes: dict[int, int] = {}
        self.tables: dict[int, array[int]] = {}
        self._base_tables: dict[int, array[int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._current.close()
        self._base.close()

    # -- apply snapshots -------------------------------------------------------------------------

    def begin_snapshot(self, *, whole: bool) -> None:
        """Begin a snapshot. A ``whole`` snapshot discards the state before it."""
        for memory in self._memories.values():
            memory.fresh = bytearray(len(memory.fresh))
            if whole:
                memory.reset()
        if whole:
            self._current.clear()
            self.tables = {}

    def put_pages(self, event: MemoryPages) -> None:
        """Set pages of a memory.

        Raises MalformedEvent, and DependsOnDroppedSnapshot if a page is patched twice or a limit is
        exceeded.
        """
        memory = self._memories.get(event.memory)
        if memory is None:
            if len(self._memories) >= MEMORIES_COUNT_MAX:
                raise DependsOnDroppedSnapshot
            memory = _MergedMemory(len(self._memories) * _PAGES_PER_MEMORY)
            self._memories[event.memory] = memory
        others = sum(max(other.size, 0) for other in self._memories.values() if other is not memory)
        if event.size < memory.size or event.size + others > SIZE_MAX:
            raise DependsOnDroppedSnapshot  # A memory cannot shrink.
        pages = encoding.get_whole_pages(event)
        if pages is None:
            pages = self._pages_in(event, memory)
        memory.grow(event.size)
        memory.mark(event.numbers)
        self._current.put(map(memory.first.__add__, event.numbers), pages)

    def _pages_in(self, event: MemoryPages, memory: _MergedMemory) -> list[bytes]:
        """Return the pages of an event after its patches, in order."""
        pages = []
        for number, kind, data in encoding.decode_resolved_pages(event):
            if kind is PageKind.PATCHED:
                if memory.fresh[number : number + 1] == b"\1":
                    raise DependsOnDroppedSnapshot
                data = encoding.apply_patch(self._current.page(memory.first + number), data)
            pages.append(data or ZERO_PAGE)
        return pages

    def put_elements(self, event: TableSet) -> None:
        """Set elements of a table."""
        elements = self.tables.setdefault(event.table, array("I"))
        others = sum(map(len, self.tables.values())) - len(elements)
        if max(event.start, len(elements)) + len(event.functions) + others > ELEMENTS_COUNT_MAX:
            raise DependsOnDroppedSnapshot
        elements.extend(array("I", [TABLE_NULL]) * (event.start - len(elements)))
        stop = event.start + len(event.functions)
        elements[event.start : stop] = array("I", event.functions)

    # -- contents of a kept snapshot -------------------------------------------------------------

    @property
    def has_shrunk(self) -> bool:
        """Return whether a memory or table of the base is now smaller or absent."""
        sizes = self.sizes
        return any(sizes.get(index, -1) < size for index, size in self._base_sizes.items()) or any(
            len(self.tables.get(table, ())) < len(elements)
            for table, elements in self._base_tables.items()
        )

    @property
    def sizes(self) -> dict[int, int]:
        """Size of each memory in bytes, by index."""
        memories = sorted(self._memories.items())
        return {index: memory.size for index, memory in memories if memory.size >= 0}

    def clear_base(self) -> None:
        """Clear the base, so that the next kept snapshot stores everything."""
        self._base.clear()
        self._base_sizes, self._base_tables = {}, {}
        for memory in self._memories.values():
            memory.touched = bytearray(memory.present)

    def changed_pages(self, index: int) -> "array[int]":
        """Return the numbers of the pages of a memory that differ from the base."""
        memory, changed = self._memories[index], array("I")
        for start, stop in _page_ranges(memory.touched[: memory.size // PAGE_SIZE]):
            changed.extend(
                n for n, now, before in self._pages(memory, start, stop) if now != before
            )
        return changed

    def pages(self, index: int, numbers: "array[int]") -> Iterator[ChangedPage]:
        """Yield pages of a memory, each with its content in the base."""
        memory, at = self._memories[index], 0
        while at < len(numbers):
            start, end = numbers[at], at + 1
            while end < len(numbers) and numbers[end] == start + end - at:
                end += 1
            for first in range(start, start + end - at, _READ_PAGES):
                yield from self._pages(memory, first, min(first + _READ_PAGES, start + end - at))
            at = end

    def set_base(self) -> None:
        """Make the current state the base."""
        for memory in self._memories.values():
            for start, stop in _page_ranges(memory.touched):
                slots = range(memory.first + start, memory.first + stop)
                self._base.put(slots, self._current.pages(slots))
            memory.touched = bytearray(len(memory.touched))
        self._base_sizes = self.sizes
        self._base_tables = {table: elements[:] for table, elements in self.tables.items()}

    def _pages(self, memory: _MergedMemory, start: int, stop: int) -> Iterator[ChangedPage]:
        slots = range(memory.first + start, memory.first + stop)
        return map(
            ChangedPage, range(start, stop), self._current.pages(slots), self._base.pages(slots)
        )


def _page_ranges(flags: bytearray) -> Iterator[tuple[int, int]]:
    """Yield the ranges of set flags, at most ``_READ_PAGES`` pages each."""
    start = flags.find(1)
    while start >= 0:
        stop = flags.find(0, start, start + _READ_PAGES)
        stop = min(start + _READ_PAGES, len(flags)) if stop < 0 else stop
        yield start, stop
        start = flags.find(1, stop)
