"""Taking a snapshot: what of the guest's state has changed becomes events, and the digest of all.

The guest stands still meanwhile. Pages that may have changed are compared with a mirror of the
memory at the last snapshot, so that how they were found makes no difference.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from journal.engine.configuration import MEMORY_SIZE_MAX
from journal.engine.memory.dirty_pages import ByComparing, Way, Written, watch
from journal.engine.memory.mapping import Mirror
from journal.engine.program.variant import Form
from journal.engine.runtime.bindings import Instance, Memory
from journal.engine.runtime.globals_tables import Globals, Tables
from journal.engine.snapshot.positions import listings_of, positions_of
from journal.engine.wasi.call_context import CallContext
from journal.events import codec
from journal.events.definition import Event
from journal.events.memory import PAGE_SIZE, MemoryPages
from journal.events.snapshots import SafePoint, Snapshot, Trigger
from journal.events.threads import GlobalsSet, SetThread, TableSet
from journal.pages import encoding as paging

if TYPE_CHECKING:
    from journal.pages.page_index import PageIndex

TABLE_PART_COUNT = 1 << 14
"""Elements of a table in one event."""

NO_CODE = bytes(32)
MAIN_THREAD = 0


class Sink(Protocol):
    """What taking a snapshot needs of a journal's writer."""

    @property
    def next_seq(self) -> int:
        """The number that the next event will get."""

    def append(self, event: Event) -> int:
        """Append an event."""

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append a payload."""

    def sync(self) -> None:
        """Make everything durable."""


class Place(NamedTuple):
    """Where a guest stands still: see ``SafePoint``."""

    calls: int
    entry: str
    function: str


@dataclass(slots=True)
class Kept:
    """A memory, as far as snapshots have it; ``total`` is the sum of its pages' hashes."""

    index: int
    memory: Memory
    mirror: Mirror
    total: int = 0
    written: Written | None = None


class Shot(NamedTuple):
    """What was taken: the number of its Snapshot, and the digest."""

    seq: int
    digest: bytes


@dataclass(slots=True)
class Machine:
    """What a guest runs on, and snapshots have: memories, globals, and tables if they change."""

    memories: list[Kept]
    globals: Globals
    tables: Tables | None

    @classmethod
    def of(cls, instance: Instance, form: Form) -> "Machine":
        """The machine of an instance of a module in this form."""
        memories = [
            Kept(index, instance.memory(name), Mirror(MEMORY_SIZE_MAX))
            for index, name in enumerate(form.memories)
        ]
        tables = instance.tables(form.tables, form.functions) if form.tables else None
        return cls(memories, instance.globals(form.globals), tables)

    def close(self) -> None:
        """Let go of the memories, before they go away."""
        for kept in self.memories:
            if kept.written is not None:
                kept.written.close()
                kept.written = None
            kept.mirror.close()


@dataclass(slots=True)
class Camera:
    """Takes the snapshots of one guest.

    ``whole`` says that the next one says all that there is, because the journal has none that it
    could go on from. ``on_payload`` sees what the digest is of besides memory; ``pages`` knows
    which pages the journal has already.
    """

    machine: Machine
    state: CallContext
    sink: Sink
    way: Way
    whole: bool = True
    _digest: bytes = b""
    on_payload: Callable[[int, bytes], None] = field(default=lambda tag, payload: None)
    pages: "PageIndex | None" = None
    _last_seq: int = -1

    def draw(self, place: Place, stack: bytes | None, code: bytes) -> None:
        """Write all of a snapshot but the event that closes it: without that, it is none."""
        self.sink.append(
            SafePoint(
                calls=place.calls,
                monotonic=self.state.clocks.monotonic(),
                code=code or NO_CODE,
                whole=self.whole,
                entry=place.entry,
                function=place.function,
            )
        )
        if self.pages is not None:
            self.pages.begin(self.sink.next_seq)
        for kept in self.machine.memories:
            for event in _changes(kept, kept.memory.renew()):
                self._last_seq = self._append(event)
        self._digest = self._write_rest(stack)

    def _append(self, event: MemoryPages) -> int:
        """Write pages, or where they stand already."""
        if self.pages is None:
            return self.sink.append(event)
        expected = self.sink.next_seq
        seq = self.sink.append(self.pages.shortened(expected, event))
        assert seq == expected, "nobody else writes while the guest stands still"
        return seq

    def close(self, trigger: Trigger) -> Shot:
        """Close what was drawn, and make it durable: it is a snapshot."""
        digest = self._digest
        seq = self.sink.append(Snapshot(when=time.time_ns(), trigger=trigger, digest=digest))
        self.sink.sync()
        self.whole = False
        if self.pages is not None:
            self.pages.end(self._last_seq)
        self._watch()
        return Shot(seq, digest)

    def _write_rest(self, stack: bytes | None) -> bytes:
        """Write what is not memory; the digest of everything."""
        events: list[Event] = [GlobalsSet(globals=self.machine.globals.read())]
        if self.machine.tables is not None:
            events += _tables(self.machine.tables)
        if stack is not None:
            events.append(thread_of(stack))
        events += [positions_of(self.state), *listings_of(self.state)]
        payloads = []
        for event in events:
            payloads.append(codec.encode(event))
            self.sink.append_frame(event.tag, payloads[-1])
            self.on_payload(event.tag, payloads[-1])
        sums = [(kept.index, kept.memory.size, kept.total) for kept in self.machine.memories]
        return paging.state_digest(sums, payloads)

    def _watch(self) -> None:
        """From here on only what is written needs to be looked at."""
        for kept in self.machine.memories:
            if kept.written is None and kept.memory.size:
                memory, mirror = kept.memory, kept.mirror
                kept.written = watch(memory.address, memory.size, mirror.address, self.way)


def _changes(kept: Kept, size: int) -> Iterator[MemoryPages]:
    """Give the events of a memory's pages that are not as the mirror has them, and renew that."""
    written = kept.written
    if written is None and size:
        written = ByComparing(kept.memory.address, kept.mirror.address)
    runs = written.take(size) if written is not None else []
    pages: list[paging.Page] = []
    is_told = False
    for start, stop in runs:
        for number in range(start, stop):
            now = kept.memory.view[number * PAGE_SIZE : (number + 1) * PAGE_SIZE].tobytes()
            before = kept.mirror.page(number)
            if now == before:
                continue
            _count(kept, number, now, before)
            pages.append(paging.Page(number, now, before))
            if len(pages) == paging.EVENT_PAGES_MAX:
                yield from paging.events_of(kept.index, size, pages)
                pages, is_told = [], True
    if pages or not is_told:
        yield from paging.events_of(kept.index, size, pages)


def _count(kept: Kept, number: int, now: bytes, before: bytes) -> None:
    kept.mirror.put(number, now)
    zero = paging.ZERO_PAGE
    added = 0 if now == zero else paging.page_hash(kept.index, number, now)
    removed = 0 if before == zero else paging.page_hash(kept.index, number, before)
    kept.total = paging.summed(kept.total, added, removed)


def _tables(tables: Tables) -> Iterator[TableSet]:
    for table in range(len(tables)):
        functions = tables.read(table)
        for start in range(0, max(len(functions), 1), TABLE_PART_COUNT):
            part = tuple(functions[start : start + TABLE_PART_COUNT])
            yield TableSet(table=table, start=start, functions=part)


def thread_of(stack: bytes) -> SetThread:
    """The event of the main thread's stack."""
    return SetThread(
        id=MAIN_THREAD,
        start_pointer=None,
        stack_upper=0,
        stack_lower=0,
        guard_size=0,
        stack_size=0,
        call_stack=stack,
        memory_stack=b"",
        store_data=b"",
    )
