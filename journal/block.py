"""A block: header, payload and columns, in bytes and back.

Nothing here knows a file: offsets are the segment's own, numbers are as written on disk.
"""

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, repeat
from operator import sub
from typing import NamedTuple, Protocol

import zstandard
from xxhash import xxh3_64_intdigest

from journal.errors import CorruptBlock, FormatError, LimitExceeded, UnsupportedVersion
from journal.frame import PAYLOAD_SIZE_MAX, SEQ_MAX, TAG_MAX, TAG_MIN
from journal.segment import SEGMENT_MAGIC, Bytes

BLOCK_MAGIC = b"\x89JNLBLK\n"
BLOCK_HEADER_SIZE = 112
BLOCK_SIZE_TARGET = 1 << 16
"""A block is closed when its payloads and columns reach this size."""
BLOCK_COUNT_MAX = 1 << 16
BLOCK_PAYLOAD_SIZE_MAX = PAYLOAD_SIZE_MAX + BLOCK_SIZE_TARGET
COLUMNS_SIZE_EACH = 4 + 1 + 4
"""Bytes that one event usually takes in the columns: its end, its tag, its time."""
TIME_SPAN_MAX = (1 << 32) - 1
"""Microseconds between the first and the last event of a block."""

_RAW, _ZSTD = 0, 1
_TIMES, _NUMBERS = 1, 2
_COMPRESS_SIZE_MIN = 512
_COMPRESS_LEVEL = 1
_COMPRESS_GAIN = 0.95
_MASK_ATTEMPTS = 8
_ALIGNMENT = 8
_TAGS_FREE = (b"\0", b"\xff")

_LAYOUT = struct.Struct("<8sBBHIIIIIQQQQQQQQQQ")
_HASHED_SIZE = BLOCK_HEADER_SIZE - 8
assert _LAYOUT.size == BLOCK_HEADER_SIZE
assert BLOCK_HEADER_SIZE % _ALIGNMENT == 0
assert len(BLOCK_MAGIC) == len(SEGMENT_MAGIC) == 8
assert BLOCK_SIZE_TARGET // COLUMNS_SIZE_EACH < BLOCK_COUNT_MAX
assert BLOCK_PAYLOAD_SIZE_MAX + 16 * BLOCK_COUNT_MAX < 1 << 32
assert (TAG_MIN, TAG_MAX) == (1, 254)
assert array("I").itemsize == 4


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
    def has_numbers(self) -> bool:
        """Whether the numbers have holes made on purpose, in this block or before it."""
        return bool(self.flags & _NUMBERS)

    def follows(self, end: int, digest: int) -> bool:
        """Whether this block names the block (or segment header) that ends there."""
        return self.previous_end == end and self.previous_hash == digest


class Place(NamedTuple):
    """Where a block goes, and what it follows."""

    salt: int
    first_seq: int
    offset: int
    previous_end: int
    previous_hash: int
    durable_upto: int


class Frames(NamedTuple):
    """What gathers in a block, column by column; times never go back."""

    tags: list[int]
    payloads: list[bytes]
    times: list[int]


class Compressor(Protocol):
    """What makes a zstd frame that states its size."""

    def compress(self, data: bytes, /) -> bytes:
        """Give the frame."""


def encode(
    place: Place,
    frames: Frames,
    compressor: Compressor | None = None,
    numbers: Sequence[int] | None = None,
    time: int = 0,
) -> tuple[bytes, BlockHeader]:
    """Give the bytes of a block and its header.

    ``numbers`` are the frames' own when they have holes; ``time`` is that of a block of no frames.
    """
    raw = b"".join(frames.payloads)
    columns, flags = _columns(frames, numbers)
    payload, codec = raw, _RAW
    if compressor is not None and len(raw) >= _COMPRESS_SIZE_MIN:
        packed = compressor.compress(raw)
        if len(packed) <= len(raw) * _COMPRESS_GAIN:
            payload, codec = packed, _ZSTD
    columns += bytes(-(len(payload) + len(columns)) % _ALIGNMENT)
    header = BlockHeader(
        BLOCK_MAGIC,
        codec,
        flags,
        0,
        len(frames.tags),
        len(payload),
        len(raw),
        len(columns),
        0,
        place.first_seq,
        bitmap_of(frames.tags),
        frames.times[0] if frames.times else time,
        frames.times[-1] if frames.times else time,
        place.offset,
        place.previous_end,
        place.previous_hash,
        place.durable_upto,
        0,
        0,
    )
    return _seal(header, payload, columns, place.salt)


def rehead(
    header: BlockHeader, body: bytes, place: Place, numbers: Sequence[int] | None = None
) -> tuple[bytes, BlockHeader]:
    """Give a verified block's bytes and header for another place; its stored payload stays.

    With ``numbers`` the block gets a column of them, or another than it had: one per event.
    """
    end = header.payload_size + header.frame_count * _column_size_each(header)
    if header.has_numbers:
        end -= 4 * header.frame_count
    payload, columns = body[: header.payload_size], body[header.payload_size : end]
    flags = header.flags & ~_NUMBERS
    if numbers is not None:
        flags |= _NUMBERS
        columns += _u32(map(sub, numbers, repeat(numbers[0]))) if numbers else b""
    columns += bytes(-(len(payload) + len(columns)) % _ALIGNMENT)
    moved = header._replace(
        flags=flags,
        columns_size=len(columns),
        first_seq=place.first_seq,
        offset=place.offset,
        previous_end=place.previous_end,
        previous_hash=place.previous_hash,
        durable_upto=place.durable_upto,
        mask=0,
    )
    return _seal(
        moved, _masked(payload, header.mask) if header.mask else payload, columns, place.salt
    )


def bitmap_of(tags: Iterable[int]) -> int:
    """Fold tags into the bitmap that lets a reader pass over a block."""
    bitmap = 0
    for tag in set(tags):
        bitmap |= 1 << (tag & 63)
    return bitmap


def _seal(
    header: BlockHeader, payload: bytes, columns: bytes, salt: int
) -> tuple[bytes, BlockHeader]:
    """Hash a block, masking its payload when a segment header's magic would stand in it.

    > Why? Behind a torn write a reader must tell the next segment from a journal that a guest had
    in its memory. When no body holds the magic, every magic is a segment's.
    """
    mask, stored = 0, payload
    for attempt in range(_MASK_ATTEMPTS):
        body = stored + columns
        if SEGMENT_MAGIC not in body:
            break
        # derived from the salt, which a guest does not know, so that no payload can foresee it
        mask = xxh3_64_intdigest(b"mask%d" % attempt, salt ^ header.offset) & 0xFFFFFFFF
        stored = _masked(payload, mask)
    header = header._replace(mask=mask, body_hash=xxh3_64_intdigest(body, salt))
    unhashed = _LAYOUT.pack(*header)[:_HASHED_SIZE]
    digest = xxh3_64_intdigest(unhashed, salt)
    return b"".join((unhashed, digest.to_bytes(8, "little"), body)), header._replace(hash=digest)


def _masked(payload: bytes, mask: int) -> bytes:
    size = len(payload)
    key = mask.to_bytes(4, "little") * (size // 4 + 1)
    mixed = int.from_bytes(payload, "little") ^ int.from_bytes(key[:size], "little")
    return mixed.to_bytes(size, "little")


def _columns(frames: Frames, numbers: Sequence[int] | None) -> tuple[bytes, int]:
    flags, times = 0, frames.times
    parts = [_u32(accumulate(map(len, frames.payloads))), bytes(frames.tags)]
    if times and times[0] != times[-1]:
        flags |= _TIMES
        parts.append(_u32(map(sub, times, repeat(times[0]))))
    if numbers is not None:
        flags |= _NUMBERS
        parts.append(_u32(map(sub, numbers, repeat(numbers[0]))) if numbers else b"")
    return b"".join(parts), flags


def _u32(values: Iterable[int]) -> bytes:
    column = array("I", values)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def compressor() -> Compressor:
    """Make the compressor that ``encode`` takes; one writer's own, because it has state."""
    return zstandard.ZstdCompressor(level=_COMPRESS_LEVEL)


def read_header(data: Bytes, position: int, salt: int, offset: int) -> BlockHeader | None:
    """Read the header at ``position``, None unless it is a block's that belongs at ``offset``."""
    raw = data[position : position + BLOCK_HEADER_SIZE]
    if len(raw) < BLOCK_HEADER_SIZE or not raw.startswith(BLOCK_MAGIC):
        return None
    header = BlockHeader._make(_LAYOUT.unpack(raw))
    if header.offset != offset or xxh3_64_intdigest(raw[:_HASHED_SIZE], salt) != header.hash:
        return None
    return header


def flaw(header: BlockHeader, offset: int = 0) -> FormatError | None:
    """Say what no sound writer writes in a header whose hash holds."""
    if header.codec > _ZSTD or header.flags & ~(_TIMES | _NUMBERS) or header.reserved:
        return UnsupportedVersion("a block has a codec or a column that is not known", offset)
    if header.frame_count > BLOCK_COUNT_MAX:
        return LimitExceeded(f"a block claims {header.frame_count} events", offset)
    if header.payload_raw_size > BLOCK_PAYLOAD_SIZE_MAX:
        return LimitExceeded(f"a block claims {header.payload_raw_size} payload bytes", offset)
    if header.first_seq + header.frame_count > SEQ_MAX:
        return LimitExceeded(f"a block claims event number {header.first_seq}", offset)
    size = header.frame_count * _column_size_each(header)
    size += -(header.payload_size + size) % _ALIGNMENT
    sound = (
        header.columns_size == size
        and (header.payload_size == header.payload_raw_size or header.codec == _ZSTD)
        and header.payload_size <= header.payload_raw_size
        and header.offset % _ALIGNMENT == 0
        and header.previous_end <= header.offset
        and header.durable_upto <= header.offset
        and header.time_first <= header.time_last
        and header.time_last - header.time_first <= TIME_SPAN_MAX
        and header.time_last <= SEQ_MAX
    )
    return None if sound else CorruptBlock("a block header contradicts itself", offset)


def _column_size_each(header: BlockHeader) -> int:
    return 5 + 4 * bool(header.flags & _TIMES) + 4 * bool(header.flags & _NUMBERS)


def last_number(header: BlockHeader, body: bytes) -> int:
    """Give the last of the number deltas of a block that has them."""
    end = header.payload_size + header.frame_count * _column_size_each(header)
    return int.from_bytes(body[end - 4 : end], "little")


class Block:
    """A block of a file: its columns at hand, its payloads decompressed when asked for."""

    __slots__ = ("_body", "_header", "count", "first_seq", "offset", "tags")

    def __init__(self, header: BlockHeader, body: bytes, first_seq: int, offset: int) -> None:
        self._header = header
        self._body = body
        self.first_seq = first_seq
        self.count = header.frame_count
        self.offset = offset
        tags_at = header.payload_size + 4 * header.frame_count
        self.tags = body[tags_at : tags_at + header.frame_count]
        if any(tag in self.tags for tag in _TAGS_FREE):
            raise CorruptBlock("a block has tags that no event has", offset)

    @property
    def size(self) -> int:
        """Bytes of the block in its file."""
        return self._header.size

    @property
    def times(self) -> Sequence[int]:
        """One time per event, µs since the epoch."""
        first = self._header.time_first
        if not self._header.flags & _TIMES:
            return (first,) * self.count
        deltas = self._column(self._header.payload_size + 5 * self.count)
        return list(map(first.__add__, deltas))

    @property
    def seqs(self) -> Sequence[int]:
        """One number per event: a range, except where compaction left holes."""
        if not self._header.has_numbers or not self.count:
            return range(self.first_seq, self.first_seq + self.count)
        times_size = 4 * self.count * (self._header.flags & _TIMES)
        deltas = self._column(self._header.payload_size + 5 * self.count + times_size)
        if deltas[0] or any(map(int.__ge__, deltas, deltas[1:])):
            raise CorruptBlock("the numbers of a block do not rise", self.offset)
        return list(map(self.first_seq.__add__, deltas))

    def payloads(self) -> list[bytes]:
        """One payload per event."""
        ends = self._column(self._header.payload_size)
        if list(ends) != sorted(ends) or (ends[-1] if ends else 0) != self._header.payload_raw_size:
            raise CorruptBlock("the ends of a block's payloads do not fit", self.offset)
        raw = self._raw()
        if self.count == 1:
            return [raw]
        return list(map(raw.__getitem__, map(slice, (0, *ends), ends)))

    def check(self) -> None:
        """Raise CorruptBlock when the header does not say what the columns do."""
        header, times = self._header, self.times
        if bitmap_of(self.tags) != header.tag_bitmap:
            raise CorruptBlock("a block's bitmap is not that of its tags", self.offset)
        if times and (list(times) != sorted(times) or times[-1] != header.time_last):
            raise CorruptBlock("a block's times do not fit", self.offset)

    def _column(self, start: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{self.count}I", self._body, start)

    def _raw(self) -> bytes:
        header = self._header
        stored = self._body[: header.payload_size]
        if header.mask:
            stored = _masked(stored, header.mask)
        if header.codec == _RAW:
            return stored
        # the frame's own word on its size decides what zstandard allocates: check it first
        try:
            if zstandard.frame_content_size(stored) != header.payload_raw_size:
                raise CorruptBlock("a payload is not of the size it claims", self.offset)
            raw = zstandard.ZstdDecompressor().decompress(stored, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CorruptBlock(f"a payload cannot be decompressed: {error}", self.offset) from error
        if len(raw) != header.payload_raw_size:
            raise CorruptBlock("a payload is not of the size it claims", self.offset)
        return raw


def body_holds(header: BlockHeader, body: bytes, salt: int) -> bool:
    """Whether a body is whole, and the one that its header names."""
    size = header.payload_size + header.columns_size
    return len(body) == size and xxh3_64_intdigest(body, salt) == header.body_hash
