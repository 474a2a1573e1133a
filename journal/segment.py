"""The segment header: what begins a run of blocks, and the salt that all their hashes share."""

import struct
from mmap import mmap
from typing import NamedTuple, Self

from xxhash import xxh3_64_intdigest

from journal.errors import CorruptBlock, NotAJournal, TornBlock, UnsupportedVersion

SEGMENT_MAGIC = b"\x89JNLSEG\n"
SEGMENT_HEADER_SIZE = 128
MAJOR = 1
MINOR = 0
INCOMPATIBLE_FEATURES_KNOWN = 0

Bytes = bytes | mmap

_LAYOUT = struct.Struct("<8sHHIIIQ16sQQQQ40sQ")
_HASHED_SIZE = SEGMENT_HEADER_SIZE - 8
assert _LAYOUT.size == SEGMENT_HEADER_SIZE
assert len(SEGMENT_MAGIC) == 8
assert SEGMENT_HEADER_SIZE % 8 == 0


class SegmentHeader(NamedTuple):
    """The fields of a segment header; ``created`` in µs since the epoch.

    ``previous_end`` and ``previous_hash`` name the last block of the segment that this one
    continues, and are 0 when it continues none.
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
    if xxh3_64_intdigest(raw[:_HASHED_SIZE], salt) != digest:
        raise CorruptBlock("the hash of the segment header does not hold", position)
    if size != SEGMENT_HEADER_SIZE or features & ~INCOMPATIBLE_FEATURES_KNOWN:
        raise UnsupportedVersion(f"features {features:#x} are not known", position)
    created, first_seq, previous_end, previous_hash = numbers
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


def search(data: Bytes, needle: bytes, start: int, stop: int) -> int:
    """Find ``needle`` as ``data.find`` does; -1 when it is not there.

    > Why? Until 3.11.5, the ``find`` of CPython's mmap reads one byte behind the end that it is
    given (gh-105235). Behind the last byte of a mapping that fills its pages there is nothing to
    read, and the process dies; so the end of a mapping is copied and searched by itself.
    """
    end = min(stop, len(data) - 1)
    found = data.find(needle, start, end)
    if found >= 0 or stop <= end:
        return found
    begin = max(start, end - len(needle) + 1, 0)
    found = bytes(data[begin:stop]).find(needle)
    return begin + found if found >= 0 else -1


def find(data: Bytes, start: int, stop: int) -> int:
    """Find the next position with a sound segment header, ``stop`` when there is none."""
    position = search(data, SEGMENT_MAGIC, start, stop)
    while position >= 0:
        try:
            read(data, position)
        except (CorruptBlock, TornBlock):
            position = search(data, SEGMENT_MAGIC, position + 1, stop)
            continue
        except UnsupportedVersion:
            pass  # a segment all the same: whoever walks there says what is not known
        return position
    return stop
