"""Opening a journal to write it: create it, or find where its events end."""

import fcntl
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from journal.errors import (
    JournalLocked,
    LimitExceeded,
    LostAcknowledged,
    NotAJournal,
    OptionError,
    StorageError,
    TornBlock,
)
from journal.format import segment_index as index
from journal.format.block import read_last_delta
from journal.format.frame import SEQ_MAX
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SEGMENT_MAGIC, SegmentHeader
from journal.format.segment_index import SegmentIndexBuilder
from journal.fs import atomic_file as durable
from journal.fs.byte_source import ByteSource
from journal.log import scan, segment_files
from journal.log.header_scan import Segment
from journal.log.scan import RecoveryMode
from journal.log.segment_writer import SegmentWriter

SEQ_LAST = SEQ_MAX - (1 << 40)
"""A writer begins below this number: what it then writes in a lifetime, readers believe."""
_CHUNK_SIZE = 1 << 20
_REREAD_SIZE = 1 << 26
"""Bytes at the end of a file that are read from the disk again, whatever the page cache says."""


class OpenResult(NamedTuple):
    """A journal opened for writing, and the position at which its writer resumes.

    ``lock`` is the descriptor that holds the journal's lock. ``temporary`` is the path of a journal
    that is not published yet, else None. ``file_index`` is the index of the segment file in a
    directory, -1 in a single-file journal. ``needs_recovery_marker`` is set when whole blocks were
    superseded and remain as debris: the writer's first block must be a recovery marker.
    """

    lock: int
    temporary: Path | None
    file_index: int
    file: SegmentWriter
    shift: int
    next_seq: int
    time: int
    needs_recovery_marker: bool


class OpenOptions(NamedTuple):
    """What the caller wants opened."""

    path: Path
    is_directory: bool
    publish: bool
    journal_id: bytes | None
    clock: Callable[[], int]
    mode: RecoveryMode
    first_seq: int = 0
    """The number of the first event, where the journal is created."""

    def check(self) -> None:
        """Raise OptionError for what cannot be."""
        if not 0 <= self.first_seq <= SEQ_LAST:
            raise OptionError(f"a journal's first event has a number from 0 to {SEQ_LAST}")
        if self.journal_id is not None and len(self.journal_id) != 16:
            raise OptionError("a journal's id has 16 bytes")
        if self.mode is RecoveryMode.SALVAGE:
            raise OptionError("a journal is salvaged by reading it, not by writing on")


def open_journal(wish: OpenOptions) -> OpenResult:
    """Lock the journal, and say where to go on; create it when there is none."""
    path = wish.path
    while True:
        try:
            lock = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return _create(wish)
        try:
            if not wish.publish:
                raise OptionError(f"{path} exists already")
            mode = os.fstat(lock).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise NotAJournal(f"{path} is not a regular file")
            _lock(lock, path)
            if _is_named(lock, path):
                go_on = _open_directory if stat.S_ISDIR(mode) else _open_file
                return go_on(lock, wish)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # replaced between the open and the lock: look again


def create_segment(path: Path, header: SegmentHeader) -> SegmentWriter:
    """Create a file that holds a durable segment header; StorageError when that fails."""
    data, header = header.encode()
    try:
        descriptor = durable.create_private(path)
        try:
            if os.pwrite(descriptor, data, 0) != len(data):
                raise OSError("the header was written in part")
            os.fdatasync(descriptor)
            return SegmentWriter(path, descriptor, header)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()
            raise
    except OSError as error:
        reason = f"{path} cannot be created: {error.strerror or error}"
        raise StorageError(reason, header.first_seq) from error


def make_header(wish: OpenOptions) -> SegmentHeader:
    """Make the header of a journal's first segment."""
    journal_id = wish.journal_id or secrets.token_bytes(16)
    return SegmentHeader(make_salt(), journal_id, wish.clock(), wish.first_seq)


def make_salt() -> int:
    """Draw what seeds the hashes of a segment."""
    return int.from_bytes(secrets.token_bytes(8), "little")


def _create(wish: OpenOptions) -> OpenResult:
    temporary = durable.make_temporary_path(wish.path)
    if not wish.is_directory:
        file = create_segment(temporary, make_header(wish))
        lock = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        _lock(lock, wish.path)
        return _empty_result(wish, lock, temporary, -1, file)
    try:
        temporary.mkdir(mode=0o700)
        lock = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        reason = f"{wish.path} cannot be created: {error.strerror or error}"
        raise StorageError(reason, 0) from error
    try:
        _lock(lock, wish.path)
        file = create_segment(temporary / segment_files.segment_name(0), make_header(wish))
        return _empty_result(wish, lock, temporary, 0, file)
    except BaseException:
        os.close(lock)
        with suppress(OSError):
            temporary.rmdir()
        raise


def _empty_result(
    wish: OpenOptions, lock: int, temporary: Path | None, file_index: int, file: SegmentWriter
) -> OpenResult:
    """Where the first event of a journal goes."""
    return OpenResult(lock, temporary, file_index, file, 0, wish.first_seq, 0, False)


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


def _open_file(lock: int, wish: OpenOptions) -> OpenResult:
    if wish.is_directory:
        raise OptionError(f"{wish.path} is a file: only a directory rolls")
    descriptor = os.open(wish.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        begun = _restart_creation(descriptor, wish)
        if begun is not None:
            return _empty_result(wish, lock, None, -1, begun)
        return _recover_tail(descriptor, wish, lock)
    except BaseException:
        os.close(descriptor)
        raise


def _restart_creation(descriptor: int, wish: OpenOptions) -> SegmentWriter | None:
    """Begin a file in which a crash cut the creation short: nothing was written, nor promised."""
    size = os.fstat(descriptor).st_size
    begin = os.pread(descriptor, len(SEGMENT_MAGIC), 0)
    if size >= SEGMENT_HEADER_SIZE or not SEGMENT_MAGIC.startswith(begin):
        return None
    data, header = make_header(wish).encode()
    try:
        if os.pwrite(descriptor, data, 0) != len(data):
            raise OSError("the header was written in part")
        os.fdatasync(descriptor)
    except OSError as error:
        raise StorageError(f"{wish.path} cannot be created: {error}", 0) from error
    durable.sync_directory(wish.path.parent)
    return SegmentWriter(wish.path, descriptor, header)


def _open_directory(lock: int, wish: OpenOptions) -> OpenResult:
    names = segment_files.list_segments(lock)
    if not names:
        if not wish.is_directory:
            raise NotAJournal(f"{wish.path} holds no segment, nothing stands")
        file = create_segment(wish.path / segment_files.segment_name(0), make_header(wish))
        os.fsync(lock)
        return _empty_result(wish, lock, None, 0, file)
    files = segment_files.SegmentFiles(wish.path)
    try:
        _check_chain(files, names)
        if wish.mode is RecoveryMode.STRICT:
            _check_all(files, names)
        time = _last_time(files, names[:-1])
    finally:
        files.close()
    descriptor = os.open(wish.path / names[-1], os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        start = _recover_tail(descriptor, wish, lock, names[-1])
    except BaseException:
        os.close(descriptor)
        raise
    return start._replace(
        file_index=segment_files.segment_index(names[-1]) or 0, time=max(start.time, time)
    )


def _last_time(files: segment_files.SegmentFiles, names: list[str]) -> int:
    """Give the stamp of the last event in these files, 0 where there is none."""
    for name, header in reversed(files.read_heads(names)):
        source = files.open(name)
        seal = index.read_seal(source, header) if source and header else None
        if seal is not None:
            return seal.time_last
        items = scan.scan_files(files.sources([name]), lambda *_: False, from_middle=True)
        times = [item.header.time_last for item in items if isinstance(item, scan.ScannedBlock)]
        if any(times):
            return max(times)
    return 0


def _check_chain(files: segment_files.SegmentFiles, names: list[str]) -> None:
    """Raise unless each segment file continues the one before it, at a block that is there."""
    heads = files.read_heads(names)
    for name, header in heads:
        if header is None:
            raise NotAJournal("no segment header stands", 0, name)
    first = heads[0].header
    if first is not None and first.previous_hash:
        reason = "the first segment continues one that does not stand before it"
        raise LostAcknowledged(reason, 0, last_seq=first.first_seq - 1, file=names[0])
    for (name, header), (next_name, following) in pairwise(heads):
        assert header is not None
        assert following is not None
        if not following.continues(header):
            reason = "a segment continues another than the one before it"
            raise LostAcknowledged(reason, 0, file=next_name)
        source = files.open(name)
        seal = index.read_seal(source, header) if source else None
        if seal is None or (seal.end, seal.hash) != (
            following.previous_end,
            following.previous_hash,
        ):
            _check_pair(files, [name, next_name])


def _check_all(files: segment_files.SegmentFiles, names: list[str]) -> None:
    """Raise for any damage in any of the files."""
    for item in scan.scan_files(files.sources(names), lambda *_: True):
        if isinstance(item, scan.Damage):
            raise item.error()


def _check_pair(files: segment_files.SegmentFiles, names: list[str]) -> None:
    """Raise for what is lost at the end of a segment that has no seal, as when a disk failed."""
    for item in scan.scan_files(files.sources(names), lambda *_: False, from_middle=True):
        if isinstance(item, Segment) and item.name == names[1]:
            return
        if isinstance(item, scan.Damage) and item.acknowledged:
            raise item.error()


def _recover_tail(descriptor: int, wish: OpenOptions, lock: int, name: str = "") -> OpenResult:
    size = os.fstat(descriptor).st_size
    _drop_unsynced_cache(descriptor, size, wish.path)
    found = _find_tail(ByteSource(descriptor, size, name), wish.mode)
    header = found.segment.header
    if wish.journal_id not in (None, header.journal_id):
        raise OptionError(f"{wish.path} is another journal: its id is {header.journal_id.hex()}")
    end = _end_of_nonzero(descriptor, found.offset, size) - found.segment.offset
    end += -end % 8
    file = SegmentWriter(
        wish.path / name if name else wish.path,
        descriptor,
        header,
        found.segment.offset,
        end,
        found.link,
        found.index_builder,
    )
    shift = found.segment.shift
    if max(found.next_seq, found.next_seq - shift) > SEQ_LAST:
        raise LimitExceeded("the numbers of events have run out", found.offset, name)
    return OpenResult(
        lock, None, -1, file, shift, found.next_seq, found.time, found.needs_recovery_marker
    )


def _drop_unsynced_cache(descriptor: int, size: int, path: Path) -> None:
    """Make what is read next be what a power cut would leave.

    > Why? After a failed write-back the page cache shows bytes that the disk never got, and says
    nothing; a crashed writer may have left bytes that only the cache has.
    """
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise StorageError(f"{path} cannot be synced: {error}", 0) from error
    os.posix_fadvise(descriptor, max(0, size - _REREAD_SIZE), 0, os.POSIX_FADV_DONTNEED)


class _RecoveredTail(NamedTuple):
    segment: Segment
    offset: int
    link: tuple[int, int]
    next_seq: int
    time: int
    index_builder: SegmentIndexBuilder
    needs_recovery_marker: bool


def _find_tail(data: ByteSource, mode: RecoveryMode) -> _RecoveredTail:
    """Find the point in time to go on from: the last block before any damage.

    Raises for damage of acknowledged bytes, for damage that later segments stand behind, and for
    what the mode does not allow.
    """
    segment: Segment | None = None
    time, rows = 0, SegmentIndexBuilder()
    strict = mode is RecoveryMode.STRICT
    for item in scan.scan_files(
        [data],
        # below durable_upto a sync has returned, so that the chain of headers is enough
        lambda place, header, _: strict or header.end > place.durable_upto,
        from_middle=bool(data.name),  # the files before it are held to their chain
    ):
        if isinstance(item, Segment):
            segment, rows = item, SegmentIndexBuilder()
        elif isinstance(item, scan.ScannedBlock):
            time = max(time, item.header.time_last)
            rows.add(item.header, _seq_after(item))
        elif isinstance(item, scan.Damage):
            refused = mode is not RecoveryMode.POINT_IN_TIME or item.acknowledged
            if refused or segment is None or segment.limit < len(data):
                raise item.error()
            return _RecoveredTail(segment, item.offset, item.link, item.first_seq, time, rows, True)
        elif isinstance(item, scan.Tail) and item.segment.limit == len(data):
            if strict and item.torn_size:
                raise TornBlock("a crash cut the journal short", item.offset, data.name)
            return _RecoveredTail(
                item.segment, item.offset, item.link, item.next_seq, time, rows, False
            )
    raise AssertionError("the walk ends in the tail of the last segment")


def _seq_after(item: scan.ScannedBlock) -> int:
    header = item.header
    if header.has_seqs and header.frame_count:
        return header.first_seq + read_last_delta(header, item.body) + 1
    return header.first_seq + header.frame_count


def _end_of_nonzero(descriptor: int, tail: int, size: int) -> int:
    """Find the end of what is not zero behind the tail: preallocated zeros are free to write."""
    while size > tail:
        start = max(tail, size - _CHUNK_SIZE)
        rest = os.pread(descriptor, size - start, start).rstrip(b"\0")
        if rest:
            return start + len(rest)
        size = start
    return tail
