"""Block headers: layout, parsing and consistency checks."""

import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from xxhash import xxh3_64_intdigest

from journal.errors import CorruptBlock, FormatError, LimitExceeded, UnsupportedVersion
from journal.format.columns import BLOCK_SIZE_TARGET, COLUMNS_SIZE_PER_EVENT
from journal.format.frame import PAYLOAD_SIZE_MAX, SEQ_MAX
from journal.format.seal_cipher import SEAL_SIZE
from journal.fs.byte_source import Bytes

BLOCK_MAGIC = b"\x89JNLBLK\n"
BLOCK_HEADER_SIZE = 112
BLOCK_COUNT_MAX = 1 << 16
BLOCK_PAYLOAD_SIZE_MAX = PAYLOAD_SIZE_MAX + BLOCK_SIZE_TARGET
TIME_SPAN_MAX = (1 << 32) - 1
"""Maximum time in µs between the first and the last event of a block."""

RAW, ZSTD = 0, 1
TIMES, SEQS, EQUAL_SIZES, SEALED = 1, 2, 4, 8
_FLAGS = TIMES | SEQS | EQUAL_SIZES | SEALED
_COLUMNS_SIZE_BY_FLAGS = [
    1 + 4 * (not flags & EQUAL_SIZES) + 4 * bool(flags & TIMES) + 4 * bool(flags & SEQS)
    for flags in range(_FLAGS + 1)
]
"""Bytes of all columns per event, by the flags."""
ALIGNMENT = 8
LAYOUT = struct.Struct("<8sBBHIIIIIQQQQQQQQQQ")
HASHED_LAYOUT = struct.Struct(LAYOUT.format[:-1])
HASHED_SIZE = HASHED_LAYOUT.size
UNHASHED_LAYOUT = struct.Struct(LAYOUT.format[:-2])
"""The fields that a seal authenticates: all but the two hashes."""
assert HASHED_SIZE == BLOCK_HEADER_SIZE - 8
assert LAYOUT.size == BLOCK_HEADER_SIZE
assert BLOCK_HEADER_SIZE % ALIGNMENT == 0
assert len(BLOCK_MAGIC) == 8
assert BLOCK_SIZE_TARGET // COLUMNS_SIZE_PER_EVENT < BLOCK_COUNT_MAX
assert BLOCK_PAYLOAD_SIZE_MAX + 16 * BLOCK_COUNT_MAX < 1 << 32


class BlockHeader(NamedTuple):
    """A block header, with its fields in their order on disk."""

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
        """Bytes of the whole block, with its header."""
        return BLOCK_HEADER_SIZE + self.payload_size + self.columns_size

    @property
    def end(self) -> int:
        """Offset of the next block."""
        return self.offset + BLOCK_HEADER_SIZE + self.payload_size + self.columns_size

    @property
    def has_seqs(self) -> bool:
        """Return whether the block has a column of sequence numbers.

        The column exists if sequence numbers are missing on purpose, in this block or before it.
        """
        return bool(self.flags & SEQS)

    @property
    def has_equal_sizes(self) -> bool:
        """Return whether all payloads have one size, so that the block has no column of ends."""
        return bool(self.flags & EQUAL_SIZES)

    @property
    def is_sealed(self) -> bool:
        """Return whether the body is encrypted. ``mask`` then is the last value of the seqs."""
        return bool(self.flags & SEALED)

    def follows(self, end: int, digest: int) -> bool:
        """Return whether this block links to the block or segment header that ends at ``end``.

        ``digest`` is the hash of that header.
        """
        return self.previous_end == end and self.previous_hash == digest


make_header: Callable[[type[BlockHeader], Iterable[Any]], BlockHeader] = tuple.__new__


class BlockPlacement(NamedTuple):
    """Position of a block in a segment, and its link to the block before it."""

    salt: int
    first_seq: int
    offset: int
    previous_end: int
    previous_hash: int
    durable_upto: int
    seal: Callable[[bytes, bytes], bytes] | None = None
    """Seals a body: a function of the header's fields before the hashes, and of the plain body."""


def read_header(data: Bytes, position: int, salt: int, offset: int) -> BlockHeader | None:
    """Return the block header at ``position``, or None if it is not valid for ``offset``."""
    raw = data[position : position + BLOCK_HEADER_SIZE]
    if len(raw) < BLOCK_HEADER_SIZE or not raw.startswith(BLOCK_MAGIC):
        return None
    header = make_header(BlockHeader, LAYOUT.unpack(raw))
    if header.offset != offset or xxh3_64_intdigest(raw[:HASHED_SIZE], salt) != header.hash:
        return None
    return header


def find_flaw(
    header: BlockHeader, offset: int = 0, *, is_sealed: bool = False
) -> FormatError | None:
    """Return the error in a header whose hash is valid, or None.

    No correct writer writes a header with such an error. ``is_sealed`` states whether the segment
    may have sealed blocks.
    """
    (_, codec, flags, reserved, count, payload_size, raw_size, columns_size, _, first_seq, _) = (
        header[:11]
    )
    if codec > ZSTD or flags > _FLAGS or reserved or (flags & SEALED and not is_sealed):
        return UnsupportedVersion(
            f"block has an unknown codec {codec}, flags {flags:#x} or reserved field {reserved}",
            offset,
        )
    if count > BLOCK_COUNT_MAX:
        return LimitExceeded(
            f"block header states {count} events, but the limit is {BLOCK_COUNT_MAX}", offset
        )
    if raw_size > BLOCK_PAYLOAD_SIZE_MAX:
        return LimitExceeded(
            f"block header states {raw_size} payload bytes, but the limit is "
            f"{BLOCK_PAYLOAD_SIZE_MAX}",
            offset,
        )
    if first_seq + count > SEQ_MAX:
        return LimitExceeded(
            f"block header states sequence number {first_seq}, above the limit of {SEQ_MAX}", offset
        )
    time_first, time_last, own_offset, previous_end, _, durable_upto, _, _ = header[11:]
    if flags & SEALED:
        payload_size -= SEAL_SIZE
    size = count * columns_size_per_event(header)
    size += -(payload_size + size) % ALIGNMENT
    sound = (
        columns_size == size
        and payload_size >= 0
        and (payload_size == raw_size or (codec == ZSTD and payload_size < raw_size))
        and not (flags & EQUAL_SIZES and raw_size % (count or 1))
        and own_offset % ALIGNMENT == 0
        and previous_end <= own_offset
        and durable_upto <= own_offset
        and time_first <= time_last <= SEQ_MAX
        and time_last - time_first <= TIME_SPAN_MAX
    )
    return None if sound else CorruptBlock("block header fields contradict each other", offset)


def columns_size_per_event(header: BlockHeader) -> int:
    """Return the bytes of all columns per event."""
    return _COLUMNS_SIZE_BY_FLAGS[header.flags]


def read_last_delta(header: BlockHeader, body: bytes) -> int:
    """Return the last value in the column of sequence numbers, relative to ``first_seq``."""
    if header.flags & SEALED:
        return header.mask
    end = header.payload_size + header.frame_count * columns_size_per_event(header)
    return int.from_bytes(body[end - 4 : end], "little")


def make_plain_header(header: BlockHeader) -> BlockHeader:
    """Return the header that a sealed block would have without its seal, with the same hashes."""
    return header._replace(
        flags=header.flags & ~SEALED, payload_size=header.payload_size - SEAL_SIZE, mask=0
    )


def is_body_intact(header: BlockHeader, body: bytes, salt: int) -> bool:
    """Return whether a body has the size and the hash that its header states."""
    size = header.payload_size + header.columns_size
    return len(body) == size and xxh3_64_intdigest(body, salt) == header.body_hash
