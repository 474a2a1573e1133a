"""What a journal can still be used for when some of its events have been dropped."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from journal.errors import MalformedEvent
from journal.events import BY_TAG, codec
from journal.events.core import ProcessExit, TtySet
from journal.events.definition import Group
from journal.events.inputs import HostResult
from journal.events.memory import MemoryPages
from journal.events.paths import FilePlaced
from journal.events.process import (
    InstrumentedPart,
    ModulePart,
    Mount,
    ParentLink,
    ProcessStart,
    ProcessTrap,
    RecordingLevel,
    Seal,
    SessionStart,
)
from journal.events.snapshots import (
    DescriptorPositions,
    DirectoryListing,
    SafePoint,
    Snapshot,
)
from journal.events.streams import StreamDelivered, StreamOpened
from journal.events.threads import GlobalsSet, SetThread, TableSet
from journal.format.columns import make_tag_finder
from journal.format.frame import TAG_MAX, TAG_MIN
from journal.format.tag_partition import PartitionedBlocks, TagPartition
from journal.snapshots.resume_flags import not_resumable_reason

_PART_TAGS = frozenset(
    cls.tag
    for cls in (
        *(MemoryPages, GlobalsSet, TableSet, SetThread, DescriptorPositions, DirectoryListing),
        TtySet,
    )
)
_IDENTITY_TAGS = frozenset(
    cls.tag for cls in (ProcessStart, ModulePart, InstrumentedPart, Mount, FilePlaced)
)
_STREAM_TAGS = frozenset(tag for tag, cls in BY_TAG.items() if cls.group is Group.STDIO)
_RECORDING_TAGS = frozenset(
    cls.tag
    for cls in (
        *(SessionStart, StreamDelivered, StreamOpened, ParentLink, Seal),
        *(SafePoint, MemoryPages, GlobalsSet, TableSet, SetThread),
        *(DescriptorPositions, DirectoryListing, Snapshot),
    )
)
_INPUT_TAGS = frozenset(tag for tag, cls in BY_TAG.items() if cls.group is Group.INPUTS)
_ALL_TAGS = frozenset(range(TAG_MIN, TAG_MAX + 1))
_NON_IDENTITY_TAGS = _ALL_TAGS - _IDENTITY_TAGS
_GUEST_TAGS = _NON_IDENTITY_TAGS - _RECORDING_TAGS
"""What a program did and heard, which a replay compares."""
_EFFECT_TAGS = _GUEST_TAGS - (_INPUT_TAGS - {HostResult.tag})
"""What the files and descriptors of a snapshot come from."""
_EXIT_TAGS = frozenset((ProcessExit.tag, ProcessTrap.tag))
_DECODED_TAGS = frozenset((ProcessStart.tag, SafePoint.tag))
"""What is looked into where it is kept."""
_LANDMARK_TAGS = _DECODED_TAGS | _EXIT_TAGS | {Snapshot.tag}


class Resumability(NamedTuple):
    """Whether a journal can be gone on from, and in one sentence how, or why not."""

    resumable: bool
    reason: str


@dataclass(slots=True)
class _SnapshotState:
    """A snapshot that is not closed yet: whether all of it is kept so far."""

    is_complete: bool
    is_whole: bool = False
    has_stacks: bool = False


class _GapTracker:
    """Finds events that are missing in front of ones that are kept: behind the last it is no gap.

    ``last_seq`` is the last that is missing, ``kept_seq`` the last that is kept, -1 for none.
    """

    def __init__(self, missing: frozenset[int], kept: frozenset[int]) -> None:
        self._missing = missing
        self._kept = kept
        self._pending = -1
        self.last_seq = self.kept_seq = -1

    def add_blocks(self, run: PartitionedBlocks) -> None:
        """Take note of some blocks."""
        last = max(map(run.retained.rfind, self._kept & run.retained_tags), default=-1)
        if last >= 0:
            self.kept_seq = run.seq(last)
            self.last_seq, self._pending = max(self.last_seq, self._pending), -1
        missing = self._missing & run.dropped_tags
        if not missing:
            return
        if (before := max(run.dropped.rfind(tag, 0, last + 1) for tag in missing)) >= 0:
            self.last_seq = run.seq(before)
        if (behind := max(run.dropped.rfind(tag, last + 1) for tag in missing)) >= 0:
            self._pending = run.seq(behind)


class ResumabilityAnalysis:
    """Sees what is kept and what is dropped of a journal, in order, and tells what that leaves."""

    def __init__(self) -> None:
        self._parting = TagPartition()
        self._payloads: deque[bytes] = deque()  # by what is kept and has to be looked into
        self._level: RecordingLevel | None = None
        self._obstacle = ""
        self._is_embedded = False
        self._dropped: dict[int, int] = {}  # the first number of each tag
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
        self, kept: bytes, gone: bytes, seqs: Sequence[int], payload: Callable[[int], bytes]
    ) -> None:
        """Take note of a block: of its tags those that are kept, and those that are not.

        Each of the two columns has 0 in the place of what the other has. ``seqs`` are the numbers
        of the block, and ``payload`` gives what is kept at a place of it.
        """
        if ProcessStart.tag in kept or SafePoint.tag in kept:
            self._payloads += map(payload, make_tag_finder(_DECODED_TAGS)(kept))
        if self._parting.add(kept, gone, seqs):
            self._process_pending()

    def add_dropped_block(self, tags: bytes, seqs: Sequence[int]) -> None:
        """Take note of a block of which nothing is kept."""
        if self._parting.add(bytes(len(tags)), tags, seqs):
            self._process_pending()

    def _process_pending(self) -> None:
        """Look at what was only taken note of."""
        run = self._parting.take()
        if run is None:
            return
        for tag in run.dropped_tags - self._dropped.keys():
            self._dropped[tag] = run.seq(run.dropped.find(tag))
        for gap in (self._guest, self._streams, self._sessions, self._gaps):
            gap.add_blocks(run)
        seen = 0
        for at in run.find(_LANDMARK_TAGS):
            self._process_parts(run, seen, at)
            self._process_landmark(run.retained[at], run.dropped[at], run.seq(at))
            seen = at
        self._process_parts(run, seen, len(run.retained))

    def _process_parts(self, run: PartitionedBlocks, start: int, stop: int) -> None:
        """Take note of what there is of a snapshot between two places."""
        if self._open is None:
            return
        if any(run.dropped.find(tag, start, stop) >= 0 for tag in _PART_TAGS & run.dropped_tags):
            self._open.is_complete = False
        if any(
            column.find(SetThread.tag, start, stop) >= 0 for column in (run.retained, run.dropped)
        ):
            self._open.has_stacks = True

    def _process_landmark(self, kept: int, gone: int, seq: int) -> None:
        """Take note of an event by its tag, which is kept or gone."""
        if SafePoint.tag in (kept, gone):
            self._begin_snapshot(bool(kept))
        elif Snapshot.tag in (kept, gone):
            self._close_snapshot(bool(kept), seq)
        elif kept == ProcessStart.tag:
            start = _try_decode(kept, self._payloads.popleft())
            if isinstance(start, ProcessStart):
                self._level, self._is_embedded = start.level, start.embedded
                self._obstacle = not_resumable_reason(start)
        elif kept in _EXIT_TAGS:
            self._ended = True

    def _begin_snapshot(self, is_kept: bool) -> None:
        self._open = _SnapshotState(is_kept)
        if is_kept:
            point = _try_decode(SafePoint.tag, self._payloads.popleft())
            if isinstance(point, SafePoint):
                self._open.is_whole = point.whole
                self._open.has_stacks = not point.entry
                self._needs_code = self._needs_code or any(point.code)
            else:
                self._open.is_complete = False

    def _close_snapshot(self, is_kept: bool, seq: int) -> None:
        begun, self._open = self._open, None
        whole = begun is not None and begun.is_whole
        self._has_base = is_kept and (self._has_base or whole)
        if begun is None or not begun.is_complete:
            self._has_base = False
        self._lacks_base = is_kept and not self._has_base
        if self._has_base and begun is not None and begun.has_stacks and self._level is not None:
            self._snapshots.append(seq)

    # -- what it comes to ----------------------------------------------------------------------

    @property
    def kept(self) -> dict[int, int]:
        """How many events of which tags are kept."""
        self._process_pending()
        return self._parting.retained.counts

    @property
    def dropped(self) -> dict[int, int]:
        """How many events of which tags are not."""
        self._process_pending()
        return self._parting.dropped.counts

    @property
    def next_seq(self) -> int:
        """The number behind the last event that is kept; 0 where none is."""
        self._process_pending()
        return self._parting.next_seq

    @property
    def result(self) -> Resumability:
        """What is left, by what has been seen so far."""
        self._process_pending()
        if self._level is None:
            if ProcessStart.tag in self._dropped:
                return Resumability(False, "it does not say any more what ran")
            return Resumability(False, "it is not the journal of a process")
        if self._obstacle:
            return Resumability(False, self._obstacle)
        if self._sessions.kept_seq < 0:
            return Resumability(False, "nothing is left but what says what ran")
        if self._is_embedded and ModulePart.tag in self._dropped:
            return Resumability(False, "its module is gone")
        if self._streams.last_seq >= 0:
            return Resumability(False, "what the program printed, or where to, is gone")
        if self._sessions.last_seq >= 0:
            return Resumability(False, "when its sessions began is gone")
        if self._ended:
            reason = "the program had ended: a resume tells how, and executes nothing"
            return Resumability(True, reason)
        return self._check_snapshots() or self._check_start()

    @property
    def needs_not_resumable_flag(self) -> bool:
        """Whether a resume would not notice that something is missing, and go on wrongly."""
        resumable, _ = self.result
        if self._level is None or self._obstacle or resumable:
            return False
        last = self._snapshots[-1] if self._snapshots else -1
        return (
            self._streams.last_seq >= 0
            or self._sessions.last_seq >= 0
            or self._has_dropped_effect_before(last)
            or bool({Mount.tag, FilePlaced.tag} & self._dropped.keys())
        )

    @property
    def has_gaps(self) -> bool:
        """Whether something is missing in front of a snapshot, as a compaction leaves it."""
        self._process_pending()
        return self._gaps.last_seq >= 0

    def _has_dropped_effect_before(self, seq: int) -> bool:
        """Whether an effect is gone in front of an event."""
        return any(self._dropped[tag] < seq for tag in _EFFECT_TAGS & self._dropped.keys())

    def _check_snapshots(self) -> Resumability | None:
        """Whether there is a snapshot from which all is there that came behind it."""
        if self._needs_code and InstrumentedPart.tag in self._dropped:
            return None
        if {Mount.tag, FilePlaced.tag} & self._dropped.keys() or not self._snapshots:
            return None
        seq = self._snapshots[-1]
        if self._level is not RecordingLevel.FULL:
            enough = self._guest.kept_seq < seq
        else:
            at = bisect_right(self._snapshots, self._guest.last_seq)
            enough = at < len(self._snapshots)
        if not enough or self._has_dropped_effect_before(seq):
            return None
        return Resumability(True, f"it can be resumed from its snapshot, event {seq}")

    def _check_start(self) -> Resumability:
        """Whether it can be executed again from its start."""
        if self._level is not RecordingLevel.FULL:
            return Resumability(False, self._explain_no_snapshot())
        if (_IDENTITY_TAGS - {InstrumentedPart.tag}) & self._dropped.keys():
            return Resumability(False, "what the program began with is gone")
        if self._guest.last_seq >= 0:
            if _INPUT_TAGS & self._dropped.keys() and not (
                _INPUT_TAGS & self._parting.retained.counts.keys()
            ):
                return Resumability(False, "no inputs: it cannot be executed again")
            gone = min(self._dropped[tag] for tag in _GUEST_TAGS & self._dropped.keys())
            kind = next(tag for tag, seq in self._dropped.items() if seq == gone)
            what = BY_TAG[kind].__name__ if kind in BY_TAG else f"an event of kind {kind}"
            return Resumability(
                False, f"event {gone} is gone ({what}): it cannot be executed again"
            )
        return Resumability(True, "it can be executed again from its start")

    def _explain_no_snapshot(self) -> str:
        """Why none can be resumed from, where that would be the only way."""
        effects = [self._dropped[tag] for tag in _EFFECT_TAGS & self._dropped.keys()]
        if effects and self._snapshots:
            return f"event {min(effects)} is gone, from which its files and descriptors come"
        if self._lacks_base:
            return "what its last snapshot builds on is gone"
        if not self._snapshots:
            return "it has no inputs, and no snapshot that can be resumed from"
        return (
            f"the program did more behind its last snapshot, event {self._snapshots[-1]}, and the "
            "journal has no inputs: it can only be gone on from there, in a new journal"
        )


def _try_decode(tag: int, payload: bytes) -> object:
    try:
        return codec.decode(tag, payload)
    except MalformedEvent:
        return None
