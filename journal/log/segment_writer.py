"""One segment file that is being written: its space, its end, and its durable part."""

import errno
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from journal.errors import StorageError
from journal.format.block import BLOCK_SIZE_TARGET, BlockHeader, BlockPlacement
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SegmentHeader
from journal.format.segment_index import SegmentIndexBuilder
from journal.fs.open_resources import close_descriptor
from journal.log.journal_lock import unlock
from journal.log.sealed_end import SealedEnd

RESERVE_SIZE = BLOCK_SIZE_TARGET + (1 << 14)
"""Bytes kept free after the end, so that all accepted events and one marker always fit."""
PREALLOCATION_SIZE_MAX = 1 << 23
_PREALLOCATION_SIZE_MIN = 1 << 17
_PAGE_SIZE = 1 << 12
_COPY_SIZE = 1 << 20

_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNSUPPORTED_ERRNOS = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV)

assert _PREALLOCATION_SIZE_MIN > RESERVE_SIZE


def is_disk_full(error: OSError) -> bool:
    """Return whether the error means that the disk or a quota is full."""
    return error.errno in _DISK_FULL_ERRNOS


def make_disk_full_error(path: Path, error: OSError, first_seq_lost: int) -> StorageError:
    """Return the error of a journal that accepts no events because the disk is full."""
    reason = f"{path}: no space left to write: {error.strerror or error}"
    full = StorageError(reason, first_seq_lost)
    full.is_disk_full = True
    return full


class DiskFull(OSError):
    """There is no space for a block. Nothing was written, and no accepted event is lost."""


class NameLost(OSError):
    """The path of a file leads to no file or to another file."""


class SegmentWriter:
    """Writer of one segment file. All offsets are relative to the segment, except the file's size.

    After ``sync_error`` is set, a later sync may succeed although data is lost.

    > Why preallocate? It nearly doubles the commits per second, because a sync need not write a new
    file size. A full disk is detected before a block is written.
    """

    __slots__ = (
        "_allocated",
        "_identity",
        "_names",
        "descriptor",
        "durable",
        "end",
        "header",
        "index_builder",
        "link",
        "sealed_end",
        "segment_offset",
        "sync_error",
    )

    def __init__(
        self,
        path: Path,
        descriptor: int,
        header: SegmentHeader,
        segment_offset: int = 0,
        end: int = SEGMENT_HEADER_SIZE,
        link: tuple[int, int] | None = None,
        index_builder: SegmentIndexBuilder | None = None,
        sealed_end: SealedEnd | None = None,
    ) -> None:
        self._names: tuple[Path, ...] = (path.absolute(),)
        self.descriptor = descriptor
        self.header = header
        self.segment_offset = segment_offset
        self.end = end
        self.link = link or (end, header.hash)
        self.durable = (end, self.link)
        self.sync_error: BaseException | None = None
        self.index_builder = index_builder or SegmentIndexBuilder()
        self.sealed_end = sealed_end
        status = os.fstat(descriptor)
        self._identity = (status.st_dev, status.st_ino)
        self._allocated: int | None = status.st_size

    @property
    def path(self) -> Path:
        """Absolute path of the file."""
        return self._names[0]

    def set_path(self, path: Path) -> None:
        """Record that the file is being renamed, and that either name may lead to it."""
        self._names = (path.absolute(), self._names[0])

    def check_name(self) -> None:
        """Raise NameLost if neither the file's path nor the path before it leads to the file.

        > Why? A sync makes the events durable in a file that nobody finds.
        """
        reason = "its path leads to another file"
        for name in self._names:
            try:
                status = name.stat()
            except PermissionError:
                return  # A process that has dropped its privileges cannot know.
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                if (status.st_dev, status.st_ino) == self._identity:
                    return
        raise NameLost(f"the journal was removed, renamed or replaced: {reason}")

    def is_in(self, descriptor: int) -> bool:
        """Return whether an open file is the file of this segment."""
        status = os.fstat(descriptor)
        return (status.st_dev, status.st_ino) == self._identity

    def place(self, first_seq: int) -> BlockPlacement:
        """Return the placement of the next block. ``first_seq`` is relative to the segment."""
        end, digest = self.link
        place = BlockPlacement(self.header.salt, first_seq, self.end, end, digest, self.durable[0])
        if self.sealed_end is None:
            return place
        return place._replace(seal=partial(self.sealed_end.seal.seal, self.sealed_end.tag_at(end)))

    def reserve(self, size: int) -> None:
        """Allocate space for a block and the reserve after it.

        Raises DiskFull when there is no space; the file is then unchanged.
        """
        if self._allocated is None:
            return
        needed = self.segment_offset + self.end + size + RESERVE_SIZE
        if needed <= self._allocated:
            return
        extra = min(max(self._allocated, _PREALLOCATION_SIZE_MIN), PREALLOCATION_SIZE_MAX)
        try:
            self._allocate(needed + extra)
        except DiskFull:
            self._allocate(needed)

    def forgo_reserve(self) -> None:
        """Allocate nothing ahead: a full disk is seen only when a block is written."""
        self._allocated = None

    def restore_reserve(self) -> None:
        """Allocate space ahead again, from the next block on."""
        self._allocated = os.fstat(self.descriptor).st_size

    def has_space_for(self, size: int) -> bool:
        """Return whether a block fits, even if it uses the reserve."""
        if self._allocated is None:
            return True
        return self.segment_offset + self.end + size <= self._allocated

    def _allocate(self, size: int) -> None:
        assert self._allocated is not None
        size += -size % _PAGE_SIZE
        try:
            os.posix_fallocate(self.descriptor, self._allocated, size - self._allocated)
        except OSError as error:
            if is_disk_full(error):
                with suppress(OSError):  # A file system may have allocated a part.
                    os.ftruncate(self.descriptor, self._allocated)
                raise DiskFull(error.errno, error.strerror) from error
            if error.errno not in _UNSUPPORTED_ERRNOS:
                raise
            self._allocated = None
        else:
            self._allocated = size

    def write(self, parts: list[bytes], header: BlockHeader, next_seq: int) -> None:
        """Write a block at the end.

        ``next_seq`` is the segment's sequence number after the block.
        """
        position = self.segment_offset + self.end
        written = os.pwritev(self.descriptor, parts, position)
        if written != header.size:
            self._write_rest(memoryview(b"".join(parts))[written:], position + written)
        self.end = header.end
        self.link = (header.end, header.hash)
        if self.sealed_end is not None:
            self.sealed_end.add(header.end, parts[-1], self.durable[1][0])
        self.index_builder.add(header, next_seq)

    def _write_rest(self, rest: memoryview, position: int) -> None:
        while rest:
            written = os.pwrite(self.descriptor, rest, position)
            if not written:
                raise OSError(errno.EIO, f"0 of {len(rest)} bytes were written")
            position += written
            rest = rest[written:]

    def sync(self) -> None:
        """Make the whole file durable."""
        os.fdatasync(self.descriptor)
        self.durable = (self.end, self.link)

    def is_on_disk(self, start: int, data: bytes) -> bool:
        """Return whether the disk, not the page cache, holds ``data`` at an offset."""
        position = self.segment_offset + start
        first = position & -_PAGE_SIZE
        os.posix_fadvise(self.descriptor, first, 0, os.POSIX_FADV_DONTNEED)
        for begin in range(0, len(data), _COPY_SIZE):
            expected = data[begin : begin + _COPY_SIZE]
            if os.pread(self.descriptor, len(expected), position + begin) != expected:
                return False
        return True

    def trim(self) -> None:
        """Release the allocated space after the end."""
        size = self.segment_offset + self.end
        if self._allocated is not None and self._allocated > size:
            with suppress(OSError):  # Zeros have no meaning, so they may remain.
                os.ftruncate(self.descriptor, size)
                self._allocated = size

    def offset_past_failure(self, size: int) -> int:
        """Return the first offset on a page after the blocks and ``size`` more bytes."""
        position = self.segment_offset + self.end + size
        offset = position + -position % _PAGE_SIZE - self.segment_offset
        return offset + -offset % 8

    def close(self) -> None:
        """Close the file. An error of close carries no new information."""
        descriptor, self.descriptor = self.descriptor, -1
        unlock(descriptor)

    def abandon(self) -> None:
        """Close the file in a forked child, which must not unlock it."""
        descriptor, self.descriptor = self.descriptor, -1
        close_descriptor(descriptor)
