"""Snapshots that are kept, and what each has to say now: pages that changed since the one before.

The pages of those between are merged. A Snapshot keeps its number and its digest; its pages get
numbers of events that are dropped, and so may its safe point.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from journal.compaction import event_classes as kinds
from journal.compaction.frontier import Point
from journal.compaction.merge.page_store import Store
from journal.compaction.output import Row
from journal.errors import JournalError
from journal.events import codec
from journal.events.definition import Event, field_dict
from journal.events.memory import PAGE_SIZE, MemoryPages
from journal.events.threads import GlobalsSet, TableSet
from journal.format.block import Block
from journal.format.frame import PAYLOAD_SIZE_MAX, Frame
from journal.pages import PageResolver
from journal.pages import encoding as paging
from journal.snapshots.catalog import SnapshotInfo

_PAGES = frozenset((MemoryPages.tag,))
_TABLES = frozenset((TableSet.tag,))
PAGES_MAX = 254 * paging.EVENT_PAGES_MAX
"""Pages in one event where there are few numbers."""
_ELEMENTS_MAX = 1 << 21
_HEAD_SIZE = 1 << 10
assert PAGES_MAX * (4 + 1 + PAGE_SIZE) + _HEAD_SIZE <= PAYLOAD_SIZE_MAX
assert 4 * _ELEMENTS_MAX + _HEAD_SIZE <= PAYLOAD_SIZE_MAX


class NoNumbers(JournalError):
    """There are too few numbers in front of a snapshot for the pages that it needs."""


class Run(NamedTuple):
    """A snapshot that is kept, and those between it and the one that is kept before it.

    ``between`` are in order, the snapshot itself last. Without others between it stays as it is,
    and its events are ``verbatim``.
    """

    info: SnapshotInfo
    between: Sequence[SnapshotInfo]
    verbatim: bool

    @property
    def numbers(self) -> range:
        """The numbers of its events, from its safe point to before its Snapshot."""
        assert self.info.first_seq is not None
        return range(self.info.first_seq, self.info.seq)


def runs_of(kept: Sequence[SnapshotInfo], infos: Sequence[SnapshotInfo]) -> list[Run]:
    """The runs of the snapshots ``kept`` of a journal that has ``infos``."""
    found: list[Run] = []
    at = 0
    for info in kept:
        stop = next(n for n in range(at, len(infos)) if infos[n].seq == info.seq) + 1
        between = infos[at:stop]
        verbatim = info.whole if not found else len(between) == 1 and not info.whole
        found.append(Run(info, between, verbatim))
        at = stop
    return found


class Gathering:
    """Comes by the snapshots of a journal in order, with ``store`` as the machine is there.

    ``resolver`` looks up the pages that are named.
    """

    def __init__(self, blocks: Iterable[Block], store: Store, resolver: PageResolver) -> None:
        self.store = store
        self._resolver = resolver
        self._frames = _staged_in(blocks)
        self._next = next(self._frames, None)

    def come_to(self, run: Run) -> list[Frame]:
        """Come to a snapshot that is kept; gives the events in front of it that are its own.

        Its pages are in the store alone. Raises MalformedEvent, and Entangled.
        """
        between = run.between
        last_whole = max((at for at, info in enumerate(between) if info.whole), default=0)
        own: list[Frame] = []
        for info in between[last_whole:]:
            assert info.first_seq is not None
            self._pass(info.first_seq)
            self.store.begin(whole=info.whole)
            own = [frame for frame in self._of_one(info.seq) if self._take(frame)]
        return own

    def _pass(self, seq: int) -> None:
        while self._next is not None and self._next.seq < seq:
            self._next = next(self._frames, None)

    def _of_one(self, stop: int) -> Iterator[Frame]:
        while self._next is not None and self._next.seq < stop:
            yield self._next
            self._next = next(self._frames, None)

    def _take(self, frame: Frame) -> bool:
        """Put into the store what belongs there; whether there is something else to keep."""
        if frame.tag in _PAGES or frame.tag in _TABLES:
            event = codec.decode(frame.tag, frame.payload, frame.offset)
            if isinstance(event, MemoryPages):
                self.store.put_pages(self._resolver.event(frame.seq, event))
                return False
            assert isinstance(event, TableSet)
            self.store.put_elements(event)
        return True


def _staged_in(blocks: Iterable[Block]) -> Iterator[Frame]:
    for block in blocks:
        indices = block.select(kinds.STAGED)
        for row, time in zip(block.rows(indices), block.times_at(indices), strict=True):
            yield Frame(*row, time, block.offset)


class Room(NamedTuple):
    """Numbers that are free in front of a snapshot.

    ``last`` gives the last that is taken in front of another, which is that of what the run has
    behind its pages: all between the two are free. It raises NoNumbers where others stand behind
    that. ``more`` gives those that are free in front of one that is taken, from behind.
    """

    last: Callable[[int], int]
    more: Callable[[int], Iterator[int]]


def planned(
    run: Run, own: list[Frame], store: Store, point: Point, room: Room, *, first: bool
) -> list["Planned"]:
    """What a snapshot has to say now, but for the event that closes it, in order.

    ``own`` are the events that it had. Raises NoNumbers.
    """
    whole = first or store.is_smaller
    if whole:
        store.forget_base()
    begun = codec.decode(own[0].tag, own[0].payload)
    safe_point = type(begun)(**field_dict(begun) | {"whole": whole})
    rest = own[1:]
    tables = [] if _are_told(rest, store) else _tables(store)
    if tables:
        rest = [frame for frame in rest if frame.tag not in _TABLES]
    return _numbered(run, store, point, room, safe_point, rest, tables)


class Planned(NamedTuple):
    """Events that are to be written with these numbers; they are made when they are asked for."""

    seqs: Sequence[int]
    events: Callable[[], Iterator[tuple[int, bytes]]]
    time: int

    def rows(self) -> Iterator[Row]:
        """Give them."""
        for seq, (tag, payload) in zip(self.seqs, self.events(), strict=True):
            yield Row(seq, tag, payload, self.time)


def _are_told(rest: Sequence[Frame], store: Store) -> bool:
    """Whether a snapshot says of each table all that there is."""
    told: dict[int, int] = {}
    for frame in rest:
        if frame.tag in _TABLES:
            event = codec.decode(frame.tag, frame.payload, frame.offset)
            assert isinstance(event, TableSet)
            if event.start != told.get(event.table, 0):
                return False
            told[event.table] = event.start + len(event.functions)
    return told == {table: len(found) for table, found in store.tables.items()}


def _tables(store: Store) -> list[TableSet]:
    """The events of all elements of all tables, few and large."""
    return [
        TableSet(table=table, start=start, functions=tuple(found[start : start + _ELEMENTS_MAX]))
        for table, found in sorted(store.tables.items())
        for start in range(0, max(len(found), 1), _ELEMENTS_MAX)
    ]


def _numbered(
    run: Run,
    store: Store,
    point: Point,
    room: Room,
    safe_point: Event,
    rest: list[Frame],
    tables: list[TableSet],
) -> list[Planned]:
    """Give numbers to what a snapshot says.

    What is behind its pages keeps its own; where tables are told anew, the globals in front of them
    move.
    """
    moved: list[tuple[int, bytes]] = []
    if tables:
        head = rest[: int(rest[:1] != [] and rest[0].tag == GlobalsSet.tag)]
        moved = [(frame.tag, frame.payload) for frame in head]
        moved += [(event.tag, codec.encode(event)) for event in tables]
        rest = rest[len(head) :]
    stop = rest[0].seq if rest else run.info.seq
    changed = {index: store.changed(index) for index in store.sizes}
    each, seqs = _seqs_for(changed, len(moved), point, stop, room)
    count = len(seqs) - len(moved)

    def begin() -> Iterator[tuple[int, bytes]]:
        yield safe_point.tag, codec.encode(safe_point)

    def pages() -> Iterator[tuple[int, bytes]]:
        for index, size in store.sizes.items():
            for event in _events_of(store, index, size, changed[index], each):
                yield event.tag, codec.encode(event)

    return [
        Planned(seqs[:1], begin, point.time),
        Planned(seqs[1:count], pages, point.time),
        Planned(seqs[count:], lambda: iter(moved), point.time),
        *map(_as_it_is, rest),
    ]


def _as_it_is(frame: Frame) -> Planned:
    return Planned([frame.seq], lambda: iter([(frame.tag, frame.payload)]), frame.time)


def _seqs_for(
    changed: "dict[int, array[int]]", moved: int, point: Point, stop: int, room: Room
) -> tuple[int, list[int]]:
    """How many pages an event has, and the numbers of a safe point, of pages, and of what moves."""
    each, last = paging.EVENT_PAGES_MAX, room.last(stop)
    free = stop - last - 1
    while each < PAGES_MAX and _count(changed, each) + moved + 1 > free:
        each = min(2 * each, PAGES_MAX)
    count = _count(changed, each) + moved
    if count + 1 <= free:
        first = max(last + 1, min(point.seq, stop - count - 1))
        return each, [first, *range(first + 1, first + 1 + count)]
    seqs = list(range(last + 1, stop))[::-1]
    for seq in room.more(last):
        if len(seqs) > count:
            break
        seqs.append(seq)
    if len(seqs) <= count:
        raise NoNumbers(
            f"the pages of a snapshot need {count} numbers in front of number {stop}, and "
            f"{len(seqs)} are free"
        )
    return each, seqs[::-1]


def _count(changed: "dict[int, array[int]]", each: int) -> int:
    """How many events the pages take: one at least for each memory."""
    return sum(max(1, -(-len(numbers) // each)) for numbers in changed.values())


def _events_of(
    store: Store, index: int, size: int, numbers: "array[int]", each: int
) -> Iterator[MemoryPages]:
    """Give the events of a memory's pages, so many in each."""
    for start in range(0, max(len(numbers), 1), each):
        pages = list(store.pages(index, numbers[start : start + each]))
        parts = list(paging.encode_pages(index, size, pages))
        yield MemoryPages(
            memory=index,
            size=size,
            numbers=tuple(number for part in parts for number in part.numbers),
            kinds=b"".join(part.kinds for part in parts),
            data=b"".join(part.data for part in parts),
        )
