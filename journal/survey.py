"""A pass over the headers of a segment, to know what later blocks say about earlier ones."""

from typing import NamedTuple

from journal import segment
from journal.block import (
    BLOCK_HEADER_SIZE,
    BLOCK_MAGIC,
    BlockHeader,
    body_holds,
    flaw,
    read_header,
)
from journal.errors import LimitExceeded
from journal.segment import SEGMENT_HEADER_SIZE, Bytes, SegmentHeader

CLAIMS_MAX = 1 << 16
"""Blocks in one segment that stand behind debris: one per crash."""
WASTE_SIZE_MAX = 1 << 30
"""Bytes hashed in vain before a file is taken for hostile (plus some times its own size)."""
_WASTE_FACTOR = 8


class Segment(NamedTuple):
    """A segment of the file: from ``offset`` to ``limit``; ``shift`` makes its numbers ours.

    ``claims`` tells, of what a block behind debris names as its predecessor (end and hash), where
    the last such block stands; ``durable_upto`` is the highest that any of the blocks knew.
    """

    offset: int
    limit: int
    shift: int
    header: SegmentHeader
    claims: dict[tuple[int, int], int]
    durable_upto: int


class Budget:
    """Bounds the hashing that overlapping blocks of a hostile file could ask for."""

    def __init__(self, size: int) -> None:
        self._left = WASTE_SIZE_MAX + _WASTE_FACTOR * size

    def waste(self, size: int, offset: int) -> None:
        """Count bytes that were hashed in vain; LimitExceeded when they are too many."""
        self._left -= size
        if self._left < 0:
            raise LimitExceeded("too many blocks with bodies that do not hold", offset)


class SegmentBytes:
    """What the survey and the steps both ask of a segment's bytes; positions are the file's."""

    def __init__(self, data: Bytes, start: int, salt: int, budget: Budget) -> None:
        self._data = data
        self._start = start
        self._salt = salt
        self._budget = budget

    def _header(self, position: int) -> BlockHeader | None:
        return read_header(self._data, position, self._salt, position - self._start)

    def _body(self, header: BlockHeader) -> bytes:
        position = self._start + header.offset + BLOCK_HEADER_SIZE
        return self._data[position : self._start + header.end]

    def _whole(self, header: BlockHeader, body: bytes) -> bool:
        if body_holds(header, body, self._salt):
            return True
        self._budget.waste(len(body), self._start + header.offset)
        return False

    def _find(self, position: int, stop: int, least_seq: int = 0) -> BlockHeader | None:
        """Find the next sound header of this segment's, with a number not below ``least_seq``."""
        while (position := segment.search(self._data, BLOCK_MAGIC, position, stop)) >= 0:
            header = self._header(position)
            if header and header.first_seq >= least_seq and not flaw(header):
                return header
            position += 1
        return None


class Survey(SegmentBytes):
    """A pass over the headers of a segment, to know what later blocks say about earlier ones."""

    def __init__(
        self, data: Bytes, start: int, size: int, header: SegmentHeader, budget: Budget
    ) -> None:
        super().__init__(data, start, header.salt, budget)
        self._head = header
        self._size = size
        self._limit: int | None = None
        self._claims: dict[tuple[int, int], int] = {}
        self._durable = 0

    def segment(self, next_seq: int | None) -> Segment:
        """Make the pass; ``next_seq`` is the number that the events go on from, if any were."""
        position: int | None = self._start + SEGMENT_HEADER_SIZE
        while position is not None:
            position = self._step(position)
        limit = self._size if self._limit is None else self._limit
        first = self._head.first_seq
        shift = 0 if next_seq is None else next_seq - first
        return Segment(self._start, limit, shift, self._head, self._claims, self._durable)

    def _step(self, position: int) -> int | None:
        """Take the block at ``position`` into account; give where to go on."""
        header = self._header(position)
        if header is None or flaw(header):
            return self._search(position)
        self._durable = max(self._durable, header.durable_upto)
        if header.previous_end != header.offset:
            self._claims[header.previous_end, header.previous_hash] = header.offset
            if len(self._claims) > CLAIMS_MAX:
                raise LimitExceeded("more crashes than a segment may have seen", position)
        end = self._start + header.end
        following = self._header(end)
        if following and following.follows(header.end, header.hash):
            return end
        # the block that should follow may stand inside what this one only claims to be
        if end <= self._size and self._whole(header, self._body(header)):
            return end
        return self._search(position + 1)

    def _search(self, position: int) -> int | None:
        if position >= self._size:
            return None
        if self._limit is None:
            self._limit = segment.find(self._data, position, self._size)
        found = self._find(position, self._limit)
        return self._start + found.offset if found else None
