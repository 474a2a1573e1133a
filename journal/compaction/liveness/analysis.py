"""Which events a journal's states are made of: all in front of the frontier is played, once.

What is kept is judged again by itself: it must lead to the same states, or nothing is written.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import compress
from typing import NamedTuple

from journal.compaction import event_classes as kinds
from journal.compaction.frontier import Frontier, Survey
from journal.compaction.liveness.dependency_graph import Ledger
from journal.compaction.liveness.descriptor_provenance import SpanTable
from journal.compaction.liveness.fast_path import Quick, Rows
from journal.compaction.liveness.fingerprint import print_of, told
from journal.compaction.liveness.memory_provenance import REGION_TAGS, Regions
from journal.compaction.liveness.provenance_host import SpanHost
from journal.compaction.liveness.seq_bitset import Numbers
from journal.events import codec
from journal.events.core import SetClockTime
from journal.events.inputs import HostResult
from journal.events.snapshots import ClearEthereal, DescriptorPositions, SafePoint, Snapshot
from journal.events.streams import StreamDelivered, StreamOpened
from journal.format.block import Block

_HOST_RESULT, _POSITIONS = HostResult.tag, DescriptorPositions.tag
_MICROSECOND = 1000


class Judgement(NamedTuple):
    """The events that are kept of those that are judged, and what was seen at each stop.

    ``prints`` are fingerprints of the states at the kept snapshots and at the frontier, ``peaks``
    the most room that the files of each mount took.
    """

    kept: Numbers
    prints: list[bytes]
    peaks: dict[str, int]

    def takes_more_room(self, other: "Judgement") -> bool:
        """Whether the files of a mount took more room at any time."""
        return any(peak > other.peaks.get(guest, 0) for guest, peak in self.peaks.items())


class Judge:
    """Plays events, and stops at each kept snapshot to keep what its state is made of.

    With ``keeps_all``, these are all that come.
    """

    def __init__(self, found: Survey, front: Frontier, *, keeps_all: bool = False) -> None:
        self.ledger = Ledger()
        self.prints: list[bytes] = []
        self._host = SpanHost(self.ledger)
        self._regions = Regions(self.ledger)
        self._latest: dict[object, int] = {}
        self._fresh: set[int] = set()  # streams of which no mark was met since they were opened
        self._has_regions, self._inputs_go = front.judges_staged, front.inputs_go
        self._void = iter(found.void)
        self._stage = next(self._void, None)
        self._seqs = {info.seq for info in front.kept}
        self._keeps_all = keeps_all
        self._positions: tuple[tuple[int, int], ...] = ()
        self.tags = kinds.JUDGED | kinds.PLAYED | kinds.LANDMARKS | {_POSITIONS, StreamOpened.tag}
        self._judged = kinds.JUDGED
        if self._has_regions:
            self.tags |= REGION_TAGS
            self._judged |= kinds.STAGED
        self._heeded = bytes(tag in self.tags for tag in range(256))
        self._may_go = bytes(tag in self._judged | kinds.MARKS for tag in range(256))

    def take(self, seq: int, tag: int, payload: bytes, now: int) -> None:
        """Take an event; raises NotPlayable and MalformedEvent."""
        if tag in kinds.PLAYED:
            self._host.play(seq, tag, payload, now, pinned=tag in kinds.KEPT)
            if tag in kinds.RESETS:
                self._regions.clear()
                self._positions = ()
        elif tag == _HOST_RESULT:
            self._host.hear(seq, payload, now)
            if not self._inputs_go:
                self.ledger.keep(seq)
        elif tag in kinds.LATEST or tag == StreamOpened.tag:
            self._put_latest(seq, tag, payload)
        elif tag in REGION_TAGS:
            if not self._is_void(seq):
                self._regions.take(seq, tag, payload)
        elif tag in kinds.KNOWN:
            self._take_mark(seq, tag, payload)
        else:
            self.stop()  # nobody knows what it needs

    def _take_mark(self, seq: int, tag: int, payload: bytes) -> None:
        if tag == SafePoint.tag:
            self._positions = ()
        elif tag == _POSITIONS:
            event = codec.decode(tag, payload)
            assert isinstance(event, DescriptorPositions)
            self._positions = event.positions
        elif tag == ClearEthereal.tag:
            self.ledger.keep(seq)
            self._regions.clear_threads(seq)
            self._positions = ()
        elif tag == Snapshot.tag:
            kept = self._keeps_all or seq in self._seqs
            self._host.stand(self._positions, seq, kept=kept)
            self._positions = ()
            if kept:
                self.stop()

    def _is_void(self, seq: int) -> bool:
        while self._stage is not None and self._stage.stop <= seq:
            self._stage = next(self._void, None)
        return self._stage is not None and self._stage.start <= seq

    def _put_latest(self, seq: int, tag: int, payload: bytes) -> None:
        """Keep the last of its kind; of the marks of a stream also the first since it was opened.

        A session that goes on takes that for what the target had when it was opened.
        """
        key: object = tag
        if tag in (StreamDelivered.tag, SetClockTime.tag):
            key = tag, payload[:1]
        elif tag == StreamOpened.tag:
            self._fresh.add(payload[0])
            return
        if tag == StreamDelivered.tag and payload[0] in self._fresh:
            self._fresh.discard(payload[0])
            self.ledger.keep(seq)
        self._latest[key] = seq

    def stop(self) -> None:
        """Keep all that there is now, and take its fingerprint."""
        self._regions.settle()
        for owner in set(self._cells()):  # most own several
            self.ledger.keep(owner)
        for seq in self._latest.values():
            self.ledger.keep(seq)
        self.prints.append(print_of(self._told()))

    def pause(self) -> None:
        """Keep also what answers to come are about: what is not kept now will not be there then."""
        for owner in self._host.waiting():
            self.ledger.keep(owner)
        self.stop()

    def pass_over(self, upto: int) -> None:
        """Take it that all in front of ``upto`` stays that was not dropped by now."""
        self.ledger.settle(upto)
        self.prints = []

    def settle(self, upto: int) -> int:
        """Pass over it, and forget whose it was; give how many names there are."""
        self.pass_over(upto)
        return self._host.settle(upto)

    def tidy(self) -> None:
        """See to it that memory does not grow with the journal."""
        if self.ledger.is_full:
            self._regions.settle()
            self.ledger.sweep(self._cells())

    def judgement(self) -> Judgement:
        """What was found."""
        return Judgement(self.ledger.kept, self.prints, self._host.peaks)

    def _cells(self) -> Iterator[int]:
        yield from self._host.cells()
        yield from self._regions.cells()

    def _told(self) -> Iterator[str]:
        yield from told(self._host)
        yield from self._regions.told()
        yield repr(sorted((str(key), seq) for key, seq in self._latest.items()))

    def take_block(self, block: Block, upto: int, only: Numbers | None) -> None:
        """Take the events of a block in front of ``upto``; with ``only``, of those judged these."""
        tags, count = block.tags, block.count
        if block.last_seq >= upto:
            count = bisect_left(block.seqs, upto)
        mask = bytes((1,)) * count if _is_strange(block) else tags[:count].translate(self._heeded)
        if only is not None:
            mask = self._left(block, mask, only)
        if 1 in mask:
            self._take_rows(Rows(block, mask))

    def _take_rows(self, rows: Rows) -> None:
        """Take events: most are played in haste."""

        def other(at: int, was_quick: bool) -> SpanTable:
            if was_quick:
                self._host.nothing_asked()
            now = rows.times[at] * _MICROSECOND
            self.take(rows.seqs[at], rows.tags[at], rows.payload(at), now)
            return self._host.spans

        self.ledger.late += rows.tags.count(kinds.WRITE)
        if Quick(self._host.spans, self.ledger).play(rows, other):
            self._host.nothing_asked()

    def _left(self, block: Block, mask: bytes, only: Numbers) -> bytes:
        """Those events that are still there when all that is not kept is gone."""
        seqs, tags = block.seqs, block.tags
        left = bytearray(mask)
        for index in compress(range(len(mask)), tags.translate(self._may_go)):
            if tags[index] in self._judged:
                left[index] &= seqs[index] in only
            else:
                left[index] &= self._keeps_all or seqs[index] in self._seqs
        return bytes(left)


def _is_strange(block: Block) -> bool:
    return not set(block.tags) <= kinds.KNOWN


def judge(
    blocks: Iterable[Block], found: Survey, front: Frontier, only: Numbers | None = None
) -> Judgement:
    """Play a journal up to the frontier; with ``only``, as if of what is judged only these stood.

    ``blocks`` are those that have anything to play. Raises NotPlayable and MalformedEvent where
    that cannot be done, and Entangled where a state depends on a snapshot that is to be dropped.
    """
    judged = Judge(found, front)
    for block in blocks:
        if block.first_seq >= front.upto:
            break
        judged.take_block(block, front.upto, only)
        judged.tidy()
    judged.ledger.keep(found.last_seq)
    if not front.kept or front.kept[-1].seq + 1 < front.upto:
        judged.stop()
    return judged.judgement()
