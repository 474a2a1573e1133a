"""A block into bytes: its payload compressed where that gains, masked where needed, and hashed."""

from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import sub
from typing import Any, Protocol

import zstandard
from xxhash import xxh3_64, xxh3_64_intdigest

from journal.format.block_header import (
    ALIGNMENT,
    BLOCK_MAGIC,
    EQUAL_SIZES,
    HASHED_LAYOUT,
    RAW,
    SEQS,
    TIMES,
    ZSTD,
    BlockHeader,
    BlockPlacement,
    columns_size_per_event,
    make_header,
)
from journal.format.columns import Frames, PackedFrames, pack, pack_u32
from journal.format.segment_header import SEGMENT_MAGIC
from journal.fs.byte_search import contains

_COMPRESS_SIZE_MIN = 512
_COMPRESS_LEVEL = 1
_COMPRESS_GAIN = 0.95
_MASK_ATTEMPTS = 8
_JOINED_SIZE_MAX = 1 << 12

_MASK_AT = BlockHeader._fields.index("mask")
_OFFSET_AT = BlockHeader._fields.index("offset")
assert BlockHeader._fields[-2:] == ("body_hash", "hash")


class Compressor(Protocol):
    """What makes a zstd frame that states its size."""

    def compress(self, data: bytes, /) -> bytes:
        """Give the frame."""


def encode(
    place: BlockPlacement,
    frames: Frames | PackedFrames,
    compressor: Compressor | None = None,
    seqs: Sequence[int] | None = None,
    time: int = 0,
) -> tuple[bytes, BlockHeader]:
    """Give the bytes of a block and its header; see ``encode_parts``."""
    parts, header = encode_parts(place, frames, compressor, seqs, time)
    return b"".join(parts), header


def encode_parts(
    place: BlockPlacement,
    frames: Frames | PackedFrames,
    compressor: Compressor | None = None,
    seqs: Sequence[int] | None = None,
    time: int = 0,
) -> tuple[list[bytes], BlockHeader]:
    """Give the bytes of a block, in parts that nobody has copied together, and its header.

    ``numbers`` are the frames' own when they have holes; ``time`` is that of a block of no frames.
    """
    packed = pack(frames, time) if isinstance(frames, Frames) else frames
    count, raw = packed.frame_count, packed.raw
    payload, codec = raw, RAW
    if compressor is not None and len(raw) >= _COMPRESS_SIZE_MIN:
        smaller = compressor.compress(raw)
        if len(smaller) <= len(raw) * _COMPRESS_GAIN:
            payload, codec = smaller, ZSTD
    tags = packed.tags if len(packed.tags) == count else packed.tags * count
    assert len(tags) == count, "one tag for each payload, or one for all"
    columns, flags = packed.ends + tags + packed.times, TIMES if packed.times else 0
    if count and not packed.ends:
        flags |= EQUAL_SIZES
    if seqs is not None:
        flags |= SEQS
        columns += _pack_deltas(seqs)
    columns += bytes(-(len(payload) + len(columns)) % ALIGNMENT)
    fields = (
        BLOCK_MAGIC,
        codec,
        flags,
        0,
        count,
        len(payload),
        len(raw),
        len(columns),
        0,
        place.first_seq,
        compute_tag_bitmap(packed.tags) if count else 0,
        packed.time_first,
        packed.time_last,
        place.offset,
        place.previous_end,
        place.previous_hash,
        place.durable_upto,
    )
    return _finish_block(fields, payload, columns, place.salt)


def encode_index(place: BlockPlacement, index: bytes, time: int) -> tuple[bytes, BlockHeader]:
    """Give the bytes and header of a block of no events, whose payload is the segment's index."""
    return encode(place, PackedFrames(0, index, b"", b"", b"", time, time))


def rewrite_header(
    header: BlockHeader, body: bytes, place: BlockPlacement, seqs: Sequence[int] | None = None
) -> tuple[bytes, BlockHeader]:
    """Give a verified block's bytes and header for another place; its stored payload stays.

    With ``numbers``, one per event, they are what its column of numbers says.
    """
    payload, columns = body[: header.payload_size], body[header.payload_size :]
    flags = header.flags
    if seqs is not None:
        each = columns_size_per_event(header) - 4 * header.has_seqs
        columns, flags = columns[: header.frame_count * each], flags | SEQS
        columns += _pack_deltas(seqs)
        columns += bytes(-(len(payload) + len(columns)) % ALIGNMENT)
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
    unmasked = apply_mask(payload, header.mask) if header.mask else payload
    parts, moved = _finish_block(moved[:-2], unmasked, columns, place.salt)
    return b"".join(parts), moved


def compute_tag_bitmap(tags: Iterable[int]) -> int:
    """Fold tags into the bitmap that lets a reader pass over a block."""
    bitmap = 0
    for tag in set(tags):
        bitmap |= 1 << (tag & 63)
    return bitmap


def _finish_block(
    fields: tuple[Any, ...], payload: bytes, columns: bytes, salt: int
) -> tuple[list[bytes], BlockHeader]:
    """Hash a block, masking its payload when a segment header's magic would stand in it.

    ``fields`` are those of its header up to the hashes, without a mask.

    > Why? Behind a torn write a reader must tell the next segment from a journal that a guest had
    in its memory. When no body holds the magic, every magic is a segment's.
    """
    mask, stored = 0, payload
    body = _join_if_small(stored, columns)
    for attempt in range(_MASK_ATTEMPTS):
        if not _contains_magic(body):
            break
        # derived from the salt, which a guest does not know, so that no payload can foresee it
        mask = xxh3_64_intdigest(b"mask%d" % attempt, salt ^ fields[_OFFSET_AT]) & 0xFFFFFFFF
        stored = apply_mask(payload, mask)
        body = _join_if_small(stored, columns)
    if len(body) == 1:
        body_hash = xxh3_64_intdigest(body[0], salt)
    else:
        state = xxh3_64(stored, salt)
        state.update(columns)
        body_hash = state.intdigest()
    if mask:
        fields = (*fields[:_MASK_AT], mask, *fields[_MASK_AT + 1 :])
    unhashed = HASHED_LAYOUT.pack(*fields, body_hash)
    digest = xxh3_64_intdigest(unhashed, salt)
    header = make_header(BlockHeader, (*fields, body_hash, digest))
    return [unhashed + digest.to_bytes(8, "little"), *body], header


def _join_if_small(payload: bytes, columns: bytes) -> list[bytes]:
    """A body in the parts that cost least: hashing two at once costs more than copying a few."""
    return [payload + columns] if len(payload) < _JOINED_SIZE_MAX else [payload, columns]


def _contains_magic(body: list[bytes]) -> bool:
    if len(body) == 1:
        return contains(body[0], SEGMENT_MAGIC)
    payload, columns = body
    seam = payload[1 - len(SEGMENT_MAGIC) :] + columns[: len(SEGMENT_MAGIC) - 1]
    return any(contains(part, SEGMENT_MAGIC) for part in (payload, columns, seam))


def apply_mask(payload: bytes, mask: int) -> bytes:
    """A payload under a mask, or from under it."""
    size = len(payload)
    key = mask.to_bytes(4, "little") * (size // 4 + 1)
    mixed = int.from_bytes(payload, "little") ^ int.from_bytes(key[:size], "little")
    return mixed.to_bytes(size, "little")


def _pack_deltas(seqs: Sequence[int]) -> bytes:
    return pack_u32(list(map(sub, seqs, repeat(seqs[0])))) if seqs else b""


def make_compressor() -> Compressor:
    """Make the compressor that ``encode`` takes; one writer's own, because it has state."""
    return zstandard.ZstdCompressor(level=_COMPRESS_LEVEL)
