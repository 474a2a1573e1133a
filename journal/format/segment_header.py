"""Segment headers: parsing, encoding and search.

A segment header starts a run of blocks and holds the salt of all their hashes.
"""

import struct
from typing import NamedTuple, Self

from xxhash import xxh3_64_intdigest

from journal.errors import (
    CorruptBlock,
    LimitExceeded,
    NotAJournal,
    TornBlock,
    UnsupportedVersion,
)
from journal.format.frame import SEQ_MAX
from journal.fs.byte_source import Bytes

SEGMENT_MAGIC = b"\x89JNLSEG\n"
SEGMENT_HEADER_SIZE = 128
MAJOR = 1
MINOR = 1
MINOR_SEALED = 2
"""A segment without a seal keeps the version before seals, and its exact bytes."""
SEALED_FEATURE = 1
"""The incompatible feature of a segment whose blocks are encrypted."""
INCOMPATIBLE_FEATURES_KNOWN = SEALED_FEATURE

_LAYOUT = struct.Struct("<8sHHIIIQ16sQQQQ40sQ")
_HASHED_SIZE = SEGMENT_HEADER_SIZE - 8
_SALT_AT = 24
assert _LAYOUT.size == SEGMENT_HEADER_SIZE
assert len(SEGMENT_MAGIC) == 8
assert SEGMENT_HEADER_SIZE % 8 == 0


class SegmentHeader(NamedTuple):
    """A segment header. ``created`` is in µs since the epoch.

    ``previous_end`` and ``previous_hash`` link to the block of the previous segment after which
    this segment continues. Both are 0 if the segment continues no other.
    """

    salt: int
    journal_id: bytes
    created: int
    first_seq: int = 0
    previous_end: int = 0
    previous_hash: int = 0
    compatible_features: int = 0
    major: int = MAJOR
    minor: int = MINOR
    hash: int = 0
    is_sealed: bool = False

    def continues(self, other: Self) -> bool:
        """Return whether this segment continues after a block of ``other``."""
        return bool(self.previous_hash) and self.journal_id == other.journal_id

    def encode(self) -> tuple[bytes, Self]:
        """Return the encoded header, and the header with its hash filled in."""
        unhashed = _LAYOUT.pack(
            SEGMENT_MAGIC,
            self.major,
            self.minor,
            SEGMENT_HEADER_SIZE,
            SEALED_FEATURE if self.is_sealed else 0,
            self.compatible_features,
            self.salt,
            self.journal_id,
            self.created,
            self.first_seq,
            self.previous_end,
            self.previous_hash,
            b"",
            0,
        )[:_HASHED_SIZE]
        digest = xxh3_64_intdigest(unhashed, self.salt)
        return unhashed + digest.to_bytes(8, "little"), self._replace(hash=digest)


def read(data: Bytes, position: int) -> SegmentHeader:
    """Return the segment header at ``position``.

    Raises NotAJournal, TornBlock, UnsupportedVersion, CorruptBlock or LimitExceeded if no valid
    segment header is stored there.
    """
    raw = data[position : position + SEGMENT_HEADER_SIZE]
    if not raw or not SEGMENT_MAGIC.startswith(raw[:8]):
        raise NotAJournal("found no segment header", position)
    if len(raw) < SEGMENT_HEADER_SIZE:
        raise TornBlock(
            f"segment header is cut short: {SEGMENT_HEADER_SIZE} bytes expected, {len(raw)} left",
            position,
        )
    (_, major, minor, size, features, compatible, salt, journal_id, *numbers, _, digest) = (
        _LAYOUT.unpack(raw)
    )
    if major != MAJOR:
        raise UnsupportedVersion(
            f"format version {major}.{minor} is not supported, only {MAJOR}.x", position
        )
    if not _is_hash_valid(raw, salt):
        raise CorruptBlock("segment header has a wrong hash", position)
    if size != SEGMENT_HEADER_SIZE or features & ~INCOMPATIBLE_FEATURES_KNOWN:
        raise UnsupportedVersion(
            f"segment header of {size} bytes with features {features:#x} is not supported", position
        )
    created, first_seq, previous_end, previous_hash = numbers
    if first_seq > SEQ_MAX:
        raise LimitExceeded(
            f"segment header states sequence number {first_seq}, above the limit of {SEQ_MAX}",
            position,
        )
    return SegmentHeader(
        salt,
        journal_id,
        created,
        first_seq,
        previous_end,
        previous_hash,
        compatible,
        major,
        minor,
        digest,
        bool(features & SEALED_FEATURE),
    )


def find_misplacement(header: SegmentHeader, before: SegmentHeader | None) -> str:
    """Return why a file that begins with ``header`` is not a later file of a directory, or "".

    ``before`` is the header of the segment before it, None if that is unreadable. Readers,
    verification and writers all ask here. The block to which the header links is checked apart.
    """
    if not header.previous_hash:
        return "the segment begins a journal, but it is not the first of its directory"
    if before is None:
        return ""
    if header.journal_id != before.journal_id:
        return f"the segment belongs to another journal, {header.journal_id.hex()}"
    if header.hash == before.hash or header.first_seq < before.first_seq:
        return "the segment belongs before another segment, or is there twice"
    return ""


def find(data: Bytes, start: int, stop: int) -> int:
    """Return the position of the next sound segment header, or ``stop``.

    A header with a valid hash is sound whatever its version; ``read`` refuses unknown versions.
    """
    position = data.find(SEGMENT_MAGIC, start, stop)
    while position >= 0:
        raw = data[position : position + SEGMENT_HEADER_SIZE]
        if len(raw) == SEGMENT_HEADER_SIZE:
            (salt,) = struct.unpack_from("<Q", raw, _SALT_AT)
            if _is_hash_valid(raw, salt):
                return position
        position = data.find(SEGMENT_MAGIC, position + 1, stop)
    return stop


def _is_hash_valid(raw: bytes, salt: int) -> bool:
    digest = int.from_bytes(raw[_HASHED_SIZE:], "little")
    return xxh3_64_intdigest(raw[:_HASHED_SIZE], salt) == digest
