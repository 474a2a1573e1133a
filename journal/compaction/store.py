"""The memories and tables of snapshots, in files that have no name: never all of them in memory.

Two states of each: as it is at the snapshot that was come to, and at the one that was kept last.
"""

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from journal import durable, paging
from journal.compaction.ledger import Entangled
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.events.threads import TABLE_NULL, TableSet
from journal.paging import ZERO_PAGE, Page
from journal.replay.refusing import ELEMENTS_COUNT_MAX, MEMORIES_COUNT_MAX

_READ_PAGES = 64
"""Pages that are looked at at once."""
SIZE_MAX = 1 << 34
"""Bytes of all memories; of larger ones all snapshots stay."""
assert MEMORIES_COUNT_MAX * paging.SIZE_MAX < 1 << 63


class _Memory:
    """One memory: its bytes, and which of its pages have been set, a byte for each.

    ``touched`` are those set since the last snapshot that was kept, ``fresh`` since the last one,
    ``present`` those that may be other than zeros.
    """

    __slots__ = ("fresh", "offset", "present", "size", "touched")

    def __init__(self, offset: int) -> None:
        self.offset = offset
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


class Store:
    """Memories and tables; a context manager. Its files stand in ``folder`` while it is open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now = self._base = -1  # until there is something to be kept in them
        self._memories: dict[int, _Memory] = {}
        self._base_sizes: dict[int, int] = {}
        self.tables: dict[int, array[int]] = {}
        self._base_tables: dict[int, array[int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._now >= 0:
            os.close(self._now)
        if self._base >= 0:
            os.close(self._base)

    def _open(self) -> int:
        """A file that has no name any more: where the journal goes, there is room for it."""
        path = durable.temporary_beside(self._folder / "pages")
        file = durable.create(path)
        path.unlink()
        return file

    # -- what snapshots say ----------------------------------------------------------------------

    def begin(self, *, whole: bool) -> None:
        """A snapshot begins."""
        for memory in self._memories.values():
            memory.fresh = bytearray(len(memory.fresh))
            if whole:
                memory.reset()
        if self._now < 0:
            self._now, self._base = self._open(), self._open()
        if whole:
            os.ftruncate(self._now, 0)
            self.tables = {}

    def put_pages(self, event: MemoryPages) -> None:
        """Pages of a memory; raises MalformedEvent, and Entangled where one is named twice."""
        memory = self._memories.get(event.memory)
        if memory is None:
            if len(self._memories) >= MEMORIES_COUNT_MAX:
                raise Entangled
            memory = _Memory(len(self._memories) * paging.SIZE_MAX)
            self._memories[event.memory] = memory
        others = sum(max(found.size, 0) for found in self._memories.values() if found is not memory)
        if event.size < memory.size or event.size + others > SIZE_MAX:
            raise Entangled  # no memory shrinks
        memory.grow(event.size)
        start, parts = 0, list[bytes]()
        for number, kind, data in paging.pages_of(event):
            if kind is PageKind.PATCHED:
                if memory.fresh[number]:
                    raise Entangled
                data = paging.patched(self._page(self._now, memory, number), data)
            if parts and number != start + len(parts):
                self._write(memory, start, parts)
                parts = []
            start = number - len(parts)
            parts.append(data or ZERO_PAGE)
        if parts:
            self._write(memory, start, parts)

    def put_elements(self, event: TableSet) -> None:
        """Elements of a table."""
        elements = self.tables.setdefault(event.table, array("I"))
        others = sum(map(len, self.tables.values())) - len(elements)
        if max(event.start, len(elements)) + len(event.functions) + others > ELEMENTS_COUNT_MAX:
            raise Entangled
        elements.extend(array("I", [TABLE_NULL]) * (event.start - len(elements)))
        stop = event.start + len(event.functions)
        elements[event.start : stop] = array("I", event.functions)

    def _write(self, memory: _Memory, start: int, parts: list[bytes]) -> None:
        os.pwrite(self._now, b"".join(parts), memory.offset + start * PAGE_SIZE)
        stop, ones = start + len(parts), b"\1" * len(parts)
        memory.fresh[start:stop] = memory.touched[start:stop] = memory.present[start:stop] = ones

    def _page(self, file: int, memory: _Memory, number: int) -> bytes:
        found = os.pread(file, PAGE_SIZE, memory.offset + number * PAGE_SIZE)
        return found.ljust(PAGE_SIZE, b"\0")

    # -- what a snapshot that is kept has to say -------------------------------------------------

    @property
    def is_smaller(self) -> bool:
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

    def forget_base(self) -> None:
        """Let the next snapshot that is kept say everything anew."""
        os.ftruncate(self._base, 0)
        self._base_sizes, self._base_tables = {}, {}
        for memory in self._memories.values():
            memory.touched = bytearray(memory.present)

    def changed(self, index: int) -> "array[int]":
        """The pages of a memory that are not as in the snapshot that was kept last."""
        memory, found = self._memories[index], array("I")
        for start, stop in _runs(memory.touched[: memory.size // PAGE_SIZE]):
            found.extend(n for n, now, before in self._pages(memory, start, stop) if now != before)
        return found

    def pages(self, index: int, numbers: "array[int]") -> Iterator[Page]:
        """Give these pages of a memory, with what they were in the snapshot that was kept last."""
        memory, at = self._memories[index], 0
        while at < len(numbers):
            start, behind = numbers[at], at + 1
            while behind < len(numbers) and numbers[behind] == start + behind - at:
                behind += 1
            for first in range(start, start + behind - at, _READ_PAGES):
                yield from self._pages(memory, first, min(first + _READ_PAGES, start + behind - at))
            at = behind

    def settle(self) -> None:
        """The snapshot is kept: the next one says what is different from it."""
        for memory in self._memories.values():
            for start, stop in _runs(memory.touched):
                data = self._read(self._now, memory, start, stop)
                os.pwrite(self._base, data, memory.offset + start * PAGE_SIZE)
            memory.touched = bytearray(len(memory.touched))
        self._base_sizes = self.sizes
        self._base_tables = {table: found[:] for table, found in self.tables.items()}

    def _pages(self, memory: _Memory, start: int, stop: int) -> Iterator[Page]:
        now = self._read(self._now, memory, start, stop)
        before = (
            self._read(self._base, memory, start, stop) if self._base_sizes else bytes(len(now))
        )
        if now == before:
            return
        for at in range(0, len(now), PAGE_SIZE):
            number = start + at // PAGE_SIZE
            yield Page(number, now[at : at + PAGE_SIZE], before[at : at + PAGE_SIZE])

    def _read(self, file: int, memory: _Memory, start: int, stop: int) -> bytes:
        size = (stop - start) * PAGE_SIZE
        return os.pread(file, size, memory.offset + start * PAGE_SIZE).ljust(size, b"\0")


def _runs(marks: bytearray) -> Iterator[tuple[int, int]]:
    """Give where the marks are that are set, a few pages at once."""
    start = marks.find(1)
    while start >= 0:
        stop = marks.find(0, start, start + _READ_PAGES)
        stop = min(start + _READ_PAGES, len(marks)) if stop < 0 else stop
        yield start, stop
        start = marks.find(1, stop)
