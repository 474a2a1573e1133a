"""Selection of the events of a block by sequence number, tag and time."""

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import repeat
from typing import NamedTuple

from journal._arguments import check_int, check_tags
from journal.format.block import Block, compute_tag_bitmap
from journal.format.frame import TAG_MAX, TAG_MIN, Frame

# Unlike _make, this constructor runs in C.
_new_frame: Callable[[type[Frame], Iterable[object]], Frame] = tuple.__new__
_TAGS = range(TAG_MIN, TAG_MAX + 1)
SEQ_END = 1 << 64
"""Number after the last possible sequence number."""


class FrameSelection(NamedTuple):
    """Selected events: ``start`` to ``stop``, with one of ``tags``, at ``since`` or later."""

    start: int
    stop: int | None = None
    tags: Container[int] | None = None
    since: int | None = None

    def frames(self, block: Block) -> Iterator[Frame]:
        """Yield the selected frames. Raises immediately if the block is inconsistent."""
        indices, offset = self._indices(block), repeat(block.offset)
        if indices is None:
            rows = zip(block.seqs, block.tags, block.payloads(), block.times, offset, strict=False)
            return map(_new_frame, repeat(Frame), rows)
        rows_and_times = zip(block.rows(indices), block.times_at(indices), offset, strict=False)
        return (Frame(*row, time, offset) for row, time, offset in rows_and_times)

    def rows(self, block: Block) -> Iterator[tuple[int, int, bytes]]:
        """Yield tuples of sequence number, tag and payload. Raises as ``frames`` does."""
        return block.rows(self._indices(block))

    def payloads(self, block: Block) -> Iterable[bytes]:
        """Yield payloads. Raises as ``frames`` does."""
        if self.tags is not None and self._covers(block):
            return block.payloads_with_tags(_as_iterable(self.tags))
        return block.payloads(self._indices(block))

    def _covers(self, block: Block) -> bool:
        """Return whether the whole block is selected, if tags are ignored."""
        is_late = self.stop is not None and block.last_seq >= self.stop
        is_early = self.since is not None and block.header.time_first < self.since
        return block.first_seq >= self.start and not is_late and not is_early

    def _indices(self, block: Block) -> list[int] | None:
        """Return the indices of the selected events; None for all."""
        indices = None if self.tags is None else block.select(_as_iterable(self.tags))
        if self._covers(block):
            return indices
        seqs = block.seqs
        begin = 0 if seqs[0] >= self.start else bisect_left(seqs, self.start)
        end = len(seqs)
        if self.stop is not None and seqs[-1] >= self.stop:
            end = bisect_left(seqs, self.stop)
        if self.since is not None and block.time(0) < self.since:
            begin = max(begin, bisect_left(block.times, self.since))
        if indices is None:
            return None if (begin, end) == (0, len(seqs)) else list(range(begin, end))
        if (begin, end) != (0, len(seqs)):
            indices = indices[bisect_left(indices, begin) : bisect_left(indices, end)]
        return indices


def _as_iterable(tags: Container[int]) -> Iterable[int]:
    return tags if isinstance(tags, Iterable) else [tag for tag in _TAGS if tag in tags]


def check_range(
    start: int, stop: int | None, tags: Container[int] | None, since: int | None = None
) -> None:
    """Raise OptionError for a selection that has values of a wrong type."""
    check_int("start", start, 0, SEQ_END)
    if stop is not None:
        check_int("stop", stop, 0, SEQ_END)
    if tags is not None:
        check_tags("tags", tags)
    if since is not None:
        check_int("since", since, -SEQ_END, SEQ_END)


def tag_bitmap(tags: Container[int] | None) -> int:
    """Return the bitmap of the blocks that can contain one of ``tags``; all bits for None."""
    return -1 if tags is None else compute_tag_bitmap(tag for tag in _TAGS if tag in tags)
