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
from journal.format.block import last_number
from journal.format.frame import SEQ_MAX
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SEGMENT_MAGIC, SegmentHeader
from journal.format.segment_index import Builder
from journal.fs import atomic_file as durable
from journal.fs.byte_source import Source
from journal.log import scan as log
from journal.log import segment_files as segments
from journal.log.header_scan import Segment
from journal.log.scan import Mode
from journal.log.segment_writer import SegmentFile

SEQ_LAST = SEQ_MAX - (1 << 40)
"""A writer begins below this number: what it then writes in a lifetime, readers believe."""
_CHUNK_SIZE = 1 << 20
_DISTRUST_SIZE = 1 << 26
"""Bytes at the end of a file that are read from the disk again, whatever the page cache says."""


class Start(NamedTuple):
    """Where a writer goes on.

    ``lock`` is the descriptor that holds the journal's lock, ``temporary`` the name of a journal
    that has none of its own yet, ``file_index`` the number of the segment file in a directory, -1
    in a file. ``explain`` tells that whole blocks are left behind as debris, which a first block of
    the writer's has to explain to readers.
    """

    lock: int
    temporary: Path | None
    file_index: int
    file: SegmentFile
    shift: int
    next_seq: int
    time: int
    explain: bool


class Wish(NamedTuple):
    """What the caller wants opened."""

    path: Path
    directory: bool
    publish: bool
    journal_id: bytes | None
    clock: Callable[[], int]
    mode: Mode
    first_seq: int = 0
    """The number of the first event, where the journal is created."""

    def check(self) -> None:
        """Raise OptionError for what cannot be."""
        if not 0 <= self.first_seq <= SEQ_LAST:
            raise OptionError(f"a journal's first event has a number from 0 to {SEQ_LAST}")
        if self.journal_id is not None and len(self.journal_id) != 16:
            raise OptionError("a journal's id has 16 bytes")
        if self.mode is Mode.SALVAGE:
            raise OptionError("a journal is salvaged by reading it, not by writing on")


def open_journal(wish: Wish) -> Start:
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
                go_on = _go_on_in_directory if stat.S_ISDIR(mode) else _go_on_in_file
                return go_on(lock, wish)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # replaced between the open and the lock: look again


def create_segment(path: Path, header: SegmentHeader) -> SegmentFile:
    """Create a file that holds a durable segment header; StorageError when that fails."""
    data, header = header.encode()
    try:
        descriptor = durable.create(path)
        try:
            if os.pwrite(descriptor, data, 0) != len(data):
                raise OSError("the header was written in part")
            os.fdatasync(descriptor)
            return SegmentFile(path, descriptor, header)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()
            raise
    except OSError as error:
        reason = f"{path} cannot be created: {error.strerror or error}"
        raise StorageError(reason, header.first_seq) from error


def new_header(wish: Wish) -> SegmentHeader:
    """Make the header of a journal's first segment."""
    journal_id = wish.journal_id or secrets.token_bytes(16)
    return SegmentHeader(new_salt(), journal_id, wish.clock(), wish.first_seq)


def new_salt() -> int:
    """Draw what seeds the hashes of a segment."""
    return int.from_bytes(secrets.token_bytes(8), "little")


def _create(wish: Wish) -> Start:
    temporary = durable.temporary_beside(wish.path)
    if not wish.directory:
        file = create_segment(temporary, new_header(wish))
        lock = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        _lock(lock, wish.path)
        return _begun(wish, lock, temporary, -1, file)
    try:
        temporary.mkdir(mode=0o700)
        lock = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        reason = f"{wish.path} cannot be created: {error.strerror or error}"
        raise StorageError(reason, 0) from error
    try:
        _lock(lock, wish.path)
        file = create_segment(temporary / segments.name_of(0), new_header(wish))
        return _begun(wish, lock, temporary, 0, file)
    except BaseException:
        os.close(lock)
        with suppress(OSError):
            temporary.rmdir()
        raise


def _begun(
    wish: Wish, lock: int, temporary: Path | None, file_index: int, file: SegmentFile
) -> Start:
    """Where the first event of a journal goes."""
    return Start(lock, temporary, file_index, file, 0, wish.first_seq, 0, False)


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


def _go_on_in_file(lock: int, wish: Wish) -> Start:
    if wish.directory:
        raise OptionError(f"{wish.path} is a file: only a directory rolls")
    descriptor = os.open(wish.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        begun = _begin_anew(descriptor, wish)
        if begun is not None:
            return _begun(wish, lock, None, -1, begun)
        return _recovered(descriptor, wish, lock)
    except BaseException:
        os.close(descriptor)
        raise


def _begin_anew(descriptor: int, wish: Wish) -> SegmentFile | None:
    """Begin a file in which a crash cut the creation short: nothing was written, nor promised."""
    size = os.fstat(descriptor).st_size
    begin = os.pread(descriptor, len(SEGMENT_MAGIC), 0)
    if size >= SEGMENT_HEADER_SIZE or not SEGMENT_MAGIC.startswith(begin):
        return None
    data, header = new_header(wish).encode()
    try:
        if os.pwrite(descriptor, data, 0) != len(data):
            raise OSError("the header was written in part")
        os.fdatasync(descriptor)
    except OSError as error:
        raise StorageError(f"{wish.path} cannot be created: {error}", 0) from error
    durable.sync_directory(wish.path.parent)
    return SegmentFile(wish.path, descriptor, header)


def _go_on_in_directory(lock: int, wish: Wish) -> Start:
    names = segments.names_in(lock)
    if not names:
        if not wish.directory:
            raise NotAJournal(f"{wish.path} holds no segment, nothing stands")
        file = create_segment(wish.path / segments.name_of(0), new_header(wish))
        os.fsync(lock)
        return _begun(wish, lock, None, 0, file)
    files = segments.Files(wish.path)
    try:
        _check_chain(files, names)
        if wish.mode is Mode.STRICT:
            _check_all(files, names)
        time = _last_time(files, names[:-1])
    finally:
        files.close()
    descriptor = os.open(wish.path / names[-1], os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        start = _recovered(descriptor, wish, lock, names[-1])
    except BaseException:
        os.close(descriptor)
        raise
    return start._replace(file_index=segments.index_of(names[-1]) or 0, time=max(start.time, time))


def _last_time(files: segments.Files, names: list[str]) -> int:
    """Give the stamp of the last event in these files, 0 where there is none."""
    for name, header in reversed(files.heads(names)):
        source = files.open(name)
        seal = index.seal_of(source, header) if source and header else None
        if seal is not None:
            return seal.time_last
        items = log.walk(files.sources([name]), lambda *_: False, from_middle=True)
        times = [item.header.time_last for item in items if isinstance(item, log.Placed)]
        if any(times):
            return max(times)
    return 0


def _check_chain(files: segments.Files, names: list[str]) -> None:
    """Raise unless each segment file continues the one before it, at a block that is there."""
    heads = files.heads(names)
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
        seal = index.seal_of(source, header) if source else None
        if seal is None or (seal.end, seal.hash) != (
            following.previous_end,
            following.previous_hash,
        ):
            _check_pair(files, [name, next_name])


def _check_all(files: segments.Files, names: list[str]) -> None:
    """Raise for any damage in any of the files."""
    for item in log.walk(files.sources(names), lambda *_: True):
        if isinstance(item, log.Damage):
            raise item.error()


def _check_pair(files: segments.Files, names: list[str]) -> None:
    """Raise for what is lost at the end of a segment that has no seal, as when a disk failed."""
    for item in log.walk(files.sources(names), lambda *_: False, from_middle=True):
        if isinstance(item, Segment) and item.name == names[1]:
            return
        if isinstance(item, log.Damage) and item.acknowledged:
            raise item.error()


def _recovered(descriptor: int, wish: Wish, lock: int, name: str = "") -> Start:
    size = os.fstat(descriptor).st_size
    _settle(descriptor, size, wish.path)
    found = _find_end(Source(descriptor, size, name), wish.mode)
    header = found.segment.header
    if wish.journal_id not in (None, header.journal_id):
        raise OptionError(f"{wish.path} is another journal: its id is {header.journal_id.hex()}")
    end = _used(descriptor, found.offset, size) - found.segment.offset
    end += -end % 8
    file = SegmentFile(
        wish.path / name if name else wish.path,
        descriptor,
        header,
        found.segment.offset,
        end,
        found.link,
        found.rows,
    )
    shift = found.segment.shift
    if max(found.next_seq, found.next_seq - shift) > SEQ_LAST:
        raise LimitExceeded("the numbers of events have run out", found.offset, name)
    return Start(lock, None, -1, file, shift, found.next_seq, found.time, found.explain)


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


class _End(NamedTuple):
    segment: Segment
    offset: int
    link: tuple[int, int]
    next_seq: int
    time: int
    rows: Builder
    explain: bool


def _find_end(data: Source, mode: Mode) -> _End:
    """Find the point in time to go on from: the last block before any damage.

    Raises for damage of acknowledged bytes, for damage that later segments stand behind, and for
    what the mode does not allow.
    """
    segment: Segment | None = None
    time, rows = 0, Builder()
    strict = mode is Mode.STRICT
    for item in log.walk(
        [data],
        # below durable_upto a sync has returned, so that the chain of headers is enough
        lambda place, header, _: strict or header.end > place.durable_upto,
        from_middle=bool(data.name),  # the files before it are held to their chain
    ):
        if isinstance(item, Segment):
            segment, rows = item, Builder()
        elif isinstance(item, log.Placed):
            time = max(time, item.header.time_last)
            rows.add(item.header, _seq_behind(item))
        elif isinstance(item, log.Damage):
            refused = mode is not Mode.POINT_IN_TIME or item.acknowledged
            if refused or segment is None or segment.limit < len(data):
                raise item.error()
            return _End(segment, item.offset, item.link, item.first_seq, time, rows, True)
        elif isinstance(item, log.Tail) and item.segment.limit == len(data):
            if strict and item.torn_size:
                raise TornBlock("a crash cut the journal short", item.offset, data.name)
            return _End(item.segment, item.offset, item.link, item.next_seq, time, rows, False)
    raise AssertionError("the walk ends in the tail of the last segment")


def _seq_behind(item: log.Placed) -> int:
    header = item.header
    if header.has_numbers and header.frame_count:
        return header.first_seq + last_number(header, item.body) + 1
    return header.first_seq + header.frame_count


def _used(descriptor: int, tail: int, size: int) -> int:
    """Find the end of what is not zero behind the tail: preallocated zeros are free to write."""
    while size > tail:
        start = max(tail, size - _CHUNK_SIZE)
        rest = os.pread(descriptor, size - start, start).rstrip(b"\0")
        if rest:
            return start + len(rest)
        size = start
    return tail
