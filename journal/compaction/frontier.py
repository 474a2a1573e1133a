"""A first look over a journal: what it is, its snapshots, and in front of what things go."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from journal.compaction import event_classes as kinds
from journal.compaction.retention import Policy
from journal.events import codec
from journal.events.core import TtySet
from journal.events.memory import MemoryPages, UpdateMemoryRegion
from journal.events.process import InstrumentedPart, ModulePart, ProcessStart, RecordingLevel
from journal.events.snapshots import (
    ClearEthereal,
    DescriptorPositions,
    DirectoryListing,
    SafePoint,
    Snapshot,
)
from journal.events.threads import CloseThread
from journal.format.block import Block
from journal.format.frame import Frame
from journal.snapshots.catalog import SnapshotCollector, SnapshotInfo

_OF_OTHERS = frozenset((UpdateMemoryRegion.tag, CloseThread.tag))
_OF_OURS = frozenset(
    (MemoryPages.tag, SafePoint.tag, DescriptorPositions.tag, DirectoryListing.tag)
)
_OF_SNAPSHOTS = (kinds.STAGED | kinds.LANDMARKS | {TtySet.tag}) - {
    MemoryPages.tag,
    UpdateMemoryRegion.tag,
}
_PART_HEAD_SIZE = 8 + 4
_PARTS = frozenset((ModulePart.tag, InstrumentedPart.tag))
_PREAMBLE = _PARTS | {ProcessStart.tag}
_OF_PREAMBLE = kinds.LANDMARKS | _PARTS


@dataclass(frozen=True, slots=True)
class Stage:
    """Events of a snapshot that was never closed: those with numbers from ``start`` to ``stop``."""

    start: int
    stop: int


class Point(NamedTuple):
    """A safe point of a snapshot, and what is in front of the snapshot that is kept anyhow.

    ``time`` is in µs since the epoch. ``last_kept`` is the last event that is kept by its kind,
    ``last_heard`` the last that is kept unless what the guest heard goes: behind the safe point
    there are some where a compaction gave its pages other numbers. ``floor`` is the last that would
    make a safe point in front of it void; -1 where there is none.
    """

    seq: int
    time: int
    last_kept: int
    last_heard: int
    floor: int


@dataclass(slots=True)
class Survey:
    """What a journal is.

    ``next_seq`` is the number behind its last event. ``levels`` are those of its processes in
    order, ``snapshots`` all that it has; ``codes`` are the hashes of the instrumented modules that
    it holds. ``unknown`` is the first event of an unknown kind, with that; ``ours`` and ``others``
    are the first of what only this runtime takes snapshots with, and of what it does not. ``void``
    is what was staged for snapshots that never came; ``cleared`` are the snapshots in front of it
    where a ClearEthereal said so. ``points`` are the safe points of the snapshots of ours, by the
    snapshots' numbers.
    """

    next_seq: int = 0
    last_seq: int = -1
    levels: list[RecordingLevel] = field(default_factory=list)
    snapshots: list[SnapshotInfo] = field(default_factory=list)
    codes: set[bytes] = field(default_factory=set)
    unknown: tuple[int, int] | None = None
    ours: int | None = None
    others: int | None = None
    void: list[Stage] = field(default_factory=list)
    cleared: set[int] = field(default_factory=set)
    points: dict[int, Point] = field(default_factory=dict)

    @property
    def is_of_process(self) -> bool:
        """Whether it says what ran."""
        return bool(self.levels)

    @property
    def is_executable(self) -> bool:
        """Whether a guest can be executed by it, which needs each of its events."""
        return RecordingLevel.FULL in self.levels


class Surveyor:
    """Looks at the blocks of a journal in order."""

    def __init__(self) -> None:
        self.found = Survey()
        self._stage = 0
        self._snapshot: int | None = None
        self._point: Point | None = None
        self._last_kept = self._last_heard = self._floor = -1
        self._module: hashlib._Hash | None = None
        self._in_preamble = False

    def look(self, block: Block) -> None:
        """Look at a block."""
        found, tags = self.found, set(block.tags)
        found.last_seq = block.last_seq
        found.next_seq = found.last_seq + 1
        strange = tags - kinds.KNOWN
        if strange:
            self._note_strange(block, strange)
        if found.ours is None and tags & _OF_OURS:
            found.ours = block.seq(block.select(_OF_OURS)[0])
        if found.others is None and tags & _OF_OTHERS:
            found.others = block.seq(block.select(_OF_OTHERS)[0])
        noted = _OF_PREAMBLE if self._in_preamble or kinds.START in tags else kinds.LANDMARKS
        if tags & noted:
            indices = block.select(noted)
            for row, time in zip(block.rows(indices), block.times_at(indices), strict=True):
                self._note(*row, time, block)
        self._last_kept = max(self._last_kept, _last_kept(block, block.count))
        self._last_heard = max(self._last_heard, _last_heard(block, block.count))
        if self._in_preamble and not tags <= _PREAMBLE:
            self._end_preamble()

    def _note_strange(self, block: Block, strange: set[int]) -> None:
        if self.found.unknown is None:
            first = block.select(strange)[0]
            self.found.unknown = block.seq(first), block.tags[first]

    def _note(self, seq: int, tag: int, payload: bytes, time: int, block: Block) -> None:
        if tag in _PARTS:
            if tag == InstrumentedPart.tag and self._in_preamble and self._module is not None:
                self._module.update(payload[_PART_HEAD_SIZE:])
            return
        if tag == Snapshot.tag:
            if self._point is not None:
                kept, heard = self._last_in_front_of(block, seq)
                self.found.points[seq] = self._point._replace(last_kept=kept, last_heard=heard)
            self._snapshot, self._stage, self._point = seq, seq + 1, None
            return
        if self._stage < seq:
            self.found.void.append(Stage(self._stage, seq))
        if tag == SafePoint.tag:
            self._point, self._stage = Point(seq, time, -1, -1, self._floor), seq
            return
        if tag == ClearEthereal.tag and self._snapshot is not None:
            self.found.cleared.add(self._snapshot)
        self._point, self._stage, self._floor = None, seq + 1, seq
        if tag == ProcessStart.tag:
            self._end_preamble()
            event = codec.decode(tag, payload, block.offset)
            assert isinstance(event, ProcessStart)
            self.found.levels.append(event.level)
            self._module, self._in_preamble = hashlib.sha256(), True

    def _last_in_front_of(self, block: Block, seq: int) -> tuple[int, int]:
        """The last event in front of one that is kept by its kind, and that the guest heard."""
        at = block.index(seq) or 0
        kept = max(self._last_kept, _last_kept(block, at))
        return kept, max(self._last_heard, _last_heard(block, at))

    def end(self) -> Survey:
        """Nothing more comes."""
        self._end_preamble()
        return self.found

    def _end_preamble(self) -> None:
        if self._in_preamble and self._module is not None:
            self.found.codes.add(self._module.digest())
        self._in_preamble = False


def _last_kept(block: Block, stop: int) -> int:
    """The last event of a block in front of index ``stop`` that is kept by its kind; -1: none."""
    kept = [tag for tag in set(block.tags) if tag in kinds.KEPT or tag not in kinds.KNOWN]
    return _last_of(block, stop, kept)


def _last_heard(block: Block, stop: int) -> int:
    """The last event of a block in front of index ``stop`` that the guest heard; -1: none."""
    return _last_of(block, stop, kinds.CONSUMED.intersection(block.tags))


def _last_of(block: Block, stop: int, tags: Iterable[int]) -> int:
    at = max((block.tags.rfind(tag, 0, stop) for tag in tags), default=-1)
    return block.seq(at) if at >= 0 else -1


def survey(blocks: Iterable[Block]) -> Survey:
    """Look over a journal, which has these blocks. Raises as reading them does."""
    surveyor, watch, infos = Surveyor(), SnapshotCollector(), list[SnapshotInfo]()
    for block in blocks:
        surveyor.look(block)
        infos += _closed(block, watch)
    found = surveyor.end()
    found.snapshots = infos
    return found


def _closed(block: Block, watch: SnapshotCollector) -> Iterator[SnapshotInfo]:
    """Give the snapshots that are closed in a block; their pages are not counted."""
    if _OF_SNAPSHOTS.isdisjoint(block.tags):
        return  # its payloads stay packed
    indices = block.select(_OF_SNAPSHOTS)
    for index, row in zip(indices, block.rows(indices), strict=True):
        info = watch.take(Frame(*row, block.time(index), block.offset))
        if info is not None:
            yield info


@dataclass(frozen=True, slots=True)
class Frontier:
    """What is kept whole, and what not.

    In front of number ``upto`` events may go. ``kept`` are the snapshots in front of it that stay.
    ``reason`` says why nothing can go, or less than could; ``as_they_are`` that all snapshots stay
    with all that they are made of, ``judges_staged`` that this is judged event by event, and
    ``inputs_go`` that what the guest was told goes.
    """

    upto: int
    kept: Sequence[SnapshotInfo] = ()
    reason: str = ""
    as_they_are: bool = False
    judges_staged: bool = False
    inputs_go: bool = False


def frontier(found: Survey, policy: Policy, *, as_they_are: str = "") -> Frontier:
    """Say what of a journal may go; with ``as_they_are``, a reason, snapshots stay as they are."""
    reason, infos = "", found.snapshots
    if found.is_executable:
        usable = [info for info in infos if not _obstacle(found, info)]
        if not usable:
            why = _obstacle(found, infos[-1]) if infos else "it has no snapshot"
            return Frontier(0, reason=f"nothing can go: {_NEEDED}, because {why}")
    else:
        usable = [info for info in infos if info.resumable] or infos
    kept = policy.kept(usable)
    upto = kept[-1].seq + 1 if kept else found.next_seq
    is_ours = found.ours is not None and found.ours < upto
    if not as_they_are:
        as_they_are = _why_as_they_are(found, upto)
    if as_they_are:
        kept = [info for info in infos if info.seq < upto]
        reason = f"snapshots stay as they are: {as_they_are}"
    elif not is_ours:
        seqs = {info.seq for info in kept} | found.cleared
        kept = [info for info in infos if info.seq in seqs and info.seq < upto]
    is_known = found.unknown is None or found.unknown[0] >= upto
    return Frontier(
        upto,
        kept,
        reason,
        as_they_are=bool(as_they_are),
        judges_staged=bool(kept) and not is_ours and not as_they_are,
        inputs_go=bool(kept) and kept[-1].resumable and is_known,
    )


_NEEDED = "the guest is executed again from its start, and each event is needed for that"


def _obstacle(found: Survey, info: SnapshotInfo) -> str:
    """Why nothing can go in front of a snapshot; empty if it can."""
    if not info.resumable:
        return f"snapshot {info.seq} cannot be gone on from ({info.reason})"
    if info.entry and info.code not in found.codes:
        return f"the code that snapshot {info.seq} is of is not in the journal"
    return ""


def _why_as_they_are(found: Survey, upto: int) -> str:
    if found.unknown is not None and found.unknown[0] < upto:
        seq, tag = found.unknown
        return f"event {seq} is of the unknown kind {tag}"
    ours, others = found.ours, found.others
    if ours is None or ours >= upto:
        return ""
    if others is not None and others < upto:
        return f"event {max(ours, others)} is of another runtime than those before"
    for info in found.snapshots:
        point = found.points.get(info.seq)
        if info.seq < upto and (point is None or point.seq != info.first_seq):
            return f"snapshot {info.seq} has no safe point, and others have"
    return ""
