"""Sealed journals for tests, and the changes that a forger without the key can make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from journal.errors import JournalError
from journal.format import segment_header
from journal.format.block_header import (
    BLOCK_HEADER_SIZE,
    HASHED_LAYOUT,
    LAYOUT,
    BlockHeader,
    read_header,
)
from journal.format.seal_key import SealKey
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SegmentHeader
from journal.log.reader import Reader
from journal.log.scan import RecoveryMode
from journal.log.seal_keys import PROCESS_KEYS

KEY = SealKey(bytes(range(32)))
OTHER_KEY = SealKey(bytes(range(1, 33)))
SECRET = b"a secret that no file may show"


class StoredBlock(NamedTuple):
    """A block in the bytes of a segment."""

    header: BlockHeader
    body: bytes

    @property
    def data(self) -> bytes:
        """The bytes of the block."""
        return LAYOUT.pack(*self.header) + self.body


@contextmanager
def process_key(key: SealKey = KEY) -> Iterator[None]:
    """Let all readers and writers of this process use a key, as the command line does."""
    PROCESS_KEYS.reading = PROCESS_KEYS.writing = key
    try:
        yield
    finally:
        PROCESS_KEYS.reading = PROCESS_KEYS.writing = None


def head_of(data: bytes) -> SegmentHeader:
    """Return the segment header at the start of a file."""
    return segment_header.read(data, 0)


def blocks_of(data: bytes) -> list[StoredBlock]:
    """Return the blocks of a file of one segment, in order, with the key block."""
    salt, at, blocks = head_of(data).salt, SEGMENT_HEADER_SIZE, []
    while (header := read_header(data, at, salt, at)) is not None:
        blocks.append(StoredBlock(header, data[at + BLOCK_HEADER_SIZE : header.end]))
        at = header.end
    return blocks


def lay(head: bytes, blocks: Sequence[StoredBlock]) -> bytes:
    """Return a file of these blocks, with offsets, links and hashes that fit.

    All of this is possible without the key.
    """
    salt = head_of(head).salt
    data, link = head[:SEGMENT_HEADER_SIZE], (SEGMENT_HEADER_SIZE, head_of(head).hash)
    for stored in blocks:
        header = stored.header._replace(
            offset=len(data),
            previous_end=link[0],
            previous_hash=link[1],
            durable_upto=min(stored.header.durable_upto, len(data)),
            payload_size=len(stored.body) - stored.header.columns_size,
            body_hash=xxh3_64_intdigest(stored.body, salt),
        )
        header = header._replace(hash=xxh3_64_intdigest(HASHED_LAYOUT.pack(*header[:-1]), salt))
        data += StoredBlock(header, stored.body).data
        link = (header.end, header.hash)
    return data


def number_on(blocks: Sequence[StoredBlock]) -> list[StoredBlock]:
    """Return the blocks with consecutive sequence numbers, whatever they had."""
    numbered, seq = [], 0
    for stored in blocks:
        numbered.append(stored._replace(header=stored.header._replace(first_seq=seq)))
        seq += stored.header.frame_count
    return numbered


def flip(data: bytes, bit: int) -> bytes:
    """Return ``data`` with one bit flipped."""
    changed = bytearray(data)
    changed[bit >> 3] ^= 1 << (bit & 7)
    return bytes(changed)


def read_all(path: Path, mode: RecoveryMode = RecoveryMode.TOLERATE_TAIL) -> list[bytes]:
    """Return the payloads of all events, read with the key."""
    with Reader(path, key=KEY, mode=mode) as reader:
        return [frame.payload for frame in reader.frames()]


def is_refused(path: Path) -> bool:
    """Return whether a change of the journal at ``path`` is an error of every reader with the key.

    A verification must find it too.
    """
    try:
        read_all(path)
    except JournalError:
        return _has_findings(path)
    return False


def _has_findings(path: Path) -> bool:
    try:
        with Reader(path, key=KEY) as reader:
            return bool(list(reader.verify(decode=False)))
    except JournalError:
        return True
