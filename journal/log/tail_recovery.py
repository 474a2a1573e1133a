"""Recovery of a journal's tail: the position at which a writer resumes."""

import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from journal.errors import (
    LimitExceeded,
    LostAcknowledged,
    NotAJournal,
    OptionError,
    StorageError,
    TornBlock,
    WrongKey,
)
from journal.format import segment_index
from journal.format.frame import SEQ_MAX
from journal.format.segment_header import find_misplacement
from journal.format.segment_index import SegmentIndexBuilder
from journal.fs.byte_source import ByteSource
from journal.log import scan, segment_files
from journal.log.header_scan import Segment
from journal.log.scan import RecoveryMode
from journal.log.seal_keys import NO_KEYS, KeyedSource, ReadingKeys, choose_reading_keys
from journal.log.sealed_end import SealedEnd
from journal.log.segment_writer import SegmentWriter

if TYPE_CHECKING:
    from journal.format.seal_key import SealKey

SEQ_LAST = SEQ_MAX - (1 << 40)
"""Highest first sequence number of a writer.

Readers accept all numbers that such a writer reaches.
"""
_CHUNK_SIZE = 1 << 20
_REREAD_SIZE = 1 << 26
"""Bytes at the end of a file that are read from the disk again instead of the page cache."""


class OpenTail(NamedTuple):
    """The segment file that a writer appends to, and the position at which it resumes.

    ``shift`` is added to a sequence number of the segment to get that of the journal.
    ``needs_recovery_marker`` is set when whole blocks were superseded and remain as debris: the
    writer's first block must be a recovery marker. ``torn_size`` is the number of bytes that a
    crash left after the last block.
    """

    file: SegmentWriter
    shift: int
    next_seq: int
    time: int
    needs_recovery_marker: bool
    torn_size: int = 0


def check_directory(
    path: Path, names: list[str], mode: RecoveryMode, key: "SealKey | None" = None
) -> int:
    """Check the segment files, and return the time of the last event before the last file.

    Raises a DamagedJournal for damage that the mode does not accept.
    """
    files = segment_files.SegmentFiles(path, key=key)
    try:
        _check_chain(files, names)
        if mode is RecoveryMode.STRICT:
            _check_all(files, names)
        return _last_time(files, names[:-1])
    finally:
        files.close()


def _last_time(files: segment_files.SegmentFiles, names: list[str]) -> int:
    """Return the time of the last event in these files, 0 if there is none."""
    for name, header in reversed(files.read_heads(names)):
        source = files.open(name)
        last = segment_index.read_index_header(source, header) if source and header else None
        if last is not None:
            return last.time_last
        items = scan.scan_files(files.sources([name]), scan.headers_only, from_middle=True)
        blocks = scan.take_blocks(items, on_damage=scan.ignore)
        times = [block.header.time_last for block in blocks if block.header.frame_count]
        if times:
            return times[-1]
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
        if reason := find_misplacement(following, header):
            raise LostAcknowledged(reason, 0, file=next_name)
        source = files.open(name)
        last = segment_index.read_index_header(source, header) if source else None
        if last is None or (last.end, last.hash) != (
            following.previous_end,
            following.previous_hash,
        ):
            _check_pair(files, [name, next_name])


def _check_all(files: segment_files.SegmentFiles, names: list[str]) -> None:
    """Raise for any damage in any of the files."""
    for _ in scan.take_blocks(scan.scan_files(files.sources(names), scan.select_all)):
        pass


def _check_pair(files: segment_files.SegmentFiles, names: list[str]) -> None:
    """Raise for acknowledged events lost at the end of an unsealed segment, as after a failure."""
    for item in scan.scan_files(files.sources(names), scan.headers_only, from_middle=True):
        if isinstance(item, Segment) and item.name == names[1]:
            return
        if isinstance(item, scan.Damage) and (item.acknowledged or item.is_forged):
            scan.raise_damage(item)


def recover_tail(
    descriptor: int,
    path: Path,
    mode: RecoveryMode,
    journal_id: bytes | None,
    name: str = "",
    keys: ReadingKeys = NO_KEYS,
) -> OpenTail:
    """Find the tail in an open file: the journal at ``path``, or its last segment file ``name``.

    Raises OptionError for a journal with another id, and a DamagedJournal for damage that the mode
    does not accept.
    """
    size = os.fstat(descriptor).st_size
    _drop_unsynced_cache(descriptor, size, path)
    data = KeyedSource(descriptor, size, name, keys)
    tail = _find_tail(data, mode)
    header, seal = tail.segment.header, tail.segment.seal
    if header.is_sealed and seal is None:
        raise WrongKey(f"{path} is sealed: its key is needed to continue it")
    if journal_id not in (None, header.journal_id):
        expected = (journal_id or b"").hex()
        reason = f"id {header.journal_id.hex()}, expected {expected}"
        raise OptionError(f"{path} is another journal: {reason}")
    end_of_torn = _end_of_nonzero(descriptor, tail.offset, size)
    end = end_of_torn - tail.segment.offset
    end += -end % 8
    file = SegmentWriter(
        path / name if name else path,
        descriptor,
        header,
        tail.segment.offset,
        end,
        tail.link,
        tail.index_builder,
        None if seal is None else SealedEnd(seal, data, tail.segment.offset, tail.link[0]),
    )
    shift = tail.segment.shift
    if max(tail.next_seq, tail.next_seq - shift) > SEQ_LAST:
        raise LimitExceeded("the sequence numbers have run out", tail.offset, name)
    torn_size = end_of_torn - tail.offset
    return OpenTail(file, shift, tail.next_seq, tail.time, tail.needs_recovery_marker, torn_size)


def check_tail(path: Path) -> int:
    """Raise the error with which a writer refuses a journal, without a change of any file.

    Return the sequence number of the event that a writer would append next.
    """
    mode, keys = RecoveryMode.POINT_IN_TIME, choose_reading_keys(None)
    name = ""
    if path.is_dir():
        names = segment_files.list_segments(path)
        if not names:
            raise NotAJournal(f"{path} contains no segment file")
        check_directory(path, names, mode)
        name = names[-1]
    descriptor = os.open(path / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        return _find_tail(KeyedSource(descriptor, size, name, keys), mode).next_seq
    finally:
        os.close(descriptor)


def _drop_unsynced_cache(descriptor: int, size: int, path: Path) -> None:
    """Sync the file and drop cached pages, so that the next reads return the disk's content."""
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise StorageError(f"{path} cannot be synced: {error}", 0, str(path)) from error
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

    Raises for damage of acknowledged bytes, for bit rot, for damage that later segments follow, and
    for damage that the mode does not accept.
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
            time = item.header.time_last if item.header.frame_count else time
            rows.add(item.header, item.next_seq - item.segment.shift)
        elif isinstance(item, scan.Damage):
            is_refused = mode is not RecoveryMode.POINT_IN_TIME or not item.may_end_journal
            if is_refused or segment is None or segment.limit < len(data):
                scan.raise_damage(item)
            return _RecoveredTail(segment, item.offset, item.link, item.first_seq, time, rows, True)
        elif isinstance(item, scan.Tail) and item.segment.limit == len(data):
            if strict and item.torn_size:
                raise TornBlock("the journal has a torn tail", item.offset, data.name)
            return _RecoveredTail(
                item.segment, item.offset, item.link, item.next_seq, time, rows, False
            )
    raise AssertionError("a scan ends with the tail of the last segment")


def _end_of_nonzero(descriptor: int, tail: int, size: int) -> int:
    """Return the end of the nonzero bytes after the tail: preallocated zeros are free to write."""
    while size > tail:
        start = max(tail, size - _CHUNK_SIZE)
        rest = os.pread(descriptor, size - start, start).rstrip(b"\0")
        if rest:
            return start + len(rest)
        size = start
    return tail
