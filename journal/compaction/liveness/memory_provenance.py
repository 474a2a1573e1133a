"""Machines as other runtimes keep them: regions of memory, threads, tables; whose event each is."""

import struct
from collections.abc import Iterator

from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL, DependencyGraph
from journal.compaction.liveness.interval_map import IntervalMap
from journal.errors import MalformedEvent
from journal.events.memory import UpdateMemoryRegion
from journal.events.snapshots import ClearEthereal
from journal.events.threads import CloseThread, GlobalsSet, SetThread, TableSet
from journal.replay.limits import WASM_PAGE_SIZE

_REGION = struct.Struct("<QQI")
_TABLE = struct.Struct("<III")
_ID = struct.Struct("<I")
_SIZE_MAX = 1 << 62

REGION_TAGS = frozenset(
    kind.tag for kind in (UpdateMemoryRegion, GlobalsSet, TableSet, SetThread, CloseThread)
)


class _ElementProvenance:
    """A memory or a table: so many elements, ``sized`` by an event, and who set which."""

    def __init__(self) -> None:
        self.intervals = IntervalMap()
        self.size = 0
        self.size_owner = BEFORE_JOURNAL

    def put(self, start: int, stop: int, size: int, seq: int) -> None:
        """An event sets elements, and sees to it that there are so many."""
        if size >= self.size:
            self.size, self.size_owner = size, seq
        self.intervals.put(start, stop, seq)

    def owners(self) -> Iterator[int]:
        """Give the owners."""
        yield self.size_owner
        yield from self.intervals.owners()


class MachineProvenance:
    """A machine without its bytes. What is staged counts as closed: the next snapshot does it."""

    def __init__(self, graph: DependencyGraph) -> None:
        self._graph = graph
        self._elements: dict[int, _ElementProvenance] = {}
        self._threads: dict[int, int] = {}
        self._ended_threads: list[tuple[int, int]] = []
        self._globals = BEFORE_JOURNAL

    def add_event(self, seq: int, tag: int, payload: bytes) -> None:
        """Take an event; raises MalformedEvent."""
        self._graph.begin_event(seq)
        try:
            self._add_event(seq, tag, payload)
        except struct.error as error:
            raise MalformedEvent(f"event {seq} is cut short") from error
        self._graph.finish_event()

    def _add_event(self, seq: int, tag: int, payload: bytes) -> None:
        if tag == UpdateMemoryRegion.tag:
            start, stop, size = _REGION.unpack_from(payload)
            if stop - start != size or size != len(payload) - _REGION.size or stop > _SIZE_MAX:
                raise MalformedEvent(f"event {seq} is no region of memory")
            grown = -(-stop // WASM_PAGE_SIZE) * WASM_PAGE_SIZE
            self._elements.setdefault(-1, _ElementProvenance()).put(start, stop, grown, seq)
        elif tag == TableSet.tag:
            table, start, count = _TABLE.unpack_from(payload)
            elements = self._elements.setdefault(table, _ElementProvenance())
            elements.put(start, start + count, start + count, seq)
        elif tag == GlobalsSet.tag:
            self._globals = seq
        else:
            (number,) = _ID.unpack_from(payload)
            if number in self._threads:
                self._ended_threads.append((self._threads.pop(number), seq))
            if tag == SetThread.tag:
                self._threads[number] = seq

    def clear_threads(self, seq: int) -> None:
        """No thread is left: an event says so that is kept anyhow."""
        for owner in self._threads.values():
            self._graph.link(owner, seq)
        self._threads.clear()
        self._ended_threads.clear()

    def clear(self) -> None:
        """Nothing is left: the process is over, or begins."""
        self._elements.clear()
        self._threads.clear()
        self._ended_threads.clear()
        self._globals = BEFORE_JOURNAL

    def link_ended_threads(self) -> None:
        """Where a thread is kept, so is what ended it: there is a state behind that.

        Until now, what ends all threads and is kept anyhow could have come, and said it, too.
        """
        for owner, seq in self._ended_threads:
            self._graph.link(owner, seq)
        self._ended_threads.clear()

    def owners(self) -> Iterator[int]:
        """Give the owners of all that there is."""
        yield self._globals
        yield from self._threads.values()
        for elements in self._elements.values():
            yield from elements.owners()

    def state_tokens(self) -> Iterator[str]:
        """Tell all that there is."""
        yield f"{self._globals} {sorted(self._threads.items())}"
        for which, elements in sorted(self._elements.items()):
            yield f"{which} {elements.size} {elements.intervals.intervals(elements.size)}"


assert ClearEthereal.tag not in REGION_TAGS
