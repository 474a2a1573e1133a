"""First pass over a journal, which finds its snapshots and the limit for dropping events."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from journal.compaction import event_classes
from journal.compaction.retention import RetentionPolicy
from journal.events import codec, tag_sets
from journal.events.definition import Merged
from journal.events.process import InstrumentedPart, ProcessStart, RecordingLevel
from journal.events.snapshots import (
    ClearEthereal,
    SafePoint,
    Snapshot,
)
from journal.format.block import Block
from journal.format.frame import Frame
from journal.snapshots.catalog import LANDMARK_TAGS, SnapshotCollector, SnapshotInfo

_FOREIGN_TAGS = tag_sets.SNAPSHOT_PARTS - tag_sets.RECORDING
_OWN_TAGS = tag_sets.tags_with_rule(Merged)
_PART_HEAD_SIZE = 8 + 4
_PREAMBLE = tag_sets.PREAMBLE_CODE | tag_sets.APPLICATION | {ProcessStart.tag}
"""Tags at the start of a preamble: a writer puts the modules before the mounts."""
_PREAMBLE_TAGS = event_classes.BOUNDARIES | tag_sets.PREAMBLE_CODE


@dataclass(frozen=True, slots=True)
class UnclosedSnapshot:
    """Parts of a snapshot that was never closed: sequence numbers ``start`` to ``stop - 1``."""

    start: int
    stop: int


class SafePointInfo(NamedTuple):
    """Safe point of a snapshot, with the events that limit how far it can move.

    ``time`` is in µs since the epoch. ``last_kept`` is the last event of an always kept kind before
    the snapshot, ``last_input`` the last input; either may follow the safe point in a journal whose
    pages an earlier compaction has renumbered. ``floor`` is the last event that would invalidate a
    safe point before it; -1 if there is none.
    """

    seq: int
    time: int
    last_kept: int
    last_input: int
    floor: int


@dataclass(slots=True)
class JournalSurvey:
    """Properties of a journal, found in one pass over its blocks.

    ``next_seq`` is its last sequence number plus 1. ``levels`` are the recording levels of its
    processes in order, ``snapshots`` all its snapshots; ``code_hashes`` are the hashes of the
    instrumented modules stored in it. ``unknown`` is the first event of an unknown kind, as
    sequence number and tag. ``own_seq`` is the first event that only this runtime's snapshots
    contain, ``foreign_seq`` the first event that they never contain. ``unclosed`` are the parts of
    snapshots that were never closed; ``cleared`` are the last snapshots before each ClearEthereal.
    ``points`` maps each snapshot of this runtime to its safe point, by sequence number.
    """

    next_seq: int = 0
    last_seq: int = -1
    levels: list[RecordingLevel] = field(default_factory=list)
    snapshots: list[SnapshotInfo] = field(default_factory=list)
    code_hashes: set[bytes] = field(default_factory=set)
    unknown: tuple[int, int] | None = None
    own_seq: int | None = None
    foreign_seq: int | None = None
    unclosed: list[UnclosedSnapshot] = field(default_factory=list)
    cleared: set[int] = field(default_factory=set)
    points: dict[int, SafePointInfo] = field(default_factory=dict)

    @property
    def is_of_process(self) -> bool:
        """Return whether the journal records a process."""
        return bool(self.levels)

    @property
    def is_executable(self) -> bool:
        """Return whether a guest can be executed again from the start, which needs every event."""
        return RecordingLevel.FULL in self.levels


class SurveyBuilder:
    """Builder of a survey from the blocks of a journal, added in order."""

    def __init__(self) -> None:
        self.survey = JournalSurvey()
        self._unclosed_start = 0
        self._snapshot: int | None = None
        self._safe_point: SafePointInfo | None = None
        self._last_kept = self._last_input = self._floor = -1
        self._module: hashlib._Hash | None = None
        self._in_preamble = False

    def add_block(self, block: Block) -> None:
        """Add a block."""
        survey, tags = self.survey, set(block.tags)
        survey.last_seq = block.last_seq
        survey.next_seq = survey.last_seq + 1
        unknown = tags - tag_sets.KNOWN
        if unknown:
            self._record_unknown(block, unknown)
        if survey.own_seq is None and tags & _OWN_TAGS:
            survey.own_seq = block.seq(block.select(_OWN_TAGS)[0])
        if survey.foreign_seq is None and tags & _FOREIGN_TAGS:
            survey.foreign_seq = block.seq(block.select(_FOREIGN_TAGS)[0])
        recorded_tags = (
            _PREAMBLE_TAGS
            if self._in_preamble or event_classes.START_TAG in tags
            else event_classes.BOUNDARIES
        )
        if tags & recorded_tags:
            indices = block.select(recorded_tags)
            for row, time in zip(block.rows(indices), block.times_at(indices), strict=True):
                self._record(*row, time, block)
        self._last_kept = max(self._last_kept, _last_always_kept(block, block.count))
        self._last_input = max(self._last_input, _last_input(block, block.count))
        if self._in_preamble and not tags <= _PREAMBLE:
            self._end_preamble()

    def _record_unknown(self, block: Block, unknown: set[int]) -> None:
        if self.survey.unknown is None:
            first = block.select(unknown)[0]
            self.survey.unknown = block.seq(first), block.tags[first]

    def _record(self, seq: int, tag: int, payload: bytes, time: int, block: Block) -> None:
        if tag in tag_sets.PREAMBLE_CODE:
            if tag == InstrumentedPart.tag and self._in_preamble and self._module is not None:
                self._module.update(payload[_PART_HEAD_SIZE:])
            return
        if tag == Snapshot.tag:
            if self._safe_point is not None:
                last_kept, last_input = self._last_before(block, seq)
                self.survey.points[seq] = self._safe_point._replace(
                    last_kept=last_kept, last_input=last_input
                )
            self._snapshot, self._unclosed_start, self._safe_point = seq, seq + 1, None
            return
        if self._unclosed_start < seq:
            self.survey.unclosed.append(UnclosedSnapshot(self._unclosed_start, seq))
        if tag == SafePoint.tag:
            self._safe_point, self._unclosed_start = (
                SafePointInfo(seq, time, -1, -1, self._floor),
                seq,
            )
            return
        if tag == ClearEthereal.tag and self._snapshot is not None:
            self.survey.cleared.add(self._snapshot)
        self._safe_point, self._unclosed_start, self._floor = None, seq + 1, seq
        if tag == ProcessStart.tag:
            self._end_preamble()
            event = codec.decode(tag, payload, block.offset)
            assert isinstance(event, ProcessStart)
            self.survey.levels.append(event.level)
            self._module, self._in_preamble = hashlib.sha256(), True

    def _last_before(self, block: Block, seq: int) -> tuple[int, int]:
        """Return the last always kept event and the last input before ``seq``."""
        at = block.index(seq) or 0
        kept = max(self._last_kept, _last_always_kept(block, at))
        return kept, max(self._last_input, _last_input(block, at))

    def finish(self) -> JournalSurvey:
        """Return the survey after the last block."""
        self._end_preamble()
        return self.survey

    def _end_preamble(self) -> None:
        if self._in_preamble and self._module is not None:
            self.survey.code_hashes.add(self._module.digest())
        self._in_preamble = False


def _last_always_kept(block: Block, stop: int) -> int:
    """Return the last event of an always kept kind before index ``stop`` of a block, or -1."""
    kept = [
        tag
        for tag in set(block.tags)
        if tag in event_classes.ALWAYS_KEPT or tag not in tag_sets.KNOWN
    ]
    return _last_with_tags(block, stop, kept)


def _last_input(block: Block, stop: int) -> int:
    """Return the last input before index ``stop`` of a block, or -1."""
    return _last_with_tags(block, stop, event_classes.CONSUMED.intersection(block.tags))


def _last_with_tags(block: Block, stop: int, tags: Iterable[int]) -> int:
    at = max((block.tags.rfind(tag, 0, stop) for tag in tags), default=-1)
    return block.seq(at) if at >= 0 else -1


def survey_journal(blocks: Iterable[Block]) -> JournalSurvey:
    """Return the survey of a journal that consists of ``blocks``.

    Raises the errors of reading the blocks.
    """
    builder, collector, infos = SurveyBuilder(), SnapshotCollector(), list[SnapshotInfo]()
    for block in blocks:
        builder.add_block(block)
        infos += _closed_snapshots(block, collector)
    survey = builder.finish()
    survey.snapshots = infos
    return survey


def _closed_snapshots(block: Block, collector: SnapshotCollector) -> Iterator[SnapshotInfo]:
    """Yield the snapshots that a block closes. Their pages are not counted."""
    if LANDMARK_TAGS.isdisjoint(block.tags):
        return  # The payloads need no decompression.
    indices = block.select(LANDMARK_TAGS)
    for index, row in zip(indices, block.rows(indices), strict=True):
        info = collector.add(Frame(*row, block.time(index), block.offset))
        if info is not None:
            yield info


@dataclass(frozen=True, slots=True)
class Frontier:
    """Limit below which events may be dropped, and the kept snapshots.

    Events before sequence number ``upto`` may be dropped. ``kept`` are the kept snapshots before
    ``upto``. ``reason`` says why fewer events than possible, or no events, can be dropped.
    ``is_verbatim`` keeps all snapshots with all their parts, unmerged; ``analyses_parts`` analyses
    snapshot parts one by one; ``drops_inputs`` drops the guest's inputs.
    """

    upto: int
    kept: Sequence[SnapshotInfo] = ()
    reason: str = ""
    is_verbatim: bool = False
    analyses_parts: bool = False
    drops_inputs: bool = False


def find_frontier(
    survey: JournalSurvey, policy: RetentionPolicy, *, verbatim_reason: str = ""
) -> Frontier:
    """Return the frontier for a retention policy.

    A ``verbatim_reason`` keeps all snapshots unmerged.
    """
    reason, infos = "", survey.snapshots
    if survey.is_executable:
        usable = [info for info in infos if not _obstacle(survey, info)]
        if not usable:
            cause = _obstacle(survey, infos[-1]) if infos else "the journal has no snapshot"
            return Frontier(
                0, reason=f"nothing can be dropped: {_EXECUTION_NEEDS_ALL}, because {cause}"
            )
    else:
        usable = [info for info in infos if info.resumable] or infos
    kept = policy.kept(usable)
    upto = kept[-1].seq + 1 if kept else survey.next_seq
    is_ours = survey.own_seq is not None and survey.own_seq < upto
    if not verbatim_reason:
        verbatim_reason = _verbatim_reason(survey, upto)
    if verbatim_reason:
        kept = [info for info in infos if info.seq < upto]
        reason = f"snapshots are kept unmerged: {verbatim_reason}"
    elif not is_ours:
        seqs = {info.seq for info in kept} | survey.cleared
        kept = [info for info in infos if info.seq in seqs and info.seq < upto]
    is_known = survey.unknown is None or survey.unknown[0] >= upto
    return Frontier(
        upto,
        kept,
        reason,
        is_verbatim=bool(verbatim_reason),
        analyses_parts=bool(kept) and not is_ours and not verbatim_reason,
        drops_inputs=bool(kept) and kept[-1].resumable and is_known,
    )


_EXECUTION_NEEDS_ALL = "the guest is executed again from its start, which needs every event"


def _obstacle(survey: JournalSurvey, info: SnapshotInfo) -> str:
    """Return the reason cause nothing can be dropped before a snapshot; empty if there is none."""
    if not info.resumable:
        return f"snapshot {info.seq} cannot be resumed ({info.reason})"
    if info.entry and info.code not in survey.code_hashes:
        return f"the journal does not contain the code of snapshot {info.seq}"
    return ""


def _verbatim_reason(survey: JournalSurvey, upto: int) -> str:
    if survey.unknown is not None and survey.unknown[0] < upto:
        seq, tag = survey.unknown
        return f"event {seq} has the unknown tag {tag}"
    own_seq, foreign_seq = survey.own_seq, survey.foreign_seq
    if own_seq is None or own_seq >= upto:
        return ""
    if foreign_seq is not None and foreign_seq < upto:
        return f"event {max(own_seq, foreign_seq)} comes from another runtime than earlier events"
    for info in survey.snapshots:
        point = survey.points.get(info.seq)
        if info.seq < upto and (point is None or point.seq != info.first_seq):
            return f"snapshot {info.seq} has no safe point, but other snapshots have one"
    return ""
