"""The segment header: what begins a run of blocks, and the salt that all their hashes share."""

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
INCOMPATIBLE_FEATURES_KNOWN = 0

_LAYOUT = struct.Struct("<8sHHIIIQ16sQQQQ40sQ")
_HASHED_SIZE = SEGMENT_HEADER_SIZE - 8
_SALT_AT = 24
assert _LAYOUT.size == SEGMENT_HEADER_SIZE
assert len(SEGMENT_MAGIC) == 8
assert SEGMENT_HEADER_SIZE % 8 == 0


class SegmentHeader(NamedTuple):
    """The fields of a segment header; ``created`` in µs since the epoch.

    ``previous_end`` and ``previous_hash`` name the block of the segment before at whose end this
    one goes on, and are 0 when it continues none.
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

    def continues(self, other: Self) -> bool:
        """Whether this segment goes on where a block of ``other`` ends."""
        return bool(self.previous_hash) and self.journal_id == other.journal_id

    def encode(self) -> tuple[bytes, Self]:
        """Give the bytes, and the header with its hash filled in."""
        unhashed = _LAYOUT.pack(
            SEGMENT_MAGIC,
            self.major,
            self.minor,
            SEGMENT_HEADER_SIZE,
            0,
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
    """Read the segment header that must stand at ``position``."""
    raw = data[position : position + SEGMENT_HEADER_SIZE]
    if not raw or not SEGMENT_MAGIC.startswith(raw[:8]):
        raise NotAJournal("no segment header stands", position)
    if len(raw) < SEGMENT_HEADER_SIZE:
        raise TornBlock("the file ends inside its segment header", position)
    (_, major, minor, size, features, compatible, salt, journal_id, *numbers, _, digest) = (
        _LAYOUT.unpack(raw)
    )
    if major != MAJOR:
        raise UnsupportedVersion(f"format version {major}.{minor} is not known", position)
    if not _is_hash_valid(raw, salt):
        raise CorruptBlock("the hash of the segment header does not hold", position)
    if size != SEGMENT_HEADER_SIZE or features & ~INCOMPATIBLE_FEATURES_KNOWN:
        raise UnsupportedVersion(f"features {features:#x} are not known", position)
    created, first_seq, previous_end, previous_hash = numbers
    if first_seq > SEQ_MAX:
        raise LimitExceeded(f"a segment claims event number {first_seq}", position)
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
    )


def find(data: Bytes, start: int, stop: int) -> int:
    """Find the next position with a sound segment header, ``stop`` when there is none.

    One whose hash holds is sound whatever its version: whoever reads it says what is not known.
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
