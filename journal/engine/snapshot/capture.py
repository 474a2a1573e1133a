"""Capture of a snapshot: changes of the guest's state as events, and a digest of the whole state.

The guest is suspended during the capture. Dirty pages are compared with a mirror of the memory at
the last snapshot, so that the tracking method does not affect the events.
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
from journal.engine.snapshot.contents import capture_contents
from journal.engine.snapshot.memory_image import MemoryImage
from journal.engine.snapshot.positions import capture_listings, capture_positions
from journal.engine.wasi.call_context import CallContext
from journal.events import codec
from journal.events.definition import Event
from journal.events.memory import PAGE_SIZE, MemoryPages
from journal.events.snapshots import SafePoint, Snapshot, Trigger
from journal.events.threads import GlobalsSet, SetThread, TableSet
from journal.pages import encoding

if TYPE_CHECKING:
    from journal.pages.page_index import PageIndex

TABLE_PART_COUNT = 1 << 14
"""Table elements per event."""

NO_CODE = bytes(32)
MAIN_THREAD = 0


class SnapshotSink(Protocol):
    """The part of a journal writer that a capture uses."""

    @property
    def next_seq(self) -> int:
        """Sequence number of the next event."""

    def append(self, event: Event) -> int:
        """Append an event and return its sequence number."""

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append a payload and return its sequence number."""

    def sync(self) -> None:
        """Make all appended events durable."""


#: Pages between two checks for a stop request.
_CHECK_PAGES = 4096


class SuspendPoint(NamedTuple):
    """Location at which a guest is suspended: see ``SafePoint``."""

    calls: int
    entry: str
    function: str


@dataclass(slots=True)
class TrackedMemory:
    """A memory with its mirror and dirty pages; ``hash_sum`` is the sum of its pages' hashes.

    ``changed_numbers`` are the pages that changed since the last copy of all memories, None without
    a copy.
    """

    index: int
    memory: GuestMemory
    mirror: Mirror
    hash_sum: int = 0
    dirty_pages: DirtyPages | None = None
    changed_numbers: set[int] | None = None


class CapturedSnapshot(NamedTuple):
    """A captured snapshot: the sequence number of its Snapshot event, and the digest."""

    seq: int
    digest: bytes


@dataclass(slots=True)
class MachineState:
    """Captured state of an instance: memories, globals, and tables if code changes them.

    ``is_pooled`` means that the memories lie in slots of a pool. The pool keeps the mappings of a
    slot for its next instance, so nothing may be mapped over such a memory. ``copy`` is the last
    copy of all memories, None if the guest was not forked.
    """

    memories: list[TrackedMemory]
    globals: InstanceGlobals
    tables: InstanceTables | None
    is_pooled: bool = False
    copy: MemoryImage | None = None

    @classmethod
    def from_instance(cls, instance: Instance, variant: ModuleVariant) -> "MachineState":
        """Return the machine state of an instance of ``variant``."""
        memories = [
            TrackedMemory(index, instance.get_memory(name), Mirror(MEMORY_SIZE_MAX))
            for index, name in enumerate(variant.memories)
        ]
        tables = instance.get_tables(variant.tables, variant.functions) if variant.tables else None
        return cls(memories, instance.get_globals(variant.globals), tables)

    def close(self) -> None:
        """Release the memories. Call before the memories are freed."""
        if self.copy is not None:
            self.copy.close()
            self.copy = None
        for tracked in self.memories:
            if tracked.dirty_pages is not None:
                tracked.dirty_pages.close()
                tracked.dirty_pages = None
            tracked.mirror.close()


@dataclass(slots=True)
class SnapshotCapture:
    """Capture of the snapshots of one guest.

    ``whole`` means that the next snapshot contains the complete state, because the journal has no
    base snapshot. ``on_payload`` receives the payloads that the digest covers besides memory,
    ``on_pages`` the events of pages.
    ``pages`` finds pages that the journal already contains. ``parts`` are the events of the last
    snapshot other than memory.
    """

    machine: MachineState
    context: CallContext
    sink: SnapshotSink
    tracking: DirtyPageTracking
    whole: bool = True
    _digest: bytes = b""
    on_payload: Callable[[int, bytes], None] = field(default=lambda tag, payload: None)
    on_pages: Callable[[MemoryPages], None] = field(default=lambda event: None)
    pages: "PageIndex | None" = None
    parts: list[Event] = field(default_factory=list)
    _last_seq: int = -1

    def write_state(self, point: SuspendPoint, stack: bytes | None, code: bytes) -> None:
        """Write the state of a snapshot. ``commit`` completes the snapshot."""
        self.sink.append(
            SafePoint(
                calls=point.calls,
                monotonic=self.context.clocks.monotonic(),
                code=code or NO_CODE,
                whole=self.whole,
                entry=point.entry,
                function=point.function,
            )
        )
        if self.pages is not None:
            self.pages.begin_snapshot(self.sink.next_seq)
        for tracked in self.machine.memories:
            check = self.context.interrupter.check
            for event in _collect_changes(tracked, tracked.memory.refresh(), check):
                self.on_pages(event)
                self._last_seq = self._append(event)
        self._digest = self._write_rest(stack)

    def _append(self, event: MemoryPages) -> int:
        """Write pages; pages that the journal already contains become references."""
        if self.pages is None:
            return self.sink.append(event)
        expected = self.sink.next_seq
        seq = self.sink.append(self.pages.deduplicate(expected, event))
        assert seq == expected, "only the capture appends events while the guest is suspended"
        return seq

    def commit(self, trigger: Trigger) -> CapturedSnapshot:
        """Append the Snapshot event and sync the journal, which completes the snapshot."""
        digest = self._digest
        seq = self.sink.append(Snapshot(when=time.time_ns(), trigger=trigger, digest=digest))
        self.sink.sync()
        self.whole = False
        if self.pages is not None:
            self.pages.end_snapshot(self._last_seq)
        self._track_dirty_pages()
        return CapturedSnapshot(seq, digest)

    def _write_rest(self, stack: bytes | None) -> bytes:
        """Write the state other than memory, and return the digest of the whole state."""
        machine = self.machine
        self.parts = capture_rest(machine.globals, machine.tables, stack, self.context)
        payloads = []
        for event in self.parts:
            payloads.append(codec.encode(event))
            self.sink.append_frame(event.tag, payloads[-1])
            self.on_payload(event.tag, payloads[-1])
        sums = [(t.index, t.memory.size, t.hash_sum) for t in self.machine.memories]
        return encoding.compute_state_digest(sums, payloads)

    def _track_dirty_pages(self) -> None:
        """Start tracking dirty pages, so that the next capture only reads these."""
        for tracked in self.machine.memories:
            if tracked.dirty_pages is None and tracked.memory.size:
                memory, mirror = tracked.memory, tracked.mirror
                tracked.dirty_pages = track_dirty_pages(
                    memory.address, memory.size, mirror.address, self.tracking
                )


def _collect_changes(
    tracked: TrackedMemory, size: int, check: Callable[[], None]
) -> Iterator[MemoryPages]:
    """Yield the events of the pages that differ from the mirror, and update the mirror.

    ``check`` is called between parts. Its exception leaves the snapshot incomplete, as a crash
    does, and the mirror unusable.
    """
    dirty_pages = tracked.dirty_pages
    if dirty_pages is None and size:
        dirty_pages = ComparedDirtyPages(tracked.memory.address, tracked.mirror.address)
    ranges = dirty_pages.collect(size) if dirty_pages is not None else []
    pages: list[encoding.ChangedPage] = []
    has_yielded = False
    for start, stop in ranges:
        for number in range(start, stop):
            if not number % _CHECK_PAGES:
                check()
            page = tracked.memory.view[number * PAGE_SIZE : (number + 1) * PAGE_SIZE].tobytes()
            old_page = tracked.mirror.read(number)
            if page == old_page:
                continue
            _update_mirror(tracked, number, page, old_page)
            pages.append(encoding.ChangedPage(number, page, old_page))
            if len(pages) == encoding.EVENT_PAGES_MAX:
                check()
                yield from encoding.encode_pages(tracked.index, size, pages)
                pages, has_yielded = [], True
    if pages or not has_yielded:
        yield from encoding.encode_pages(tracked.index, size, pages)


def _update_mirror(tracked: TrackedMemory, number: int, page: bytes, old_page: bytes) -> None:
    tracked.mirror.write(number, page)
    if tracked.changed_numbers is not None:
        tracked.changed_numbers.add(number)
    zero = encoding.ZERO_PAGE
    new_hash = 0 if page == zero else encoding.hash_page(tracked.index, number, page)
    old_hash = 0 if old_page == zero else encoding.hash_page(tracked.index, number, old_page)
    tracked.hash_sum = encoding.update_hash_sum(tracked.hash_sum, new_hash, old_hash)


def capture_rest(
    globals_: InstanceGlobals,
    tables: InstanceTables | None,
    stack: bytes | None,
    context: CallContext,
) -> list[Event]:
    """Return the events of the state other than memory, in the order of a snapshot."""
    events: list[Event] = [GlobalsSet(globals=globals_.read())]
    if tables is not None:
        events += _make_table_events(tables)
    if stack is not None:
        events.append(make_thread_event(stack))
    positions = capture_positions(context), *capture_listings(context)
    names = context.network.resolver.names.save()
    return [*events, *positions, *capture_contents(context), *context.signals.save(), *names]


def _make_table_events(tables: InstanceTables) -> Iterator[TableSet]:
    for table in range(len(tables)):
        functions = tables.read(table)
        for start in range(0, max(len(functions), 1), TABLE_PART_COUNT):
            part = tuple(functions[start : start + TABLE_PART_COUNT])
            yield TableSet(table=table, start=start, functions=part)


def make_thread_event(stack: bytes) -> SetThread:
    """Return the event of the main thread's stack."""
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
