"""Bringing a guest back from a snapshot: its machine from an image, the rest from events."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from journal.engine.memory.mapping import map_over
from journal.engine.snapshot import memory_image as images
from journal.engine.snapshot.capture import MAIN_THREAD, MachineState
from journal.engine.snapshot.memory_image import ImageKey, MemoryImage
from journal.engine.snapshot.positions import apply_listing, apply_positions
from journal.engine.snapshot.rebuild import REBUILD_TAGS, rebuild_state
from journal.engine.tape import Batch
from journal.engine.wasi.call_context import CallContext
from journal.errors import EngineError, MalformedEvent, NotResumable
from journal.events import codec
from journal.events.definition import Event
from journal.events.memory import MemoryPages
from journal.events.snapshots import DescriptorPositions, DirectoryListing
from journal.events.threads import GlobalsSet, SetThread, TableSet
from journal.format.frame import Frame
from journal.log.reader import Reader
from journal.pages import PageResolver
from journal.pages import encoding as paging
from journal.snapshots.catalog import SnapshotInfo

_PARTS = (GlobalsSet, TableSet, SetThread, DescriptorPositions, DirectoryListing)
_PART_TAGS = frozenset(kind.tag for kind in _PARTS)
_PAGE_TAGS = frozenset((MemoryPages.tag,))

COUNT_MAX = 1 << 62
"""No guest has made so many calls, and no clock of one says as many nanoseconds."""


@dataclass(slots=True)
class SnapshotParts:
    """What a snapshot says besides memory; ``payloads`` are what its digest is of."""

    payloads: list[bytes] = field(default_factory=list)
    globals: GlobalsSet | None = None
    tables: dict[int, list[int]] = field(default_factory=dict)
    stack: bytes | None = None
    positions: DescriptorPositions | None = None
    listings: list[DirectoryListing] = field(default_factory=list)

    def add_event(self, event: Event) -> None:
        """One event of it."""
        if isinstance(event, GlobalsSet):
            self.globals = event
        elif isinstance(event, TableSet):
            elements = self.tables.setdefault(event.table, [])
            if event.start != len(elements):
                raise NotResumable(f"a snapshot has no elements before {event.start} of a table")
            elements += event.functions
        elif isinstance(event, SetThread):
            if event.id != MAIN_THREAD:
                raise NotResumable(f"a snapshot has a thread {event.id}, which cannot be resumed")
            self.stack = event.call_stack
        elif isinstance(event, DescriptorPositions):
            self.positions = event
        elif isinstance(event, DirectoryListing):
            self.listings.append(event)


def read_parts(reader: Reader, info: SnapshotInfo) -> SnapshotParts:
    """What a snapshot of ours says besides memory; raises ``NotResumable``."""
    assert info.first_seq is not None
    parts = SnapshotParts()
    for frame in reader.frames(info.first_seq, stop=info.seq, tags=_PART_TAGS):
        try:
            parts.add_event(codec.decode(frame.tag, frame.payload, frame.offset))
        except MalformedEvent as error:
            raise NotResumable(f"event {frame.seq} cannot be used: {error}") from error
        parts.payloads.append(frame.payload)
    if parts.globals is None or parts.positions is None:
        raise NotResumable(f"snapshot {info.seq} does not say all that is needed")
    return parts


def iter_pages(
    reader: Reader, infos: Sequence[SnapshotInfo], info: SnapshotInfo
) -> Iterator[Frame]:
    """The pages that lead to a snapshot: its own, and those of the ones that it builds on.

    Those that stand elsewhere are looked up. Raises ``NotResumable``.
    """
    spans = [(one.first_seq or 0, one.seq) for one in base_snapshots(infos, info)]
    at, pages = 0, PageResolver.from_reader(reader)
    for frame in reader.frames(spans[0][0], stop=info.seq, tags=_PAGE_TAGS):
        while frame.seq > spans[at][1]:
            at += 1
        if frame.seq < spans[at][0]:  # what stands between them was staged, and is void
            continue
        try:
            yield pages.resolve_frame(frame)
        except MalformedEvent as error:
            raise NotResumable(f"event {frame.seq} has impossible pages: {error}") from error


def base_snapshots(infos: Sequence[SnapshotInfo], info: SnapshotInfo) -> list[SnapshotInfo]:
    """The snapshots that one builds on, from one that is whole on, and itself.

    Raises ``NotResumable`` where one is missing.
    """
    found: list[SnapshotInfo] = []
    for one in reversed(infos):
        if one.seq > info.seq or one.first_seq is None:
            continue
        found.append(one)
        if one.whole:
            return found[::-1]
    raise NotResumable(f"snapshot {info.seq} builds on one that the journal does not have")


@dataclass(slots=True)
class SnapshotRestorer:
    """A snapshot that is ready to be put in place of a guest's state.

    ``history`` gives the journal's batches that have what files and descriptors come from;
    ``queue_undelivered`` queues output that was printed but not delivered.
    """

    info: SnapshotInfo
    parts: SnapshotParts
    image: MemoryImage
    history: Callable[[frozenset[int]], Iterable[Batch]]
    is_last_one: bool
    queue_undelivered: Callable[[CallContext], None] = lambda state: None

    @property
    def entry(self) -> str:
        """The function that had been called; empty if none had."""
        return self.info.entry

    @property
    def function(self) -> str:
        """The function of the host that the guest was about to call; empty in a loop."""
        return self.info.function

    @property
    def calls(self) -> int:
        """How many calls of the host had been made."""
        return self.info.calls - 1

    @property
    def session(self) -> tuple[int, int]:
        """Its time in µs, and the guest's monotonic clock then."""
        return self.info.time, self.info.monotonic

    @property
    def is_last(self) -> bool:
        """Whether the journal has no later one."""
        return self.is_last_one

    def apply(self, machine: MachineState, state: CallContext) -> bytes | None:
        """Let the machine and the state be what they were; the stack to rewind, if there is one."""
        try:
            self._apply_memories(machine)
            self._apply_rest(machine)
        except EngineError as error:
            raise NotResumable(f"snapshot {self.info.seq} fits another module: {error}") from error
        rebuild_state(state, iter(self.history(REBUILD_TAGS)), self.info.seq)
        assert self.parts.positions is not None, "parts_of has seen to that"
        apply_positions(state, self.parts.positions)
        for listing in self.parts.listings:
            apply_listing(state, listing)
        self.queue_undelivered(state)
        return self.parts.stack

    def _apply_memories(self, machine: MachineState) -> None:
        found = {kept.index: kept for kept in machine.memories}
        if [one.memory_index for one in self.image.memories] != sorted(found):
            raise EngineError("it has other memories")
        for one in self.image.memories:
            kept = found[one.memory_index]
            kept.memory.grow(one.size)
            if one.size:
                map_over(kept.memory.address, one.size, self.image.fd, one.offset)
                kept.mirror.map_file(one.size, self.image.fd, one.offset)
            kept.hash_sum = one.hash_sum
        self.image.close()

    def _apply_rest(self, machine: MachineState) -> None:
        assert self.parts.globals is not None, "parts_of has seen to that"
        machine.globals.write(self.parts.globals.globals)
        tables = machine.tables
        if sorted(self.parts.tables) != list(range(len(tables) if tables is not None else 0)):
            raise EngineError("it has other tables that change")
        for table, functions in self.parts.tables.items():
            assert tables is not None
            tables.write(table, functions)


def prepare_restore(
    reader: Reader,
    journal_id: bytes,
    infos: Sequence[SnapshotInfo],
    info: SnapshotInfo,
    folder: Path,
    history: Callable[[frozenset[int]], Iterable[Batch]],
) -> SnapshotRestorer:
    """A snapshot, with its image from ``folder``, or made there.

    Raises ``NotResumable`` where what the journal has is not what the digest is of.
    """
    if not 0 < info.calls <= COUNT_MAX or info.monotonic > COUNT_MAX:
        raise NotResumable(f"snapshot {info.seq} was taken where no guest comes")
    parts = read_parts(reader, info)
    key = ImageKey(journal_id, info.seq, info.digest)

    def holds(image: MemoryImage) -> bool:
        sums = [(one.memory_index, one.size, one.hash_sum) for one in image.memories]
        return paging.compute_state_digest(sums, parts.payloads) == info.digest

    image = images.find_image(key, folder)
    if image is None or not holds(image):
        if image is not None:
            image.close()
        image = images.make_image(lambda: iter_pages(reader, infos, info), key, folder)
    if not holds(image):
        image.close()
        images.remove_image(key, folder)
        raise NotResumable(f"the digest of snapshot {info.seq} does not hold: its state is damaged")
    return SnapshotRestorer(info, parts, image, history, infos[-1].seq == info.seq)
