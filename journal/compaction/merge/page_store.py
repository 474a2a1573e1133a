"""The memories and tables of snapshots, merged in bounded memory.

Two states of each: as it is at the snapshot that was come to, and at the one that was kept last.
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
"""Pages that are looked at at once."""
SIZE_MAX = 1 << 34
"""Bytes of all memories; of larger ones all snapshots stay."""
_PAGES_PER_MEMORY = encoding.SIZE_MAX // PAGE_SIZE
"""Numbers in a plane that each memory has to itself."""
assert MEMORIES_COUNT_MAX * encoding.SIZE_MAX < 1 << 63


class _MergedMemory:
    """One memory: its bytes, and which of its pages have been set, a byte for each.

    ``touched`` are those set since the last snapshot that was kept, ``fresh`` since the last one,
    ``present`` those that may be other than zeros.
    """

    __slots__ = ("first", "fresh", "present", "size", "touched")

    def __init__(self, first: int) -> None:
        self.first = first  # where its page 0 is in the planes
        self.size = -1  # not there
        self.touched = bytearray()
        self.fresh = bytearray()
        self.present = bytearray()

    def grow(self, size: int) -> None:
        """See to it that there is a byte for each page."""
        self.size = size
        missing = size // PAGE_SIZE - len(self.touched)
        if missing > 0:
            for marks in (self.touched, self.fresh, self.present):
                marks += bytes(missing)

    def reset(self) -> None:
        """Nothing is known of it any more: what had been set is zeros."""
        self.size = -1
        self.touched = bytearray(
            (
                int.from_bytes(self.touched, "little") | int.from_bytes(self.present, "little")
            ).to_bytes(len(self.touched), "little")
        )
        self.present = bytearray(len(self.present))

    def mark(self, numbers: Iterable[int]) -> None:
        """These pages are set."""
        fresh, touched, present = self.fresh, self.touched, self.present
        for number in numbers:
            fresh[number] = touched[number] = present[number] = 1


class MergedState:
    """Memories and tables; a context manager. Its files stand in ``folder`` while it is open."""

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

    # -- what snapshots say ----------------------------------------------------------------------

    def begin_snapshot(self, *, whole: bool) -> None:
        """A snapshot begins."""
        for memory in self._memories.values():
            memory.fresh = bytearray(len(memory.fresh))
            if whole:
                memory.reset()
        if whole:
            self._current.clear()
            self.tables = {}

    def put_pages(self, event: MemoryPages) -> None:
        """Pages of a memory; raises MalformedEvent, and Entangled where one is named twice."""
        memory = self._memories.get(event.memory)
        if memory is None:
            if len(self._memories) >= MEMORIES_COUNT_MAX:
                raise DependsOnDroppedSnapshot
            memory = _MergedMemory(len(self._memories) * _PAGES_PER_MEMORY)
            self._memories[event.memory] = memory
        others = sum(max(found.size, 0) for found in self._memories.values() if found is not memory)
        if event.size < memory.size or event.size + others > SIZE_MAX:
            raise DependsOnDroppedSnapshot  # no memory shrinks
        pages = encoding.get_whole_pages(event)
        if pages is None:
            pages = self._pages_in(event, memory)
        memory.grow(event.size)
        memory.mark(event.numbers)
        self._current.put(map(memory.first.__add__, event.numbers), pages)

    def _pages_in(self, event: MemoryPages, memory: _MergedMemory) -> list[bytes]:
        """The pages of an event as they are behind it, in order."""
        found = []
        for number, kind, data in encoding.decode_resolved_pages(event):
            if kind is PageKind.PATCHED:
                if memory.fresh[number : number + 1] == b"\1":
                    raise DependsOnDroppedSnapshot
                data = encoding.apply_patch(self._current.page(memory.first + number), data)
            found.append(data or ZERO_PAGE)
        return found

    def put_elements(self, event: TableSet) -> None:
        """Elements of a table."""
        elements = self.tables.setdefault(event.table, array("I"))
        others = sum(map(len, self.tables.values())) - len(elements)
        if max(event.start, len(elements)) + len(event.functions) + others > ELEMENTS_COUNT_MAX:
            raise DependsOnDroppedSnapshot
        elements.extend(array("I", [TABLE_NULL]) * (event.start - len(elements)))
        stop = event.start + len(event.functions)
        elements[event.start : stop] = array("I", event.functions)

    # -- what a snapshot that is kept has to say -------------------------------------------------

    @property
    def has_shrunk(self) -> bool:
        """Whether something of the snapshot that was kept last is not there any more."""
        sizes = self.sizes
        return any(sizes.get(index, -1) < size for index, size in self._base_sizes.items()) or any(
            len(self.tables.get(table, ())) < len(found)
            for table, found in self._base_tables.items()
        )

    @property
    def sizes(self) -> dict[int, int]:
        """Bytes of each memory, by index."""
        found = sorted(self._memories.items())
        return {index: memory.size for index, memory in found if memory.size >= 0}

    def clear_base(self) -> None:
        """Let the next snapshot that is kept say everything anew."""
        self._base.clear()
        self._base_sizes, self._base_tables = {}, {}
        for memory in self._memories.values():
            memory.touched = bytearray(memory.present)

    def changed_pages(self, index: int) -> "array[int]":
        """The pages of a memory that are not as in the snapshot that was kept last."""
        memory, found = self._memories[index], array("I")
        for start, stop in _page_ranges(memory.touched[: memory.size // PAGE_SIZE]):
            found.extend(n for n, now, before in self._pages(memory, start, stop) if now != before)
        return found

    def pages(self, index: int, numbers: "array[int]") -> Iterator[ChangedPage]:
        """Give these pages of a memory, with what they were in the snapshot that was kept last."""
        memory, at = self._memories[index], 0
        while at < len(numbers):
            start, behind = numbers[at], at + 1
            while behind < len(numbers) and numbers[behind] == start + behind - at:
                behind += 1
            for first in range(start, start + behind - at, _READ_PAGES):
                yield from self._pages(memory, first, min(first + _READ_PAGES, start + behind - at))
            at = behind

    def set_base(self) -> None:
        """The snapshot is kept: the next one says what is different from it."""
        for memory in self._memories.values():
            for start, stop in _page_ranges(memory.touched):
                places = range(memory.first + start, memory.first + stop)
                self._base.put(places, self._current.pages(places))
            memory.touched = bytearray(len(memory.touched))
        self._base_sizes = self.sizes
        self._base_tables = {table: found[:] for table, found in self.tables.items()}

    def _pages(self, memory: _MergedMemory, start: int, stop: int) -> Iterator[ChangedPage]:
        places = range(memory.first + start, memory.first + stop)
        return map(
            ChangedPage, range(start, stop), self._current.pages(places), self._base.pages(places)
        )


def _page_ranges(marks: bytearray) -> Iterator[tuple[int, int]]:
    """Give where the marks are that are set, a few pages at once."""
    start = marks.find(1)
    while start >= 0:
        stop = marks.find(0, start, start + _READ_PAGES)
        stop = min(start + _READ_PAGES, len(marks)) if stop < 0 else stop
        yield start, stop
        start = marks.find(1, stop)
