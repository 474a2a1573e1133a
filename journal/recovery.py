"""Opening a journal to write it: create the file, or find where its events end."""

import fcntl
import mmap
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from journal import durable, log
from journal.errors import JournalLocked, OptionError, StorageError
from journal.segment import SEGMENT_HEADER_SIZE, SEGMENT_MAGIC, SegmentHeader
from journal.survey import Segment

_CHUNK_SIZE = 1 << 20
_DISTRUST_SIZE = 1 << 26
"""Bytes at the end of a file that are read from the disk again, whatever the page cache says."""


class Start(NamedTuple):
    """Where a writer goes on: ``end`` and ``chain`` in the segment's own offsets.

    ``explain`` tells that whole blocks are left behind as debris, which a first block of the
    writer's has to explain to readers.
    """

    header: SegmentHeader
    segment_offset: int
    shift: int
    end: int
    chain: tuple[int, int]
    next_seq: int
    time: int
    explain: bool


def open_journal(
    path: Path, publish: bool, journal_id: bytes | None, clock: Callable[[], int]
) -> tuple[int, Path | None, Start]:
    """Give a locked descriptor, the temporary name of a new file, and where to go on."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return _create(path, journal_id, clock)
        try:
            if not publish:
                raise OptionError(f"{path} exists already")
            _lock(descriptor, path)
            if _is_named(descriptor, path):
                return descriptor, None, _go_on(descriptor, path, journal_id, clock)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # replaced between the open and the lock: look again


def _create(
    path: Path, journal_id: bytes | None, clock: Callable[[], int]
) -> tuple[int, Path, Start]:
    temporary = durable.temporary_beside(path)
    descriptor = durable.create(temporary)
    try:
        _lock(descriptor, path)
        return descriptor, temporary, _begin(descriptor, path, journal_id, clock)
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            temporary.unlink()
        raise


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalLocked(f"{path} is being written by another process") from None


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _begin(
    descriptor: int, path: Path, journal_id: bytes | None, clock: Callable[[], int]
) -> Start:
    """Write the header of a new segment."""
    salt = int.from_bytes(secrets.token_bytes(8), "little")
    data, header = SegmentHeader(salt, journal_id or secrets.token_bytes(16), clock()).encode()
    try:
        if os.pwrite(descriptor, data, 0) != len(data):
            raise OSError("the header was written in part")
        os.fdatasync(descriptor)
    except OSError as error:
        raise StorageError(f"{path} cannot be created: {error}", 0) from error
    end = SEGMENT_HEADER_SIZE
    return Start(header, 0, 0, end, (end, header.hash), 0, 0, False)


def _go_on(
    descriptor: int, path: Path, journal_id: bytes | None, clock: Callable[[], int]
) -> Start:
    size = os.fstat(descriptor).st_size
    if size < SEGMENT_HEADER_SIZE and SEGMENT_MAGIC.startswith(os.pread(descriptor, 8, 0)):
        # a crash cut the creation short: nothing can have been written behind, let alone promised
        start = _begin(descriptor, path, journal_id, clock)
        durable.sync_directory(path.parent)
        return start
    _settle(descriptor, size, path)
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as data:
        start = _recover(data, size)
    if journal_id not in (None, start.header.journal_id):
        raise OptionError(f"{path} is another journal: its id is {start.header.journal_id.hex()}")
    return start


def _settle(descriptor: int, size: int, path: Path) -> None:
    """Make what is read next be what a power cut would leave.

    > Why? After a failed write-back the page cache shows bytes that the disk never got, and says
    nothing; a crashed writer may have left bytes that only the cache has.
    """
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise StorageError(f"{path} cannot be synced: {error}", 0) from error
    os.posix_fadvise(descriptor, max(0, size - _DISTRUST_SIZE), 0, os.POSIX_FADV_DONTNEED)


def _recover(data: mmap.mmap, size: int) -> Start:
    """Find the point in time to go on from: the last block before any damage.

    Raises for damage of acknowledged bytes, and for damage that later segments stand behind.
    """
    segment: Segment | None = None
    time = 0
    # below durable_upto a sync has returned, so that the chain of headers is enough
    for item in log.walk(data, size, lambda place, header, _: header.end > place.durable_upto):
        if isinstance(item, Segment):
            segment = item
        elif isinstance(item, log.Placed):
            time = max(time, item.header.time_last)
        elif isinstance(item, log.Damage):
            assert segment is not None
            if item.acknowledged or segment.limit < size:
                raise item.error()
            return _start(data, size, segment, item, time, True)
        elif isinstance(item, log.Tail) and item.segment.limit == size:
            return _start(data, size, item.segment, item, time, False)
    raise AssertionError("the walk ends in the tail of the last segment")


def _start(
    data: mmap.mmap,
    size: int,
    segment: Segment,
    item: log.Tail | log.Damage,
    time: int,
    explain: bool,
) -> Start:
    next_seq = item.next_seq if isinstance(item, log.Tail) else item.first_seq
    end = _used(data, item.offset, size) - segment.offset
    end += -end % 8
    return Start(
        segment.header, segment.offset, segment.shift, end, item.link, next_seq, time, explain
    )


def _used(data: mmap.mmap, tail: int, size: int) -> int:
    """Find the end of what is not zero behind the tail: preallocated zeros are free to write."""
    while size > tail:
        start = max(tail, size - _CHUNK_SIZE)
        rest = data[start:size].rstrip(b"\0")
        if rest:
            return start + len(rest)
        size = start
    return tail
