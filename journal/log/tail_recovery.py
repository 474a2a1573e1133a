"""Opening of a journal for writing: create it, or find and recover its tail."""

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from journal._platform import require_linux
from journal.errors import (
    JournalLocked,
    LimitExceeded,
    LostAcknowledged,
    NotAJournal,
    OptionError,
    StorageError,
    TornBlock,
)
from journal.format import segment_index
from journal.format.block import read_last_delta
from journal.format.frame import SEQ_MAX
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SEGMENT_MAGIC, SegmentHeader
from journal.format.segment_index import SegmentIndexBuilder
from journal.fs import atomic_file
from journal.fs.byte_source import ByteSource
from journal.log import scan, segment_files
from journal.log.header_scan import Segment
from journal.log.scan import RecoveryMode
from journal.log.segment_writer import SegmentWriter

SEQ_LAST = SEQ_MAX - (1 << 40)
"""Highest first sequence number of a writer.

Readers accept all numbers that such a writer reaches.
"""
_CHUNK_SIZE = 1 << 20
_REREAD_SIZE = 1 << 26
"""Bytes at the end of a file that are read from the disk again instead of the page cache."""


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
    """Options of a writer for opening its journal."""

    path: Path
    is_directory: bool
    publish: bool
    journal_id: bytes | None
    clock: Callable[[], int]
    mode: RecoveryMode
    first_seq: int = 0
    """Sequence number of the first event of a new journal."""

    def check(self) -> None:
        """Raise OptionError for invalid values, and on a system that cannot write journals."""
        require_linux("writing a journal")
        if not 0 <= self.first_seq <= SEQ_LAST:
            raise OptionError(f"first_seq must be 0 to {SEQ_LAST}, got {self.first_seq}")
        if self.journal_id is not None and len(self.journal_id) != 16:
            raise OptionError(f"journal id must have 16 bytes, got {len(self.journal_id)}")
        if self.mode is RecoveryMode.SALVAGE:
            raise OptionError("mode salvage is for readers only: a writer cannot use it")


def open_journal(options: OpenOptions) -> OpenResult:
    """Lock the journal and find the position to resume; create the journal if there is none."""
    path = options.path
    while True:
        try:
            lock = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return _create(options)
        try:
            if not options.publish:
                raise OptionError(f"{path} already exists")
            mode = os.fstat(lock).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise NotAJournal(f"{path} is neither a regular file nor a directory")
            _lock(lock, path)
            if _is_named(lock, path):
                open_existing = _open_directory if stat.S_ISDIR(mode) else _open_file
                return open_existing(lock, options)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # The journal was replaced between open and lock: try again.


def create_segment(path: Path, header: SegmentHeader) -> SegmentWriter:
    """Create a file with a durable segment header. Raises StorageError."""
    data, header = header.encode()
    try:
        descriptor = atomic_file.create_private(path)
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


def make_header(options: OpenOptions) -> SegmentHeader:
    """Make the header of a journal's first segment."""
    journal_id = options.journal_id or secrets.token_bytes(16)
    return SegmentHeader(make_salt(), journal_id, options.clock(), options.first_seq)


def make_salt() -> int:
    """Return a random seed for the hashes of a segment."""
    return int.from_bytes(secrets.token_bytes(8), "little")


def _create(options: OpenOptions) -> OpenResult:
    temporary = atomic_file.make_temporary_path(options.path)
    if not options.is_directory:
        file = create_segment(temporary, make_header(options))
        lock = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        _lock(lock, options.path)
        return _empty_result(options, lock, temporary, -1, file)
    try:
        temporary.mkdir(mode=0o700)
        lock = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        reason = f"{options.path} cannot be created: {error.strerror or error}"
        raise StorageError(reason, 0) from error
    try:
        _lock(lock, options.path)
        file = create_segment(temporary / segment_files.segment_name(0), make_header(options))
        return _empty_result(options, lock, temporary, 0, file)
    except BaseException:
        os.close(lock)
        with suppress(OSError):
            temporary.rmdir()
        raise


def _empty_result(
    options: OpenOptions, lock: int, temporary: Path | None, file_index: int, file: SegmentWriter
) -> OpenResult:
    """Return the result for a journal without events."""
    return OpenResult(lock, temporary, file_index, file, 0, options.first_seq, 0, False)


def _lock(descriptor: int, path: Path) -> None:
    import fcntl  # Windows has no such module, and reads journals.

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalLocked(f"{path} is being written by another process") from None


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _open_file(lock: int, options: OpenOptions) -> OpenResult:
    if options.is_directory:
        raise OptionError(f"{options.path} is a file: roll needs a journal directory")
    descriptor = os.open(options.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        created = _restart_creation(descriptor, options)
        if created is not None:
            return _empty_result(options, lock, None, -1, created)
        return _recover_tail(descriptor, options, lock)
    except BaseException:
        os.close(descriptor)
        raise


def _restart_creation(descriptor: int, options: OpenOptions) -> SegmentWriter | None:
    """Write the header again if a crash interrupted the creation, before any event was written."""
    size = os.fstat(descriptor).st_size
    begin = os.pread(descriptor, len(SEGMENT_MAGIC), 0)
    if size >= SEGMENT_HEADER_SIZE or not SEGMENT_MAGIC.startswith(begin):
        return None
    data, header = make_header(options).encode()
    try:
        if os.pwrite(descriptor, data, 0) != len(data):
            raise OSError("the header was written in part")
        os.fdatasync(descriptor)
    except OSError as error:
        raise StorageError(f"{options.path} cannot be created: {error}", 0) from error
    atomic_file.sync_directory(options.path.parent)
    return SegmentWriter(options.path, descriptor, header)


def _open_directory(lock: int, options: OpenOptions) -> OpenResult:
    names = segment_files.list_segments(lock)
    if not names:
        if not options.is_directory:
            raise NotAJournal(f"{options.path} contains no segment file")
        file = create_segment(options.path / segment_files.segment_name(0), make_header(options))
        os.fsync(lock)
        return _empty_result(options, lock, None, 0, file)
    files = segment_files.SegmentFiles(options.path)
    try:
        _check_chain(files, names)
        if options.mode is RecoveryMode.STRICT:
            _check_all(files, names)
        time = _last_time(files, names[:-1])
    finally:
        files.close()
    descriptor = os.open(options.path / names[-1], os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        start = _recover_tail(descriptor, options, lock, names[-1])
    except BaseException:
        os.close(descriptor)
        raise
    return start._replace(
        file_index=segment_files.segment_index(names[-1]) or 0, time=max(start.time, time)
    )


def _last_time(files: segment_files.SegmentFiles, names: list[str]) -> int:
    """Return the time of the last event in these files, 0 if there is none."""
    for name, header in reversed(files.read_heads(names)):
        source = files.open(name)
        seal = segment_index.read_seal(source, header) if source and header else None
        if seal is not None:
            return seal.time_last
        items = scan.scan_files(files.sources([name]), lambda *_: False, from_middle=True)
        times = [item.header.time_last for item in items if isinstance(item, scan.ScannedBlock)]
        if any(times):
            return max(times)
    return 0


def _check_chain(files: segment_files.SegmentFiles, names: list[str]) -> None:
    """Raise unless each segment file continues the previous file, at a block that exists."""
    heads = files.read_heads(names)
    for name, header in heads:
        if header is None:
            raise NotAJournal("the segment header is invalid", 0, name)
    first = heads[0].header
    if first is not None and first.previous_hash:
        reason = "the first segment continues a segment that is missing"
        raise LostAcknowledged(reason, 0, last_seq=first.first_seq - 1, file=names[0])
    for (name, header), (next_name, following) in pairwise(heads):
        assert header is not None
        assert following is not None
        if not following.continues(header):
            reason = "the segment does not continue the segment before it"
            raise LostAcknowledged(reason, 0, file=next_name)
        source = files.open(name)
        seal = segment_index.read_seal(source, header) if source else None
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
    """Raise for acknowledged events lost at the end of an unsealed segment, as after a failure."""
    for item in scan.scan_files(files.sources(names), lambda *_: False, from_middle=True):
        if isinstance(item, Segment) and item.name == names[1]:
            return
        if isinstance(item, scan.Damage) and item.acknowledged:
            raise item.error()


def _recover_tail(descriptor: int, options: OpenOptions, lock: int, name: str = "") -> OpenResult:
    size = os.fstat(descriptor).st_size
    _drop_unsynced_cache(descriptor, size, options.path)
    tail = _find_tail(ByteSource(descriptor, size, name), options.mode)
    header = tail.segment.header
    if options.journal_id not in (None, header.journal_id):
        expected = (options.journal_id or b"").hex()
        reason = f"id {header.journal_id.hex()}, expected {expected}"
        raise OptionError(f"{options.path} is another journal: {reason}")
    end = _end_of_nonzero(descriptor, tail.offset, size) - tail.segment.offset
    end += -end % 8
    file = SegmentWriter(
        options.path / name if name else options.path,
        descriptor,
        header,
        tail.segment.offset,
        end,
        tail.link,
        tail.index_builder,
    )
    shift = tail.segment.shift
    if max(tail.next_seq, tail.next_seq - shift) > SEQ_LAST:
        raise LimitExceeded("the sequence numbers have run out", tail.offset, name)
    return OpenResult(
        lock, None, -1, file, shift, tail.next_seq, tail.time, tail.needs_recovery_marker
    )


def _drop_unsynced_cache(descriptor: int, size: int, path: Path) -> None:
    """Sync the file and drop cached pages, so that the next reads return the disk's content."""
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise StorageError(f"{path} cannot be synced: {error}", 0) from error
    os.posix_fadvise(descriptor, max(0, size - _REREAD_SIZE), 0, os.POSIX_FADV_DONTNEED)


class _RecoveredTail(NamedTuple):
    """Position at which the writer resumes in the last segment."""

    segment: Segment
    offset: int
    link: tuple[int, int]
    next_seq: int
    time: int
    index_builder: SegmentIndexBuilder
    needs_recovery_marker: bool


def _find_tail(data: ByteSource, mode: RecoveryMode) -> _RecoveredTail:
    """Return the position to resume: the end of the last block before any damage.

    Raises for damage of acknowledged bytes, for damage that later segments follow, and for damage
    that the mode does not accept.
    """
    segment: Segment | None = None
    time, rows = 0, SegmentIndexBuilder()
    strict = mode is RecoveryMode.STRICT
    for item in scan.scan_files(
        [data],
        # A sync has returned for bytes below durable_upto, so their header chain is enough.
        lambda segment, header, _: strict or header.end > segment.durable_upto,
        from_middle=bool(data.name),  # ``_check_chain`` checks the files before it.
    ):
        if isinstance(item, Segment):
            segment, rows = item, SegmentIndexBuilder()
        elif isinstance(item, scan.ScannedBlock):
            time = max(time, item.header.time_last)
            rows.add(item.header, _seq_after(item))
        elif isinstance(item, scan.Damage):
            is_refused = mode is not RecoveryMode.POINT_IN_TIME or item.acknowledged
            if is_refused or segment is None or segment.limit < len(data):
                raise item.error()
            return _RecoveredTail(segment, item.offset, item.link, item.first_seq, time, rows, True)
        elif isinstance(item, scan.Tail) and item.segment.limit == len(data):
            if strict and item.torn_size:
                raise TornBlock("the journal has a torn tail", item.offset, data.name)
            return _RecoveredTail(
                item.segment, item.offset, item.link, item.next_seq, time, rows, False
            )
    raise AssertionError("a scan ends with the tail of the last segment")


def _seq_after(item: scan.ScannedBlock) -> int:
    header = item.header
    if header.has_seqs and header.frame_count:
        return header.first_seq + read_last_delta(header, item.body) + 1
    return header.first_seq + header.frame_count


def _end_of_nonzero(descriptor: int, tail: int, size: int) -> int:
    """Return the end of the nonzero bytes after the tail: preallocated zeros are free to write."""
    while size > tail:
        start = max(tail, size - _CHUNK_SIZE)
        rest = os.pread(descriptor, size - start, start).rstrip(b"\0")
        if rest:
            return start + len(rest)
        size = start
    return tail
