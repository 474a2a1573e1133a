"""First pass over the headers of a segment: facts that later blocks record about earlier ones."""

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from journal.errors import LimitExceeded
from journal.format import bit_search, segment_header
from journal.format.block import (
    BLOCK_HEADER_SIZE,
    BLOCK_MAGIC,
    BlockHeader,
    find_flaw,
    is_body_intact,
    read_header,
)
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SegmentHeader
from journal.fs.byte_source import Bytes

if TYPE_CHECKING:
    from journal.format.segment_seal import SegmentSeal

RECOVERY_LINKS_MAX = 1 << 16
"""Blocks of one segment that may follow debris: one per crash."""
FAILED_HASH_SIZE_MAX = 1 << 30
"""Bytes hashed without a match before a file is rejected as hostile (plus a multiple of its size).
"""
_FAILED_HASH_FACTOR = 8
_HEADER_SEARCH_SIZE_MAX = 1 << 32
_BODY_SEARCH_SIZE_MAX = bit_search.search_cost(
    8 * bit_search.BODY_SIZE_MAX, bit_search.BODY_SIZE_MAX >> 1
)
CACHED_HEADERS_MAX = 1 << 12
"""Maximum number of headers that the header scan keeps for the segment scan."""


class Segment(NamedTuple):
    """A segment of the journal's file number ``file``, from ``offset`` to ``limit`` in that file.

    ``recovery_links`` maps the predecessor (end, hash) that a block after debris records to the
    offset of the last block that records it. ``durable_upto`` is the highest durable offset that
    any block of the segment records. ``seq_regressions`` holds the offsets of blocks whose sequence
    numbers fall: a writer that resumes before superseded blocks causes this. ``regressed_to``
    holds, for each of them, the lowest sequence number that a regression there or later reaches.
    ``shift`` is added to the segment's sequence numbers to get those of the journal.
    ``continuation`` is the (end, hash) of the block that the next segment continues,
    ``continuation_seq`` the sequence number of that segment's first event.
    """

    offset: int
    limit: int
    header: SegmentHeader
    recovery_links: dict[tuple[int, int], int]
    durable_upto: int
    seq_regressions: list[int]
    regressed_to: list[int]
    file: int = 0
    name: str = ""
    shift: int = 0
    continuation: tuple[int, int] | None = None
    continuation_seq: int = 0
    seal: "SegmentSeal | None" = None
    """Opens the blocks; None if the segment is not sealed, or the key is not known."""

    def is_superseded(self, header: BlockHeader) -> bool:
        """Return whether a later block starts at a sequence number below the end of this block."""
        if not self.seq_regressions:
            return False
        later = bisect_right(self.seq_regressions, header.offset)
        end_seq = header.first_seq + header.frame_count
        return later < len(self.seq_regressions) and self.regressed_to[later] < end_seq


class HashBudget:
    """Limit on the hashing that overlapping blocks of a hostile file can cause.

    ``header_search`` and ``body_search`` limit the searches for a flipped bit: about a thousand
    headers, and one body of the largest size that is searched.
    """

    def __init__(self, size: int) -> None:
        self._left = FAILED_HASH_SIZE_MAX + _FAILED_HASH_FACTOR * size
        self.header_search = bit_search.SearchBudget(_HEADER_SEARCH_SIZE_MAX)
        self.body_search = bit_search.SearchBudget(_BODY_SEARCH_SIZE_MAX)

    def spend(self, size: int, offset: int) -> None:
        """Count bytes that were hashed without a match.

        Raises LimitExceeded when there are too many.
        """
        self._left -= size
        if self._left < 0:
            raise LimitExceeded("too many blocks with a wrong body hash", offset)


class SegmentBytes:
    """Access to the blocks of a segment, shared by both scans. Positions are offsets in the file.

    ``_header_cache`` maps offsets to headers without a flaw: written headers never change.
    """

    def __init__(
        self,
        data: Bytes,
        start: int,
        segment: SegmentHeader,
        budget: HashBudget,
        header_cache: dict[int, BlockHeader],
    ) -> None:
        self._data = data
        self._start = start
        self._salt = segment.salt
        self._is_sealed = segment.is_sealed
        self._budget = budget
        self._header_cache = header_cache

    def _header(self, position: int) -> BlockHeader | None:
        offset = position - self._start
        return self._header_cache.get(offset) or read_header(
            self._data, position, self._salt, offset
        )

    def _body(self, header: BlockHeader) -> bytes:
        position = self._start + header.offset + BLOCK_HEADER_SIZE
        return self._data[position : self._start + header.end]

    def _is_whole(self, header: BlockHeader, body: bytes) -> bool:
        if is_body_intact(header, body, self._salt):
            return True
        self._budget.spend(len(body), self._start + header.offset)
        return False

    def _find(self, position: int, stop: int, seq_min: int = 0) -> BlockHeader | None:
        """Return the next valid header of this segment that starts at ``seq_min`` or higher."""
        while (position := self._data.find(BLOCK_MAGIC, position, stop)) >= 0:
            header = self._header(position)
            if (
                header
                and header.first_seq >= seq_min
                and not find_flaw(header, is_sealed=self._is_sealed)
            ):
                return header
            position += 1
        return None


class HeaderScan(SegmentBytes):
    """First pass over the headers of a segment. Its result is a Segment.

    It ends at the block with the (end, hash) ``stop``, which the next file continues.
    """

    def __init__(
        self,
        data: Bytes,
        start: int,
        size: int,
        header: SegmentHeader,
        budget: HashBudget,
        header_cache: dict[int, BlockHeader],
        stop: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(data, start, header, budget, header_cache)
        self._stop = stop
        self._segment_header = header
        self._size = size
        self._limit: int | None = None
        self._recovery_links: dict[tuple[int, int], int] = {}
        self._durable_upto = 0
        self._next_seq = 0
        self._seq_regressions: list[int] = []
        self._regressed_to: list[int] = []
        self._next_header: BlockHeader | None = None

    def segment(self, begin: int | None = None) -> Segment:
        """Scan from the segment header or from position ``begin``, and return the segment."""
        position: int | None = begin or self._start + SEGMENT_HEADER_SIZE
        if self._stop == (SEGMENT_HEADER_SIZE, self._segment_header.hash):
            position = None
        while position is not None:
            position = self._step(position)
        limit = self._size if self._limit is None else self._limit
        lowest = list(accumulate(reversed(self._regressed_to), min))[::-1]
        return Segment(
            self._start,
            limit,
            self._segment_header,
            self._recovery_links,
            self._durable_upto,
            self._seq_regressions,
            lowest,
        )

    def _step(self, position: int) -> int | None:
        """Record the block at ``position``, and return the next position, or None at the end."""
        header = self._next_header or self._header(position)
        self._next_header = None
        if header is None or find_flaw(header, is_sealed=self._is_sealed):
            return self._search(position)
        if len(self._header_cache) < CACHED_HEADERS_MAX:
            self._header_cache[header.offset] = header
        self._durable_upto = max(self._durable_upto, header.durable_upto)
        if header.previous_end != header.offset:
            self._recovery_links[header.previous_end, header.previous_hash] = header.offset
        if header.first_seq < self._next_seq:
            self._seq_regressions.append(header.offset)
            self._regressed_to.append(header.first_seq)
        self._next_seq = header.first_seq + header.frame_count
        if max(len(self._recovery_links), len(self._seq_regressions)) > RECOVERY_LINKS_MAX:
            raise LimitExceeded(f"more than {RECOVERY_LINKS_MAX} crashes in one segment", position)
        if (header.end, header.hash) == self._stop:
            return None
        end = self._start + header.end
        following = self._header(end)
        if following and following.follows(header.end, header.hash):
            self._next_header = following
            return end
        # A false header can state a size that covers the next real block, so search inside it.
        if end <= self._size and self._is_whole(header, self._body(header)):
            return end
        return self._search(position + 1)

    def _search(self, position: int) -> int | None:
        if position >= self._size:
            return None
        if self._limit is None:
            self._limit = segment_header.find(self._data, position, self._size)
        self._next_header = self._find(position, self._limit)
        return self._start + self._next_header.offset if self._next_header else None
