"""Taking a snapshot: what of the guest's state has changed becomes events, and the digest of all.

The guest stands still meanwhile. Pages that may have changed are compared with a mirror of the
memory at the last snapshot, so that how they were found makes no difference.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from journal.engine.configuration import MEMORY_SIZE_MAX
from journal.engine.memory.dirty_pages import (
    ComparedDirtyPages,
    DirtyPages,
    DirtyPageTracking,
    track_dirty_pages,
)
from journal.engine.memory.mapping import Mirror
from journal.engine.program.variant import ModuleVariant
from journal.engine.runtime.bindings import GuestMemory, Instance
from journal.engine.runtime.globals_tables import InstanceGlobals, InstanceTables
from journal.engine.snapshot.positions import capture_listings, capture_positions
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


class SnapshotSink(Protocol):
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


class SuspendPoint(NamedTuple):
    """Where a guest stands still: see ``SafePoint``."""

    calls: int
    entry: str
    function: str


@dataclass(slots=True)
class TrackedMemory:
    """A memory, as far as snapshots have it; ``hash_sum`` is the sum of its pages' hashes."""

    index: int
    memory: GuestMemory
    mirror: Mirror
    hash_sum: int = 0
    dirty_pages: DirtyPages | None = None


class CapturedSnapshot(NamedTuple):
    """What was taken: the number of its Snapshot, and the digest."""

    seq: int
    digest: bytes


@dataclass(slots=True)
class MachineState:
    """What a guest runs on, and snapshots have: memories, globals, and tables if they change."""

    memories: list[TrackedMemory]
    globals: InstanceGlobals
    tables: InstanceTables | None

    @classmethod
    def from_instance(cls, instance: Instance, variant: ModuleVariant) -> "MachineState":
        """The machine of an instance of a module in this variant."""
        memories = [
            TrackedMemory(index, instance.memory(name), Mirror(MEMORY_SIZE_MAX))
            for index, name in enumerate(variant.memories)
        ]
        tables = instance.tables(variant.tables, variant.functions) if variant.tables else None
        return cls(memories, instance.globals(variant.globals), tables)

    def close(self) -> None:
        """Let go of the memories, before they go away."""
        for kept in self.memories:
            if kept.dirty_pages is not None:
                kept.dirty_pages.close()
                kept.dirty_pages = None
            kept.mirror.close()


@dataclass(slots=True)
class SnapshotCapture:
    """Takes the snapshots of one guest.

    ``whole`` says that the next one says all that there is, because the journal has none that it
    could go on from. ``on_payload`` sees what the digest is of besides memory; ``pages`` knows
    which pages the journal has already.
    """

    machine: MachineState
    context: CallContext
    sink: SnapshotSink
    tracking: DirtyPageTracking
    whole: bool = True
    _digest: bytes = b""
    on_payload: Callable[[int, bytes], None] = field(default=lambda tag, payload: None)
    pages: "PageIndex | None" = None
    _last_seq: int = -1

    def write_state(self, place: SuspendPoint, stack: bytes | None, code: bytes) -> None:
        """Write all of a snapshot but the event that closes it: without that, it is none."""
        self.sink.append(
            SafePoint(
                calls=place.calls,
                monotonic=self.context.clocks.monotonic(),
                code=code or NO_CODE,
                whole=self.whole,
                entry=place.entry,
                function=place.function,
            )
        )
        if self.pages is not None:
            self.pages.begin_snapshot(self.sink.next_seq)
        for kept in self.machine.memories:
            for event in _collect_changes(kept, kept.memory.refresh()):
                self._last_seq = self._append(event)
        self._digest = self._write_rest(stack)

    def _append(self, event: MemoryPages) -> int:
        """Write pages, or where they stand already."""
        if self.pages is None:
            return self.sink.append(event)
        expected = self.sink.next_seq
        seq = self.sink.append(self.pages.deduplicate(expected, event))
        assert seq == expected, "nobody else writes while the guest stands still"
        return seq

    def commit(self, trigger: Trigger) -> CapturedSnapshot:
        """Close what was drawn, and make it durable: it is a snapshot."""
        digest = self._digest
        seq = self.sink.append(Snapshot(when=time.time_ns(), trigger=trigger, digest=digest))
        self.sink.sync()
        self.whole = False
        if self.pages is not None:
            self.pages.end_snapshot(self._last_seq)
        self._watch()
        return CapturedSnapshot(seq, digest)

    def _write_rest(self, stack: bytes | None) -> bytes:
        """Write what is not memory; the digest of everything."""
        events: list[Event] = [GlobalsSet(globals=self.machine.globals.read())]
        if self.machine.tables is not None:
            events += _make_table_events(self.machine.tables)
        if stack is not None:
            events.append(make_thread_event(stack))
        events += [capture_positions(self.context), *capture_listings(self.context)]
        payloads = []
        for event in events:
            payloads.append(codec.encode(event))
            self.sink.append_frame(event.tag, payloads[-1])
            self.on_payload(event.tag, payloads[-1])
        sums = [(kept.index, kept.memory.size, kept.hash_sum) for kept in self.machine.memories]
        return paging.compute_state_digest(sums, payloads)

    def _watch(self) -> None:
        """From here on only what is dirty_pages needs to be looked at."""
        for kept in self.machine.memories:
            if kept.dirty_pages is None and kept.memory.size:
                memory, mirror = kept.memory, kept.mirror
                kept.dirty_pages = track_dirty_pages(
                    memory.address, memory.size, mirror.address, self.tracking
                )


def _collect_changes(kept: TrackedMemory, size: int) -> Iterator[MemoryPages]:
    """Give the events of a memory's pages that are not as the mirror has them, and renew that."""
    dirty_pages = kept.dirty_pages
    if dirty_pages is None and size:
        dirty_pages = ComparedDirtyPages(kept.memory.address, kept.mirror.address)
    runs = dirty_pages.collect(size) if dirty_pages is not None else []
    pages: list[paging.ChangedPage] = []
    is_told = False
    for start, stop in runs:
        for number in range(start, stop):
            now = kept.memory.view[number * PAGE_SIZE : (number + 1) * PAGE_SIZE].tobytes()
            before = kept.mirror.read(number)
            if now == before:
                continue
            _update_mirror(kept, number, now, before)
            pages.append(paging.ChangedPage(number, now, before))
            if len(pages) == paging.EVENT_PAGES_MAX:
                yield from paging.encode_pages(kept.index, size, pages)
                pages, is_told = [], True
    if pages or not is_told:
        yield from paging.encode_pages(kept.index, size, pages)


def _update_mirror(kept: TrackedMemory, number: int, now: bytes, before: bytes) -> None:
    kept.mirror.write(number, now)
    zero = paging.ZERO_PAGE
    added = 0 if now == zero else paging.hash_page(kept.index, number, now)
    removed = 0 if before == zero else paging.hash_page(kept.index, number, before)
    kept.hash_sum = paging.update_hash_sum(kept.hash_sum, added, removed)


def _make_table_events(tables: InstanceTables) -> Iterator[TableSet]:
    for table in range(len(tables)):
        functions = tables.read(table)
        for start in range(0, max(len(functions), 1), TABLE_PART_COUNT):
            part = tuple(functions[start : start + TABLE_PART_COUNT])
            yield TableSet(table=table, start=start, functions=part)


def make_thread_event(stack: bytes) -> SetThread:
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
