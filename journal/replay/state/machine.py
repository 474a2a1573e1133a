"""Machine state that a snapshot closes: memories, threads, globals, tables and file positions.

Their events precede the end of a snapshot and are staged until then. A journal that ends before
the snapshot ends has the state of the previous snapshot.
"""

from array import array
from typing import TypeVar

from journal.events.memory import MemoryPages, PageKind
from journal.events.snapshots import (
    DescriptorContents,
    DescriptorPositions,
    DirectoryListing,
    ResolvedNames,
    SafePoint,
    SignalState,
    Snapshot,
)
from journal.events.threads import TABLE_NULL, GlobalsSet, SetThread
from journal.pages.encoding import ZERO_PAGE, apply_patch, decode_resolved_pages
from journal.replay.limits import (
    ELEMENTS_COUNT_MAX,
    MEMORIES_COUNT_MAX,
    MEMORY_PAGE_SIZE,
    WASM_PAGE_SIZE,
    ReplayError,
    ReplayLimits,
    check_count,
    check_size,
)
from journal.replay.state.memory_layers import (
    MachineLayer,
    MemoryState,
    contents_size,
    listing_size,
    stacks_size,
)

P = TypeVar("P", MemoryState, "array[int]")
Positions = tuple[tuple[int, int], ...]


class ReplayMachine:
    """Machine state of the guest at the last snapshot, and the state staged for the next one."""

    def __init__(self, limits: ReplayLimits) -> None:
        self._limits = limits
        self._closed = MachineLayer()
        self._staged = MachineLayer()

    # -- state at the last snapshot --------------------------------------------------------------

    @property
    def memory_size(self) -> int:
        """Size of the first memory in bytes, as far as events determine it."""
        return self.memories.get(0, 0)

    @property
    def memories(self) -> dict[int, int]:
        """Size of each memory in bytes, by index."""
        return {index: memory.size for index, memory in self._closed.memories.items()}

    @property
    def pages(self) -> dict[int, bytes]:
        """Pages of the first memory that are not all zeros, by number."""
        return self.pages_of(0)

    def pages_of(self, memory: int) -> dict[int, bytes]:
        """Return the pages of a memory that are not all zeros, by number."""
        state = self._closed.memories.get(memory)
        return dict(state.pages) if state else {}

    def read(self, start: int, size: int, memory: int = 0) -> bytes:
        """Return ``size`` bytes of a memory from ``start``; fewer at the end of the memory."""
        state = self._closed.memories.get(memory, MemoryState())
        end = min(start + size, state.size)
        parts = []
        while start < end:
            number, at = divmod(start, MEMORY_PAGE_SIZE)
            part = state.pages.get(number, ZERO_PAGE)[at : at + end - start]
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    @property
    def threads(self) -> dict[int, SetThread]:
        """Threads and their stacks, by number."""
        return {number: thread for number, thread in self._closed.threads.items() if thread}

    @property
    def globals(self) -> GlobalsSet | None:
        """Values of all mutable globals."""
        return self._closed.globals

    @property
    def elements(self) -> dict[tuple[int, int], int]:
        """Functions and empty elements of tables, by table and index, as in the events."""
        tables = self._closed.tables.items()
        return {
            (table, index): function
            for table, functions in tables
            for index, function in enumerate(functions)
        }

    @property
    def safe_point(self) -> SafePoint | None:
        """Point at which the guest was suspended; None if the snapshot does not have it."""
        return self._closed.safe_point

    @property
    def listings(self) -> dict[int, DirectoryListing]:
        """Entries of directories when the guest started to read them, by descriptor."""
        return dict(self._closed.listings)

    @property
    def contents(self) -> dict[int, DescriptorContents]:
        """Contents of the objects inside the guest, such as pipes, by descriptor."""
        return dict(self._closed.contents)

    @property
    def signals(self) -> SignalState | None:
        """Handler, pending signals and timers of the guest; None without them."""
        return self._closed.signals

    @property
    def names(self) -> ResolvedNames | None:
        """Names that the guest has resolved; None without them."""
        return self._closed.names

    @property
    def digest_matches(self) -> bool | None:
        """Return whether the last snapshot's digest matches the state; None without a digest."""
        return self._closed.digest_matches

    def digest(self) -> bytes:
        """Return the digest of the state: see spec/format.md, "Snapshots"."""
        return self._closed.digest()

    # -- staged state ----------------------------------------------------------------------------

    def begin_snapshot(self, event: SafePoint) -> None:
        """Start a snapshot: discard the staged state."""
        self._staged = MachineLayer(safe_point=event)

    def write(self, start: int, data: bytes) -> None:
        """Stage bytes of the first memory."""
        end = start + len(data)
        check_size("the memory", end, self._limits.memory_size_max)
        grown_size = -(-end // WASM_PAGE_SIZE) * WASM_PAGE_SIZE
        memory = self._stage_memory(0, max(grown_size, self._size(0)))
        view = memoryview(data)
        while view:
            number, at = divmod(start, MEMORY_PAGE_SIZE)
            part = bytes(view[: MEMORY_PAGE_SIZE - at])
            if len(part) < MEMORY_PAGE_SIZE:
                page = memory.pages.get(number)
                page = self._page(0, number) if page is None else page or ZERO_PAGE
                part = page[:at] + part + page[at + len(part) :]
            memory.pages[number] = _to_staged(part)
            start, view = start - at + MEMORY_PAGE_SIZE, view[MEMORY_PAGE_SIZE - at :]

    def write_pages(self, event: MemoryPages) -> None:
        """Stage pages of a memory. Raises MalformedEvent for invalid page data."""
        index, size = event.memory, self._size(event.memory)
        if event.size < size:
            raise ReplayError(f"memory {index} would shrink from {size} to {event.size} bytes")
        self._check_memory_size(index, event.size)
        pages = {}
        for number, kind, data in decode_resolved_pages(event):
            if kind is PageKind.PATCHED:
                data = apply_patch(self._page(index, number), data)
            pages[number] = _to_staged(data)
        self._stage_memory(index, event.size).pages |= pages

    def set_thread(self, event: SetThread) -> None:
        """Stage a thread and its stacks."""
        self._check_thread(event.id)
        size = self._closed.stacks_size + self._staged.stacks_size + stacks_size(event)
        check_size("the stacks", size, self._limits.memory_size_max)
        self._staged.set_thread(event.id, event)

    def close_thread(self, number: int) -> None:
        """Stage the end of a thread."""
        self._check_thread(number)
        self._staged.set_thread(number, None)

    def set_globals(self, event: GlobalsSet) -> None:
        """Stage the values of all mutable globals."""
        self._staged.globals = event

    def set_elements(self, table: int, start: int, functions: tuple[int, ...]) -> None:
        """Stage elements of a table. Elements before ``start`` that were never set are empty."""
        end = start + len(functions)
        if end > TABLE_NULL:
            raise ReplayError(
                f"element {end - 1} of table {table} is above the limit of {TABLE_NULL - 1}"
            )
        tables = self._base(self._closed.tables) | self._staged.tables
        elements = tables.pop(table, array("I"))
        check_count("tables", len(tables) + 1, MEMORIES_COUNT_MAX)
        count = sum(map(len, tables.values())) + max(len(elements), end)
        check_count("elements of tables", count, ELEMENTS_COUNT_MAX)
        if table not in self._staged.tables:
            elements = self._staged.tables[table] = elements[:]
        elements.extend(array("I", [TABLE_NULL]) * (start - len(elements)))
        elements[start:end] = array("I", functions)

    def set_positions(self, event: DescriptorPositions) -> None:
        """Stage the positions of files."""
        self._staged.positions = event

    def set_listing(self, event: DirectoryListing) -> None:
        """Stage the listing of a directory."""
        size = self._closed.listings_size + self._staged.listings_size + listing_size(event)
        check_size("the listings of directories", size, self._limits.memory_size_max)
        self._staged.set_listing(event)

    def set_contents(self, event: DescriptorContents) -> None:
        """Stage the contents of an object inside the guest."""
        size = self._closed.contents_size + self._staged.contents_size + contents_size(event)
        check_size("the contents of pipes and sockets", size, self._limits.memory_size_max)
        self._staged.set_contents(event)

    def set_signals(self, event: SignalState) -> None:
        """Stage the signals of the guest."""
        self._staged.signals = event

    def set_names(self, event: ResolvedNames) -> None:
        """Stage the names that the guest has resolved."""
        self._staged.names = event

    # -- snapshots and layers --------------------------------------------------------------------

    def close_snapshot(self, snapshot: Snapshot) -> Positions:
        """Make the staged state the machine's state, and return the positions of files in it."""
        closed, staged, self._staged = self._closed, self._staged, MachineLayer()
        closed.close(staged)
        closed.digest_matches = snapshot.digest == closed.digest() if snapshot.digest else None
        return staged.positions.positions if staged.positions else ()

    def clear_staged(self) -> None:
        """Discard the staged state and the threads of the last snapshot."""
        self._staged = MachineLayer()
        self._closed.threads.clear()
        self._closed.stacks_size = 0

    def clear(self) -> None:
        """Discard all state: a process ends or starts."""
        self._closed, self._staged = MachineLayer(), MachineLayer()

    def layers(self) -> tuple[MachineLayer, MachineLayer]:
        """Return the closed and the staged layer, both read-only for the caller."""
        return self._closed, self._staged

    def _base(self, closed: dict[int, P]) -> dict[int, P]:
        """Return ``closed``, or nothing if the staged snapshot contains the whole state."""
        point = self._staged.safe_point
        return {} if point is not None and point.whole else closed

    def _page(self, memory: int, number: int) -> bytes:
        """Return a page as it was when the staged snapshot started."""
        state = self._base(self._closed.memories).get(memory)
        return state.pages.get(number, ZERO_PAGE) if state else ZERO_PAGE

    def _size(self, memory: int) -> int:
        """Return the size of a memory in bytes, including the staged state."""
        staged = self._staged.memories.get(memory)
        state = staged or self._base(self._closed.memories).get(memory)
        return state.size if state else 0

    def _check_memory_size(self, memory: int, size: int) -> None:
        """Raise ReplayError if a memory of ``size`` bytes and the other memories exceed a limit."""
        others = {
            index: self._size(index)
            for index in self._base(self._closed.memories).keys() | self._staged.memories.keys()
            if index != memory
        }
        check_count("memories", len(others) + 1, MEMORIES_COUNT_MAX)
        check_size("the memory", sum(others.values()) + size, self._limits.memory_size_max)

    def _stage_memory(self, memory: int, size: int) -> MemoryState:
        """Return the staged part of a memory, resized to ``size`` bytes."""
        self._check_memory_size(memory, size)
        staged = self._staged.memories.setdefault(memory, MemoryState())
        staged.size = size
        return staged

    def _check_thread(self, number: int) -> None:
        if number not in self._staged.threads:
            check_count("threads", len(self._closed.threads) + len(self._staged.threads) + 1)


def _to_staged(page: bytes) -> bytes:
    """Return a page in the form of the staged layer."""
    return b"" if page == ZERO_PAGE else page
