"""Block encoder: compresses, masks and hashes the events of a block."""

from collections.abc import Callable, Iterable, Sequence
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
    SEALED,
    SEQS,
    TIMES,
    UNHASHED_LAYOUT,
    ZSTD,
    BlockHeader,
    BlockPlacement,
    columns_size_per_event,
    make_header,
    read_last_delta,
)
from journal.format.columns import Frames, PackedFrames, pack, pack_u32
from journal.format.seal_cipher import SEAL_SIZE
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
    """A compressor to zstd frames that state their content size."""

    def compress(self, data: bytes, /) -> bytes:
        """Return the compressed frame."""


def encode(
    place: BlockPlacement,
    frames: Frames | PackedFrames,
    compressor: Compressor | None = None,
    seqs: Sequence[int] | None = None,
    time: int = 0,
) -> tuple[bytes, BlockHeader]:
    """Return the bytes of a block and its header; see ``encode_parts``."""
    parts, header = encode_parts(place, frames, compressor, seqs, time)
    return b"".join(parts), header


def encode_parts(
    place: BlockPlacement,
    frames: Frames | PackedFrames,
    compressor: Compressor | None = None,
    seqs: Sequence[int] | None = None,
    time: int = 0,
) -> tuple[list[bytes], BlockHeader]:
    """Return the bytes of a block, in parts that are not copied together, and its header.

    ``seqs`` are the sequence numbers of the frames if some are missing between them. ``time`` is
    the time of a block without frames.
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
    return _finish_block(fields, payload, columns, place)


def encode_index(place: BlockPlacement, index: bytes, time: int) -> tuple[bytes, BlockHeader]:
    """Return the bytes and header of a block without events that carries the segment's index."""
    return encode(place, PackedFrames(0, index, b"", b"", b"", time, time))


def rewrite_header(
    header: BlockHeader, body: bytes, place: BlockPlacement, seqs: Sequence[int] | None = None
) -> tuple[bytes, BlockHeader]:
    """Return the bytes and header of a verified block for another position in a file.

    The stored payload does not change. ``seqs``, one per event, replace the column of sequence
    numbers.
    """
    payload, columns = body[: header.payload_size], body[header.payload_size :]
    flags = header.flags
    if seqs is not None:
        event_size = columns_size_per_event(header) - 4 * header.has_seqs
        columns, flags = columns[: header.frame_count * event_size], flags | SEQS
        columns += _pack_deltas(seqs)
        columns += bytes(-(len(payload) + len(columns)) % ALIGNMENT)
    new_header = header._replace(
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
    parts, new_header = _finish_block(new_header[:-2], unmasked, columns, place)
    return b"".join(parts), new_header


def compute_tag_bitmap(tags: Iterable[int]) -> int:
    """Return the bitmap of ``tags``, which lets a reader skip a block."""
    bitmap = 0
    for tag in set(tags):
        bitmap |= 1 << (tag & 63)
    return bitmap


def _finish_block(
    fields: tuple[Any, ...], payload: bytes, columns: bytes, place: BlockPlacement
) -> tuple[list[bytes], BlockHeader]:
    """Hash a block, and mask its payload if its body would contain the magic of a segment header.

    ``fields`` are the header fields before the hashes, without a mask.

    > Why? After a torn write a reader must distinguish the next segment from a journal in the
    memory of a guest. As no body contains the magic, each magic belongs to a segment header.
    """
    if place.seal is not None:
        return _finish_sealed(fields, payload, columns, place.seal, place.salt)
    mask, stored, salt = 0, payload, place.salt
    body = _join_if_small(stored, columns)
    for attempt in range(_MASK_ATTEMPTS):
        if not _contains_magic(body):
            break
        # The mask is derived from the salt. A guest does not know the salt and cannot predict it.
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
    return _hash_header(fields, body, body_hash, salt)


def _finish_sealed(
    fields: tuple[Any, ...],
    payload: bytes,
    columns: bytes,
    seal: Callable[[bytes, bytes], bytes],
    salt: int,
) -> tuple[list[bytes], BlockHeader]:
    """Encrypt a body, and hash the result: accidents are found without the key."""
    header = make_header(BlockHeader, (*fields, 0, 0))
    last_delta = read_last_delta(header, payload + columns) if header.flags & SEQS else 0
    header = header._replace(
        flags=header.flags | SEALED,
        payload_size=header.payload_size + SEAL_SIZE,
        mask=last_delta if header.frame_count else 0,
    )
    body = seal(UNHASHED_LAYOUT.pack(*header[:-2]), payload + columns)
    return _hash_header(header[:-2], [body], xxh3_64_intdigest(body, salt), salt)


def _hash_header(
    fields: tuple[Any, ...], body: list[bytes], body_hash: int, salt: int
) -> tuple[list[bytes], BlockHeader]:
    """Return the bytes of a block with the hash of its header, and that header."""
    unhashed = HASHED_LAYOUT.pack(*fields, body_hash)
    digest = xxh3_64_intdigest(unhashed, salt)
    header = make_header(BlockHeader, (*fields, body_hash, digest))
    return [unhashed + digest.to_bytes(8, "little"), *body], header


def _join_if_small(payload: bytes, columns: bytes) -> list[bytes]:
    """Return a body in the cheapest parts: two hash calls cost more than a copy of a few bytes."""
    return [payload + columns] if len(payload) < _JOINED_SIZE_MAX else [payload, columns]


def _contains_magic(body: list[bytes]) -> bool:
    if len(body) == 1:
        return contains(body[0], SEGMENT_MAGIC)
    payload, columns = body
    seam = payload[1 - len(SEGMENT_MAGIC) :] + columns[: len(SEGMENT_MAGIC) - 1]
    return any(contains(part, SEGMENT_MAGIC) for part in (payload, columns, seam))


def apply_mask(payload: bytes, mask: int) -> bytes:
    """XOR a payload with a mask. A second call removes the mask."""
    size = len(payload)
    key = mask.to_bytes(4, "little") * (size // 4 + 1)
    mixed = int.from_bytes(payload, "little") ^ int.from_bytes(key[:size], "little")
    return mixed.to_bytes(size, "little")


def _pack_deltas(seqs: Sequence[int]) -> bytes:
    return pack_u32(list(map(sub, seqs, repeat(seqs[0])))) if seqs else b""


def make_compressor() -> Compressor:
    """Return a compressor for ``encode``. It has state and must not be shared by writers."""
    return zstandard.ZstdCompressor(level=_COMPRESS_LEVEL)
