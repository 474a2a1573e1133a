"""Blocks that are kept in memory until they are durable, to be written again after a failure.

> Why not retry the sync? After a failed fsync the next fsync returns success, although the data is
not on the disk and only the page cache still shows it.
"""

import os
from typing import NamedTuple

from journal.format import block
from journal.format.block import BLOCK_HEADER_SIZE, BlockHeader
from journal.format.seal_cipher import TAG_SIZE
from journal.log.journal_lock import JournalLock
from journal.log.sealed_end import SealedEnd
from journal.log.segment_writer import SegmentWriter


class UnsyncedBlock(NamedTuple):
    """A block that is not durable yet. ``next_seq`` is the journal's sequence number after it."""

    header: BlockHeader
    parts: list[bytes]
    next_seq: int


class UnsyncedBlocks:
    """The blocks that are not durable yet, in order. ``size`` is their size in bytes."""

    __slots__ = ("_blocks", "size")

    def __init__(self) -> None:
        self._blocks: list[UnsyncedBlock] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, new: UnsyncedBlock) -> None:
        """Add the block that was written last."""
        self._blocks.append(new)
        self.size += new.header.size

    def drop(self, count: int) -> None:
        """Drop the first blocks, which have become durable."""
        del self._blocks[:count]
        self.size = sum([unsynced.header.size for unsynced in self._blocks])

    def copy_to(self, new: SegmentWriter, shift: int, sealed_end: SealedEnd | None = None) -> None:
        """Write all blocks to ``new``, sync, and compare them with the bytes on the disk.

        ``shift`` is the difference between a sequence number of the journal and of the segment.
        ``sealed_end`` is that of the segment for which the blocks were sealed.
        """
        copies, tag = [], b""
        for unsynced in self._blocks:
            placement = new.place(unsynced.header.first_seq)
            stored = b"".join(unsynced.parts)[BLOCK_HEADER_SIZE:]
            header, body = unsynced.header, stored
            if sealed_end is not None:
                tag = tag or sealed_end.tag_at(header.previous_end)
                header, body = _open(sealed_end, header, tag, stored)
                tag = stored[-TAG_SIZE:]
            data, header = block.rewrite_header(header, body, placement)
            new.reserve(len(data))
            new.write([data], header, unsynced.next_seq - shift)
            copies.append((header.offset, data))
        new.sync()
        if not all(new.is_on_disk(offset, data) for offset, data in copies):
            raise OSError("the disk returned other data than was written")


def _open(
    sealed_end: SealedEnd, header: BlockHeader, tag: bytes, body: bytes
) -> tuple[BlockHeader, bytes]:
    """Return a block of this process without its seal: the seal of its copy has another nonce."""
    opened = sealed_end.seal.open(header, tag, body)
    if opened is None:
        raise OSError("a block in memory has changed since it was sealed")
    return opened


def reopen_past_failure(old: SegmentWriter, lock: JournalLock, size: int) -> SegmentWriter:
    """Open a file again after a failure, to continue after all bytes that were or may be written.

    ``size`` is the size of a block whose write failed, else 0. ``lock`` is that of the same
    file. Raises OSError if the file was replaced.
    """
    descriptor = os.open(old.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if not os.path.samestat(os.fstat(descriptor), os.fstat(lock.descriptor)):
            raise OSError(f"{old.path} was replaced by another file")
        new = SegmentWriter(
            old.path,
            descriptor,
            old.header,
            old.segment_offset,
            old.offset_past_failure(size),
            old.durable[1],
            old.index_builder,
            old.sealed_end,
        )
    except BaseException:
        os.close(descriptor)
        raise
    new.durable = old.durable
    return new
