"""Compaction: a shorter journal that plays to the same states."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain, compress
from pathlib import Path
from typing import NamedTuple

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
from journal.events import BY_TAG
from journal.format.block import Block
from journal.format.frame import SEQ_MAX
from journal.log.appender import RollPolicy
from journal.log.commit_policy import CommitPolicy
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.pages import PageResolver
from journal.replay.limits import ReplayError
from journal.rewrite.block_copier import check_output_path
from journal.rewrite.progress import ProgressCallback, ignore_progress

DROPPED_DEPENDENCY = "one that is kept counts on one that is not"
PASSES_MAX = 8
"""How often what is kept is judged again: what goes may let more go."""


class KindCounts(NamedTuple):
    """Events of one kind, and the bytes of their payloads: before a compaction, and behind it."""

    tag: int
    name: str
    group: str
    events: int
    size: int
    kept_events: int
    kept_size: int

    @property
    def dropped_events(self) -> int:
        """How many events less there are."""
        return self.events - self.kept_events

    @property
    def dropped_size(self) -> int:
        """How many bytes less; below zero where merged pages are larger than patches were."""
        return self.size - self.kept_size


class CompactionResult(NamedTuple):
    """What a compaction did, or would do; sizes are bytes of payloads, before they are compressed.

    ``snapshots`` are the numbers of those that are kept, ``dropped_snapshots`` of those that are
    not. In front of number ``upto`` events went. ``reason`` says why less went than might have,
    or why nothing could; it is empty where there is nothing to say.
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
        """Whether nothing goes."""
        return (self.events, self.size) == (self.kept_events, self.kept_size)

    @property
    def events(self) -> int:
        """Events that there were."""
        return sum(kind.events for kind in self.kinds)

    @property
    def kept_events(self) -> int:
        """Events that there are."""
        return sum(kind.kept_events for kind in self.kinds)

    @property
    def size(self) -> int:
        """Bytes that there were."""
        return sum(kind.size for kind in self.kinds)

    @property
    def kept_size(self) -> int:
        """Bytes that there are."""
        return sum(kind.kept_size for kind in self.kinds)


class _NeedsMoreSpace(Exception):
    """What is kept might not have had the room that there was."""


class CompactionMismatch(JournalError):
    """What would be kept does not lead to the same states: nothing is written."""


def compact(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    policy: RetentionPolicy = RetentionPolicy(),  # noqa: B008 - it is a value
    progress: ProgressCallback | None = None,
    dry_run: bool = False,
    roll: RollPolicy | None = None,
) -> CompactionResult:
    """Write to ``target``, a new journal, what the states of ``source`` are made of.

    These are the states at the snapshots that ``policy`` keeps, and at the end. Events keep their
    numbers and times, the journal its id; all behind the newest kept snapshot stays. ``target``
    gets its name when it is whole and durable; with ``dry_run`` nothing is written, and with
    ``roll`` it is a directory. Raises OptionError when it exists or would stand in the source, and
    a FormatError where that is damaged.
    """
    path = Path(target)
    if not dry_run:
        check_output_path(path, [Path(source)])
    with Reader(source) as reader:
        plan = CompactionPlan(reader, policy, progress or ignore_progress)
        if dry_run:
            return plan.execute(NullTarget, path.parent)

        def begin() -> Writer:
            journal_id, commit = reader.journal_id, CommitPolicy.NONE
            return Writer(path, publish=False, journal_id=journal_id, commit=commit, roll=roll)

        return plan.execute(begin, path.parent)


class CompactionPlan:
    """What is known of a journal before anything is written."""

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
        """Find out what is kept; where that cannot be told, all that cannot be is."""
        while True:
            try:
                self.live = self._find_live()
                return
            except DependsOnDroppedSnapshot:
                self.keep_verbatim(DROPPED_DEPENDENCY)
            except (ReplayError, MalformedEvent, _NeedsMoreSpace) as error:
                self.keep_all(str(error))
                return

    def keep_verbatim(self, why: str) -> None:
        """Let all snapshots stay as they are."""
        assert not self.frontier.is_verbatim, why
        self.frontier = find_frontier(self.survey, self.policy, verbatim_reason=why)

    def keep_all(self, why: str) -> None:
        """Keep all that is judged."""
        why = f"files and descriptors stay as they are: {why}"
        reason = "; ".join(filter(None, (self.frontier.reason, why)))
        self.frontier = replace(self.frontier, reason=reason)
        self.live = SeqBitset()
        for block in self.blocks.reread("judging"):
            if block.first_seq >= self.frontier.upto:
                break
            seqs = block.seqs
            for index in block.select(event_classes.ANALYSED | event_classes.SNAPSHOT_PARTS):
                self.live.add(seqs[index])

    def _analyse(self, only: SeqBitset | None) -> LivenessResult:
        upto, staged = self.frontier.upto, self.frontier.analyses_parts

        def accepts(classes: int, start: int, stop: int) -> bool:
            if start >= upto or classes & REPLAYED:
                return start < upto
            wanted = classes & (ANALYSED | SNAPSHOT_PARTS if staged else ANALYSED)
            return bool(wanted) and (only is None or only.has_any(start, stop))

        return find_live_events(
            self.blocks.reread("judging", accepts), self.survey, self.frontier, only
        )

    def snapshot_blocks(self, what: str) -> Iterator[Block]:
        """Give the blocks in front of the frontier that have parts of snapshots."""
        upto = self.frontier.upto

        def accepts(classes: int, start: int, stop: int) -> bool:
            return start < upto and bool(classes & SNAPSHOT_PARTS)

        return self.blocks.reread(what, accepts)

    def retained_blocks(self, whole: Sequence[range]) -> Iterator[Block]:
        """Give the blocks that may have events to be written; ``whole`` are snapshots that stay."""
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
        """Write what is kept to what ``begin`` gives; where snapshots cannot be merged, unmerged.

        It is published, where nothing goes only if ``publish_unchanged``. Raises Failure where what
        would be kept does not lead to the same states.
        """
        while True:
            try:
                with begin() as target:
                    found = _write_journal(self, target, folder)
                    if publish_unchanged or not found.is_unchanged:
                        target.publish()
                    return found
            except (DependsOnDroppedSnapshot, MalformedEvent, NoFreeSeqs) as error:
                if self.frontier.is_verbatim:
                    raise
                self.keep_verbatim(str(error) or DROPPED_DEPENDENCY)
                self.find_live_events()

    @property
    def is_merged(self) -> bool:
        """Whether the pages of snapshots that go are merged into those that stay."""
        frontier = self.frontier
        return bool(frontier.kept) and not frontier.is_verbatim and not frontier.analyses_parts

    def selector(self, whole: Sequence[range]) -> EventSelector:
        """What tells of events whether they are kept; ``whole`` are snapshots that stay whole."""
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
        """What came of it."""
        survey, frontier, before = self.survey, self.frontier, self.before
        kept = {info.seq for info in frontier.kept}
        kept |= {info.seq for info in survey.snapshots if info.seq >= frontier.upto}
        return CompactionResult(
            self.reader.journal_id,
            survey.next_seq,
            frontier.upto,
            tuple(sorted(kept)),
            tuple(info.seq for info in survey.snapshots if info.seq not in kept),
            tuple(_count_kind(tag, before, after) for tag in sorted(before.events)),
            frontier.reason,
        )

    def _find_live(self) -> SeqBitset:
        """What is kept is what would still be kept if nothing else had ever been there."""
        if not self.frontier.upto:
            return SeqBitset()
        first = last = self._analyse(None)
        live = last.live
        for _ in range(PASSES_MAX):
            again = self._analyse(last.live)
            if again.fingerprints != first.fingerprints:
                raise CompactionMismatch(
                    "what would be kept leads to another state: nothing is written"
                )
            if again.exceeds_peaks_of(first):
                raise _NeedsMoreSpace("without what goes, they would take more room for a while")
            live = last.live
            if again.live == live:
                break
            last = again
        return live


def _count_kind(tag: int, before: TagTotals, after: TagTotals) -> KindCounts:
    cls = BY_TAG.get(tag)
    return KindCounts(
        tag,
        cls.__name__ if cls else "",
        cls.group.value if cls else "",
        before.events[tag],
        before.sizes[tag],
        after.events.get(tag, 0),
        after.sizes.get(tag, 0),
    )


class _MergedRows:
    """The rows that snapshots get that are kept and do not stay as they are, in order."""

    def __init__(self, plan: CompactionPlan, state: MergedState, resolver: PageResolver) -> None:
        frontier, survey = plan.frontier, plan.survey
        self._plan = plan
        self._state = state
        infos = [info for info in survey.snapshots if info.seq < frontier.upto]
        self.groups = group_snapshots(frontier.kept, infos) if plan.is_merged else []
        merged = [at for at, group in enumerate(self.groups) if not group.is_verbatim]
        left = self.groups[: merged[-1] + 1] if merged else []
        self._left, self._last = iter(left), left[-1] if left else None
        what = "merging" if len(merged) == 1 else ""  # several are merged while others are written
        self._merger = (
            SnapshotMerger(plan.snapshot_blocks(what), state, resolver) if merged else None
        )
        self._is_first, self._last_seq = True, -1
        self._rows: Iterator[OutputRow] = iter(())
        self._row: OutputRow | None = None
        self._advance()

    @property
    def next_seq(self) -> int:
        """The number of the next row; above all others where none is left."""
        return self._row.seq if self._row is not None else SEQ_MAX

    def take(self, time: int) -> OutputRow:
        """Take the next row; what stands behind it has this time."""
        row = self._row
        assert row is not None
        self._advance()
        return row._replace(time=min(row.time, time))

    def _advance(self) -> None:
        self._row = next(self._rows, None)
        while self._row is None:
            group = next(self._left, None)
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
                raise NoFreeSeqs(f"event {last_kept} stands among the parts of a snapshot")
            return max(last_kept, plan.live.last_below(stop), last_seq)

        floor = max(point.floor, last_seq)
        return FreeSeqs(last, lambda last: self._iterate_free_seqs(floor, last))

    def _iterate_free_seqs(self, floor: int, last: int) -> Iterator[int]:
        """Give the numbers between two that nobody has, from behind."""
        taken, selector = SeqBitset(), self._plan.selector([])
        for block in self._plan.retained_blocks([]):
            for seq in compress(block.seqs, selector.flags(block)):
                taken.add(seq)
        yield from (seq for seq in range(last - 1, floor, -1) if seq not in taken)


def _write_journal(plan: CompactionPlan, target: BlockTarget, folder: Path) -> CompactionResult:
    """Write what is kept."""
    resolver = PageResolver.from_reader(plan.reader)
    with MergedState(folder) as state, PageDeduplicator(resolver, folder) as deduplicator:
        inserts, writer = _MergedRows(plan, state, resolver), RowWriter(target)
        whole = [group.seqs for group in inserts.groups if group.is_verbatim]
        selector = plan.selector(whole)
        for block in plan.retained_blocks(whole):
            _write_block(block, selector.flags(block), inserts, writer, deduplicator)
        writer.flush()
    return plan.result(writer.tally)


def _write_block(
    block: Block,
    flags: bytes,
    inserts: _MergedRows,
    writer: RowWriter,
    deduplicator: PageDeduplicator,
) -> None:
    count = flags.count(1)
    if count == block.count and inserts.next_seq > block.last_seq:
        changed = deduplicator.rewrite_block(block)
        if not changed:
            writer.put_block(block)
            return
        for index, row in enumerate(read_rows(block, flags)):
            writer.put(row._replace(payload=changed.get(index, row.payload)))
        return
    for row in read_rows(block, flags) if count else ():
        while inserts.next_seq < row.seq:
            writer.put(deduplicator.rewrite_row(inserts.take(row.time), is_merged=True))
        writer.put(deduplicator.rewrite_row(row))
