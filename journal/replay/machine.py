"""Memory, threads, globals and tables: what a snapshot closes.

Their events come in front of a snapshot and mean nothing before it: until then they are staged, and
a journal that ends between them has the state of the snapshot before.
"""

from dataclasses import dataclass, field

from journal.events.threads import TABLE_NULL, GlobalsSet, SetThread
from journal.replay.refusing import (
    ELEMENTS_COUNT_MAX,
    MEMORY_PAGE_SIZE,
    WASM_PAGE_SIZE,
    Limits,
    NotPlayable,
    check_count,
    check_size,
)

_ZERO_PAGE = bytes(MEMORY_PAGE_SIZE)


@dataclass(slots=True)
class Layer:
    """Pages by index, threads by number, functions by table and index. ``size``: of the memory.

    In what is staged, no bytes are a page of zeros, and None is a thread that ended.
    """

    size: int = 0
    pages: dict[int, bytes] = field(default_factory=dict)
    threads: dict[int, SetThread | None] = field(default_factory=dict)
    elements: dict[tuple[int, int], int] = field(default_factory=dict)
    globals: GlobalsSet | None = None
    stacks_size: int = 0

    def put_thread(self, number: int, thread: SetThread | None) -> None:
        """Let a thread be as it is now."""
        self.stacks_size += _size_of(thread) - _size_of(self.threads.get(number))
        self.threads[number] = thread


class Machine:
    """The guest's machine at the last snapshot, and what is staged for the next one."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._closed = Layer()
        self._staged = Layer()

    # -- what the last snapshot closed -----------------------------------------------------------

    @property
    def memory_size(self) -> int:
        """Bytes of linear memory, as far as events say."""
        return self._closed.size

    @property
    def pages(self) -> dict[int, bytes]:
        """The pages of memory that are not zeros, by index."""
        return dict(self._closed.pages)

    @property
    def threads(self) -> dict[int, SetThread]:
        """The threads and their stacks, by number."""
        return {number: found for number, found in self._closed.threads.items() if found}

    @property
    def globals(self) -> GlobalsSet | None:
        """The values of all mutable globals."""
        return self._closed.globals

    @property
    def elements(self) -> dict[tuple[int, int], int]:
        """The functions in tables that events have set, by table and index; empty ones too."""
        return dict(self._closed.elements)

    def read(self, start: int, size: int) -> bytes:
        """Bytes of memory; fewer at its end."""
        end = min(start + size, self._closed.size)
        parts = []
        while start < end:
            index, at = divmod(start, MEMORY_PAGE_SIZE)
            part = self._closed.pages.get(index, _ZERO_PAGE)[at : at + end - start]
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    # -- what is staged --------------------------------------------------------------------------

    def write(self, start: int, data: bytes) -> None:
        """Stage bytes of memory."""
        end = start + len(data)
        check_size("the memory", end, self._limits.memory_size_max)
        grown = -(-end // WASM_PAGE_SIZE) * WASM_PAGE_SIZE
        self._staged.size = max(self._staged.size, grown)
        view = memoryview(data)
        while view:
            index, at = divmod(start, MEMORY_PAGE_SIZE)
            part = bytes(view[: MEMORY_PAGE_SIZE - at])
            if len(part) < MEMORY_PAGE_SIZE:
                page = self._page(index)
                part = page[:at] + part + page[at + len(part) :]
            self._staged.pages[index] = b"" if part == _ZERO_PAGE else part
            start, view = start - at + MEMORY_PAGE_SIZE, view[MEMORY_PAGE_SIZE - at :]

    def set_thread(self, event: SetThread) -> None:
        """Stage a thread and its stacks."""
        self._check_thread(event.id)
        size = self._closed.stacks_size + self._staged.stacks_size + _size_of(event)
        check_size("the stacks", size, self._limits.memory_size_max)
        self._staged.put_thread(event.id, event)

    def close_thread(self, number: int) -> None:
        """Stage the end of a thread."""
        self._check_thread(number)
        self._staged.put_thread(number, None)

    def set_globals(self, event: GlobalsSet) -> None:
        """Stage the values of all mutable globals."""
        self._staged.globals = event

    def set_elements(self, table: int, start: int, functions: tuple[int, ...]) -> None:
        """Stage elements of a table."""
        if start + len(functions) > TABLE_NULL:
            raise NotPlayable(f"a table has no element {start + len(functions) - 1}")
        kept = len(self._closed.elements) + len(self._staged.elements)
        check_count("elements of tables", kept + len(functions), ELEMENTS_COUNT_MAX)
        self._staged.elements |= {(table, start + at): each for at, each in enumerate(functions)}

    # -- what becomes of both --------------------------------------------------------------------

    def close_snapshot(self) -> None:
        """All that is staged is the machine's state from here on."""
        closed, staged, self._staged = self._closed, self._staged, Layer()
        closed.size = max(closed.size, staged.size)
        for index, page in staged.pages.items():
            if page:
                closed.pages[index] = page
            else:
                closed.pages.pop(index, None)
        for number, thread in staged.threads.items():
            closed.put_thread(number, thread)
            if thread is None:
                del closed.threads[number]
        closed.elements |= staged.elements
        closed.globals = staged.globals or closed.globals

    def clear_staged(self) -> None:
        """No snapshot came, and the threads of the last one are gone too."""
        self._staged = Layer()
        self._closed.threads.clear()
        self._closed.stacks_size = 0

    def clear(self) -> None:
        """The process is over, or begins."""
        self._closed, self._staged = Layer(), Layer()

    def layers(self) -> tuple[Layer, Layer]:
        """The state at the last snapshot, and what is staged: to be looked at only."""
        return self._closed, self._staged

    def _check_thread(self, number: int) -> None:
        if number not in self._staged.threads:
            check_count("threads", len(self._closed.threads) + len(self._staged.threads) + 1)

    def _page(self, index: int) -> bytes:
        staged = self._staged.pages.get(index)
        if staged is not None:
            return staged or _ZERO_PAGE
        return self._closed.pages.get(index, _ZERO_PAGE)


def _size_of(thread: SetThread | None) -> int:
    if thread is None:
        return 0
    return len(thread.call_stack) + len(thread.memory_stack) + len(thread.store_data)
