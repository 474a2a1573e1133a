"""What goes on of a stream of events, window by window, judged as a whole journal is."""

from collections.abc import Sequence
from itertools import takewhile

from journal.compaction import event_classes as kinds
from journal.compaction.frontier import Frontier, Surveyor, frontier
from journal.compaction.liveness.analysis import Judge
from journal.compaction.output import Row
from journal.compaction.retention import Policy
from journal.errors import MalformedEvent
from journal.format.block import Block, Compressor, Frames, build_block
from journal.format.frame import SEQ_MAX, Frame
from journal.replay.limits import NotPlayable
from journal.snapshots.catalog import SnapshotCollector, SnapshotInfo

NAMES_EACH_MAX = 16
"""A window with more names for each of its events goes on whole: it takes long to judge for what it
may save."""


class Windows:
    """Sifts the windows of a stream: all that went on plays to the state behind each of them.

    So it does to the state at each snapshot. Of a journal that says what ran, only what stands in
    front of the last snapshot of a window may go, and only if a guest can go on from that, and if
    the events keep their numbers, which ``keeps_numbers`` says. Where something cannot be played,
    everything goes on from there, for the ``reason`` given, empty until then.

    What goes on is played a second time by itself, and must lead to the same, before it goes on.
    """

    def __init__(self, *, keeps_numbers: bool) -> None:
        self.reason = ""
        self._keeps_numbers = keeps_numbers
        self._surveyor = Surveyor()
        self._watch = SnapshotCollector()
        self._names = self._unsettled = 0
        # one plays all, the other what goes on
        self._judges = tuple(Judge(self._surveyor.found, _ALL, keeps_all=True) for _ in range(2))

    def pass_whole(self, rows: Sequence[Row]) -> None:
        """Take note of a window that has gone on whole."""
        self._guarded(rows, may_go=False)

    def sift(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Give what goes on of a window."""
        return self._guarded(rows, may_go=True)

    def give_up(self, reason: str) -> None:
        """Let everything go on from here."""
        self.reason = reason
        self._judges = ()

    def _guarded(self, rows: Sequence[Row], *, may_go: bool) -> Sequence[Row]:
        if self.reason or not rows:
            return rows
        try:
            return self._sifted(rows, may_go=may_go)
        except (NotPlayable, MalformedEvent) as error:
            self.give_up(str(error))
            return rows

    def _sifted(self, rows: Sequence[Row], *, may_go: bool) -> Sequence[Row]:
        upto = self._upto(rows)
        if self.reason:
            return rows
        if not may_go or self._is_small(len(rows)):
            upto = 0
        count = sum(1 for _ in takewhile(lambda row: row.seq < upto, rows))
        front, rest = rows[:count], rows[count:]
        kept = self._judged(front) if front else front
        if rest:
            self._play(rest)
        return [*kept, *rest] if len(kept) < count else rows

    def _judged(self, rows: Sequence[Row]) -> Sequence[Row]:
        """What goes on of events of which all may go, if that has been seen to lead to the same."""
        every, again = self._judges
        block = block_of(rows)
        every.take_block(block, SEQ_MAX, None)
        every.pause()
        kept = every.ledger.kept
        again.take_block(block, SEQ_MAX, kept)
        again.pause()
        one, other = every.judgement(), again.judgement()
        if one.prints != other.prints:
            self.give_up("what would go on leads to another state")
            return rows
        if not other.takes_more_room(one):
            rows = [row for row in rows if row.tag not in kinds.JUDGED or row.seq in kept]
        self._settle(block.last_seq + 1)
        return rows

    def _play(self, rows: Sequence[Row]) -> None:
        block = block_of(rows)
        for judge in self._judges:
            judge.take_block(block, SEQ_MAX, None)
            judge.pass_over(block.last_seq + 1)
        self._unsettled += len(rows)
        if not self._is_small(self._unsettled):
            self._settle(block.last_seq + 1)

    def _settle(self, upto: int) -> None:
        self._names = max(judge.settle(upto) for judge in self._judges)
        self._unsettled = 0

    def _is_small(self, count: int) -> bool:
        """Whether it would take long to look at all that there is for so many events."""
        return count * NAMES_EACH_MAX < self._names

    def _upto(self, rows: Sequence[Row]) -> int:
        """In front of which number events may go; what is known of the journal counts."""
        infos: list[SnapshotInfo] = []
        for seq, tag, payload, time in rows:
            info = self._watch.take(Frame(seq, tag, payload, time, 0))
            if info is not None:
                infos.append(info)
        self._surveyor.look(block_of(rows))
        found = self._surveyor.found
        if not found.is_of_process:
            upto = SEQ_MAX
        elif not self._keeps_numbers:
            self.give_up("a guest is executed by numbers, and these are not kept")
            upto = 0
        else:
            found.snapshots = infos
            upto = frontier(found, Policy(keep_last=len(infos))).upto if infos else 0
        found.snapshots = []  # what is known of windows that are over is not needed
        for known in (found.void, found.cleared, found.points):
            known.clear()
        return upto


_ALL = Frontier(SEQ_MAX)


def block_of(rows: Sequence[Row], compressor: Compressor | None = None) -> Block:
    """A block of these events, which fit in one."""
    frames = Frames(
        [row.tag for row in rows], [row.payload for row in rows], [row.time for row in rows]
    )
    return build_block(frames, [row.seq for row in rows], compressor)
