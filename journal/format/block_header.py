"""The header of a block: what it says, and whether a sound writer would have said it."""

import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from xxhash import xxh3_64_intdigest

from journal.errors import CorruptBlock, FormatError, LimitExceeded, UnsupportedVersion
from journal.format.columns import BLOCK_SIZE_TARGET, COLUMNS_SIZE_PER_EVENT
from journal.format.frame import PAYLOAD_SIZE_MAX, SEQ_MAX
from journal.fs.byte_source import Bytes

BLOCK_MAGIC = b"\x89JNLBLK\n"
BLOCK_HEADER_SIZE = 112
BLOCK_COUNT_MAX = 1 << 16
BLOCK_PAYLOAD_SIZE_MAX = PAYLOAD_SIZE_MAX + BLOCK_SIZE_TARGET
TIME_SPAN_MAX = (1 << 32) - 1
"""Microseconds between the first and the last event of a block."""

RAW, ZSTD = 0, 1
TIMES, SEQS, EQUAL_SIZES = 1, 2, 4
_FLAGS = TIMES | SEQS | EQUAL_SIZES
_SIZES_EACH = [
    1 + 4 * (not flags & EQUAL_SIZES) + 4 * bool(flags & TIMES) + 4 * bool(flags & SEQS)
    for flags in range(_FLAGS + 1)
]
"""Bytes of all columns for one event, by the flags."""
ALIGNMENT = 8
LAYOUT = struct.Struct("<8sBBHIIIIIQQQQQQQQQQ")
HASHED_LAYOUT = struct.Struct(LAYOUT.format[:-1])
HASHED_SIZE = HASHED_LAYOUT.size
assert HASHED_SIZE == BLOCK_HEADER_SIZE - 8
assert LAYOUT.size == BLOCK_HEADER_SIZE
assert BLOCK_HEADER_SIZE % ALIGNMENT == 0
assert len(BLOCK_MAGIC) == 8
assert BLOCK_SIZE_TARGET // COLUMNS_SIZE_PER_EVENT < BLOCK_COUNT_MAX
assert BLOCK_PAYLOAD_SIZE_MAX + 16 * BLOCK_COUNT_MAX < 1 << 32


class BlockHeader(NamedTuple):
    """The fields of a block header, in their order on disk."""

    magic: bytes
    codec: int
    flags: int
    reserved: int
    frame_count: int
    payload_size: int
    payload_raw_size: int
    columns_size: int
    mask: int
    first_seq: int
    tag_bitmap: int
    time_first: int
    time_last: int
    offset: int
    previous_end: int
    previous_hash: int
    durable_upto: int
    body_hash: int
    hash: int

    @property
    def size(self) -> int:
        """Bytes of the whole block."""
        return BLOCK_HEADER_SIZE + self.payload_size + self.columns_size

    @property
    def end(self) -> int:
        """Where the next block stands."""
        return self.offset + BLOCK_HEADER_SIZE + self.payload_size + self.columns_size

    @property
    def has_seqs(self) -> bool:
        """Whether the numbers have holes made on purpose, in this block or before it."""
        return bool(self.flags & SEQS)

    @property
    def has_equal_sizes(self) -> bool:
        """Whether all payloads have one size, so that there is no column of their ends."""
        return bool(self.flags & EQUAL_SIZES)

    def follows(self, end: int, digest: int) -> bool:
        """Whether this block names the block (or segment header) that ends there."""
        return self.previous_end == end and self.previous_hash == digest


make_header: Callable[[type[BlockHeader], Iterable[Any]], BlockHeader] = tuple.__new__


class BlockPlacement(NamedTuple):
    """Where a block goes, and what it follows."""

    salt: int
    first_seq: int
    offset: int
    previous_end: int
    previous_hash: int
    durable_upto: int


def read_header(data: Bytes, position: int, salt: int, offset: int) -> BlockHeader | None:
    """Read the header at ``position``, None unless it is a block's that belongs at ``offset``."""
    raw = data[position : position + BLOCK_HEADER_SIZE]
    if len(raw) < BLOCK_HEADER_SIZE or not raw.startswith(BLOCK_MAGIC):
        return None
    header = make_header(BlockHeader, LAYOUT.unpack(raw))
    if header.offset != offset or xxh3_64_intdigest(raw[:HASHED_SIZE], salt) != header.hash:
        return None
    return header


def find_flaw(header: BlockHeader, offset: int = 0) -> FormatError | None:
    """Say what no sound writer writes in a header whose hash holds."""
    (_, codec, flags, reserved, count, payload_size, raw_size, columns_size, _, first_seq, _) = (
        header[:11]
    )
    if codec > ZSTD or flags > _FLAGS or reserved:
        return UnsupportedVersion("a block has a codec or a column that is not known", offset)
    if count > BLOCK_COUNT_MAX:
        return LimitExceeded(f"a block claims {count} events", offset)
    if raw_size > BLOCK_PAYLOAD_SIZE_MAX:
        return LimitExceeded(f"a block claims {raw_size} payload bytes", offset)
    if first_seq + count > SEQ_MAX:
        return LimitExceeded(f"a block claims event number {first_seq}", offset)
    time_first, time_last, own_offset, previous_end, _, durable_upto, _, _ = header[11:]
    size = count * columns_size_per_event(header)
    size += -(payload_size + size) % ALIGNMENT
    sound = (
        columns_size == size
        and (payload_size == raw_size or (codec == ZSTD and payload_size < raw_size))
        and not (flags & EQUAL_SIZES and raw_size % (count or 1))
        and own_offset % ALIGNMENT == 0
        and previous_end <= own_offset
        and durable_upto <= own_offset
        and time_first <= time_last <= SEQ_MAX
        and time_last - time_first <= TIME_SPAN_MAX
    )
    return None if sound else CorruptBlock("a block header contradicts itself", offset)


def columns_size_per_event(header: BlockHeader) -> int:
    """Bytes of all columns for one event."""
    return _SIZES_EACH[header.flags]


def read_last_delta(header: BlockHeader, body: bytes) -> int:
    """Give the last of the number deltas of a block that has them."""
    end = header.payload_size + header.frame_count * columns_size_per_event(header)
    return int.from_bytes(body[end - 4 : end], "little")


def is_body_intact(header: BlockHeader, body: bytes, salt: int) -> bool:
    """Whether a body is whole, and the one that its header names."""
    size = header.payload_size + header.columns_size
    return len(body) == size and xxh3_64_intdigest(body, salt) == header.body_hash
