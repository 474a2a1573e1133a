"""Snapshots that are kept, and what pages_each has to say now: pages that changed since the one
before.

The pages of those members are merged. A Snapshot keeps its number and its digest; its pages get
numbers of events that are dropped, and so may its safe point.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from journal.compaction import event_classes
from journal.compaction.frontier import SafePointInfo
from journal.compaction.merge.page_store import MergedState
from journal.compaction.output import OutputRow
from journal.errors import JournalError
from journal.events import codec
from journal.events.definition import Event, field_dict
from journal.events.memory import PAGE_SIZE, MemoryPages
from journal.events.threads import GlobalsSet, TableSet
from journal.format.block import Block
from journal.format.frame import PAYLOAD_SIZE_MAX, Frame
from journal.pages import PageResolver, encoding
from journal.snapshots.catalog import SnapshotInfo

_PAGE_TAGS = frozenset((MemoryPages.tag,))
_TABLE_TAGS = frozenset((TableSet.tag,))
PAGES_MAX = 254 * encoding.EVENT_PAGES_MAX
"""Pages in one event where there are few numbers."""
_ELEMENTS_MAX = 1 << 21
_HEAD_SIZE = 1 << 10
assert PAGES_MAX * (4 + 1 + PAGE_SIZE) + _HEAD_SIZE <= PAYLOAD_SIZE_MAX
assert 4 * _ELEMENTS_MAX + _HEAD_SIZE <= PAYLOAD_SIZE_MAX


class NoFreeSeqs(JournalError):
    """There are too few numbers in front of a snapshot for the pages that it needs."""


class SnapshotGroup(NamedTuple):
    """A snapshot that is kept, and those members it and the one that is kept before it.

    ``members`` are in order, the snapshot itself last. Without others members it stays as it is,
    and its events are ``verbatim``.
    """

    info: SnapshotInfo
    members: Sequence[SnapshotInfo]
    is_verbatim: bool

    @property
    def seqs(self) -> range:
        """The numbers of its events, from its safe point to before its Snapshot."""
        assert self.info.first_seq is not None
        return range(self.info.first_seq, self.info.seq)


def group_snapshots(
    kept: Sequence[SnapshotInfo], infos: Sequence[SnapshotInfo]
) -> list[SnapshotGroup]:
    """The runs of the snapshots ``kept`` of a journal that has ``infos``."""
    found: list[SnapshotGroup] = []
    at = 0
    for info in kept:
        stop = next(n for n in range(at, len(infos)) if infos[n].seq == info.seq) + 1
        members = infos[at:stop]
        verbatim = info.whole if not found else len(members) == 1 and not info.whole
        found.append(SnapshotGroup(info, members, verbatim))
        at = stop
    return found


class SnapshotMerger:
    """Comes by the snapshots of a journal in order, with ``state`` as the machine is there.

    ``resolver`` looks up the pages that are named.
    """

    def __init__(self, blocks: Iterable[Block], state: MergedState, resolver: PageResolver) -> None:
        self.state = state
        self._resolver = resolver
        self._frames = _snapshot_frames(blocks)
        self._next = next(self._frames, None)

    def advance_to(self, group: SnapshotGroup) -> list[Frame]:
        """Come to a snapshot that is kept; gives the events in front of it that are its own.

        Its pages are in the state alone. Raises MalformedEvent, and Entangled.
        """
        members = group.members
        last_whole = max((at for at, info in enumerate(members) if info.whole), default=0)
        own: list[Frame] = []
        for info in members[last_whole:]:
            assert info.first_seq is not None
            self._skip_to(info.first_seq)
            self.state.begin_snapshot(whole=info.whole)
            own = [frame for frame in self._frames_before(info.seq) if self._take(frame)]
        return own

    def _skip_to(self, seq: int) -> None:
        while self._next is not None and self._next.seq < seq:
            self._next = next(self._frames, None)

    def _frames_before(self, stop: int) -> Iterator[Frame]:
        while self._next is not None and self._next.seq < stop:
            yield self._next
            self._next = next(self._frames, None)

    def _take(self, frame: Frame) -> bool:
        """Put into the state what belongs there; whether there is something else to keep."""
        if frame.tag in _PAGE_TAGS or frame.tag in _TABLE_TAGS:
            event = codec.decode(frame.tag, frame.payload, frame.offset)
            if isinstance(event, MemoryPages):
                self.state.put_pages(self._resolver.resolve_event(frame.seq, event))
                return False
            assert isinstance(event, TableSet)
            self.state.put_elements(event)
        return True


def _snapshot_frames(blocks: Iterable[Block]) -> Iterator[Frame]:
    for block in blocks:
        indices = block.select(event_classes.SNAPSHOT_PARTS)
        for row, time in zip(block.rows(indices), block.times_at(indices), strict=True):
            yield Frame(*row, time, block.offset)


class FreeSeqs(NamedTuple):
    """Numbers that are free in front of a snapshot.

    ``last`` gives the last that is taken in front of another, which is that of what the run has
    behind its pages: all members the two are free. It raises NoFreeSeqs where others stand behind
    that. ``more`` gives those that are free in front of one that is taken, from behind.
    """

    last_before: Callable[[int], int]
    iterate_before: Callable[[int], Iterator[int]]


def plan_snapshot(
    group: SnapshotGroup,
    own: list[Frame],
    state: MergedState,
    point: SafePointInfo,
    free: FreeSeqs,
    *,
    first: bool,
) -> list["PlannedEvents"]:
    """What a snapshot has to say now, but for the event that closes it, in order.

    ``own`` are the events that it had. Raises NoFreeSeqs.
    """
    whole = first or state.has_shrunk
    if whole:
        state.clear_base()
    begun = codec.decode(own[0].tag, own[0].payload)
    safe_point = type(begun)(**field_dict(begun) | {"whole": whole})
    rest = own[1:]
    tables = [] if _has_full_tables(rest, state) else _full_tables(state)
    if tables:
        rest = [frame for frame in rest if frame.tag not in _TABLE_TAGS]
    return _assign_seqs(group, state, point, free, safe_point, rest, tables)


class PlannedEvents(NamedTuple):
    """Events that are to be written with these numbers; they are made when they are asked for."""

    seqs: Sequence[int]
    events: Callable[[], Iterator[tuple[int, bytes]]]
    time: int

    def rows(self) -> Iterator[OutputRow]:
        """Give them."""
        for seq, (tag, payload) in zip(self.seqs, self.events(), strict=True):
            yield OutputRow(seq, tag, payload, self.time)


def _has_full_tables(rest: Sequence[Frame], state: MergedState) -> bool:
    """Whether a snapshot says of pages_each table all that there is."""
    sizes: dict[int, int] = {}
    for frame in rest:
        if frame.tag in _TABLE_TAGS:
            event = codec.decode(frame.tag, frame.payload, frame.offset)
            assert isinstance(event, TableSet)
            if event.start != sizes.get(event.table, 0):
                return False
            sizes[event.table] = event.start + len(event.functions)
    return sizes == {table: len(found) for table, found in state.tables.items()}


def _full_tables(state: MergedState) -> list[TableSet]:
    """The events of all elements of all tables, few and large."""
    return [
        TableSet(table=table, start=start, functions=tuple(found[start : start + _ELEMENTS_MAX]))
        for table, found in sorted(state.tables.items())
        for start in range(0, max(len(found), 1), _ELEMENTS_MAX)
    ]


def _assign_seqs(
    group: SnapshotGroup,
    state: MergedState,
    point: SafePointInfo,
    free: FreeSeqs,
    safe_point: Event,
    rest: list[Frame],
    tables: list[TableSet],
) -> list[PlannedEvents]:
    """Give numbers to what a snapshot says.

    What is behind its pages keeps its own; where tables are sizes anew, the globals in front of
    them move.
    """
    moved: list[tuple[int, bytes]] = []
    if tables:
        head = rest[: int(rest[:1] != [] and rest[0].tag == GlobalsSet.tag)]
        moved = [(frame.tag, frame.payload) for frame in head]
        moved += [(event.tag, codec.encode(event)) for event in tables]
        rest = rest[len(head) :]
    stop = rest[0].seq if rest else group.info.seq
    changed = {index: state.changed_pages(index) for index in state.sizes}
    pages_each, seqs = _choose_seqs(changed, len(moved), point, stop, free)
    count = len(seqs) - len(moved)

    def begin() -> Iterator[tuple[int, bytes]]:
        yield safe_point.tag, codec.encode(safe_point)

    def pages() -> Iterator[tuple[int, bytes]]:
        for index, size in state.sizes.items():
            for event in _page_events(state, index, size, changed[index], pages_each):
                yield event.tag, codec.encode(event)

    return [
        PlannedEvents(seqs[:1], begin, point.time),
        PlannedEvents(seqs[1:count], pages, point.time),
        PlannedEvents(seqs[count:], lambda: iter(moved), point.time),
        *map(_unchanged_event, rest),
    ]


def _unchanged_event(frame: Frame) -> PlannedEvents:
    return PlannedEvents([frame.seq], lambda: iter([(frame.tag, frame.payload)]), frame.time)


def _choose_seqs(
    changed: "dict[int, array[int]]", moved: int, point: SafePointInfo, stop: int, free: FreeSeqs
) -> tuple[int, list[int]]:
    """How many pages an event has, and the numbers of a safe point, of pages, and of what moves."""
    pages_each, last = encoding.EVENT_PAGES_MAX, free.last_before(stop)
    free_count = stop - last - 1
    while (
        pages_each < PAGES_MAX and _count_page_events(changed, pages_each) + moved + 1 > free_count
    ):
        pages_each = min(2 * pages_each, PAGES_MAX)
    count = _count_page_events(changed, pages_each) + moved
    if count + 1 <= free_count:
        first = max(last + 1, min(point.seq, stop - count - 1))
        return pages_each, [first, *range(first + 1, first + 1 + count)]
    seqs = list(range(last + 1, stop))[::-1]
    for seq in free.iterate_before(last):
        if len(seqs) > count:
            break
        seqs.append(seq)
    if len(seqs) <= count:
        raise NoFreeSeqs(
            f"the pages of a snapshot need {count} numbers in front of number {stop}, and "
            f"{len(seqs)} are free"
        )
    return pages_each, seqs[::-1]


def _count_page_events(changed: "dict[int, array[int]]", pages_each: int) -> int:
    """How many events the pages take: one at least for pages_each memory."""
    return sum(max(1, -(-len(numbers) // pages_each)) for numbers in changed.values())


def _page_events(
    state: MergedState, index: int, size: int, numbers: "array[int]", pages_each: int
) -> Iterator[MemoryPages]:
    """Give the events of a memory's pages, so many in each."""
    for start in range(0, max(len(numbers), 1), pages_each):
        pages = list(state.pages(index, numbers[start : start + pages_each]))
        parts = list(encoding.encode_pages(index, size, pages))
        yield MemoryPages(
            memory=index,
            size=size,
            numbers=tuple(number for part in parts for number in part.numbers),
            kinds=b"".join(part.kinds for part in parts),
            data=b"".join(part.data for part in parts),
        )
