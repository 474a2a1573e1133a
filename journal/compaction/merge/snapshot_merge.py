"""Merge of dropped snapshots into the kept snapshots after them.

Each kept snapshot stores the pages that changed since the previous kept snapshot. The Snapshot
event keeps its sequence number and its digest. The pages, and possibly the safe point, get the
sequence numbers of dropped events.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from journal.compaction.frontier import SafePointInfo
from journal.compaction.merge.page_store import MergedState
from journal.compaction.output import OutputRow
from journal.errors import JournalError
from journal.events import codec, tag_sets
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
"""Limit for the pages of one event, reached only if few sequence numbers are free."""
_ELEMENTS_MAX = 1 << 21
_HEAD_SIZE = 1 << 10
assert PAGES_MAX * (4 + 1 + PAGE_SIZE) + _HEAD_SIZE <= PAYLOAD_SIZE_MAX
assert 4 * _ELEMENTS_MAX + _HEAD_SIZE <= PAYLOAD_SIZE_MAX


class NoFreeSeqs(JournalError):
    """Too few sequence numbers are free before a snapshot for the pages that it needs."""


class SnapshotGroup(NamedTuple):
    """A kept snapshot, and the dropped snapshots between it and the previous kept snapshot.

    ``members`` are in order, the kept snapshot last. ``is_verbatim`` is set if no
    dropped snapshot precedes it, so that it is kept unmerged.
    """

    info: SnapshotInfo
    members: Sequence[SnapshotInfo]
    is_verbatim: bool

    @property
    def seqs(self) -> range:
        """Sequence numbers from the safe point to before the Snapshot event."""
        assert self.info.first_seq is not None
        return range(self.info.first_seq, self.info.seq)


def group_snapshots(
    kept: Sequence[SnapshotInfo], infos: Sequence[SnapshotInfo]
) -> list[SnapshotGroup]:
    """Return the groups of the ``kept`` snapshots of a journal that has the snapshots ``infos``."""
    groups: list[SnapshotGroup] = []
    at = 0
    for info in kept:
        stop = next(n for n in range(at, len(infos)) if infos[n].seq == info.seq) + 1
        members = infos[at:stop]
        verbatim = info.whole if not groups else len(members) == 1 and not info.whole
        groups.append(SnapshotGroup(info, members, verbatim))
        at = stop
    return groups


class SnapshotMerger:
    """Merger that applies the snapshots of a journal, in order, to ``state``.

    ``resolver`` resolves page references.
    """

    def __init__(self, blocks: Iterable[Block], state: MergedState, resolver: PageResolver) -> None:
        self.state = state
        self._resolver = resolver
        self._frames = _snapshot_frames(blocks)
        self._next = next(self._frames, None)

    def advance_to(self, group: SnapshotGroup) -> list[Frame]:
        """Apply all snapshots of a group, and return the events of its kept snapshot without pages.

        Raises MalformedEvent and DependsOnDroppedSnapshot.
        """
        members = group.members
        last_whole = max((at for at, info in enumerate(members) if info.whole), default=0)
        own: list[Frame] = []
        for info in members[last_whole:]:
            assert info.first_seq is not None
            self._skip_to(info.first_seq)
            self.state.begin_snapshot(whole=info.whole)
            own = [frame for frame in self._frames_before(info.seq) if self._apply(frame)]
        return own

    def _skip_to(self, seq: int) -> None:
        while self._next is not None and self._next.seq < seq:
            self._next = next(self._frames, None)

    def _frames_before(self, stop: int) -> Iterator[Frame]:
        while self._next is not None and self._next.seq < stop:
            yield self._next
            self._next = next(self._frames, None)

    def _apply(self, frame: Frame) -> bool:
        """Apply an event to the state, and return whether to keep the event."""
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
        indices = block.select(tag_sets.SNAPSHOT_PARTS)
        for row, time in zip(block.rows(indices), block.times_at(indices), strict=True):
            yield Frame(*row, time, block.offset)


class FreeSeqs(NamedTuple):
    """Sequence numbers that are free before a snapshot.

    ``last_before`` returns the last used number before a given one; all numbers between the two are
    free. The function raises NoFreeSeqs if a kept event is stored between the parts of the
    snapshot. ``iterate_before`` yields the free numbers before a used one, in descending order.
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
    """Return the new events of a kept snapshot, in order, before the closing Snapshot event.

    ``own`` are its events in the source. Raises NoFreeSeqs.
    """
    whole = first or state.has_shrunk
    if whole:
        state.clear_base()
    old_point = codec.decode(own[0].tag, own[0].payload)
    safe_point = type(old_point)(**field_dict(old_point) | {"whole": whole})
    rest = own[1:]
    tables = [] if _has_full_tables(rest, state) else _full_tables(state)
    if tables:
        rest = [frame for frame in rest if frame.tag not in _TABLE_TAGS]
    return _assign_seqs(group, state, point, free, safe_point, rest, tables)


class PlannedEvents(NamedTuple):
    """Events with assigned sequence numbers, encoded only when they are written."""

    seqs: Sequence[int]
    events: Callable[[], Iterator[tuple[int, bytes]]]
    time: int

    def rows(self) -> Iterator[OutputRow]:
        """Yield the events."""
        for seq, (tag, payload) in zip(self.seqs, self.events(), strict=True):
            yield OutputRow(seq, tag, payload, self.time)


def _has_full_tables(rest: Sequence[Frame], state: MergedState) -> bool:
    """Return whether a snapshot contains all elements of each table."""
    sizes: dict[int, int] = {}
    for frame in rest:
        if frame.tag in _TABLE_TAGS:
            event = codec.decode(frame.tag, frame.payload, frame.offset)
            assert isinstance(event, TableSet)
            if event.start != sizes.get(event.table, 0):
                return False
            sizes[event.table] = event.start + len(event.functions)
    return sizes == {table: len(elements) for table, elements in state.tables.items()}


def _full_tables(state: MergedState) -> list[TableSet]:
    """Return few, large events with all elements of all tables."""
    return [
        TableSet(table=table, start=start, functions=tuple(elements[start : start + _ELEMENTS_MAX]))
        for table, elements in sorted(state.tables.items())
        for start in range(0, max(len(elements), 1), _ELEMENTS_MAX)
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
    """Assign sequence numbers to the events of a snapshot.

    Events after the pages keep their numbers. If the tables are written again, the globals before
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
    pages_per_event, seqs = _choose_seqs(changed, len(moved), point, stop, free)
    count = len(seqs) - len(moved)

    def begin() -> Iterator[tuple[int, bytes]]:
        yield safe_point.tag, codec.encode(safe_point)

    def pages() -> Iterator[tuple[int, bytes]]:
        for index, size in state.sizes.items():
            for event in _page_events(state, index, size, changed[index], pages_per_event):
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
    """Return pages per event, and sequence numbers for safe point, pages, and moved events."""
    pages_per_event, last = encoding.EVENT_PAGES_MAX, free.last_before(stop)
    free_count = stop - last - 1
    while (
        pages_per_event < PAGES_MAX
        and _count_page_events(changed, pages_per_event) + moved + 1 > free_count
    ):
        pages_per_event = min(2 * pages_per_event, PAGES_MAX)
    count = _count_page_events(changed, pages_per_event) + moved
    if count + 1 <= free_count:
        first = max(last + 1, min(point.seq, stop - count - 1))
        return pages_per_event, [first, *range(first + 1, first + 1 + count)]
    seqs = list(range(last + 1, stop))[::-1]
    for seq in free.iterate_before(last):
        if len(seqs) > count:
            break
        seqs.append(seq)
    if len(seqs) <= count:
        raise NoFreeSeqs(
            f"the pages of a snapshot need {count} sequence numbers before {stop}, but only "
            f"{len(seqs)} are free"
        )
    return pages_per_event, seqs[::-1]


def _count_page_events(changed: "dict[int, array[int]]", pages_per_event: int) -> int:
    """Return the number of page events; at least one for each memory."""
    return sum(max(1, -(-len(numbers) // pages_per_event)) for numbers in changed.values())


def _page_events(
    state: MergedState, index: int, size: int, numbers: "array[int]", pages_per_event: int
) -> Iterator[MemoryPages]:
    """Yield the page events of a memory, with ``pages_per_event`` pages in each."""
    for start in range(0, max(len(numbers), 1), pages_per_event):
        pages = list(state.pages(index, numbers[start : start + pages_per_event]))
        parts = list(encoding.encode_pages(index, size, pages))
        yield MemoryPages(
            memory=index,
            size=size,
            numbers=tuple(number for part in parts for number in part.numbers),
            kinds=b"".join(part.kinds for part in parts),
            data=b"".join(part.data for part in parts),
        )
