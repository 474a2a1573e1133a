"""Plain resumability analysis of filtered journals, row by row, for comparison."""

from __future__ import annotations

from typing import NamedTuple

from journal.errors import MalformedEvent
from journal.events import BY_TAG, codec
from journal.events.core import ProcessExit, TtySet
from journal.events.definition import Event, Group
from journal.events.inputs import HostResult
from journal.events.memory import MemoryPages
from journal.events.paths import FilePlaced
from journal.events.process import (
    ClockPoint,
    InstrumentedPart,
    ModulePart,
    Mount,
    ParentLink,
    ProcessStart,
    ProcessTrap,
    RecordingLevel,
    Reseeded,
    Seal,
    SessionStart,
)
from journal.events.snapshots import DescriptorPositions, DirectoryListing, SafePoint, Snapshot
from journal.events.streams import StreamDelivered, StreamOpened
from journal.events.threads import GlobalsSet, SetThread, TableSet
from journal.snapshots.resume_flags import NOT_RESUMABLE, not_resumable_reason

IDENTITY = (ProcessStart, ModulePart, InstrumentedPart, Mount, FilePlaced)
STAGED = (MemoryPages, GlobalsSet, TableSet, SetThread, DescriptorPositions, DirectoryListing)
MARKS = (
    *STAGED, ClockPoint, SessionStart, StreamDelivered, StreamOpened, ParentLink, Reseeded, Seal,
    SafePoint, Snapshot,
)  # fmt: skip


class Row(NamedTuple):
    """One event, and whether the filter keeps it."""

    seq: int
    tag: int
    payload: bytes
    is_kept: bool

    @property
    def kind(self) -> type[Event] | None:
        return BY_TAG.get(self.tag)

    @property
    def is_input(self) -> bool:
        return self.kind is not None and self.kind.group is Group.INPUTS

    @property
    def is_of_stream(self) -> bool:
        return self.kind is not None and self.kind.group is Group.STDIO

    @property
    def is_identity(self) -> bool:
        return self.kind in IDENTITY

    @property
    def is_of_guest(self) -> bool:
        """Return whether the event is an effect or an input of the program."""
        return self.kind not in MARKS and not self.is_identity

    @property
    def is_effect(self) -> bool:
        return self.is_of_guest and (not self.is_input or self.kind is HostResult)

    def decoded(self) -> Event | None:
        try:
            return codec.decode(self.tag, self.payload)
        except MalformedEvent:
            return None


class PlainResumabilityAnalysis:
    """Equivalent of ``ResumabilityAnalysis`` for a list of rows."""

    def __init__(self, rows: list[Row]) -> None:
        self.kept = [row for row in rows if row.is_kept]
        self.gone = [row for row in rows if not row.is_kept]
        starts = [row.decoded() for row in self.kept if row.kind is ProcessStart]
        sound = [start for start in starts if isinstance(start, ProcessStart)]
        self.start = sound[-1] if sound else None
        self.snapshots: list[int] = []
        self.is_torn = self.needs_code = False
        self._stand_still(rows)

    def _stand_still(self, rows: list[Row]) -> None:
        """Find the snapshots that can be resumed from."""
        has_start = builds_on = is_open = is_whole = can_begin = all_kept = False
        for row in rows:
            if row.kind is ProcessStart and row.is_kept:
                has_start = has_start or row.decoded() is not None
            elif row.kind is SafePoint:
                point = row.decoded() if row.is_kept else None
                is_open, all_kept, is_whole, can_begin = True, point is not None, False, False
                if isinstance(point, SafePoint):
                    is_whole, can_begin = point.whole, not point.entry
                    self.needs_code = self.needs_code or point.code != bytes(32)
            elif row.kind in (*STAGED, TtySet):
                all_kept = all_kept and row.is_kept
                can_begin = can_begin or row.kind is SetThread
            elif row.kind is Snapshot:
                builds_on = row.is_kept and is_open and all_kept and (builds_on or is_whole)
                self.is_torn = row.is_kept and not builds_on
                if builds_on and can_begin and has_start:
                    self.snapshots.append(row.seq)
                is_open = is_whole = can_begin = all_kept = False

    def misses(self, *kinds: type[Event]) -> bool:
        """Return whether an event of these kinds was dropped."""
        return any(row.kind in kinds for row in self.gone)

    @property
    def last_seq(self) -> int:
        """Return the sequence number of the last kept event that does not identify the program."""
        return max((row.seq for row in self.kept if not row.is_identity), default=-1)

    @property
    def guest_seq(self) -> int:
        """Return the sequence number of the last kept effect or input."""
        return max((row.seq for row in self.kept if row.is_of_guest), default=-1)

    @property
    def guest_gap(self) -> int:
        """Return the last dropped effect or input before a kept effect or input."""
        seqs = [row.seq for row in self.gone if row.is_of_guest and row.seq < self.guest_seq]
        return max(seqs, default=-1)

    @property
    def effects(self) -> list[int]:
        """Return the sequence numbers of the dropped effects."""
        return [row.seq for row in self.gone if row.is_effect]

    @property
    def misses_stream(self) -> bool:
        return any(row.is_of_stream and row.seq < self.last_seq for row in self.gone)

    @property
    def misses_session(self) -> bool:
        return any(row.kind is SessionStart and row.seq < self.last_seq for row in self.gone)

    @property
    def has_gaps(self) -> bool:
        last = max((row.seq for row in self.kept if row.kind is Snapshot), default=-1)
        return any(row.seq < last for row in self.gone)

    @property
    def needs_not_resumable_flag(self) -> bool:
        if self.start is None or not_resumable_reason(self.start) or self.result[0]:
            return False
        last = self.snapshots[-1] if self.snapshots else -1
        effect = any(seq < last for seq in self.effects)
        known = self.misses(Mount, FilePlaced)
        return self.misses_stream or self.misses_session or effect or known

    @property
    def result(self) -> tuple[bool, str]:
        """Return whether the journal can be resumed, and how or why not."""
        if self.start is None:
            if self.misses(ProcessStart):
                return False, "the ProcessStart event was dropped"
            return (
                False,
                "the journal has no ProcessStart event: it does not record a process",
            )
        if not_resumable_reason(self.start):
            return False, not_resumable_reason(self.start)
        if self.last_seq < 0:
            return False, "only the events that identify the program are kept"
        if self.start.embedded and self.misses(ModulePart):
            return False, "the embedded module was dropped"
        if self.misses_stream:
            return False, "events of standard output or error were dropped"
        if self.misses_session:
            return False, "SessionStart events were dropped"
        if any(row.kind in (ProcessExit, ProcessTrap) for row in self.kept):
            return True, "the program has exited: a resume reports its exit and executes nothing"
        seq = self._snapshot()
        if seq is not None:
            return True, f"it can be resumed from the snapshot at event {seq}"
        return (
            self._of_start()
            if self.start.level is RecordingLevel.FULL
            else (False, self._why_none())
        )

    def _snapshot(self) -> int | None:
        assert self.start is not None
        lacks_code = self.needs_code and self.misses(InstrumentedPart)
        if lacks_code or self.misses(Mount, FilePlaced) or not self.snapshots:
            return None
        last = self.snapshots[-1]
        behind = self.guest_gap if self.start.level is RecordingLevel.FULL else self.guest_seq
        if behind >= last or any(seq < last for seq in self.effects):
            return None
        return last

    def _of_start(self) -> tuple[bool, str]:
        if self.misses(ProcessStart, ModulePart, Mount, FilePlaced):
            return False, "events that identify the program were dropped"
        if self.guest_gap < 0:
            return True, "the program can be executed again from its start"
        heard = any(row.is_input for row in self.kept)
        if any(row.is_input for row in self.gone) and not heard:
            return False, "all inputs were dropped: the program cannot be executed again"
        first = min((row for row in self.gone if row.is_of_guest), key=lambda row: row.seq)
        what = first.kind.__name__ if first.kind else f"unknown kind {first.tag}"
        return (
            False,
            f"event {first.seq} ({what}) was dropped: the program cannot be executed again",
        )

    def _why_none(self) -> str:
        if self.effects and self.snapshots:
            first = min(self.effects)
            return f"event {first}, from which files and descriptors are rebuilt, was dropped"
        if self.is_torn:
            return "the snapshots on which the last snapshot is based were dropped"
        if not self.snapshots:
            return "the journal has no inputs and no snapshot that can be resumed"
        return (
            f"the program continued after the last snapshot, event {self.snapshots[-1]}, and the "
            "journal has no inputs: resume from that snapshot into a new journal"
        )


def process_start_row(level: RecordingLevel, embedded: bool, marked: bool) -> tuple[int, bytes]:
    start = ProcessStart(
        module_hash=bytes(32), module_size=0, embedded=embedded, level=level, host_revision=1,
        realtime=0, module_path="", arguments=(), environment=(), engine="", engine_version="",
        journal_version="", platform="",
        configuration=((NOT_RESUMABLE, "it was said so"),) if marked else (),
    )  # fmt: skip
    return ProcessStart.tag, codec.encode(start)
