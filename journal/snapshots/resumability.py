"""Analysis of whether, and from where, a journal can be resumed after some events were dropped."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from journal.errors import MalformedEvent
from journal.events import BY_TAG, codec, tag_sets
from journal.events.core import TtySet
from journal.events.definition import Consumed, Group
from journal.events.process import (
    InstrumentedPart,
    ModulePart,
    ProcessStart,
    RecordingLevel,
    SessionStart,
)
from journal.events.snapshots import SafePoint, Snapshot
from journal.events.threads import SetThread
from journal.format.columns import make_tag_finder
from journal.format.frame import TAG_MAX, TAG_MIN
from journal.format.tag_partition import PartitionedBlocks, TagPartition
from journal.snapshots.resume_flags import not_resumable_reason

_PART_TAGS = (tag_sets.SNAPSHOT_PARTS & tag_sets.RECORDING) | {TtySet.tag}
"""Tags of the parts of a snapshot. In a snapshot, TtySet is one of its parts."""
_STREAM_TAGS = tag_sets.tags_in_group(Group.STDIO)
_ALL_TAGS = frozenset(range(TAG_MIN, TAG_MAX + 1))
_NON_IDENTITY_TAGS = _ALL_TAGS - tag_sets.PREAMBLE
_GUEST_TAGS = _NON_IDENTITY_TAGS - tag_sets.RECORDING
"""Tags of the guest's effects and inputs, which a replay compares."""
_EFFECT_TAGS = _GUEST_TAGS - tag_sets.tags_with_rule(Consumed)
"""Tags of the events from which the files and descriptors of a snapshot are rebuilt."""
_DECODED_TAGS = frozenset((ProcessStart.tag, SafePoint.tag))
"""Tags of the kept events whose payloads are decoded."""
_LANDMARK_TAGS = _DECODED_TAGS | tag_sets.ENDS | {Snapshot.tag}


class Resumability(NamedTuple):
    """Whether a journal can be resumed, and one sentence that says how, or why not."""

    resumable: bool
    reason: str


@dataclass(slots=True)
class _SnapshotState:
    """State of a snapshot whose Snapshot event has not been reached.

    ``is_complete`` is whether all of its parts so far are kept.
    """

    is_complete: bool
    is_whole: bool = False
    can_resume: bool = False


class _GapTracker:
    """Tracker of dropped events that precede a kept event; dropped events at the end are no gap.

    ``last_seq`` is the last dropped event, ``kept_seq`` the last kept one, -1 for none.
    """

    def __init__(self, missing: frozenset[int], kept: frozenset[int]) -> None:
        self._missing = missing
        self._kept = kept
        self._pending = -1
        self.last_seq = self.kept_seq = -1

    def add_blocks(self, batch: PartitionedBlocks) -> None:
        """Add several blocks."""
        last = max(map(batch.retained.rfind, self._kept & batch.retained_tags), default=-1)
        if last >= 0:
            self.kept_seq = batch.seq(last)
            self.last_seq, self._pending = max(self.last_seq, self._pending), -1
        missing = self._missing & batch.dropped_tags
        if not missing:
            return
        if (before_kept := max(batch.dropped.rfind(tag, 0, last + 1) for tag in missing)) >= 0:
            self.last_seq = batch.seq(before_kept)
        if (after_kept := max(batch.dropped.rfind(tag, last + 1) for tag in missing)) >= 0:
            self._pending = batch.seq(after_kept)


class ResumabilityAnalysis:
    """Analysis of a journal from its kept and dropped events, which are added in order."""

    def __init__(self) -> None:
        self._partition = TagPartition()
        self._payloads: deque[bytes] = deque()  # Payloads of the kept events with _DECODED_TAGS.
        self._level: RecordingLevel | None = None
        self._obstacle = ""
        self._is_embedded = False
        self._dropped: dict[int, int] = {}  # First dropped sequence number by tag.
        self._ended = False
        self._guest = _GapTracker(_GUEST_TAGS, _GUEST_TAGS)
        self._streams = _GapTracker(_STREAM_TAGS, _NON_IDENTITY_TAGS)
        self._sessions = _GapTracker(frozenset((SessionStart.tag,)), _NON_IDENTITY_TAGS)
        self._gaps = _GapTracker(_ALL_TAGS, frozenset((Snapshot.tag,)))
        self._open: _SnapshotState | None = None
        self._has_base = False
        self._lacks_base = False
        self._snapshots: list[int] = []
        self._needs_code = False

    def add_block(
        self, kept: bytes, dropped: bytes, seqs: Sequence[int], payload: Callable[[int], bytes]
    ) -> None:
        """Add a block: the tags of its kept events, and the tags of its dropped events.

        Both columns have one byte per event, 0 for an event that is in the other column. ``seqs``
        are the sequence numbers of the block. ``payload`` returns the payload of a kept event by
        its index.
        """
        if ProcessStart.tag in kept or SafePoint.tag in kept:
            self._payloads += map(payload, make_tag_finder(_DECODED_TAGS)(kept))
        if self._partition.add(kept, dropped, seqs):
            self._process_pending()

    def add_dropped_block(self, tags: bytes, seqs: Sequence[int]) -> None:
        """Add a block without kept events."""
        if self._partition.add(bytes(len(tags)), tags, seqs):
            self._process_pending()

    def _process_pending(self) -> None:
        """Process the collected blocks."""
        batch = self._partition.take()
        if batch is None:
            return
        for tag in batch.dropped_tags - self._dropped.keys():
            self._dropped[tag] = batch.seq(batch.dropped.find(tag))
        for gap in (self._guest, self._streams, self._sessions, self._gaps):
            gap.add_blocks(batch)
        start = 0
        for index in batch.find(_LANDMARK_TAGS):
            self._process_parts(batch, start, index)
            self._process_landmark(batch.retained[index], batch.dropped[index], batch.seq(index))
            start = index
        self._process_parts(batch, start, len(batch.retained))

    def _process_parts(self, batch: PartitionedBlocks, start: int, stop: int) -> None:
        """Process the snapshot parts between two indices."""
        if self._open is None:
            return
        if any(
            batch.dropped.find(tag, start, stop) >= 0 for tag in _PART_TAGS & batch.dropped_tags
        ):
            self._open.is_complete = False
        if any(
            column.find(SetThread.tag, start, stop) >= 0
            for column in (batch.retained, batch.dropped)
        ):
            self._open.can_resume = True

    def _process_landmark(self, kept: int, dropped: int, seq: int) -> None:
        """Process a kept or dropped event that begins or ends a snapshot or a process."""
        if SafePoint.tag in (kept, dropped):
            self._begin_snapshot(bool(kept))
        elif Snapshot.tag in (kept, dropped):
            self._close_snapshot(bool(kept), seq)
        elif kept == ProcessStart.tag:
            start = _try_decode(kept, self._payloads.popleft())
            if isinstance(start, ProcessStart):
                self._level, self._is_embedded = start.level, start.embedded
                self._obstacle = not_resumable_reason(start)
        elif kept in tag_sets.ENDS:
            self._ended = True

    def _begin_snapshot(self, is_kept: bool) -> None:
        self._open = _SnapshotState(is_kept)
        if is_kept:
            point = _try_decode(SafePoint.tag, self._payloads.popleft())
            if isinstance(point, SafePoint):
                self._open.is_whole = point.whole
                self._open.can_resume = not point.entry
                self._needs_code = self._needs_code or any(point.code)
            else:
                self._open.is_complete = False

    def _close_snapshot(self, is_kept: bool, seq: int) -> None:
        snapshot, self._open = self._open, None
        is_whole = snapshot is not None and snapshot.is_whole
        self._has_base = is_kept and (self._has_base or is_whole)
        if snapshot is None or not snapshot.is_complete:
            self._has_base = False
        self._lacks_base = is_kept and not self._has_base
        if (
            self._has_base
            and snapshot is not None
            and snapshot.can_resume
            and self._level is not None
        ):
            self._snapshots.append(seq)

    # -- results ----------------------------------------------------------------------------------

    @property
    def kept(self) -> dict[int, int]:
        """Number of kept events by tag."""
        self._process_pending()
        return self._partition.retained.counts

    @property
    def dropped(self) -> dict[int, int]:
        """Number of dropped events by tag."""
        self._process_pending()
        return self._partition.dropped.counts

    @property
    def next_seq(self) -> int:
        """Sequence number after the last kept event; 0 if none is kept."""
        self._process_pending()
        return self._partition.next_seq

    @property
    def result(self) -> Resumability:
        """Resumability of the kept events added so far."""
        self._process_pending()
        if self._level is None:
            if ProcessStart.tag in self._dropped:
                return Resumability(False, "the ProcessStart event was dropped")
            return Resumability(
                False, "the journal has no ProcessStart event: it does not record a process"
            )
        if self._obstacle:
            return Resumability(False, self._obstacle)
        if self._sessions.kept_seq < 0:
            return Resumability(False, "only the events that identify the program are kept")
        if self._is_embedded and ModulePart.tag in self._dropped:
            return Resumability(False, "the embedded module was dropped")
        if self._streams.last_seq >= 0:
            return Resumability(False, "events of standard output or error were dropped")
        if self._sessions.last_seq >= 0:
            return Resumability(False, "SessionStart events were dropped")
        if self._ended:
            reason = "the program has exited: a resume reports its exit and executes nothing"
            return Resumability(True, reason)
        return self._check_snapshots() or self._check_start()

    @property
    def needs_not_resumable_flag(self) -> bool:
        """Return whether the journal must be flagged as not resumable.

        Without the flag, a resume would not notice the dropped events and would continue wrongly.
        """
        resumable, _ = self.result
        if self._level is None or self._obstacle or resumable:
            return False
        last = self._snapshots[-1] if self._snapshots else -1
        return (
            self._streams.last_seq >= 0
            or self._sessions.last_seq >= 0
            or self._has_dropped_effect_before(last)
            or bool(tag_sets.PREAMBLE_FILES & self._dropped.keys())
        )

    @property
    def has_gaps(self) -> bool:
        """Return whether dropped events precede a snapshot, as a compaction leaves them."""
        self._process_pending()
        return self._gaps.last_seq >= 0

    def _has_dropped_effect_before(self, seq: int) -> bool:
        """Return whether an effect before event ``seq`` was dropped."""
        return any(self._dropped[tag] < seq for tag in _EFFECT_TAGS & self._dropped.keys())

    def _check_snapshots(self) -> Resumability | None:
        """Return a positive result if all events after some snapshot are kept, else None."""
        if self._needs_code and InstrumentedPart.tag in self._dropped:
            return None
        if tag_sets.PREAMBLE_FILES & self._dropped.keys() or not self._snapshots:
            return None
        seq = self._snapshots[-1]
        if self._level is not RecordingLevel.FULL:
            enough = self._guest.kept_seq < seq
        else:
            index = bisect_right(self._snapshots, self._guest.last_seq)
            enough = index < len(self._snapshots)
        if not enough or self._has_dropped_effect_before(seq):
            return None
        return Resumability(True, f"it can be resumed from the snapshot at event {seq}")

    def _check_start(self) -> Resumability:
        """Return whether the program can be executed again from its start."""
        if self._level is not RecordingLevel.FULL:
            return Resumability(False, self._explain_no_snapshot())
        if (tag_sets.PREAMBLE - {InstrumentedPart.tag}) & self._dropped.keys():
            return Resumability(False, "events that identify the program were dropped")
        if self._guest.last_seq >= 0:
            if tag_sets.INPUTS & self._dropped.keys() and not (
                tag_sets.INPUTS & self._partition.retained.counts.keys()
            ):
                return Resumability(
                    False, "all inputs were dropped: the program cannot be executed again"
                )
            first = min(self._dropped[tag] for tag in _GUEST_TAGS & self._dropped.keys())
            tag = next(tag for tag, seq in self._dropped.items() if seq == first)
            name = BY_TAG[tag].__name__ if tag in BY_TAG else f"unknown kind {tag}"
            return Resumability(
                False, f"event {first} ({name}) was dropped: the program cannot be executed again"
            )
        return Resumability(True, "the program can be executed again from its start")

    def _explain_no_snapshot(self) -> str:
        """Return the reason why no snapshot can be resumed from, in a journal without inputs."""
        effects = [self._dropped[tag] for tag in _EFFECT_TAGS & self._dropped.keys()]
        if effects and self._snapshots:
            return (
                f"event {min(effects)}, from which files and descriptors are rebuilt, was dropped"
            )
        if self._lacks_base:
            return "the snapshots on which the last snapshot is based were dropped"
        if not self._snapshots:
            return "the journal has no inputs and no snapshot that can be resumed"
        return (
            f"the program continued after the last snapshot, event {self._snapshots[-1]}, and the "
            "journal has no inputs: resume from that snapshot into a new journal"
        )


def _try_decode(tag: int, payload: bytes) -> object:
    try:
        return codec.decode(tag, payload)
    except MalformedEvent:
        return None
