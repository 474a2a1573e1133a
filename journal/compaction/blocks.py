"""The blocks of a journal, gone through several times: later only those that matter are read."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from journal import log
from journal.block import Block, BlockHeader
from journal.compaction import kinds
from journal.errors import JournalError
from journal.events.snapshots import DescriptorPositions
from journal.events.streams import StreamOpened
from journal.mending import Progress, Watched, nobody
from journal.segments import Files

JUDGED, PLAYED, STAGED, STAYING = 1, 2, 4, 8
"""What a block has: events that are judged, others that are played with them, parts of snapshots,
and others that may stay."""
_PLAYED = (
    (kinds.PLAYED - kinds.JUDGED) | kinds.LANDMARKS | {DescriptorPositions.tag, StreamOpened.tag}
)
_OTHERS = kinds.KNOWN - kinds.JUDGED - kinds.STAGED - kinds.CONSUMED

Wish = Callable[[int, int, int], bool]
"""Whether a block is to be read: what it has, its first number, and the one behind its last."""


def _all(marks: int, start: int, stop: int) -> bool:
    return True


class Changed(JournalError):
    """A journal was not the same when it was looked at again."""


class Blocks:
    """The blocks that have events, as they were found when all were looked at first."""

    def __init__(self, path: Path, report: Progress) -> None:
        self._path = path
        self._report = report
        self._firsts = array("Q")
        self._marks = bytearray()

    def look(self) -> Iterator[Block]:
        """Give all, for the first time. Raises a FormatError where anything is damaged."""
        for block in self._walk("looking", lambda place, header, first_seq: True):
            tags = set(block.tags)
            is_strange = not tags <= kinds.KNOWN
            marks = JUDGED * (not tags.isdisjoint(kinds.JUDGED))
            marks |= PLAYED * (is_strange or not tags.isdisjoint(_PLAYED))
            marks |= STAGED * (not tags.isdisjoint(kinds.STAGED))
            marks |= STAYING * (is_strange or not tags.isdisjoint(_OTHERS))
            self._firsts.append(block.first_seq)
            self._marks.append(marks)
            yield block

    def again(self, what: str, wish: Wish = _all) -> Iterator[Block]:
        """Give those that are wished for; raises as ``look`` does. Nothing is told without what."""
        firsts, marks = self._firsts, self._marks
        if not firsts:
            return
        last = firsts[-1]

        def wants(place: log.Segment, header: BlockHeader, first_seq: int) -> bool:
            if first_seq > last or not header.frame_count:
                return False
            at = bisect_right(firsts, first_seq) - 1
            if at < 0 or firsts[at] != first_seq:
                raise Changed(f"{self._path} has changed since it was looked at")
            if header.has_numbers:  # where it ends is not known before it is read
                return True
            return wish(marks[at], first_seq, first_seq + header.frame_count)

        for block in self._walk(what, wants):
            if block.first_seq > last:
                return
            yield block

    def _walk(self, what: str, wants: log.Wants) -> Iterator[Block]:
        with closing(Files(self._path)) as files:
            for item in Watched(files, self._report if what else nobody, what, wants).items():
                if isinstance(item, log.Damage):
                    raise item.error()
                if isinstance(item, log.Placed) and item.asked and item.header.frame_count:
                    yield Block(item.header, item.body, item.first_seq, item.offset)
