"""The snapshots that a journal has, without the engine and without what they are made of."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from journal.errors import MalformedEvent
from journal.events import codec
from journal.events.core import TtySet
from journal.events.memory import PAGE_SIZE, MemoryPages, UpdateMemoryRegion
from journal.events.process import ProcessStart
from journal.events.snapshots import (
    ClearEthereal,
    DescriptorPositions,
    DirectoryListing,
    SafePoint,
    Snapshot,
    Trigger,
)
from journal.events.threads import CloseThread, GlobalsSet, SetThread, TableSet
from journal.format.frame import Frame
from journal.log.reader import Reader
from journal.snapshots.resume_flags import not_resumable_reason

_PART_KINDS = (
    UpdateMemoryRegion,
    MemoryPages,
    SetThread,
    CloseThread,
    GlobalsSet,
    TableSet,
    DescriptorPositions,
    DirectoryListing,
    TtySet,
)
_TAGS = frozenset(
    kind.tag for kind in (*_PART_KINDS, ProcessStart, SafePoint, Snapshot, ClearEthereal)
)
_LANDMARK_TAGS = _TAGS - {MemoryPages.tag, UpdateMemoryRegion.tag}
_RESET_TAGS = frozenset(kind.tag for kind in (ProcessStart, SafePoint, Snapshot, ClearEthereal))
"""Behind these nothing counts that was in front of them."""
_COUNT_AT = 4 + 8
"""Where a MemoryPages event says how many pages it has."""
_REGION_HEAD_SIZE = 8 + 8 + 4
_NO_CODE = bytes(32)


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One snapshot of a journal: its number is that of its Snapshot event.

    ``time`` is the event's, in µs since the epoch. ``first_seq`` is the number of its SafePoint,
    None where another runtime wrote it, and then what else only a SafePoint says is empty or 0.
    ``pages`` are those that it has, ``size`` is the bytes of all its payloads. ``code`` is the hash
    of the instrumented module, empty where there is none. Where it is not ``resumable``, ``reason``
    says why.
    """

    seq: int
    time: int
    trigger: Trigger
    first_seq: int | None
    pages: int
    size: int
    digest: bytes
    whole: bool
    has_stacks: bool
    code: bytes
    entry: str
    function: str
    calls: int
    monotonic: int
    resumable: bool
    reason: str


def list_snapshots(
    reader: Reader, *, stop: int | None = None, count_pages: bool = True
) -> Iterator[SnapshotInfo]:
    """Give the snapshots of a journal in order, those whose number is below ``upto``.

    One that was begun and not closed is none. With ``counted`` off, pages are not even read, and
    ``pages`` and ``size`` say less. Raises as ``Reader.frames`` does, and MalformedEvent.
    """
    tags = _TAGS if count_pages else _LANDMARK_TAGS
    watch = SnapshotCollector()
    for frame in reader.frames(stop=stop, tags=tags):
        info = watch.add(frame)
        if info is not None:
            yield info


class SnapshotCollector:
    """Looks at the frames of a journal in order, and tells of each snapshot when it is closed."""

    def __init__(self) -> None:
        self._origin = "the journal does not say what ran, in front of it"
        self._open = _OpenSnapshot()

    def add(self, frame: Frame) -> SnapshotInfo | None:
        """Look at a frame; give the snapshot that it closes. Raises MalformedEvent."""
        info, tag = None, frame.tag
        if tag not in _TAGS:
            return None
        if tag in _RESET_TAGS:
            if tag == Snapshot.tag:
                info = self._open.close(frame, self._origin)
            elif tag == ProcessStart.tag:
                self._origin = _get_process_obstacle(frame)
            self._open = _OpenSnapshot()
        if tag == SafePoint.tag:
            self._open.begin(frame)
        elif tag not in _RESET_TAGS:
            self._open.add(frame)
        return info


@dataclass(slots=True)
class _OpenSnapshot:
    """What was met of a snapshot that is not closed yet."""

    first_seq: int | None = None
    point: SafePoint = field(
        default=SafePoint(calls=0, monotonic=0, code=_NO_CODE, whole=False, entry="", function="")
    )
    pages: int = 0
    size: int = 0
    has_stacks: bool = False

    def begin(self, frame: Frame) -> None:
        """It begins."""
        point = codec.decode(frame.tag, frame.payload, frame.offset)
        assert isinstance(point, SafePoint)
        self.first_seq, self.point, self.size = frame.seq, point, len(frame.payload)

    def add(self, frame: Frame) -> None:
        """One more event of it."""
        if frame.tag == TtySet.tag and self.first_seq is None:
            return  # the guest's own
        self.size += len(frame.payload)
        if frame.tag == MemoryPages.tag:
            self.pages += _count_pages(frame)
        elif frame.tag == UpdateMemoryRegion.tag:
            self.pages += _count_region_pages(frame)
        elif frame.tag == SetThread.tag:
            self.has_stacks = True

    def close(self, frame: Frame, origin: str) -> SnapshotInfo:
        """It is closed; ``origin`` is what is wrong with what stands in front of all."""
        event, point = codec.decode(frame.tag, frame.payload, frame.offset), self.point
        assert isinstance(event, Snapshot)
        reason = self._find_obstacle() or origin
        return SnapshotInfo(
            seq=frame.seq,
            time=frame.time,
            trigger=event.trigger,
            first_seq=self.first_seq,
            pages=self.pages,
            size=self.size + len(frame.payload),
            digest=event.digest,
            whole=point.whole,
            has_stacks=self.has_stacks,
            code=b"" if point.code == _NO_CODE else point.code,
            entry=point.entry,
            function=point.function,
            calls=point.calls,
            monotonic=point.monotonic,
            resumable=not reason,
            reason=reason,
        )

    def _find_obstacle(self) -> str:
        """Why nobody can resume from it; empty if somebody can."""
        if self.first_seq is None:
            return "it is no snapshot of ours"
        if not self.point.entry:
            return ""  # nothing has run yet
        if not self.has_stacks:
            return "it has no stacks: the guest is executed again instead"
        if self.point.code == _NO_CODE:
            return "it does not say which code its stacks are of"
        return ""


def _get_process_obstacle(frame: Frame) -> str:
    """Why nobody can resume the process, if its journal says so itself."""
    start = codec.decode(frame.tag, frame.payload, frame.offset)
    assert isinstance(start, ProcessStart)
    return not_resumable_reason(start)


def _count_pages(frame: Frame) -> int:
    """How many pages a MemoryPages event has, without looking at them."""
    behind = _COUNT_AT + 4
    count = int.from_bytes(frame.payload[_COUNT_AT:behind], "little")
    if len(frame.payload) < behind + 4 * count:
        raise MalformedEvent("MemoryPages: it ends in front of its pages", frame.offset)
    return count


def _count_region_pages(frame: Frame) -> int:
    """How many pages a region of memory lies in."""
    size = len(frame.payload) - _REGION_HEAD_SIZE
    if size < 0:
        raise MalformedEvent("UpdateMemoryRegion: it ends in front of its data", frame.offset)
    if not size:
        return 0
    start = int.from_bytes(frame.payload[:8], "little")
    return (start + size - 1) // PAGE_SIZE - start // PAGE_SIZE + 1
