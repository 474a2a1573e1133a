"""Provenance of machine state in other runtimes' snapshots: memory regions, threads and tables."""

import struct
from collections.abc import Iterator

from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL, DependencyGraph
from journal.compaction.liveness.interval_map import IntervalMap
from journal.errors import MalformedEvent
from journal.events.definition import Staged
from journal.events.memory import UpdateMemoryRegion
from journal.events.tag_sets import tags_with_rule
from journal.events.threads import CloseThread, GlobalsSet, SetThread, TableSet
from journal.replay.limits import WASM_PAGE_SIZE

_REGION = struct.Struct("<QQI")
_TABLE = struct.Struct("<III")
_ID = struct.Struct("<I")
_SIZE_MAX = 1 << 62
_THREAD_TAGS = (SetThread.tag, CloseThread.tag)

REGION_TAGS = tags_with_rule(Staged)


class _ElementProvenance:
    """Owners of the elements of a memory or table, and ``size_owner``, the owner of its size."""

    def __init__(self) -> None:
        self.intervals = IntervalMap()
        self.size = 0
        self.size_owner = BEFORE_JOURNAL

    def put(self, start: int, stop: int, size: int, seq: int) -> None:
        """Set the owner of a range, and ``size`` unless it is smaller than before."""
        if size >= self.size:
            self.size, self.size_owner = size, seq
        self.intervals.put(start, stop, seq)

    def owners(self) -> Iterator[int]:
        """Yield all owners."""
        yield self.size_owner
        yield from self.intervals.owners()


class MachineProvenance:
    """Machine state without bytes. Staged parts count at once: the next snapshot closes them."""

    def __init__(self, graph: DependencyGraph) -> None:
        self._graph = graph
        self._elements: dict[int, _ElementProvenance] = {}
        self._threads: dict[int, int] = {}
        self._ended_threads: list[tuple[int, int]] = []
        self._globals = BEFORE_JOURNAL

    def add_event(self, seq: int, tag: int, payload: bytes) -> None:
        """Add an event. Raises MalformedEvent."""
        self._graph.begin_event(seq)
        try:
            self._add_event(seq, tag, payload)
        except struct.error as error:
            raise MalformedEvent(f"event {seq} is cut short: {len(payload)} bytes") from error
        self._graph.finish_event()

    def _add_event(self, seq: int, tag: int, payload: bytes) -> None:
        if tag == UpdateMemoryRegion.tag:
            start, stop, size = _REGION.unpack_from(payload)
            if stop - start != size or size != len(payload) - _REGION.size or stop > _SIZE_MAX:
                raise MalformedEvent(
                    f"event {seq} has a wrong memory region: {start} to {stop}, {size} bytes"
                )
            grown_size = -(-stop // WASM_PAGE_SIZE) * WASM_PAGE_SIZE
            self._elements.setdefault(-1, _ElementProvenance()).put(start, stop, grown_size, seq)
        elif tag == TableSet.tag:
            table, start, count = _TABLE.unpack_from(payload)
            elements = self._elements.setdefault(table, _ElementProvenance())
            elements.put(start, start + count, start + count, seq)
        elif tag == GlobalsSet.tag:
            self._globals = seq
        elif tag not in _THREAD_TAGS:
            self._graph.mark_live(seq)  # It is unknown which later events supersede it.
        else:
            (number,) = _ID.unpack_from(payload)
            if number in self._threads:
                self._ended_threads.append((self._threads.pop(number), seq))
            if tag == SetThread.tag:
                self._threads[number] = seq

    def clear_threads(self, seq: int) -> None:
        """Remove all threads, which the always kept event ``seq`` has ended."""
        for owner in self._threads.values():
            self._graph.link(owner, seq)
        self._threads.clear()
        self._ended_threads.clear()

    def clear(self) -> None:
        """Remove everything: a process begins or ends."""
        self._elements.clear()
        self._threads.clear()
        self._ended_threads.clear()
        self._globals = BEFORE_JOURNAL

    def link_ended_threads(self) -> None:
        """Record that the end of a thread is live if its start is. Call before a state is marked.

        Until then, an always kept event that ends all threads can make the end unnecessary.
        """
        for owner, seq in self._ended_threads:
            self._graph.link(owner, seq)
        self._ended_threads.clear()

    def owners(self) -> Iterator[int]:
        """Yield all owners."""
        yield self._globals
        yield from self._threads.values()
        for elements in self._elements.values():
            yield from elements.owners()

    def state_tokens(self) -> Iterator[str]:
        """Yield a description of the state."""
        yield f"{self._globals} {sorted(self._threads.items())}"
        for index, elements in sorted(self._elements.items()):
            yield f"{index} {elements.size} {elements.intervals.intervals(elements.size)}"
