"""Sparse index in the last block of a rolled segment: sequence numbers to block offsets."""

import struct
import sys
from array import array
from typing import NamedTuple

from journal.format.block import (
    BLOCK_HEADER_SIZE,
    BLOCK_PAYLOAD_SIZE_MAX,
    BlockHeader,
    find_flaw,
    is_body_intact,
)
from journal.format.block import read_header as read_block_header
from journal.format.frame import SEQ_MAX
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SegmentHeader
from journal.fs.byte_source import Bytes

INDEX_STEP = 1 << 16
"""Maximum bytes of blocks that one row covers, unless the row covers a single block."""
INDEX_ROWS_MAX = 1 << 19
_MAGIC = b"\x89JNLIDX\n"
_HEAD = struct.Struct("<8sQQQQ")
_TRAILER = struct.Struct("<Q8s")
_COLUMNS = 4

assert _HEAD.size % 8 == 0
assert _TRAILER.size == 16
assert _HEAD.size + 8 * _COLUMNS * INDEX_ROWS_MAX + _TRAILER.size <= BLOCK_PAYLOAD_SIZE_MAX


class SegmentIndex(NamedTuple):
    """Index of a segment, stored as columns. A row covers the blocks up to the next row's offset.

    Offsets and sequence numbers are relative to the segment. ``bitmaps`` combine the tags of all
    blocks of a row, ``next_seq`` is the sequence number after the last event, and ``time_last`` is
    the time of the last event.
    """

    event_count: int
    next_seq: int
    time_last: int
    offsets: "array[int]"
    first_seqs: "array[int]"
    times: "array[int]"
    bitmaps: "array[int]"

    def is_sound(self, end: int) -> bool:
        """Return whether offsets and sequence numbers ascend, and offsets are below ``end``."""
        offsets, seqs = self.offsets, self.first_seqs
        if not offsets:
            return not self.event_count
        ascend = all(map(int.__lt__, offsets, offsets[1:])) and all(map(int.__lt__, seqs, seqs[1:]))
        within = offsets[0] >= SEGMENT_HEADER_SIZE and offsets[-1] < end
        return ascend and within and seqs[-1] < self.next_seq <= SEQ_MAX


class SegmentIndexBuilder:
    """Builder of a segment's index, which adds rows while blocks are written."""

    __slots__ = ("_columns", "_event_count", "_next_seq", "_time_last")

    def __init__(self) -> None:
        self._event_count = self._next_seq = self._time_last = 0
        self._columns = array("Q"), array("Q"), array("Q"), array("Q")

    def add(self, header: BlockHeader, next_seq: int) -> None:
        """Add a block. ``next_seq`` is the sequence number after its last event."""
        if not header.frame_count:
            return
        offsets, first_seqs, times, bitmaps = self._columns
        if not offsets or header.end - offsets[-1] > INDEX_STEP:
            offsets.append(header.offset)
            first_seqs.append(header.first_seq)
            times.append(header.time_first)
            bitmaps.append(header.tag_bitmap)
        else:
            bitmaps[-1] |= header.tag_bitmap
        self._event_count += header.frame_count
        self._next_seq = next_seq
        self._time_last = header.time_last

    def payload(self, offset: int) -> bytes:
        """Return the payload of the index block at ``offset``; empty if there are too many rows."""
        rows = len(self._columns[0])
        if rows > INDEX_ROWS_MAX:
            return b""
        head = _HEAD.pack(_MAGIC, rows, self._event_count, self._next_seq, self._time_last)
        return b"".join(
            (head, *map(_to_little_endian, self._columns), _TRAILER.pack(offset, _MAGIC))
        )


def _to_little_endian(column: "array[int]") -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def read_index_header(data: Bytes, header: SegmentHeader) -> BlockHeader | None:
    """Return the header of the index block at the end of a file of one segment, or None."""
    size = len(data)
    trailer = data[max(0, size - _TRAILER.size) : size]
    if len(trailer) < _TRAILER.size:
        return None
    offset, magic = _TRAILER.unpack(trailer)
    if magic != _MAGIC or not SEGMENT_HEADER_SIZE <= offset <= size - BLOCK_HEADER_SIZE:
        return None
    last = read_block_header(data, offset, header.salt, offset)
    if last is None or find_flaw(last) or last.frame_count or last.end != size or last.mask:
        return None
    return last


def read(data: Bytes, header: SegmentHeader) -> SegmentIndex | None:
    """Return the index of a file of one rolled segment, or None if it has no valid index."""
    last = read_index_header(data, header)
    if last is None:
        return None
    body = data[last.offset + BLOCK_HEADER_SIZE : last.end]
    return _parse(body, last.offset) if is_body_intact(last, body, header.salt) else None


def _parse(body: bytes, offset: int) -> SegmentIndex | None:
    if len(body) < _HEAD.size + _TRAILER.size:
        return None
    magic, rows, event_count, next_seq, time_last = _HEAD.unpack_from(body)
    if magic != _MAGIC or len(body) != _HEAD.size + 8 * _COLUMNS * rows + _TRAILER.size:
        return None
    columns = []
    for number in range(_COLUMNS):
        start = _HEAD.size + 8 * rows * number
        column = array("Q", body[start : start + 8 * rows])
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column)
    index = SegmentIndex._make((event_count, next_seq, time_last, *columns))
    return index if index.is_sound(offset) else None
