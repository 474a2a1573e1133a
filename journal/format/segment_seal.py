"""Seal of a segment: the key of its blocks, and the block in which that key is stored.

A sealed segment begins with a *key block*. It stores the segment's data key, which is random and
encrypted with the user's key. The tag of each block authenticates its header, its body and the tag
of the block that it follows; the tag of the key block authenticates the segment header. So a block
is valid in one place of one history.
"""

import secrets
import struct
from collections.abc import Sequence
from typing import NamedTuple

from journal.errors import CorruptBlock, WrongKey
from journal.format.block import BLOCK_HEADER_SIZE, BlockHeader, encode_parts, read_header
from journal.format.block_header import (
    SEALED,
    UNHASHED_LAYOUT,
    BlockPlacement,
    find_flaw,
    is_body_intact,
    make_plain_header,
)
from journal.format.columns import PackedFrames
from journal.format.seal_cipher import KEY_SIZE, NONCE_SIZE, TAG_SIZE, SealCipher
from journal.format.seal_key import (
    KEY_ID_SIZE,
    SALT_SIZE,
    SCRYPT_COST_LOG2_MAX,
    SCRYPT_COST_LOG2_MIN,
    SealKey,
    WrappingKey,
    find_wrapping_key,
)
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SEGMENT_MAGIC, SegmentHeader
from journal.fs.byte_source import Bytes

_KEY_MAGIC = b"\x89JNLKEY\n"
_KDF_RAW, _KDF_SCRYPT = 0, 1
_OPEN_LAYOUT = struct.Struct(f"<8sBB6s{SALT_SIZE}s{KEY_ID_SIZE}s{TAG_SIZE}s")
_PAYLOAD_SIZE = _OPEN_LAYOUT.size + NONCE_SIZE + KEY_SIZE + TAG_SIZE
KEY_BLOCK_END = SEGMENT_HEADER_SIZE + BLOCK_HEADER_SIZE + _PAYLOAD_SIZE
"""Offset of the block after the key block."""
NO_TAG = bytes(TAG_SIZE)
"""Tag before a segment that continues no other."""

assert _PAYLOAD_SIZE % 8 == 0


class SegmentSeal:
    """Cipher of the blocks of one segment. Thread-safe.

    ``wrapping`` encrypts the data keys of this segment and of those that continue it.
    ``previous_tag`` is the tag of the block that the segment continues, else zeros.
    """

    __slots__ = ("_cipher", "previous_tag", "wrapping")

    def __init__(self, data_key: bytes, wrapping: WrappingKey, previous_tag: bytes) -> None:
        self._cipher = SealCipher(data_key)
        self.wrapping = wrapping
        self.previous_tag = previous_tag

    def seal(self, previous_tag: bytes, header: bytes, plain: bytes) -> bytes:
        """Return the sealed body of a block whose header begins with ``header``.

        The body never contains the magic of a segment, which a torn block must not show.
        """
        while True:
            body = self._cipher.encrypt(plain, header + previous_tag)
            if SEGMENT_MAGIC not in body:
                return body

    def open(
        self, header: BlockHeader, previous_tag: bytes, body: bytes
    ) -> tuple[BlockHeader, bytes] | None:
        """Return a block as it would be without a seal, or None if the seal is not genuine."""
        if not header.flags & SEALED:
            return None
        plain = self._cipher.decrypt(body, UNHASHED_LAYOUT.pack(*header[:-2]) + previous_tag)
        return None if plain is None else (make_plain_header(header), plain)


class NewSeal(NamedTuple):
    """The seal of a new segment, the bytes and the header of its key block."""

    seal: SegmentSeal
    data: bytes
    header: BlockHeader


def make_seal(
    wrapping: WrappingKey, segment: SegmentHeader, raw: bytes, previous_tag: bytes = NO_TAG
) -> NewSeal:
    """Make the data key and the key block of a segment with the header ``raw``."""
    data_key = secrets.token_bytes(KEY_SIZE)
    kdf = _KDF_SCRYPT if wrapping.cost_log2 else _KDF_RAW
    opening = _OPEN_LAYOUT.pack(
        _KEY_MAGIC, kdf, wrapping.cost_log2, b"", wrapping.salt, wrapping.key_id, previous_tag
    )
    place = BlockPlacement(
        segment.salt,
        segment.first_seq,
        SEGMENT_HEADER_SIZE,
        SEGMENT_HEADER_SIZE,
        segment.hash,
        SEGMENT_HEADER_SIZE,
    )
    while True:
        wrapped = SealCipher(wrapping.key).encrypt(data_key, raw + opening)
        raw_payload, now = opening + wrapped, segment.created
        payload = PackedFrames(0, raw_payload, b"", b"", b"", now, now)
        parts, header = encode_parts(place, payload)
        if not header.mask:
            return NewSeal(SegmentSeal(data_key, wrapping, previous_tag), b"".join(parts), header)


def load_seal(
    data: Bytes, start: int, segment: SegmentHeader, keys: Sequence[SealKey]
) -> SegmentSeal:
    """Read the key block of the segment at ``start`` with the first of ``keys`` that fits.

    Raises WrongKey if none fits, and CorruptBlock if the key block is damaged or was forged.
    """
    position = start + SEGMENT_HEADER_SIZE
    header = read_header(data, position, segment.salt, SEGMENT_HEADER_SIZE)
    if header is None or find_flaw(header):
        raise CorruptBlock("the block with the key of the segment is damaged", position)
    body = data[position + BLOCK_HEADER_SIZE : start + KEY_BLOCK_END]
    if not is_body_intact(header, body, segment.salt):
        raise CorruptBlock("the block with the key of the segment is damaged", position)
    is_linked = header.follows(SEGMENT_HEADER_SIZE, segment.hash)
    if len(body) != _PAYLOAD_SIZE or header.frame_count or header.flags or not is_linked:
        raise CorruptBlock("the block with the key of the segment is missing", position)
    return _unwrap(body, data[start:position], position, keys)


def _unwrap(body: bytes, raw: bytes, position: int, keys: Sequence[SealKey]) -> SegmentSeal:
    opening, wrapped = body[: _OPEN_LAYOUT.size], body[_OPEN_LAYOUT.size :]
    magic, kdf, cost_log2, _, salt, key_id, previous_tag = _OPEN_LAYOUT.unpack(opening)
    is_cost_allowed = (
        SCRYPT_COST_LOG2_MIN <= cost_log2 <= SCRYPT_COST_LOG2_MAX
        if kdf == _KDF_SCRYPT
        else kdf == _KDF_RAW and not cost_log2
    )
    if magic != _KEY_MAGIC or not is_cost_allowed:
        raise CorruptBlock("the block with the key of the segment has unknown values", position)
    for key in keys:
        wrapping = find_wrapping_key(key, cost_log2, salt)
        if wrapping is None or wrapping.key_id != key_id:
            continue
        data_key = SealCipher(wrapping.key).decrypt(wrapped, raw + opening)
        if data_key is None or len(data_key) != KEY_SIZE:
            raise CorruptBlock("the seal of the segment header is not genuine", position)
        return SegmentSeal(data_key, wrapping, previous_tag)
    kind = "a passphrase" if kdf == _KDF_SCRYPT else "a key file"
    raise WrongKey(f"the journal is sealed with {kind}, and the given key is another one")


def read_tag(data: Bytes, start: int, end: int) -> bytes:
    """Return the tag of the block that ends at offset ``end`` of the segment at ``start``."""
    return data[start + end - TAG_SIZE : start + end]


def is_key_block_cut(data: Bytes, start: int) -> bool:
    """Return whether a segment ends in its key block, as a crash in its creation leaves it."""
    rest = data[start + SEGMENT_HEADER_SIZE : start + KEY_BLOCK_END]
    return len(rest) < KEY_BLOCK_END - SEGMENT_HEADER_SIZE or not rest.strip(b"\0")
