"""What a journal can still be used for when some of its events have been dropped."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress
from typing import NamedTuple

from journal import codec
from journal.columns import finder
from journal.errors import MalformedEvent
from journal.event import Group
from journal.events import BY_TAG
from journal.events.core import ProcessExit, TtySet
from journal.events.inputs import HostResult
from journal.events.memory import MemoryPages
from journal.events.paths import FilePlaced
from journal.events.process import (
    InstrumentedPart,
    Level,
    ModulePart,
    Mount,
    ParentLink,
    ProcessStart,
    ProcessTrap,
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
from journal.marking import obstacle_in

_PARTS = frozenset(
    cls.tag
    for cls in (
        *(MemoryPages, GlobalsSet, TableSet, SetThread, DescriptorPositions, DirectoryListing),
        TtySet,
    )
)
_IDENTITY = frozenset(
    cls.tag for cls in (ProcessStart, ModulePart, InstrumentedPart, Mount, FilePlaced)
)
_STREAMS = frozenset(tag for tag, cls in BY_TAG.items() if cls.group is Group.STDIO)
_MARKS = frozenset(
    cls.tag
    for cls in (
        *(SessionStart, StreamDelivered, StreamOpened, ParentLink, Seal),
        *(SafePoint, MemoryPages, GlobalsSet, TableSet, SetThread),
        *(DescriptorPositions, DirectoryListing, Snapshot),
    )
)
_INPUTS = frozenset(tag for tag, cls in BY_TAG.items() if cls.group is Group.INPUTS)
_GUEST = frozenset(range(1, 255)) - _MARKS - _IDENTITY
"""What a program did and heard, which a replay compares."""
_EFFECTS = _GUEST - (_INPUTS - {HostResult.tag})
"""What the files and descriptors of a snapshot come from."""
_ENDS = frozenset((ProcessExit.tag, ProcessTrap.tag))
_LANDMARKS = _PARTS | _IDENTITY | _ENDS | {SafePoint.tag, Snapshot.tag}


class Verdict(NamedTuple):
    """Whether a journal can be gone on from, and in one sentence how, or why not."""

    resumable: bool
    reason: str


@dataclass(slots=True)
class _Begun:
    """A snapshot that is not closed yet: whether all of it is kept so far."""

    is_kept: bool
    is_whole: bool = False
    can_begin: bool = False


class _Gap:
    """Finds events that are missing in front of ones that are kept: behind the last it is no gap.

    ``last_seq`` is the last that is missing, ``kept_seq`` the last that is kept, -1 for none.
    """

    def __init__(self, missing: bytes, kept: bytes) -> None:
        self._missing = missing
        self._kept = kept
        self._pending = -1
        self.last_seq = self.kept_seq = -1

    def see(self, tags: bytes, mask: bytes | None, seqs: "range | list[int]") -> None:
        """Take note of a block, all of which is kept if there is no mask."""
        kept = tags.translate(self._kept)
        last = (kept if mask is None else _both(kept, mask)).rfind(1)
        if last >= 0:
            self.kept_seq = seqs[last]
            self.last_seq, self._pending = max(self.last_seq, self._pending), -1
        if mask is None:
            return
        missing = _first_only(tags.translate(self._missing), mask)
        if (before := missing.rfind(1, 0, last + 1)) >= 0:
            self.last_seq = seqs[before]
        if (behind := missing.rfind(1, last + 1)) >= 0:
            self._pending = seqs[behind]


class Usability:
    """Sees what is kept and what is dropped of a journal, in order, and tells what that leaves."""

    def __init__(self) -> None:
        self._level: Level | None = None
        self._obstacle = ""
        self._is_embedded = False
        self._dropped: dict[int, int] = {}  # the first number of each tag
        self._kept_tags: set[int] = set()
        self._ended = False
        self._guest = _Gap(_GUEST_COLUMN, _GUEST_COLUMN)
        self._streams = _Gap(_STREAM_COLUMN, _ANY_COLUMN)
        self._sessions = _Gap(_SESSION_COLUMN, _ANY_COLUMN)
        self._holes = _Gap(_EVERY_COLUMN, _SNAPSHOT_COLUMN)
        self._effect_seq: int | None = None
        self._begun: _Begun | None = None
        self._has_lineage = False
        self._is_torn = False
        self._snapshots: list[int] = []
        self._needs_code = False

    def see(
        self, tags: bytes, mask: bytes, seqs: "range | list[int]", payload: Callable[[int], bytes]
    ) -> None:
        """Take note of a block: its tags, what is kept of it, its numbers, and its payloads."""
        present = set(tags)
        if present & _LANDMARKS:
            self._see_landmarks(tags, mask, seqs, payload)
        whole = 0 not in mask
        if whole:
            self._kept_tags |= present
        else:
            self._note_tags(tags, mask, seqs)
        for gap in (self._guest, self._streams, self._sessions, self._holes):
            gap.see(tags, None if whole else mask, seqs)
        if whole:
            return
        if self._effect_seq is None:
            effects = _first_only(tags.translate(_EFFECT_COLUMN), mask)
            if (first := effects.find(1)) >= 0:
                self._effect_seq = seqs[first]

    def _note_tags(self, tags: bytes, mask: bytes, seqs: "range | list[int]") -> None:
        self._kept_tags.update(compress(tags, mask))
        for tag in set(compress(tags, mask.translate(_NOT))) - self._dropped.keys():
            at = tags.find(tag)
            while mask[at]:
                at = tags.find(tag, at + 1)
            self._dropped[tag] = seqs[at]

    def _see_landmarks(
        self, tags: bytes, mask: bytes, seqs: "range | list[int]", payload: Callable[[int], bytes]
    ) -> None:
        for at in finder(_LANDMARKS)(tags):
            tag = tags[at]
            if tag in _PARTS:
                if self._begun is not None and not mask[at]:
                    self._begun.is_kept = False
                if tag == SetThread.tag and self._begun is not None:
                    self._begun.can_begin = True
            elif tag == SafePoint.tag:
                self._begin(bool(mask[at]), payload, at)
            elif tag == Snapshot.tag:
                self._close(bool(mask[at]), seqs[at])
            elif mask[at] and tag == ProcessStart.tag:
                start = _decoded(tag, payload(at))
                if isinstance(start, ProcessStart):
                    self._level, self._is_embedded = start.level, start.embedded
                    self._obstacle = obstacle_in(start)
            elif mask[at] and tag in _ENDS:
                self._ended = True

    def _begin(self, is_kept: bool, payload: Callable[[int], bytes], at: int) -> None:
        self._begun = _Begun(is_kept)
        if is_kept:
            point = _decoded(SafePoint.tag, payload(at))
            if isinstance(point, SafePoint):
                self._begun.is_whole = point.whole
                self._begun.can_begin = not point.entry
                self._needs_code = self._needs_code or any(point.code)
            else:
                self._begun.is_kept = False

    def _close(self, is_kept: bool, seq: int) -> None:
        begun, self._begun = self._begun, None
        whole = begun is not None and begun.is_whole
        self._has_lineage = is_kept and (self._has_lineage or whole)
        if begun is None or not begun.is_kept:
            self._has_lineage = False
        self._is_torn = is_kept and not self._has_lineage
        if self._has_lineage and begun is not None and begun.can_begin and self._level is not None:
            self._snapshots.append(seq)

    # -- what it comes to ----------------------------------------------------------------------

    @property
    def verdict(self) -> Verdict:
        """What is left, by what has been seen so far."""
        if self._level is None:
            if ProcessStart.tag in self._dropped:
                return Verdict(False, "it does not say any more what ran")
            return Verdict(False, "it is not the journal of a process")
        if self._obstacle:
            return Verdict(False, self._obstacle)
        if self._sessions.kept_seq < 0:
            return Verdict(False, "nothing is left but what says what ran")
        if self._is_embedded and ModulePart.tag in self._dropped:
            return Verdict(False, "its module is gone")
        if self._streams.last_seq >= 0:
            return Verdict(False, "what the program printed, or where to, is gone")
        if self._sessions.last_seq >= 0:
            return Verdict(False, "when its sessions began is gone")
        if self._ended:
            reason = "the program had ended: a resume tells how, and executes nothing"
            return Verdict(True, reason)
        return self._of_snapshots() or self._of_start()

    @property
    def must_say_so(self) -> bool:
        """Whether a resume would not notice that something is missing, and go on wrongly."""
        if self._level is None or self._obstacle or self.verdict.resumable:
            return False
        last = self._snapshots[-1] if self._snapshots else -1
        return (
            self._streams.last_seq >= 0
            or self._sessions.last_seq >= 0
            or (self._effect_seq is not None and self._effect_seq < last)
            or bool({Mount.tag, FilePlaced.tag} & self._dropped.keys())
        )

    @property
    def leaves_holes(self) -> bool:
        """Whether something is missing in front of a snapshot, as a compaction leaves it."""
        return self._holes.last_seq >= 0

    def _of_snapshots(self) -> Verdict | None:
        """Whether there is a snapshot from which all is there that came behind it."""
        if self._needs_code and InstrumentedPart.tag in self._dropped:
            return None
        if {Mount.tag, FilePlaced.tag} & self._dropped.keys() or not self._snapshots:
            return None
        seq = self._snapshots[-1]
        if self._level is not Level.FULL:
            enough = self._guest.kept_seq < seq
        else:
            at = bisect_right(self._snapshots, self._guest.last_seq)
            enough = at < len(self._snapshots)
        if not enough or (self._effect_seq is not None and self._effect_seq < seq):
            return None
        return Verdict(True, f"it can be resumed from its snapshot, event {seq}")

    def _of_start(self) -> Verdict:
        """Whether it can be executed again from its start."""
        if self._level is not Level.FULL:
            return Verdict(False, self._why_no_snapshot())
        if (_IDENTITY - {InstrumentedPart.tag}) & self._dropped.keys():
            return Verdict(False, "what the program began with is gone")
        if self._guest.last_seq >= 0:
            if _INPUTS & self._dropped.keys() and not (_INPUTS & self._kept_tags):
                return Verdict(False, "no inputs: it cannot be executed again")
            gone = min(self._dropped[tag] for tag in _GUEST & self._dropped.keys())
            kind = next(tag for tag, seq in self._dropped.items() if seq == gone)
            what = BY_TAG[kind].__name__ if kind in BY_TAG else f"an event of kind {kind}"
            return Verdict(False, f"event {gone} is gone ({what}): it cannot be executed again")
        return Verdict(True, "it can be executed again from its start")

    def _why_no_snapshot(self) -> str:
        """Why none can be resumed from, where that would be the only way."""
        if self._effect_seq is not None and self._snapshots:
            return f"event {self._effect_seq} is gone, from which its files and descriptors come"
        if self._is_torn:
            return "what its last snapshot builds on is gone"
        if not self._snapshots:
            return "it has no inputs, and no snapshot that can be resumed from"
        return (
            f"the program did more behind its last snapshot, event {self._snapshots[-1]}, and the "
            "journal has no inputs: it can only be gone on from there, in a new journal"
        )


def _decoded(tag: int, payload: bytes) -> object:
    try:
        return codec.decode(tag, payload)
    except MalformedEvent:
        return None


def _both(one: bytes, other: bytes) -> bytes:
    """Where two columns of 0 and 1 both have 1; as numbers, a loop would take longer."""
    found = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return found.to_bytes(len(one), "little")


def _first_only(one: bytes, other: bytes) -> bytes:
    """Where the first of two such columns has 1, and the other has not."""
    found = int.from_bytes(one, "little") & ~int.from_bytes(other, "little")
    return found.to_bytes(len(one), "little")


def _column(tags: frozenset[int]) -> bytes:
    return bytes(tag in tags for tag in range(256))


_NOT = bytes((1,)) + bytes(255)
_GUEST_COLUMN, _EFFECT_COLUMN = _column(_GUEST), _column(_EFFECTS)
_STREAM_COLUMN, _SESSION_COLUMN = _column(_STREAMS), _column(frozenset((SessionStart.tag,)))
_ANY_COLUMN = _column(frozenset(range(1, 255)) - _IDENTITY)
_EVERY_COLUMN = _column(frozenset(range(1, 255)))
_SNAPSHOT_COLUMN = _column(frozenset((Snapshot.tag,)))
