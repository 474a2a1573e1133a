"""Catalog of the snapshots in a journal. It needs neither the engine nor snapshot contents."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from journal._arguments import check_flag, check_int, check_optional, check_type
from journal.errors import MalformedEvent
from journal.events import codec, tag_sets
from journal.events.core import TtySet
from journal.events.memory import PAGE_SIZE, MemoryPages, UpdateMemoryRegion
from journal.events.process import ProcessStart
from journal.events.snapshots import (
    ClearEthereal,
    SafePoint,
    Snapshot,
    Trigger,
)
from journal.events.threads import SetThread
from journal.format.frame import Frame
from journal.log.reader import Reader
from journal.snapshots.resume_flags import not_resumable_reason

_TAGS = tag_sets.SNAPSHOT_PARTS | {TtySet.tag, ProcessStart.tag, Snapshot.tag, ClearEthereal.tag}
LANDMARK_TAGS = _TAGS - tag_sets.MEMORY
"""Tags of the events that a collector needs if it does not count pages."""
_RESET_TAGS = frozenset(kind.tag for kind in (ProcessStart, SafePoint, Snapshot, ClearEthereal))
"""Tags of events that discard the parts of an open snapshot."""
_COUNT_AT = 4 + 8
"""Offset of the page count in a MemoryPages payload."""
_REGION_HEAD_SIZE = 8 + 8 + 4
_NO_CODE = bytes(32)


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """Snapshot of a journal; ``seq`` is the sequence number of its Snapshot event.

    ``time`` is that of the Snapshot event, in µs since the epoch. ``first_seq`` is the sequence
    number of its SafePoint, None if another runtime wrote the snapshot. The fields that only a
    SafePoint carries are then empty or 0. ``pages`` counts the stored pages, ``size`` the bytes of
    all payloads. ``code`` is the hash of the instrumented module, empty if there is none.
    ``reason`` says why a snapshot is not ``resumable``.
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
    """Yield the snapshots of a journal in order, those before event ``stop`` only.

    A snapshot without its Snapshot event is not listed. With ``count_pages`` off, memory is not
    read, and ``pages`` and ``size`` do not include it. Raises the errors of ``Reader.frames``, and
    MalformedEvent.
    """
    check_type("reader", reader, Reader)
    check_optional("stop", stop, check_int)
    tags = _TAGS if check_flag("count_pages", count_pages) else LANDMARK_TAGS
    return _collect(reader.frames(stop=stop, tags=tags))


def _collect(frames: Iterator[Frame]) -> Iterator[SnapshotInfo]:
    collector = SnapshotCollector()
    for frame in frames:
        info = collector.add(frame)
        if info is not None:
            yield info


class SnapshotCollector:
    """Collector of snapshots from the frames of a journal, added in order."""

    def __init__(self) -> None:
        self._origin = "no ProcessStart event precedes the snapshot"
        self._open = _OpenSnapshot()

    def add(self, frame: Frame) -> SnapshotInfo | None:
        """Add a frame, and return the snapshot that it completes, or None.

        Raises MalformedEvent.
        """
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
    """Snapshot whose Snapshot event has not been added yet."""

    first_seq: int | None = None
    point: SafePoint = field(
        default=SafePoint(calls=0, monotonic=0, code=_NO_CODE, whole=False, entry="", function="")
    )
    pages: int = 0
    size: int = 0
    has_stacks: bool = False

    def begin(self, frame: Frame) -> None:
        """Begin at a SafePoint."""
        point = codec.decode(frame.tag, frame.payload, frame.offset)
        assert isinstance(point, SafePoint)
        self.first_seq, self.point, self.size = frame.seq, point, len(frame.payload)

    def add(self, frame: Frame) -> None:
        """Add an event of the snapshot."""
        if frame.tag == TtySet.tag and self.first_seq is None:
            return  # Outside a snapshot, the guest itself changed the terminal.
        self.size += len(frame.payload)
        if frame.tag == MemoryPages.tag:
            self.pages += _count_pages(frame)
        elif frame.tag == UpdateMemoryRegion.tag:
            self.pages += _count_region_pages(frame)
        elif frame.tag == SetThread.tag:
            self.has_stacks = True

    def close(self, frame: Frame, origin: str) -> SnapshotInfo:
        """Return the complete snapshot.

        ``origin`` is the reason why the process itself cannot be resumed, empty if it can.
        """
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
        """Return the reason why the snapshot cannot be resumed from; empty if it can."""
        if self.first_seq is None:
            return "another runtime wrote this snapshot"
        if not self.point.entry:
            return ""  # The guest has not run yet, so there are no stacks.
        if not self.has_stacks:
            return "the snapshot has no stacks; a resume executes the guest again instead"
        if self.point.code == _NO_CODE:
            return "the snapshot does not name the module of its stacks"
        return ""


def _get_process_obstacle(frame: Frame) -> str:
    """Return the reason that the journal gives for not being resumable; empty if there is none."""
    start = codec.decode(frame.tag, frame.payload, frame.offset)
    assert isinstance(start, ProcessStart)
    return not_resumable_reason(start)


def _count_pages(frame: Frame) -> int:
    """Return the number of pages of a MemoryPages event without decoding it."""
    numbers_at = _COUNT_AT + 4
    count = int.from_bytes(frame.payload[_COUNT_AT:numbers_at], "little")
    if len(frame.payload) < numbers_at + 4 * count:
        raise MalformedEvent(
            f"MemoryPages event {frame.seq} is cut short: {count} page numbers do not fit in "
            f"{len(frame.payload)} bytes",
            frame.offset,
        )
    return count


def _count_region_pages(frame: Frame) -> int:
    """Return the number of pages that a memory region touches."""
    size = len(frame.payload) - _REGION_HEAD_SIZE
    if size < 0:
        raise MalformedEvent(
            f"UpdateMemoryRegion event {frame.seq} is cut short: {len(frame.payload)} bytes, at "
            f"least {_REGION_HEAD_SIZE} expected",
            frame.offset,
        )
    if not size:
        return 0
    start = int.from_bytes(frame.payload[:8], "little")
    return (start + size - 1) // PAGE_SIZE - start // PAGE_SIZE + 1
