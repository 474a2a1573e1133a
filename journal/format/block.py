"""A block as it is read: its columns at hand, its payloads when they are asked for.

Nothing here knows a file: offsets are the segment's own. What makes a block is in ``sealing``, and
both halves are to be had from here.
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
"""Payloads and times are cut out one by one when fewer than one in so many are wanted."""
_unpack_span = struct.Struct("<II").unpack_from
_thread_local = threading.local()

assert (TAG_MIN, TAG_MAX) == (1, 254)


def build_block(
    frames: Frames, seqs: Sequence[int], compressor: Compressor | None = None
) -> "Block":
    """A block of frames with these numbers, which rise; it stands nowhere yet."""
    first = seqs[0]
    holes = seqs if seqs[-1] - first >= len(seqs) else None
    data, header = encode(BlockPlacement(0, first, 0, 0, 0, 0), frames, compressor, holes)
    return Block(header, data[BLOCK_HEADER_SIZE:], first, 0)


def _get_decompressor() -> zstandard.ZstdDecompressor:
    """The decompressor of this thread: making one costs a third of what a block does."""
    found: zstandard.ZstdDecompressor | None = getattr(_thread_local, "decompressor", None)
    if found is None:
        found = _thread_local.decompressor = zstandard.ZstdDecompressor()
    return found


class Block:
    """A block of a file: its columns at hand, its payloads decompressed when asked for."""

    __slots__ = (
        "_numbers",
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
        self._numbers: list[int] | None = None
        self.first_seq = first_seq
        self.offset = offset
        count = self.count = header.frame_count
        tags_at = header.payload_size + (0 if header.flags & EQUAL_SIZES else 4 * count)
        self._tags_end = tags_at + count
        self.tags = body[tags_at : tags_at + count]
        if _TAG_ZEROED in self.tags or _TAG_ERASED in self.tags:
            raise CorruptBlock("a block has tags that no event has", offset)

    @property
    def size(self) -> int:
        """Bytes of the block in its file."""
        return self.header.size

    @property
    def times(self) -> Sequence[int]:
        """One time per event, µs since the epoch."""
        first = self.header.time_first
        if not self.header.flags & TIMES:
            return (first,) * self.count
        return [first + delta for delta in self._column(0)]

    def times_at(self, indices: Sequence[int]) -> list[int]:
        """The times of the events at ``indices``."""
        if len(indices) * _SPARSE_FACTOR <= self.count:
            return [self.time(index) for index in indices]
        first = self.header.time_first
        if not self.header.flags & TIMES:
            return [first] * len(indices)
        return [first + delta for delta in pick(self._column(0), indices)]

    def time(self, index: int) -> int:
        """The time of one event."""
        self._check_index(index)
        delta = 0
        if self.header.flags & TIMES:
            at = self._tags_end + 4 * index
            delta = int.from_bytes(self.body[at : at + 4], "little")
        return self.header.time_first + delta

    @property
    def seqs(self) -> range | list[int]:
        """One number per event: a range, except where compaction left holes."""
        if not self.header.has_seqs or not self.count:
            return range(self.first_seq, self.first_seq + self.count)
        return self._read_numbers()

    def seqs_at(self, indices: Sequence[int]) -> list[int]:
        """The numbers of the events at ``indices``."""
        if self.header.has_seqs:
            return list(pick(self.seqs, indices))
        first = self.first_seq
        return [first + index for index in indices]

    @property
    def last_seq(self) -> int:
        """The number of the last of its events."""
        if self.header.has_seqs:
            return self.seqs[-1]
        return self.first_seq + self.count - 1

    def seq(self, index: int) -> int:
        """The number of one event."""
        self._check_index(index)
        return self.seqs[index]

    def index(self, seq: int) -> int | None:
        """The index of the event of this number, None when there is none here."""
        if not self.header.has_seqs:
            index = seq - self.first_seq
            return index if 0 <= index < self.count else None
        seqs = self.seqs
        index = bisect_left(seqs, seq)
        return index if index < len(seqs) and seqs[index] == seq else None

    def select(self, tags: Iterable[int]) -> list[int]:
        """The indices of the events of these tags, found in the column of tags."""
        return make_tag_finder(_TAGS.intersection(tags))(self.tags)

    def rows(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, int, bytes]]:
        """Number, tag and payload of each event, or of each at ``indices``, which rise."""
        seqs, tags = self.seqs, self.tags
        if indices is None:
            return zip(seqs, tags, self.payloads(), strict=True)
        return zip(pick(seqs, indices), pick(tags, indices), self.payloads(indices), strict=True)

    def payloads(self, indices: Sequence[int] | None = None) -> list[bytes]:
        """One payload per event, or for each of ``indices``, which rise."""
        if indices is not None:
            return self._cut(indices)
        ends = self._fitting_ends()
        return split_payloads(self._raw(), self.header.payload_raw_size, ends, self.count)

    def payload_bytes(self) -> tuple[bytes, list[int]]:
        """All payloads, one behind the other, and where each stops; behind them may be anything."""
        size, count = self.header.payload_raw_size, self.count
        if self.header.has_equal_sizes:
            each = size // count if count else 0
            return self._raw(), [each * number for number in range(1, count + 1)]
        ends = self._fitting_ends()
        return self._raw(), list(read_u32(ends, 0, count))

    def payloads_with_tags(self, tags: Iterable[int]) -> list[bytes]:
        """The payloads of the events of these tags, in order."""
        if not self.header.has_equal_sizes or self.count > EQUAL_PAYLOADS_COUNT_MAX:
            return self.payloads(self.select(tags))
        mask = make_tag_masker(_TAGS.intersection(tags))(self.tags)
        if 1 not in mask:
            return []
        return split_selected(self._raw(), self.header.payload_raw_size // self.count, mask)

    def payload(self, index: int) -> bytes:
        """The payload of one event."""
        self._check_index(index)
        header = self.header
        if header.flags & EQUAL_SIZES:
            size = header.payload_raw_size // self.count
            return self._raw()[size * index : size * (index + 1)]
        return self._cut((index,))[0]

    def frame(self, seq: int, index: int) -> Frame:
        """The event of this number, whose index is known."""
        return Frame(seq, self.tags[index], self.payload(index), self.time(index), self.offset)

    def check(self) -> None:
        """Raise CorruptBlock when the columns contradict the header or themselves."""
        header = self.header
        if compute_tag_bitmap(self.tags) != header.tag_bitmap:
            raise CorruptBlock("a block's bitmap is not that of its tags", self.offset)
        span = header.time_last - header.time_first
        if header.flags & TIMES and self.count:
            deltas = self._column(0)
            times_fit = deltas[-1] == span and is_rising(deltas)
        else:
            times_fit = not (span and self.count)
        if not times_fit:
            raise CorruptBlock("a block's times do not fit", self.offset)
        self._fitting_ends()
        if header.has_seqs and self.count:
            self._read_numbers()

    def _read_numbers(self) -> list[int]:
        """The numbers by their column, if it rises from 0 to a number that an event can have."""
        if self._numbers is not None:
            return self._numbers
        deltas = self._column(1 if self.header.flags & TIMES else 0)
        if deltas[0] or any(map(ge, deltas, deltas[1:])):
            raise CorruptBlock("the numbers of a block do not rise", self.offset)
        if self.first_seq + deltas[-1] >= SEQ_MAX:
            last = self.first_seq + deltas[-1]
            raise LimitExceeded(f"a block claims event number {last}", self.offset)
        first = self.first_seq
        self._numbers = [first + delta for delta in deltas]
        return self._numbers

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.count:
            raise IndexError(f"a block of {self.count} events has none of index {index}")

    def _cut(self, indices: Sequence[int]) -> list[bytes]:
        """The payloads at ``indices``, with no more of the ends looked at than theirs."""
        if not indices:
            return []  # and nothing is decompressed
        if len(indices) * _SPARSE_FACTOR > self.count:
            return list(pick(self.payloads(), indices))
        if self.header.has_equal_sizes:
            raw, size = self._raw(), self.header.payload_raw_size // self.count
            return [raw[start : start + size] for start in map(size.__mul__, indices)]
        body, raw, at = self.body, self._raw(), self.header.payload_size
        spans = [_unpack_span(body, at - 4 + 4 * index) for index in indices if index]
        if len(spans) < len(indices):  # the first payload begins at no other's end
            spans.insert(0, (0, int.from_bytes(body[at : at + 4], "little")))
        size = self.header.payload_raw_size
        if not all(start <= end <= size for start, end in spans):
            raise CorruptBlock("the ends of a block's payloads do not fit", self.offset)
        return [raw[start:end] for start, end in spans]

    def _fitting_ends(self) -> bytes:
        """The column of ends, which must fit; empty where all payloads have one size."""
        if self.header.has_equal_sizes:
            return b""
        start = self.header.payload_size
        ends = self.body[start : start + 4 * self.count]
        if not are_ends_valid(ends, self.header.payload_raw_size):
            raise CorruptBlock("the ends of a block's payloads do not fit", self.offset)
        return ends

    def _column(self, number: int) -> tuple[int, ...]:
        """One of the columns of 32-bit values behind the tags."""
        return read_u32(self.body, self._tags_end + 4 * self.count * number, self.count)

    def _raw(self) -> bytes:
        """What begins with the payloads, end to end."""
        if self._unpacked is None:
            self._unpacked = self._unpack()
        return self._unpacked

    def _unpack(self) -> bytes:
        header = self.header
        if header.codec == RAW and not header.mask:
            return self.body  # a copy would cost as much as the hash
        stored = self.body[: header.payload_size]
        if header.mask:
            stored = apply_mask(stored, header.mask)
        if header.codec == RAW:
            return stored
        # the frame's own word on its size decides what zstandard allocates: check it first
        try:
            if zstandard.frame_content_size(stored) != header.payload_raw_size:
                raise CorruptBlock("a payload is not of the size it claims", self.offset)
            raw = _get_decompressor().decompress(stored, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CorruptBlock(f"a payload cannot be decompressed: {error}", self.offset) from error
        if len(raw) != header.payload_raw_size:
            raise CorruptBlock("a payload is not of the size it claims", self.offset)
        return raw
