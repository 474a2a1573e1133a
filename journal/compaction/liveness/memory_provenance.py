"""Machines as other runtimes keep them: regions of memory, threads, tables; whose event each is."""

import struct
from collections.abc import Iterator

from journal.compaction.liveness.dependency_graph import BASE, Ledger
from journal.compaction.liveness.interval_map import Spans
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


class _Places:
    """A memory or a table: so many places, ``sized`` by an event, and who set which."""

    def __init__(self) -> None:
        self.spans = Spans()
        self.size = 0
        self.sized = BASE

    def put(self, start: int, stop: int, size: int, seq: int) -> None:
        """An event sets places, and sees to it that there are so many."""
        if size >= self.size:
            self.size, self.sized = size, seq
        self.spans.put(start, stop, seq)

    def cells(self) -> Iterator[int]:
        """Give the owners."""
        yield self.sized
        yield from self.spans.owners()


class Regions:
    """A machine without its bytes. What is staged counts as closed: the next snapshot does it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._places: dict[int, _Places] = {}
        self._threads: dict[int, int] = {}
        self._ended: list[tuple[int, int]] = []
        self._globals = BASE

    def take(self, seq: int, tag: int, payload: bytes) -> None:
        """Take an event; raises MalformedEvent."""
        self._ledger.begin(seq)
        try:
            self._take(seq, tag, payload)
        except struct.error as error:
            raise MalformedEvent(f"event {seq} is cut short") from error
        self._ledger.finish()

    def _take(self, seq: int, tag: int, payload: bytes) -> None:
        if tag == UpdateMemoryRegion.tag:
            start, stop, size = _REGION.unpack_from(payload)
            if stop - start != size or size != len(payload) - _REGION.size or stop > _SIZE_MAX:
                raise MalformedEvent(f"event {seq} is no region of memory")
            grown = -(-stop // WASM_PAGE_SIZE) * WASM_PAGE_SIZE
            self._places.setdefault(-1, _Places()).put(start, stop, grown, seq)
        elif tag == TableSet.tag:
            table, start, count = _TABLE.unpack_from(payload)
            places = self._places.setdefault(table, _Places())
            places.put(start, start + count, start + count, seq)
        elif tag == GlobalsSet.tag:
            self._globals = seq
        else:
            (number,) = _ID.unpack_from(payload)
            if number in self._threads:
                self._ended.append((self._threads.pop(number), seq))
            if tag == SetThread.tag:
                self._threads[number] = seq

    def clear_threads(self, seq: int) -> None:
        """No thread is left: an event says so that is kept anyhow."""
        for owner in self._threads.values():
            self._ledger.tie(owner, seq)
        self._threads.clear()
        self._ended.clear()

    def clear(self) -> None:
        """Nothing is left: the process is over, or begins."""
        self._places.clear()
        self._threads.clear()
        self._ended.clear()
        self._globals = BASE

    def settle(self) -> None:
        """Where a thread is kept, so is what ended it: there is a state behind that.

        Until now, what ends all threads and is kept anyhow could have come, and said it, too.
        """
        for owner, seq in self._ended:
            self._ledger.tie(owner, seq)
        self._ended.clear()

    def cells(self) -> Iterator[int]:
        """Give the owners of all that there is."""
        yield self._globals
        yield from self._threads.values()
        for places in self._places.values():
            yield from places.cells()

    def told(self) -> Iterator[str]:
        """Tell all that there is."""
        yield f"{self._globals} {sorted(self._threads.items())}"
        for which, places in sorted(self._places.items()):
            yield f"{which} {places.size} {places.spans.parts(places.size)}"


assert ClearEthereal.tag not in REGION_TAGS
