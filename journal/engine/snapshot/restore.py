"""Restore of a guest from a snapshot: memories from an image, other state from events."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from journal.engine.memory.mapping import copy_over, map_over
from journal.engine.runtime.globals_tables import InstanceGlobals, InstanceTables
from journal.engine.snapshot import memory_image
from journal.engine.snapshot.capture import MAIN_THREAD, MachineState
from journal.engine.snapshot.contents import apply_contents
from journal.engine.snapshot.memory_image import ImageCache, ImageKey, MemoryImage
from journal.engine.snapshot.positions import apply_listing, apply_positions
from journal.engine.snapshot.rebuild import REBUILD_TAGS, rebuild_state
from journal.engine.tape import Batch, check_between
from journal.engine.wasi.call_context import CallContext
from journal.errors import EngineError, FormatError, MalformedEvent, NotResumable
from journal.events import codec, tag_sets
from journal.events.definition import Event
from journal.events.memory import PAGE_SIZE, MemoryPages
from journal.events.snapshots import (
    DescriptorContents,
    DescriptorPositions,
    DirectoryListing,
    ResolvedNames,
    SafePoint,
    SignalState,
)
from journal.events.threads import GlobalsSet, SetThread, TableSet
from journal.format.block_header import LAYOUT
from journal.format.frame import Frame
from journal.fs.user_key import UserKey
from journal.log.reader import Reader
from journal.pages import PageResolver, encoding
from journal.snapshots.catalog import SnapshotInfo

_PAGE_TAGS = frozenset((MemoryPages.tag,))
_PART_TAGS = (tag_sets.SNAPSHOT_PARTS & tag_sets.RECORDING) - _PAGE_TAGS - {SafePoint.tag}

COUNT_MAX = 1 << 62
"""Upper bound of the number of calls and of a monotonic clock in nanoseconds."""

DIGEST_SIZE = 16
"""Size of the digest of a snapshot, in bytes."""


@dataclass(slots=True)
class SnapshotParts:
    """Parts of a snapshot other than memory; the digest covers ``payloads``."""

    payloads: list[bytes] = field(default_factory=list)
    globals: GlobalsSet | None = None
    tables: dict[int, list[int]] = field(default_factory=dict)
    stack: bytes | None = None
    positions: DescriptorPositions | None = None
    listings: list[DirectoryListing] = field(default_factory=list)
    contents: list[DescriptorContents] = field(default_factory=list)
    signals: SignalState | None = None
    names: ResolvedNames | None = None

    def add_event(self, event: Event) -> None:
        """Add one part of the snapshot."""
        name = _ONLY_PARTS.get(type(event))
        if name is not None:
            setattr(self, name, event)
        elif isinstance(event, TableSet):
            self._add_elements(event)
        elif isinstance(event, SetThread):
            if event.id != MAIN_THREAD:
                raise NotResumable(
                    f"the snapshot has a thread {event.id}; only thread {MAIN_THREAD} can be "
                    "resumed"
                )
            self.stack = event.call_stack
        elif isinstance(event, DirectoryListing):
            self.listings.append(event)
        elif isinstance(event, DescriptorContents):
            self.contents.append(event)
        else:
            raise NotResumable(f"the snapshot has a {type(event).__name__}, which is not supported")

    def _add_elements(self, event: TableSet) -> None:
        elements = self.tables.setdefault(event.table, [])
        if event.start != len(elements):
            raise NotResumable(
                f"the snapshot has {len(elements)} elements of table {event.table}, but "
                f"continues at element {event.start}"
            )
        elements += event.functions


_ONLY_PARTS: dict[type[Event], str] = {
    GlobalsSet: "globals",
    DescriptorPositions: "positions",
    SignalState: "signals",
    ResolvedNames: "names",
}
"""Kinds of parts of which a snapshot has one, and their fields."""


def read_parts(reader: Reader, info: SnapshotInfo) -> SnapshotParts:
    """Return the parts of a snapshot other than memory; raise ``NotResumable`` if invalid."""
    assert info.first_seq is not None
    parts = SnapshotParts()
    for frame in reader.frames(info.first_seq, stop=info.seq, tags=_PART_TAGS):
        try:
            parts.add_event(codec.decode(frame.tag, frame.payload, frame.offset))
        except MalformedEvent as error:
            raise NotResumable(f"event {frame.seq} is malformed: {error}") from error
        parts.payloads.append(frame.payload)
    if parts.globals is None or parts.positions is None:
        raise NotResumable(f"snapshot {info.seq} lacks its globals or its positions")
    return parts


def iter_pages(reader: Reader, snapshots: Sequence[SnapshotInfo]) -> Iterator[Frame]:
    """Yield the pages of consecutive snapshots, such as those of ``base_snapshots``.

    References to pages are resolved. Raises ``NotResumable`` for invalid pages.
    """
    ranges = [(base.first_seq or 0, base.seq) for base in snapshots]
    index, pages = 0, PageResolver.from_reader(reader)
    for frame in reader.frames(ranges[0][0], stop=ranges[-1][1], tags=_PAGE_TAGS):
        while frame.seq > ranges[index][1]:
            index += 1
        if (
            frame.seq < ranges[index][0]
        ):  # Pages between snapshots belong to an incomplete snapshot.
            continue
        try:
            yield pages.resolve_frame(frame)
        except MalformedEvent as error:
            raise NotResumable(f"event {frame.seq} has invalid pages: {error}") from error


def base_snapshots(infos: Sequence[SnapshotInfo], info: SnapshotInfo) -> list[SnapshotInfo]:
    """Return a snapshot and its base snapshots, oldest first; the first is whole.

    Raises ``NotResumable`` if a base snapshot is missing.
    """
    snapshots: list[SnapshotInfo] = []
    for base in reversed(infos):
        if base.seq > info.seq or base.first_seq is None:
            continue
        snapshots.append(base)
        if base.whole:
            return snapshots[::-1]
    raise NotResumable(f"the base of snapshot {info.seq} is missing in the journal")


def _hash_source(reader: Reader, bases: Sequence[SnapshotInfo], user: UserKey) -> bytes:
    """Return a keyed hash of the stored bytes from which the image of the last base is made.

    All blocks with pages are covered from the beginning of the journal on, because a page may be a
    reference to any earlier page. Returns nothing if one of them cannot be read.
    """
    code = user.new_mac("image source")
    for base in bases:
        code.update(b"%d-%d " % (base.first_seq or 0, base.seq))
    try:
        for block in reader.blocks(tags=_PAGE_TAGS, stop=bases[-1].seq):
            code.update(b"%d " % block.first_seq + LAYOUT.pack(*block.header))
            code.update(block.body)
    except FormatError:
        return b""
    return code.digest()


@dataclass(slots=True)
class SnapshotRestorer:
    """A snapshot that is ready to replace a guest's state.

    ``history`` returns the batches of the journal from which files and descriptors are rebuilt.
    ``is_last`` means that the journal has no later snapshot. ``queue_undelivered`` queues the
    recorded output that was not delivered. ``changes`` has pages that differ from the image, by the
    index of their memory and their number.
    """

    info: SnapshotInfo
    parts: SnapshotParts
    image: MemoryImage
    history: Callable[[frozenset[int]], Iterable[Batch]]
    is_last: bool
    queue_undelivered: Callable[[CallContext], None] = lambda context: None
    changes: Mapping[int, Mapping[int, bytes]] = field(default_factory=dict)

    @property
    def entry(self) -> str:
        """Exported function that had been called; empty if none."""
        return self.info.entry

    @property
    def function(self) -> str:
        """Host function that the guest was about to call; empty in a loop."""
        return self.info.function

    @property
    def calls(self) -> int:
        """Number of completed host calls."""
        return self.info.calls - 1

    @property
    def session(self) -> tuple[int, int]:
        """Time of the snapshot in µs, and the guest's monotonic clock at that time."""
        return self.info.time, self.info.monotonic

    def apply(self, machine: MachineState, context: CallContext) -> bytes | None:
        """Restore the machine and the context; return the stack to rewind, or None."""
        try:
            self._apply_memories(machine)
            self.apply_rest(machine.globals, machine.tables)
        except EngineError as error:
            raise self.mismatch_error(error) from error
        self.apply_context(context)
        self.queue_undelivered(context)
        return self.parts.stack

    def apply_context(self, context: CallContext) -> None:
        """Restore the files and the descriptors of a guest that has not started."""
        batches = check_between(self.history(REBUILD_TAGS), context.interrupter.check)
        rebuild_state(context, batches, self.info.seq)
        assert self.parts.positions is not None, "read_parts checks this"
        apply_positions(context, self.parts.positions)
        for listing in self.parts.listings:
            apply_listing(context, listing)
        apply_contents(context, self.parts.contents)
        self.apply_signals(context)
        self.apply_names(context)

    def apply_signals(self, context: CallContext) -> None:
        """Restore the signals of a guest, and the number of its calls."""
        context.signals.load(self.parts.signals, self.calls)

    def apply_names(self, context: CallContext) -> None:
        """Restore the names that a guest has resolved."""
        context.network.resolver.load(self.parts.names)

    def mismatch_error(self, error: EngineError) -> NotResumable:
        """Return the error for a snapshot that does not fit the module."""
        return NotResumable(f"snapshot {self.info.seq} does not match the module: {error}")

    def _apply_memories(self, machine: MachineState) -> None:
        memories = {tracked.index: tracked for tracked in machine.memories}
        if [region.memory_index for region in self.image.memories] != sorted(memories):
            raise EngineError("its memories differ")
        for region in self.image.memories:
            tracked = memories[region.memory_index]
            tracked.memory.grow(region.size)
            if region.size:
                restore = copy_over if machine.is_pooled else map_over
                restore(tracked.memory.address, region.size, self.image.fd, region.offset)
                tracked.mirror.map_file(region.size, self.image.fd, region.offset)
            for number, page in self.changes.get(region.memory_index, {}).items():
                tracked.memory.write(number * PAGE_SIZE, page)
                tracked.mirror.write(number, page)
            tracked.hash_sum = region.hash_sum
        self.image.close()

    def apply_rest(self, globals_: InstanceGlobals, tables: InstanceTables | None) -> None:
        """Set the globals and tables; raises ``EngineError`` if they do not match."""
        assert self.parts.globals is not None, "read_parts checks this"
        globals_.write(self.parts.globals.globals)
        if sorted(self.parts.tables) != list(range(len(tables) if tables is not None else 0)):
            raise EngineError("its tables differ")
        for table, functions in self.parts.tables.items():
            assert tables is not None
            tables.write(table, functions)


def prepare_restore(
    reader: Reader,
    journal_id: bytes,
    infos: Sequence[SnapshotInfo],
    info: SnapshotInfo,
    cache: ImageCache,
    history: Callable[[frozenset[int]], Iterable[Batch]],
) -> SnapshotRestorer:
    """Return a restorer for a snapshot, with its image from ``cache`` or a new image.

    Raises ``NotResumable`` if the journal's state does not match the digest.
    """
    if not 0 < info.calls <= COUNT_MAX or info.monotonic > COUNT_MAX:
        raise NotResumable(f"snapshot {info.seq} has an impossible call count or clock")
    if len(info.digest) != DIGEST_SIZE:
        raise NotResumable(
            f"the digest of snapshot {info.seq} has {len(info.digest)} bytes: it must have "
            f"{DIGEST_SIZE}"
        )
    parts = read_parts(reader, info)
    bases = base_snapshots(infos, info)
    # The image of a sealed journal stays in memory: a file would show what the seal hides.
    source = b"" if reader.is_sealed else _hash_source(reader, bases, cache.user)
    key = ImageKey(journal_id, info.seq, info.digest, source)

    def matches_digest(image: MemoryImage) -> bool:
        sums = [(region.memory_index, region.size, region.hash_sum) for region in image.memories]
        return encoding.compute_state_digest(sums, parts.payloads) == info.digest

    image = memory_image.find_image(key, cache) if source else None
    if image is None:
        pages = partial(iter_pages, reader, bases)
        image = memory_image.make_image(pages, key, cache, is_cached=bool(source))
    if not matches_digest(image):
        image.close()
        memory_image.remove_image(key, cache)
        raise NotResumable(
            f"the digest of snapshot {info.seq} does not match: its state is damaged"
        )
    return SnapshotRestorer(info, parts, image, history, infos[-1].seq == info.seq)
