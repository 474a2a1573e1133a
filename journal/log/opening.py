"""Opening of a journal for writing: create it, or lock it and recover its tail."""

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from journal._platform import require_linux
from journal.errors import FormatError, JournalExists, NotAJournal, OptionError, StorageError
from journal.format import segment_header
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SEGMENT_MAGIC, SegmentHeader
from journal.fs import atomic_file, file_kind
from journal.fs.byte_source import ByteSource
from journal.log import journal_lock, segment_files
from journal.log.fork_point import ForkPoint
from journal.log.journal_lock import JournalLock
from journal.log.scan import RecoveryMode
from journal.log.seal_keys import choose_reading_keys, choose_writing_key
from journal.log.segment_creation import create_segment, make_header, write_segment_header
from journal.log.segment_writer import SegmentWriter, is_disk_full, make_disk_full_error
from journal.log.tail_recovery import SEQ_LAST, OpenTail, check_directory, recover_tail

if TYPE_CHECKING:
    from journal.format.seal_key import SealKey, WrappingKey


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
    key: "SealKey | None" = None
    """Opens a sealed journal, and seals a new one."""
    origin: ForkPoint | None = None
    """The journal must be new, and continues another one from here."""

    def check(self) -> None:
        """Raise OptionError for invalid values, and on a system that cannot write journals."""
        require_linux("writing a journal")
        if not 0 <= self.first_seq <= SEQ_LAST:
            raise OptionError(f"first_seq must be 0 to {SEQ_LAST}, got {self.first_seq}")
        if self.journal_id is not None and len(self.journal_id) != 16:
            raise OptionError(f"journal id must have 16 bytes, got {len(self.journal_id)}")
        if self.mode is RecoveryMode.SALVAGE:
            raise OptionError("mode salvage is for readers only: a writer cannot use it")


class OpenResult(NamedTuple):
    """A journal opened for writing.

    ``temporary`` is the path of a journal that is not published yet, else None. ``file_index`` is
    the index of the segment file in a directory, -1 in a single-file journal.
    """

    lock: JournalLock
    temporary: Path | None
    file_index: int
    tail: OpenTail


def open_journal(options: OpenOptions) -> OpenResult:
    """Lock the journal and find the position to resume; create the journal if there is none."""
    path = options.path
    while True:
        try:
            descriptor, status = file_kind.open_source(path, NotAJournal, directory=True)
        except FileNotFoundError:
            if path.is_symlink():
                file_kind.check_absent(path)
            return _create(options)
        lock = JournalLock(descriptor)
        try:
            if not options.publish or options.origin is not None:
                reason = f"{path} already exists: resume it, or choose another path"
                raise JournalExists(reason, str(path))
            lock.acquire(path)
            if segment_files.is_same_file(path, status):
                open_existing = _open_directory if stat.S_ISDIR(status.st_mode) else _open_file
                return open_existing(lock, options)
        except BaseException:
            lock.release()
            raise
        lock.release()  # The journal was replaced between open and lock: try again.


def _create(options: OpenOptions) -> OpenResult:
    journal_lock.check_not_segment(options.path)
    temporary = atomic_file.make_temporary_path(options.path)
    if options.origin is not None:
        return _create_child(options, options.origin, temporary)
    if not options.is_directory:
        file = _create_first_segment(temporary, options)
        lock = JournalLock(os.open(temporary, os.O_RDONLY | os.O_CLOEXEC))
        lock.acquire(options.path)
        return _empty_result(options, lock, temporary, -1, file)
    try:
        temporary.mkdir(mode=0o700)
        lock = JournalLock(os.open(temporary, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise _make_storage_error(options.path, error, "created", 0) from error
    try:
        lock.acquire(options.path)
        file = _create_first_segment(temporary / segment_files.segment_name(0), options)
        journal_lock.lock(file.descriptor, options.path)
        return _empty_result(options, lock, temporary, 0, file)
    except BaseException:
        lock.release()
        with suppress(OSError):
            temporary.rmdir()
        raise


def _create_child(options: OpenOptions, origin: ForkPoint, temporary: Path) -> OpenResult:
    """Create a journal that continues another one. Raises StorageError."""
    try:
        temporary.mkdir(mode=0o700)
        lock = JournalLock(os.open(temporary, os.O_RDONLY | os.O_CLOEXEC))
        try:
            lock.acquire(options.path)
            file = origin.create_files(temporary, lock.descriptor)
            journal_lock.lock(file.descriptor, options.path)
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        segment_files.remove_journal(temporary)
        raise _make_storage_error(options.path, error, "created", origin.next_seq) from error
    except BaseException:
        segment_files.remove_journal(temporary)
        raise
    tail = OpenTail(file, origin.shift, origin.next_seq, origin.time, False)
    return OpenResult(lock, temporary, origin.file_index, tail)


def _open_file(lock: JournalLock, options: OpenOptions) -> OpenResult:
    if options.is_directory:
        raise OptionError(f"{options.path} is a file: roll needs a journal directory")
    journal_lock.check_not_segment(options.path)
    descriptor = os.open(options.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        created = _restart_creation(descriptor, options)
        if created is not None:
            return _empty_result(options, lock, None, -1, created)
        tail = _recover_tail(descriptor, options)
        return OpenResult(lock, None, -1, tail)
    except BaseException:
        os.close(descriptor)
        raise


def _restart_creation(descriptor: int, options: OpenOptions) -> SegmentWriter | None:
    """Write the header again if a crash interrupted the creation, before any event was written."""
    size = os.fstat(descriptor).st_size
    begin = os.pread(descriptor, len(SEGMENT_MAGIC), 0)
    if not SEGMENT_MAGIC.startswith(begin):
        return None
    if size >= SEGMENT_HEADER_SIZE and not _is_key_block_cut(descriptor, size):
        return None
    try:
        file = write_segment_header(
            options.path, descriptor, _make_header(options), _new_wrapping_key(options)
        )
    except OSError as error:
        raise _make_storage_error(options.path, error, "created", 0) from error
    atomic_file.sync_directory(options.path.parent)
    return file


def _is_key_block_cut(descriptor: int, size: int) -> bool:
    """Return whether a sealed segment ends in the block with its key."""
    data = ByteSource(descriptor, size)
    try:
        header = segment_header.read(data, 0)
    except FormatError:
        return False
    if not header.is_sealed:
        return False
    from journal.format.segment_seal import is_key_block_cut  # Slow to import.

    return is_key_block_cut(data, 0)


def _open_directory(lock: JournalLock, options: OpenOptions) -> OpenResult:
    names = segment_files.list_segments(lock.descriptor)
    if not names:
        if not options.is_directory:
            raise NotAJournal(f"{options.path} contains no segment file")
        file = _create_first_segment(options.path / segment_files.segment_name(0), options)
        journal_lock.lock(file.descriptor, options.path)
        os.fsync(lock.descriptor)
        return _empty_result(options, lock, None, 0, file)
    time = check_directory(options.path, names, options.mode, options.key)
    name = names[-1]
    descriptor = os.open(options.path / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        journal_lock.lock(descriptor, options.path)
        tail = _recover_tail(descriptor, options, name)
    except BaseException:
        os.close(descriptor)
        raise
    tail = tail._replace(time=tail.time or time)
    return OpenResult(lock, None, segment_files.segment_index(name) or 0, tail)


def _create_first_segment(path: Path, options: OpenOptions) -> SegmentWriter:
    """Create the first segment file of the journal. Raises StorageError."""
    try:
        return create_segment(path, _make_header(options), _new_wrapping_key(options))
    except OSError as error:
        raise _make_storage_error(options.path, error, "created", options.first_seq) from error


def _recover_tail(descriptor: int, options: OpenOptions, name: str = "") -> OpenTail:
    """Find the tail as ``recover_tail`` does, and allocate the reserve behind it.

    Raises StorageError if there is no space: each event that the writer accepts must fit. Behind a
    torn block that lacks only zeros, the first new block allocates the reserve.
    """
    keys = choose_reading_keys(options.key)
    find_tail = partial(
        recover_tail, descriptor, options.path, options.mode, options.journal_id, name, keys
    )
    size = os.fstat(descriptor).st_size
    tail = find_tail()
    try:
        tail.file.reserve(0)
    except OSError as error:
        raise _make_storage_error(options.path, error, "continued", tail.next_seq) from error
    if not tail.torn_size or os.fstat(descriptor).st_size == size:
        return tail
    if find_tail().file.link == tail.file.link:
        return tail
    # The torn block lacks only zeros, and the reserve completed it. A reader would see this block
    # until the first new block makes it debris. So the reserve is allocated with the new block.
    os.ftruncate(descriptor, size)
    return find_tail()


def _make_storage_error(path: Path, error: OSError, what: str, seq: int) -> StorageError:
    """Return the error to raise if the journal cannot be created or continued."""
    if is_disk_full(error):
        return make_disk_full_error(path, error, seq)
    return StorageError(f"{path} cannot be {what}: {error.strerror or error}", seq, str(path))


def _make_header(options: OpenOptions) -> SegmentHeader:
    """Make the header of a journal's first segment."""
    journal_id = options.journal_id or secrets.token_bytes(16)
    return make_header(
        journal_id, options.clock(), options.first_seq, is_sealed=_is_sealing(options)
    )


def _is_sealing(options: OpenOptions) -> bool:
    return choose_writing_key(options.key) is not None


def _new_wrapping_key(options: OpenOptions) -> "WrappingKey | None":
    """Return the key that wraps the data keys of a new journal; None if it is not sealed."""
    key = choose_writing_key(options.key)
    if key is None:
        return None
    from journal.format.seal_key import make_wrapping_key  # Slow to import.

    return make_wrapping_key(key)


def _empty_result(
    options: OpenOptions,
    lock: JournalLock,
    temporary: Path | None,
    file_index: int,
    file: SegmentWriter,
) -> OpenResult:
    """Return the result for a journal without events."""
    tail = OpenTail(file, 0, options.first_seq, 0, False)
    return OpenResult(lock, temporary, file_index, tail)
