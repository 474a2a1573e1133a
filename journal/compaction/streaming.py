"""Compaction of a stream of events in bounded windows, by the same analysis as a whole journal."""

from collections.abc import Sequence
from itertools import takewhile

from journal.compaction import event_classes
from journal.compaction.frontier import Frontier, SurveyBuilder, find_frontier
from journal.compaction.liveness.analysis import LivenessAnalysis
from journal.compaction.output import OutputRow
from journal.compaction.retention import RetentionPolicy
from journal.errors import MalformedEvent
from journal.format.block import Block, Compressor, Frames, build_block
from journal.format.frame import SEQ_MAX, Frame
from journal.replay.limits import ReplayError
from journal.snapshots.catalog import SnapshotCollector, SnapshotInfo

NAMES_PER_EVENT_MAX = 16
"""File names per event of a window. With more names the analysis costs more than it may save, and
the window passes unchanged.
"""


class StreamCompactor:
    """Compactor of a stream, window by window, such that each window leads to the same state.

    The state at each snapshot is the same, too. In a stream that records a process, events may be
    dropped only before the last snapshot of a window, only if a guest can resume from that
    snapshot, and only if events keep their sequence numbers (``keeps_seqs``). If an event cannot be
    replayed, all later events pass unchanged; ``reason`` says why, and is empty until then.

    The kept events of a window are replayed once more by themselves, and must lead to the same
    state, before they are returned.
    """

    def __init__(self, *, keeps_seqs: bool) -> None:
        self.reason = ""
        self._keeps_seqs = keeps_seqs
        self._survey_builder = SurveyBuilder()
        self._snapshot_collector = SnapshotCollector()
        self._names = self._pending_count = 0
        # The first analysis replays all events, the second only the kept events.
        self._analyses = tuple(
            LivenessAnalysis(self._survey_builder.survey, _NO_LIMIT, keeps_all=True)
            for _ in range(2)
        )

    def add_unchanged(self, rows: Sequence[OutputRow]) -> None:
        """Replay a window that was forwarded unchanged."""
        self._run_guarded(rows, may_drop=False)

    def compact_window(self, rows: Sequence[OutputRow]) -> Sequence[OutputRow]:
        """Return the kept events of a window."""
        return self._run_guarded(rows, may_drop=True)

    def stop_compacting(self, reason: str) -> None:
        """Pass all further events unchanged, for a ``reason``."""
        self.reason = reason
        self._analyses = ()

    def _run_guarded(self, rows: Sequence[OutputRow], *, may_drop: bool) -> Sequence[OutputRow]:
        if self.reason or not rows:
            return rows
        try:
            return self._split_window(rows, may_drop=may_drop)
        except (ReplayError, MalformedEvent) as error:
            self.stop_compacting(str(error))
            return rows

    def _split_window(self, rows: Sequence[OutputRow], *, may_drop: bool) -> Sequence[OutputRow]:
        upto = self._find_limit(rows)
        if self.reason:
            return rows
        if not may_drop or self._is_small(len(rows)):
            upto = 0
        count = sum(1 for _ in takewhile(lambda row: row.seq < upto, rows))
        head, tail = rows[:count], rows[count:]
        kept = self._select(head) if head else head
        if tail:
            self._play(tail)
        return [*kept, *tail] if len(kept) < count else rows

    def _select(self, rows: Sequence[OutputRow]) -> Sequence[OutputRow]:
        """Return the kept events of ``rows``, after a check that they lead to the same state."""
        first, second = self._analyses
        block = pack_rows(rows)
        first.add_block(block, SEQ_MAX, None)
        first.mark_pending_state()
        kept = first.graph.live
        second.add_block(block, SEQ_MAX, kept)
        second.mark_pending_state()
        expected, actual = first.result(), second.result()
        if expected.fingerprints != actual.fingerprints:
            self.stop_compacting("the kept events lead to another state")
            return rows
        if not actual.exceeds_peaks_of(expected):
            rows = [row for row in rows if row.tag not in event_classes.ANALYSED or row.seq in kept]
        self._forget_before(block.last_seq + 1)
        return rows

    def _play(self, rows: Sequence[OutputRow]) -> None:
        block = pack_rows(rows)
        for analysis in self._analyses:
            analysis.add_block(block, SEQ_MAX, None)
            analysis.settle_before(block.last_seq + 1)
        self._pending_count += len(rows)
        if not self._is_small(self._pending_count):
            self._forget_before(block.last_seq + 1)

    def _forget_before(self, upto: int) -> None:
        self._names = max(analysis.forget_before(upto) for analysis in self._analyses)
        self._pending_count = 0

    def _is_small(self, count: int) -> bool:
        """Return whether ``count`` events are too few to justify a pass over all names."""
        return count * NAMES_PER_EVENT_MAX < self._names

    def _find_limit(self, rows: Sequence[OutputRow]) -> int:
        """Add the window to the survey. Return the limit below which its events may be dropped."""
        infos: list[SnapshotInfo] = []
        for seq, tag, payload, time in rows:
            info = self._snapshot_collector.add(Frame(seq, tag, payload, time, 0))
            if info is not None:
                infos.append(info)
        self._survey_builder.add_block(pack_rows(rows))
        survey = self._survey_builder.survey
        if not survey.is_of_process:
            upto = SEQ_MAX
        elif not self._keeps_seqs:
            self.stop_compacting(
                "a guest can be executed again only with unchanged sequence numbers"
            )
            upto = 0
        else:
            survey.snapshots = infos
            upto = find_frontier(survey, RetentionPolicy(keep_last=len(infos))).upto if infos else 0
        survey.snapshots = []  # Facts about past windows are no longer needed.
        for column in (survey.unclosed, survey.cleared, survey.points):
            column.clear()
        return upto


_NO_LIMIT = Frontier(SEQ_MAX)


def pack_rows(rows: Sequence[OutputRow], compressor: Compressor | None = None) -> Block:
    """Return a block of the events ``rows``, which must fit in one block."""
    frames = Frames(
        [row.tag for row in rows], [row.payload for row in rows], [row.time for row in rows]
    )
    return build_block(frames, [row.seq for row in rows], compressor)
