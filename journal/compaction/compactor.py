"""Compaction: a shorter journal that plays to the same states."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain, compress
from pathlib import Path
from typing import NamedTuple

from journal.compaction import event_classes as kinds
from journal.compaction.block_directory import JUDGED, PLAYED, STAGED, STAYING, Blocks
from journal.compaction.frontier import Frontier, Point, Survey, frontier, survey
from journal.compaction.liveness.analysis import Judgement, judge
from journal.compaction.liveness.dependency_graph import Entangled
from journal.compaction.liveness.seq_bitset import Numbers
from journal.compaction.merge.page_deduplication import Naming
from journal.compaction.merge.page_store import Store
from journal.compaction.merge.snapshot_merge import (
    Gathering,
    NoNumbers,
    Room,
    Run,
    planned,
    runs_of,
)
from journal.compaction.output import Nobody, Outflow, Row, Tally, Target, Verdict, rows_of
from journal.compaction.retention import Policy
from journal.errors import JournalError, MalformedEvent
from journal.events import BY_TAG
from journal.format.block import Block
from journal.format.frame import SEQ_MAX
from journal.log.appender import RollPolicy
from journal.log.commit_policy import CommitPolicy
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.pages import PageResolver
from journal.replay.limits import NotPlayable
from journal.rewrite.block_copier import check_output_path
from journal.rewrite.progress import ProgressCallback, ignore_progress

COUNTS_ON = "one that is kept counts on one that is not"
PASSES_MAX = 8
"""How often what is kept is judged again: what goes may let more go."""


class Kind(NamedTuple):
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


class Compaction(NamedTuple):
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
    kinds: tuple[Kind, ...]
    reason: str

    @property
    def is_needless(self) -> bool:
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


class _Crowded(Exception):
    """What is kept might not have had the room that there was."""


class Failure(JournalError):
    """What would be kept does not lead to the same states: nothing is written."""


def compact(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    policy: Policy = Policy(),  # noqa: B008 - it is a value
    progress: ProgressCallback | None = None,
    dry_run: bool = False,
    roll: RollPolicy | None = None,
) -> Compaction:
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
        planning = Planning(reader, policy, progress or ignore_progress)
        if dry_run:
            return planning.carried_out(Nobody, path.parent)

        def begin() -> Writer:
            journal_id, commit = reader.journal_id, CommitPolicy.NONE
            return Writer(path, publish=False, journal_id=journal_id, commit=commit, roll=roll)

        return planning.carried_out(begin, path.parent)


class Planning:
    """What is known of a journal before anything is written."""

    def __init__(self, reader: Reader, policy: Policy, report: ProgressCallback) -> None:
        self.reader = reader
        self.report = report
        self.policy = policy
        self.before = Tally()
        self.blocks = Blocks(reader.path, report)
        self.found: Survey = survey(self._looked())
        self.front: Frontier = frontier(self.found, policy)
        self.kept = Numbers()
        self.judge()

    def _looked(self) -> Iterator[Block]:
        for block in self.blocks.look():
            self.before.add_block(block)
            yield block

    def judge(self) -> None:
        """Find out what is kept; where that cannot be told, all that cannot be is."""
        while True:
            try:
                self.kept = self._judged()
                return
            except Entangled:
                self.stay(COUNTS_ON)
            except (NotPlayable, MalformedEvent, _Crowded) as error:
                self.keep_all(str(error))
                return

    def stay(self, why: str) -> None:
        """Let all snapshots stay as they are."""
        assert not self.front.as_they_are, why
        self.front = frontier(self.found, self.policy, as_they_are=why)

    def keep_all(self, why: str) -> None:
        """Keep all that is judged."""
        why = f"files and descriptors stay as they are: {why}"
        reason = "; ".join(filter(None, (self.front.reason, why)))
        self.front = replace(self.front, reason=reason)
        self.kept = Numbers()
        for block in self.blocks.again("judging"):
            if block.first_seq >= self.front.upto:
                break
            seqs = block.seqs
            for index in block.select(kinds.JUDGED | kinds.STAGED):
                self.kept.add(seqs[index])

    def _judge(self, only: Numbers | None) -> Judgement:
        upto, staged = self.front.upto, self.front.judges_staged

        def wish(marks: int, start: int, stop: int) -> bool:
            if start >= upto or marks & PLAYED:
                return start < upto
            wanted = marks & (JUDGED | STAGED if staged else JUDGED)
            return bool(wanted) and (only is None or only.has_any(start, stop))

        return judge(self.blocks.again("judging", wish), self.found, self.front, only)

    def staged(self, what: str) -> Iterator[Block]:
        """Give the blocks in front of the frontier that have parts of snapshots."""
        upto = self.front.upto

        def wish(marks: int, start: int, stop: int) -> bool:
            return start < upto and bool(marks & STAGED)

        return self.blocks.again(what, wish)

    def written(self, whole: Sequence[range]) -> Iterator[Block]:
        """Give the blocks that may have events to be written; ``whole`` are snapshots that stay."""
        front, kept = self.front, self.kept
        stops = [part.stop for part in whole]

        def wish(marks: int, start: int, stop: int) -> bool:
            if marks & STAYING or stop > front.upto or not front.inputs_go:
                return True
            if (marks & STAGED and not self.is_merged) or kept.has_any(start, stop):
                return True
            at = bisect_right(stops, start)
            return at < len(whole) and stop > whole[at].start

        return self.blocks.again("writing", wish)

    def carried_out(
        self,
        begin: Callable[[], AbstractContextManager[Target]],
        folder: Path,
        *,
        even_needless: bool = True,
    ) -> Compaction:
        """Write what is kept to what ``begin`` gives; where snapshots cannot be merged, unmerged.

        It is published, where nothing goes only if ``even_needless``. Raises Failure where what
        would be kept does not lead to the same states.
        """
        while True:
            try:
                with begin() as target:
                    found = _write(self, target, folder)
                    if even_needless or not found.is_needless:
                        target.publish()
                    return found
            except (Entangled, MalformedEvent, NoNumbers) as error:
                if self.front.as_they_are:
                    raise
                self.stay(str(error) or COUNTS_ON)
                self.judge()

    @property
    def is_merged(self) -> bool:
        """Whether the pages of snapshots that go are merged into those that stay."""
        front = self.front
        return bool(front.kept) and not front.as_they_are and not front.judges_staged

    def verdict(self, whole: Sequence[range]) -> Verdict:
        """What tells of events whether they are kept; ``whole`` are snapshots that stay whole."""
        front = self.front
        return Verdict(
            self.kept,
            front.upto,
            [info.seq for info in front.kept],
            whole if self.is_merged else None,
            inputs_go=front.inputs_go,
            judges_staged=front.judges_staged,
        )

    def told(self, after: Tally) -> Compaction:
        """What came of it."""
        found, front, before = self.found, self.front, self.before
        kept = {info.seq for info in front.kept}
        kept |= {info.seq for info in found.snapshots if info.seq >= front.upto}
        return Compaction(
            self.reader.journal_id,
            found.next_seq,
            front.upto,
            tuple(sorted(kept)),
            tuple(info.seq for info in found.snapshots if info.seq not in kept),
            tuple(_kind(tag, before, after) for tag in sorted(before.events)),
            front.reason,
        )

    def _judged(self) -> Numbers:
        """What is kept is what would still be kept if nothing else had ever been there."""
        if not self.front.upto:
            return Numbers()
        first = last = self._judge(None)
        held = last.kept
        for _ in range(PASSES_MAX):
            again = self._judge(last.kept)
            if again.prints != first.prints:
                raise Failure("what would be kept leads to another state: nothing is written")
            if again.takes_more_room(first):
                raise _Crowded("without what goes, they would take more room for a while")
            held = last.kept
            if again.kept == held:
                break
            last = again
        return held


def _kind(tag: int, before: Tally, after: Tally) -> Kind:
    cls = BY_TAG.get(tag)
    return Kind(
        tag,
        cls.__name__ if cls else "",
        cls.group.value if cls else "",
        before.events[tag],
        before.sizes[tag],
        after.events.get(tag, 0),
        after.sizes.get(tag, 0),
    )


class _Inserts:
    """The rows that snapshots get that are kept and do not stay as they are, in order."""

    def __init__(self, planning: Planning, store: Store, resolver: PageResolver) -> None:
        front, found = planning.front, planning.found
        self._planning = planning
        self._store = store
        infos = [info for info in found.snapshots if info.seq < front.upto]
        self.runs = runs_of(front.kept, infos) if planning.is_merged else []
        merged = [at for at, run in enumerate(self.runs) if not run.verbatim]
        left = self.runs[: merged[-1] + 1] if merged else []
        self._left, self._last = iter(left), left[-1] if left else None
        what = "merging" if len(merged) == 1 else ""  # several are merged while others are written
        self._gathering = Gathering(planning.staged(what), store, resolver) if merged else None
        self._is_first, self._last_seq = True, -1
        self._rows: Iterator[Row] = iter(())
        self._row: Row | None = None
        self._advance()

    @property
    def next_seq(self) -> int:
        """The number of the next row; above all others where none is left."""
        return self._row.seq if self._row is not None else SEQ_MAX

    def take(self, time: int) -> Row:
        """Take the next row; what stands behind it has this time."""
        row = self._row
        assert row is not None
        self._advance()
        return row._replace(time=min(row.time, time))

    def _advance(self) -> None:
        self._row = next(self._rows, None)
        while self._row is None:
            run = next(self._left, None)
            if run is None:
                return
            self._rows = self._rows_of(run)
            self._row = next(self._rows, None)

    def _rows_of(self, run: Run) -> Iterator[Row]:
        assert self._gathering is not None
        own = self._gathering.come_to(run)
        if not run.verbatim:
            point = self._planning.found.points[run.info.seq]
            plan = planned(run, own, self._store, point, self._room(point), first=self._is_first)
            yield from chain.from_iterable(part.rows() for part in plan)
        if run is not self._last:
            self._store.settle()
        self._is_first, self._last_seq = False, run.info.seq

    def _room(self, point: Point) -> Room:
        planning, last_seq = self._planning, self._last_seq
        anyhow = point.last_kept
        if not planning.front.inputs_go:
            anyhow = max(anyhow, point.last_heard)

        def last(stop: int) -> int:
            if anyhow >= stop:
                raise NoNumbers(f"event {anyhow} stands among the parts of a snapshot")
            return max(anyhow, planning.kept.last_below(stop), last_seq)

        floor = max(point.floor, last_seq)
        return Room(last, lambda last: self._free(floor, last))

    def _free(self, floor: int, last: int) -> Iterator[int]:
        """Give the numbers between two that nobody has, from behind."""
        taken, verdict = Numbers(), self._planning.verdict([])
        for block in self._planning.written([]):
            for seq in compress(block.seqs, verdict.flags(block)):
                taken.add(seq)
        yield from (seq for seq in range(last - 1, floor, -1) if seq not in taken)


def _write(planning: Planning, target: Target, folder: Path) -> Compaction:
    """Write what is kept."""
    resolver = PageResolver.of(planning.reader)
    with Store(folder) as store, Naming(resolver, folder) as naming:
        inserts, outflow = _Inserts(planning, store, resolver), Outflow(target)
        whole = [run.numbers for run in inserts.runs if run.verbatim]
        verdict = planning.verdict(whole)
        for block in planning.written(whole):
            _write_block(block, verdict.flags(block), inserts, outflow, naming)
        outflow.flush()
    return planning.told(outflow.tally)


def _write_block(
    block: Block, flags: bytes, inserts: _Inserts, outflow: Outflow, naming: Naming
) -> None:
    count = flags.count(1)
    if count == block.count and inserts.next_seq > block.last_seq:
        changed = naming.changed(block)
        if not changed:
            outflow.put_block(block)
            return
        for index, row in enumerate(rows_of(block, flags)):
            outflow.put(row._replace(payload=changed.get(index, row.payload)))
        return
    for row in rows_of(block, flags) if count else ():
        while inserts.next_seq < row.seq:
            outflow.put(naming.row(inserts.take(row.time), is_merged=True))
        outflow.put(naming.row(row))
