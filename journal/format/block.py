"""Blocks as they are read: columns at once, payloads decompressed on demand.

No code here knows a file: offsets are relative to the segment. Blocks are encoded in
``block_encoder``, whose functions this module exports too.
"""

import struct
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from operator import ge

import zstandard

from journal.errors import CorruptBlock, LimitExceeded
from journal.format.block_encoder import (
    Compressor,
    apply_mask,
    compute_tag_bitmap,
    encode,
    encode_index,
    encode_parts,
    make_compressor,
    rewrite_header,
)
from journal.format.block_header import (
    BLOCK_COUNT_MAX,
    BLOCK_HEADER_SIZE,
    BLOCK_MAGIC,
    BLOCK_PAYLOAD_SIZE_MAX,
    EQUAL_SIZES,
    RAW,
    TIME_SPAN_MAX,
    TIMES,
    BlockHeader,
    BlockPlacement,
    find_flaw,
    is_body_intact,
    read_header,
    read_last_delta,
)
from journal.format.columns import (
    BLOCK_SIZE_TARGET,
    COLUMNS_SIZE_PER_EVENT,
    EQUAL_PAYLOADS_COUNT_MAX,
    Frames,
    PackedFrames,
    are_ends_valid,
    find_block_end,
    is_rising,
    make_tag_finder,
    make_tag_masker,
    pack_block,
    pick,
    read_u32,
    split_payloads,
    split_selected,
)
from journal.format.frame import SEQ_MAX, TAG_MAX, TAG_MIN, Frame

__all__ = [
    "BLOCK_COUNT_MAX",
    "BLOCK_HEADER_SIZE",
    "BLOCK_MAGIC",
    "BLOCK_PAYLOAD_SIZE_MAX",
    "BLOCK_SIZE_TARGET",
    "COLUMNS_SIZE_PER_EVENT",
    "TIME_SPAN_MAX",
    "Block",
    "BlockHeader",
    "BlockPlacement",
    "Compressor",
    "Frames",
    "PackedFrames",
    "build_block",
    "compute_tag_bitmap",
    "encode",
    "encode_index",
    "encode_parts",
    "find_block_end",
    "find_flaw",
    "is_body_intact",
    "make_compressor",
    "pack_block",
    "read_header",
    "read_last_delta",
    "rewrite_header",
]

_TAG_ZEROED, _TAG_ERASED = 0, 255
_TAGS = frozenset(range(TAG_MIN, TAG_MAX + 1))
_SPARSE_FACTOR = 3
"""Payloads and times are extracted one by one if fewer than one in this many are requested."""
_unpack_span = struct.Struct("<II").unpack_from
_thread_local = threading.local()

assert (TAG_MIN, TAG_MAX) == (1, 254)


def build_block(
    frames: Frames, seqs: Sequence[int], compressor: Compressor | None = None
) -> "Block":
    """Return a block of ``frames`` with the ascending ``seqs``, at no offset of any file."""
    first = seqs[0]
    stored_seqs = seqs if seqs[-1] - first >= len(seqs) else None
    data, header = encode(BlockPlacement(0, first, 0, 0, 0, 0), frames, compressor, stored_seqs)
    return Block(header, data[BLOCK_HEADER_SIZE:], first, 0)


def _get_decompressor() -> zstandard.ZstdDecompressor:
    """Return the decompressor of this thread. A new one costs a third of the work of a block."""
    decompressor: zstandard.ZstdDecompressor | None = getattr(_thread_local, "decompressor", None)
    if decompressor is None:
        decompressor = _thread_local.decompressor = zstandard.ZstdDecompressor()
    return decompressor


class Block:
    """A block of a file. Columns are read at once, payloads are decompressed on demand."""

    __slots__ = (
        "_seqs",
        "_tags_end",
        "_unpacked",
        "body",
        "count",
        "first_seq",
        "header",
        "offset",
        "tags",
    )

    def __init__(self, header: BlockHeader, body: bytes, first_seq: int, offset: int) -> None:
        self.header = header
        self.body = body
        self._unpacked: bytes | None = None
        self._seqs: list[int] | None = None
        self.first_seq = first_seq
        self.offset = offset
        count = self.count = header.frame_count
        tags_at = header.payload_size + (0 if header.flags & EQUAL_SIZES else 4 * count)
        self._tags_end = tags_at + count
        self.tags = body[tags_at : tags_at + count]
        if _TAG_ZEROED in self.tags or _TAG_ERASED in self.tags:
            raise CorruptBlock(
                f"block has an event with tag {_TAG_ZEROED} or {_TAG_ERASED}, which no event has",
                offset,
            )

    @property
    def size(self) -> int:
        """Bytes of the block in its file."""
        return self.header.size

    @property
    def times(self) -> Sequence[int]:
        """Time of each event, in µs since the epoch."""
        first = self.header.time_first
        if not self.header.flags & TIMES:
            return (first,) * self.count
        return [first + delta for delta in self._column(0)]

    def times_at(self, indices: Sequence[int]) -> list[int]:
        """Return the times of the events at ``indices``."""
        if len(indices) * _SPARSE_FACTOR <= self.count:
            return [self.time(index) for index in indices]
        first = self.header.time_first
        if not self.header.flags & TIMES:
            return [first] * len(indices)
        return [first + delta for delta in pick(self._column(0), indices)]

    def time(self, index: int) -> int:
        """Return the time of one event."""
        self._check_index(index)
        delta = 0
        if self.header.flags & TIMES:
            at = self._tags_end + 4 * index
            delta = int.from_bytes(self.body[at : at + 4], "little")
        return self.header.time_first + delta

    @property
    def seqs(self) -> range | list[int]:
        """Sequence number of each event: a range, unless a compaction dropped events."""
        if not self.header.has_seqs or not self.count:
            return range(self.first_seq, self.first_seq + self.count)
        return self._read_seqs()

    def seqs_at(self, indices: Sequence[int]) -> list[int]:
        """Return the sequence numbers of the events at ``indices``."""
        if self.header.has_seqs:
            return list(pick(self.seqs, indices))
        first = self.first_seq
        return [first + index for index in indices]

    @property
    def last_seq(self) -> int:
        """Sequence number of the last event."""
        if self.header.has_seqs:
            return self.seqs[-1]
        return self.first_seq + self.count - 1

    def seq(self, index: int) -> int:
        """Return the sequence number of one event."""
        self._check_index(index)
        return self.seqs[index]

    def index(self, seq: int) -> int | None:
        """Return the index of the event ``seq``, or None if the block does not contain it."""
        if not self.header.has_seqs:
            index = seq - self.first_seq
            return index if 0 <= index < self.count else None
        seqs = self.seqs
        index = bisect_left(seqs, seq)
        return index if index < len(seqs) and seqs[index] == seq else None

    def select(self, tags: Iterable[int]) -> list[int]:
        """Return the indices of the events with one of ``tags``."""
        return make_tag_finder(_TAGS.intersection(tags))(self.tags)

    def rows(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, int, bytes]]:
        """Iterate over sequence number, tag and payload of all events or those at ``indices``.

        ``indices`` are ascending.
        """
        seqs, tags = self.seqs, self.tags
        if indices is None:
            return zip(seqs, tags, self.payloads(), strict=True)
        return zip(pick(seqs, indices), pick(tags, indices), self.payloads(indices), strict=True)

    def read_payload(self) -> bytes:
        """Return the decompressed payload as a whole, as in a block without events."""
        return self._raw()[: self.header.payload_raw_size]

    def payloads(self, indices: Sequence[int] | None = None) -> list[bytes]:
        """Return the payloads of all events or of those at ``indices``, which are ascending."""
        if indices is not None:
            return self._payloads_at(indices)
        ends = self._checked_ends()
        return split_payloads(self._raw(), self.header.payload_raw_size, ends, self.count)

    def payloads_with_tags(self, tags: Iterable[int]) -> list[bytes]:
        """Return the payloads of the events with one of ``tags``, in order."""
        if not self.header.has_equal_sizes or self.count > EQUAL_PAYLOADS_COUNT_MAX:
            return self.payloads(self.select(tags))
        mask = make_tag_masker(_TAGS.intersection(tags))(self.tags)
        if 1 not in mask:
            return []
        return split_selected(self._raw(), self.header.payload_raw_size // self.count, mask)

    def payload(self, index: int) -> bytes:
        """Return the payload of one event."""
        self._check_index(index)
        header = self.header
        if header.flags & EQUAL_SIZES:
            size = header.payload_raw_size // self.count
            return self._raw()[size * index : size * (index + 1)]
        return self._payloads_at((index,))[0]

    def frame(self, seq: int, index: int) -> Frame:
        """Return the event at ``index``, whose sequence number is ``seq``."""
        return Frame(seq, self.tags[index], self.payload(index), self.time(index), self.offset)

    def check(self) -> None:
        """Raise CorruptBlock if the columns contradict the header or each other."""
        header = self.header
        if compute_tag_bitmap(self.tags) != header.tag_bitmap:
            raise CorruptBlock(
                f"block header has tag bitmap {header.tag_bitmap:#x}, but the tags give "
                f"{compute_tag_bitmap(self.tags):#x}",
                self.offset,
            )
        span = header.time_last - header.time_first
        if header.flags & TIMES and self.count:
            deltas = self._column(0)
            times_fit = deltas[-1] == span and is_rising(deltas)
        else:
            times_fit = not (span and self.count)
        if not times_fit:
            raise CorruptBlock(
                "times of a block decrease or do not end at the time in its header", self.offset
            )
        self._checked_ends()
        if header.has_seqs and self.count:
            self._read_seqs()

    def _read_seqs(self) -> list[int]:
        """Return the sequence numbers from their column.

        Raises CorruptBlock or LimitExceeded unless they are ascending and within the limit.
        """
        if self._seqs is not None:
            return self._seqs
        deltas = self._column(1 if self.header.flags & TIMES else 0)
        if deltas[0] or any(map(ge, deltas, deltas[1:])):
            raise CorruptBlock("sequence numbers of a block are not ascending", self.offset)
        if self.first_seq + deltas[-1] >= SEQ_MAX:
            last = self.first_seq + deltas[-1]
            raise LimitExceeded(
                f"block has sequence number {last}, above the limit of {SEQ_MAX - 1}", self.offset
            )
        first = self.first_seq
        self._seqs = [first + delta for delta in deltas]
        return self._seqs

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.count:
            raise IndexError(f"event index {index} is not below the block's count of {self.count}")

    def _payloads_at(self, indices: Sequence[int]) -> list[bytes]:
        """Return the payloads at ``indices``, which reads only the ends of those payloads."""
        if not indices:
            return []  # No payload is decompressed.
        if len(indices) * _SPARSE_FACTOR > self.count:
            return list(pick(self.payloads(), indices))
        if self.header.has_equal_sizes:
            raw, size = self._raw(), self.header.payload_raw_size // self.count
            return [raw[start : start + size] for start in map(size.__mul__, indices)]
        body, raw, at = self.body, self._raw(), self.header.payload_size
        spans = [_unpack_span(body, at - 4 + 4 * index) for index in indices if index]
        if len(spans) < len(indices):  # The first payload starts at 0, not at an end.
            spans.insert(0, (0, int.from_bytes(body[at : at + 4], "little")))
        size = self.header.payload_raw_size
        if not all(start <= end <= size for start, end in spans):
            raise CorruptBlock(
                f"payload ends of a block decrease or exceed the payload of {size} bytes",
                self.offset,
            )
        return [raw[start:end] for start, end in spans]

    def _checked_ends(self) -> bytes:
        """Return the column of ends, empty if all payloads have one size.

        Raises CorruptBlock unless the ends are ascending up to the size of the payload.
        """
        if self.header.has_equal_sizes:
            return b""
        start = self.header.payload_size
        ends = self.body[start : start + 4 * self.count]
        size = self.header.payload_raw_size
        if not are_ends_valid(ends, size):
            raise CorruptBlock(
                f"payload ends of a block decrease or do not end at {size} bytes", self.offset
            )
        return ends

    def _column(self, index: int) -> tuple[int, ...]:
        """Return one of the columns of 32-bit values that follow the tags."""
        return read_u32(self.body, self._tags_end + 4 * self.count * index, self.count)

    def _raw(self) -> bytes:
        """Return bytes that start with the concatenated payloads."""
        if self._unpacked is None:
            self._unpacked = self._unpack()
        return self._unpacked

    def _unpack(self) -> bytes:
        header = self.header
        if header.codec == RAW and not header.mask:
            return self.body  # A copy would cost as much as the hash.
        stored = self.body[: header.payload_size]
        if header.mask:
            stored = apply_mask(stored, header.mask)
        if header.codec == RAW:
            return stored
        # zstandard allocates the size that the frame states, so that size is checked first.
        try:
            size = zstandard.frame_content_size(stored)
            if size != header.payload_raw_size:
                raise CorruptBlock(
                    f"zstd frame states {f'{size} bytes' if size >= 0 else 'no size'}, but the "
                    f"block header states {header.payload_raw_size} bytes",
                    self.offset,
                )
            raw = _get_decompressor().decompress(stored, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CorruptBlock(
                f"block payload cannot be decompressed: {error}", self.offset
            ) from error
        if len(raw) != header.payload_raw_size:
            raise CorruptBlock(
                f"block payload has {len(raw)} bytes, but the block header states "
                f"{header.payload_raw_size}",
                self.offset,
            )
        return raw
