"""Compaction, which writes a shorter journal that replays to the same states."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain, compress
from pathlib import Path
from typing import NamedTuple

from journal._arguments import check_flag, check_optional, check_path, check_type
from journal.compaction import event_classes
from journal.compaction.block_directory import (
    ANALYSED,
    REPLAYED,
    RETAINED,
    SNAPSHOT_PARTS,
    BlockDirectory,
)
from journal.compaction.frontier import (
    Frontier,
    JournalSurvey,
    SafePointInfo,
    find_frontier,
    survey_journal,
)
from journal.compaction.liveness.analysis import LivenessResult, find_live_events
from journal.compaction.liveness.dependency_graph import DependsOnDroppedSnapshot
from journal.compaction.liveness.seq_bitset import SeqBitset
from journal.compaction.merge.page_deduplication import PageDeduplicator
from journal.compaction.merge.page_store import MergedState
from journal.compaction.merge.snapshot_merge import (
    FreeSeqs,
    NoFreeSeqs,
    SnapshotGroup,
    SnapshotMerger,
    group_snapshots,
    plan_snapshot,
)
from journal.compaction.output import (
    BlockTarget,
    EventSelector,
    NullTarget,
    OutputRow,
    RowWriter,
    TagTotals,
    read_rows,
)
from journal.compaction.retention import RetentionPolicy
from journal.errors import JournalError, MalformedEvent
from journal.events import APPLICATION_TAGS, BY_TAG, tag_sets
from journal.events.definition import Event
from journal.format.block import Block
from journal.format.frame import SEQ_MAX
from journal.log.commit_policy import CommitPolicy
from journal.log.reader import Reader
from journal.log.roll_policy import RollPolicy
from journal.log.writer import Writer
from journal.pages import PageResolver
from journal.replay.limits import ReplayError
from journal.rewrite.block_copier import check_new_journal
from journal.rewrite.progress import ProgressCallback, check_progress

DROPPED_DEPENDENCY = "a kept event depends on a dropped event"
PASSES_MAX = 8
"""Passes of the liveness analysis.

Each pass may drop events on which only dropped events depend.
"""


class KindCounts(NamedTuple):
    """Events of one kind and bytes of their payloads, before and after a compaction."""

    tag: int
    name: str
    group: str
    events: int
    size: int
    kept_events: int
    kept_size: int

    @property
    def dropped_events(self) -> int:
        """Number of dropped events."""
        return self.events - self.kept_events

    @property
    def dropped_size(self) -> int:
        """Payload bytes saved; negative if merged pages exceed their patches."""
        return self.size - self.kept_size


class CompactionResult(NamedTuple):
    """Result of a compaction or of a dry run. Sizes are payload bytes before compression.

    ``snapshots`` and ``dropped_snapshots`` are the sequence numbers of the kept and the dropped
    snapshots. Only events before sequence number ``upto`` were dropped. ``reason`` says cause fewer
    events than possible, or no events, were dropped; otherwise it is empty.
    """

    journal_id: bytes
    next_seq: int
    upto: int
    snapshots: tuple[int, ...]
    dropped_snapshots: tuple[int, ...]
    kinds: tuple[KindCounts, ...]
    reason: str

    @property
    def is_unchanged(self) -> bool:
        """Return whether the compaction drops nothing."""
        return (self.events, self.size) == (self.kept_events, self.kept_size)

    @property
    def events(self) -> int:
        """Number of events before the compaction."""
        return sum(kind.events for kind in self.kinds)

    @property
    def kept_events(self) -> int:
        """Number of events after the compaction."""
        return sum(kind.kept_events for kind in self.kinds)

    @property
    def size(self) -> int:
        """Payload bytes before the compaction."""
        return sum(kind.size for kind in self.kinds)

    @property
    def kept_size(self) -> int:
        """Payload bytes after the compaction."""
        return sum(kind.kept_size for kind in self.kinds)


class _NeedsMoreSpace(Exception):
    """A replay of only the kept events needs more file space at some event than before."""


class CompactionMismatch(JournalError):
    """The kept events would not lead to the same states. Nothing is written."""


def compact(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    policy: RetentionPolicy = RetentionPolicy(),  # noqa: B008 - an immutable value
    progress: ProgressCallback | None = None,
    dry_run: bool = False,
    roll: RollPolicy | None = None,
) -> CompactionResult:
    """Write the events that the kept states of ``source`` need to the new journal ``target``.

    The kept states are those at the snapshots that ``policy`` keeps, and at the end. Events keep
    their sequence numbers and times, and the journal its id; all events after the newest kept
    snapshot are kept. ``target`` appears under its name when it is complete and durable. With
    ``dry_run`` nothing is written; with ``roll`` the target is a directory. Raises OptionError if
    ``target`` exists or would be inside ``source``, and a FormatError if ``source`` is damaged.
    """
    origin, path = check_path("source", source), check_path("target", target)
    check_type("policy", policy, RetentionPolicy)
    report = check_progress(progress)
    check_optional("roll", roll, check_type, RollPolicy)
    if not check_flag("dry_run", dry_run):
        check_new_journal(path, [origin])
    with Reader(origin) as reader:
        plan = CompactionPlan(reader, policy, report)
        if dry_run:
            return plan.execute(NullTarget, path.parent)

        def begin() -> Writer:
            journal_id, commit = reader.journal_id, CommitPolicy.NONE
            return Writer(path, publish=False, journal_id=journal_id, commit=commit, roll=roll)

        return plan.execute(begin, path.parent)


class CompactionPlan:
    """Survey, frontier and live events of a journal, found before the compaction is written."""

    def __init__(self, reader: Reader, policy: RetentionPolicy, report: ProgressCallback) -> None:
        self.reader = reader
        self.report = report
        self.policy = policy
        self.before = TagTotals()
        self.blocks = BlockDirectory(reader.path, report)
        self.survey: JournalSurvey = survey_journal(self._scan_blocks())
        self.frontier: Frontier = find_frontier(self.survey, policy)
        self.live = SeqBitset()
        self.find_live_events()

    def _scan_blocks(self) -> Iterator[Block]:
        for block in self.blocks.scan_all():
            self.before.add_block(block)
            yield block

    def find_live_events(self) -> None:
        """Find the live events. Keep all analysed events if the analysis is not possible."""
        while True:
            try:
                self.live = self._find_live()
                return
            except DependsOnDroppedSnapshot:
                self.keep_verbatim(DROPPED_DEPENDENCY)
            except (ReplayError, MalformedEvent, _NeedsMoreSpace) as error:
                self.keep_all(str(error))
                return

    def keep_verbatim(self, cause: str) -> None:
        """Keep all snapshots unmerged, for the reason ``cause``."""
        assert not self.frontier.is_verbatim, cause
        self.frontier = find_frontier(self.survey, self.policy, verbatim_reason=cause)

    def keep_all(self, cause: str) -> None:
        """Keep all analysed events, for the reason ``cause``."""
        cause = f"events of files and descriptors are kept unchanged: {cause}"
        reason = "; ".join(filter(None, (self.frontier.reason, cause)))
        self.frontier = replace(self.frontier, reason=reason)
        self.live = SeqBitset()
        for block in self.blocks.reread("analysing"):
            if block.first_seq >= self.frontier.upto:
                break
            seqs = block.seqs
            for index in block.select(event_classes.ANALYSED | tag_sets.SNAPSHOT_PARTS):
                self.live.add(seqs[index])

    def _analyse(self, only: SeqBitset | None) -> LivenessResult:
        upto, staged = self.frontier.upto, self.frontier.analyses_parts

        def accepts(classes: int, start: int, stop: int) -> bool:
            if start >= upto or classes & REPLAYED:
                return start < upto
            contents = classes & (ANALYSED | SNAPSHOT_PARTS if staged else ANALYSED)
            return bool(contents) and (only is None or only.has_any(start, stop))

        return find_live_events(
            self.blocks.reread("analysing", accepts), self.survey, self.frontier, only
        )

    def snapshot_blocks(self, what: str) -> Iterator[Block]:
        """Yield the blocks before the frontier that contain snapshot parts."""
        upto = self.frontier.upto

        def accepts(classes: int, start: int, stop: int) -> bool:
            return start < upto and bool(classes & SNAPSHOT_PARTS)

        return self.blocks.reread(what, accepts)

    def retained_blocks(self, whole: Sequence[range]) -> Iterator[Block]:
        """Yield the blocks that may contain kept events.

        ``whole`` are the ranges of unmerged snapshots.
        """
        frontier, live = self.frontier, self.live
        stops = [part.stop for part in whole]

        def accepts(classes: int, start: int, stop: int) -> bool:
            if classes & RETAINED or stop > frontier.upto or not frontier.drops_inputs:
                return True
            if (classes & SNAPSHOT_PARTS and not self.is_merged) or live.has_any(start, stop):
                return True
            at = bisect_right(stops, start)
            return at < len(whole) and stop > whole[at].start

        return self.blocks.reread("writing", accepts)

    def execute(
        self,
        begin: Callable[[], AbstractContextManager[BlockTarget]],
        folder: Path,
        *,
        publish_unchanged: bool = True,
    ) -> CompactionResult:
        """Write the kept events to the target that ``begin`` opens.

        If snapshots cannot be merged, the kept events are written again without merging. The target
        is published; if nothing is dropped, only with ``publish_unchanged``. Raises
        CompactionMismatch if the kept events would not lead to the same states.
        """
        while True:
            try:
                with begin() as target:
                    result = _write_journal(self, target, folder)
                    if publish_unchanged or not result.is_unchanged:
                        target.publish()
                    return result
            except (DependsOnDroppedSnapshot, MalformedEvent, NoFreeSeqs) as error:
                if self.frontier.is_verbatim:
                    raise
                self.keep_verbatim(str(error) or DROPPED_DEPENDENCY)
                self.find_live_events()

    @property
    def is_merged(self) -> bool:
        """Return whether the pages of dropped snapshots are merged into the kept snapshots."""
        frontier = self.frontier
        return bool(frontier.kept) and not frontier.is_verbatim and not frontier.analyses_parts

    def selector(self, whole: Sequence[range]) -> EventSelector:
        """Return the selector of kept events. ``whole`` are the ranges of unmerged snapshots."""
        frontier = self.frontier
        return EventSelector(
            self.live,
            frontier.upto,
            [info.seq for info in frontier.kept],
            whole if self.is_merged else None,
            drops_inputs=frontier.drops_inputs,
            analyses_parts=frontier.analyses_parts,
        )

    def result(self, after: TagTotals) -> CompactionResult:
        """Return the result, given the totals ``after`` the compaction."""
        survey, frontier, before = self.survey, self.frontier, self.before
        kept = {info.seq for info in frontier.kept}
        kept |= {info.seq for info in survey.snapshots if info.seq >= frontier.upto}
        has_declared = not APPLICATION_TAGS.isdisjoint(before.events)
        kinds = self.reader.declarations().kinds if has_declared else BY_TAG
        return CompactionResult(
            self.reader.journal_id,
            survey.next_seq,
            frontier.upto,
            tuple(sorted(kept)),
            tuple(info.seq for info in survey.snapshots if info.seq not in kept),
            tuple(_count_kind(tag, kinds, before, after) for tag in sorted(before.events)),
            frontier.reason,
        )

    def _find_live(self) -> SeqBitset:
        """Repeat the liveness analysis on its own result until it drops nothing more.

        Each repetition replays only the live events, and so proves that they are sufficient.
        """
        if not self.frontier.upto:
            return SeqBitset()
        first = last = self._analyse(None)
        live = last.live
        for _ in range(PASSES_MAX):
            again = self._analyse(last.live)
            if again.fingerprints != first.fingerprints:
                raise CompactionMismatch(
                    "the kept events lead to another state: nothing is written"
                )
            if again.exceeds_peaks_of(first):
                raise _NeedsMoreSpace(
                    "without the dropped events, files would at times need more space than before"
                )
            live = last.live
            if again.live == live:
                break
            last = again
        return live


def _count_kind(
    tag: int, kinds: Mapping[int, type[Event]], before: TagTotals, after: TagTotals
) -> KindCounts:
    cls, group = kinds.get(tag), tag_sets.find_group(tag)
    return KindCounts(
        tag,
        cls.__name__ if cls else "",
        group.value if group else "",
        before.events[tag],
        before.sizes[tag],
        after.events.get(tag, 0),
        after.sizes.get(tag, 0),
    )


class _MergedRows:
    """Iterator, with look-ahead, over the rows of the merged snapshots, in sequence order."""

    def __init__(self, plan: CompactionPlan, state: MergedState, resolver: PageResolver) -> None:
        frontier, survey = plan.frontier, plan.survey
        self._plan = plan
        self._state = state
        infos = [info for info in survey.snapshots if info.seq < frontier.upto]
        self.groups = group_snapshots(frontier.kept, infos) if plan.is_merged else []
        merged_indices = [at for at, group in enumerate(self.groups) if not group.is_verbatim]
        groups = self.groups[: merged_indices[-1] + 1] if merged_indices else []
        self._remaining, self._last = iter(groups), groups[-1] if groups else None
        # Several snapshots are merged while the output is written, which then reports the progress.
        what = "merging" if len(merged_indices) == 1 else ""
        self._merger = (
            SnapshotMerger(plan.snapshot_blocks(what), state, resolver) if merged_indices else None
        )
        self._is_first, self._last_seq = True, -1
        self._rows: Iterator[OutputRow] = iter(())
        self._row: OutputRow | None = None
        self._advance()

    @property
    def next_seq(self) -> int:
        """Sequence number of the next row; SEQ_MAX if no row remains."""
        return self._row.seq if self._row is not None else SEQ_MAX

    def take(self, time: int) -> OutputRow:
        """Remove and return the next row, with a time of at most ``time``."""
        row = self._row
        assert row is not None
        self._advance()
        return row._replace(time=min(row.time, time))

    def _advance(self) -> None:
        self._row = next(self._rows, None)
        while self._row is None:
            group = next(self._remaining, None)
            if group is None:
                return
            self._rows = self._rows_for(group)
            self._row = next(self._rows, None)

    def _rows_for(self, group: SnapshotGroup) -> Iterator[OutputRow]:
        assert self._merger is not None
        own = self._merger.advance_to(group)
        if not group.is_verbatim:
            point = self._plan.survey.points[group.info.seq]
            planned = plan_snapshot(
                group, own, self._state, point, self._free_seqs(point), first=self._is_first
            )
            yield from chain.from_iterable(events.rows() for events in planned)
        if group is not self._last:
            self._state.set_base()
        self._is_first, self._last_seq = False, group.info.seq

    def _free_seqs(self, point: SafePointInfo) -> FreeSeqs:
        plan, last_seq = self._plan, self._last_seq
        last_kept = point.last_kept
        if not plan.frontier.drops_inputs:
            last_kept = max(last_kept, point.last_input)

        def last(stop: int) -> int:
            if last_kept >= stop:
                raise NoFreeSeqs(
                    f"kept event {last_kept} is stored between the parts of a snapshot"
                )
            return max(last_kept, plan.live.last_below(stop), last_seq)

        floor = max(point.floor, last_seq)
        return FreeSeqs(last, lambda last: self._iterate_free_seqs(floor, last))

    def _iterate_free_seqs(self, floor: int, last: int) -> Iterator[int]:
        """Yield the unused sequence numbers between ``floor`` and ``last``, in descending order."""
        used, selector = SeqBitset(), self._plan.selector([])
        for block in self._plan.retained_blocks([]):
            for seq in compress(block.seqs, selector.flags(block)):
                used.add(seq)
        yield from (seq for seq in range(last - 1, floor, -1) if seq not in used)


def _write_journal(plan: CompactionPlan, target: BlockTarget, folder: Path) -> CompactionResult:
    """Write the kept events to ``target``."""
    resolver = PageResolver.from_reader(plan.reader)
    with MergedState(folder) as state, PageDeduplicator(resolver, folder) as deduplicator:
        inserts, writer = _MergedRows(plan, state, resolver), RowWriter(target)
        whole = [group.seqs for group in inserts.groups if group.is_verbatim]
        selector = plan.selector(whole)
        for block in plan.retained_blocks(whole):
            _write_block(block, selector.flags(block), inserts, writer, deduplicator)
        writer.flush()
    return plan.result(writer.totals)


def _write_block(
    block: Block,
    flags: bytes,
    inserts: _MergedRows,
    writer: RowWriter,
    deduplicator: PageDeduplicator,
) -> None:
    count = flags.count(1)
    if count == block.count and inserts.next_seq > block.last_seq:
        new_payloads = deduplicator.rewrite_block(block)
        if not new_payloads:
            writer.put_block(block)
            return
        for index, row in enumerate(read_rows(block, flags)):
            writer.put(row._replace(payload=new_payloads.get(index, row.payload)))
        return
    for row in read_rows(block, flags) if count else ():
        while inserts.next_seq < row.seq:
            writer.put(deduplicator.rewrite_row(inserts.take(row.time), is_merged=True))
        writer.put(deduplicator.rewrite_row(row))
