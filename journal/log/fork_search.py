"""Search for the place of an event at which a journal can be forked."""

import errno
import os
from bisect import bisect_right
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from journal.errors import FormatError, LimitExceeded, OptionError, StorageError, WrongKey
from journal.format import segment_index
from journal.format.block import Block, BlockHeader
from journal.format.block_slice import slice_block
from journal.fs.byte_source import ByteSource
from journal.log import scan, segment_files
from journal.log.block_locator import BlockLocator
from journal.log.fork_point import ForkPoint
from journal.log.header_scan import Segment
from journal.log.scan_items import Damage, ScannedBlock
from journal.log.seal_keys import choose_writing_key
from journal.log.segment_files import SegmentFiles
from journal.log.tail_recovery import SEQ_LAST


class ForkPlace(NamedTuple):
    """Event ``seq`` of the journal at ``path``, with which the shared events of a child end.

    ``point`` is the end of the last whole block, and ``rest`` has the events of the next block up
    to the event, None if there are none. ``block_hash`` is the body hash of the block that holds
    the event, ``time`` its time. ``point`` is None if a child cannot share the files.
    """

    path: Path
    seq: int
    journal_id: bytes
    point: ForkPoint | None
    rest: Block | None
    block_hash: int
    time: int


def find_fork_place(path: Path, seq: int, *, durable: bool = True) -> ForkPlace:
    """Return the place of event ``seq``; with ``durable``, make all events up to it durable.

    Raises OptionError if there is no such event, a DamagedJournal if an event before it is lost,
    WrongKey without the key of a sealed journal, and StorageError if the disk fails.
    """
    with closing(SegmentFiles(path)) as files:
        try:
            files.check_key()
            found = _find_block(files, seq)
            durable_upto = found.segment.durable_upto
            if durable and found.block.header.end > durable_upto:
                _sync(path, found.file, found.segment.offset + durable_upto)
                # The disk counts, not the page cache: a sync may have failed before.
                found = _find_block(files, seq, trusted_upto=durable_upto)
            return _make_place(files, found, seq, durable=durable)
        except FormatError as error:
            error.path = str(path)
            raise


class _Found(NamedTuple):
    """The block with an event, its file, and the position before it."""

    names: list[str]
    is_chain: bool
    file: ByteSource
    segment: Segment
    block: ScannedBlock
    next_seq_before: int
    time_before: int


def _find_block(files: SegmentFiles, seq: int, trusted_upto: int | None = None) -> _Found:
    """Find the block with event ``seq``. Bodies above ``trusted_upto`` are checked."""
    all_names = files.names()
    locator = BlockLocator(files)
    names = locator.names_from(seq)
    is_chain = len(all_names) == 1 or locator.is_chain(all_names)

    def select_body(_: Segment, header: BlockHeader, first_seq: int) -> bool:
        if trusted_upto is not None and header.end > trusted_upto:
            return True
        return header.has_seqs or first_seq <= seq < first_seq + header.frame_count

    def check(damage: Damage) -> None:
        if damage.first_seq <= damage.last_seq or damage.open_ended:
            scan.raise_damage(damage)

    next_seq, time = 0, 0
    items = scan.scan_files(
        files.sources(names), select_body, from_middle=names[:1] != all_names[:1]
    )
    for block in scan.take_blocks(items, on_damage=check):
        if block.first_seq > seq:
            break
        if block.header.frame_count and block.next_seq > seq:
            segment = block.segment
            file = files.open(segment.name)
            if file is None:
                break
            upto = all_names.index(segment.name) + 1
            return _Found(all_names[:upto], is_chain, file, segment, block, next_seq, time)
        next_seq = block.next_seq
        time = block.header.time_last if block.header.frame_count else time
    raise OptionError(f"{files.path} has no event {seq} to fork at")


def _sync(path: Path, file: ByteSource, offset: int) -> None:
    """Make a file durable, and drop the cached pages from ``offset`` on."""
    try:
        os.fdatasync(file.descriptor)
    except OSError as error:
        raise StorageError(f"{path} cannot be synced: {error}", 0, str(path)) from error
    os.posix_fadvise(file.descriptor, offset, 0, os.POSIX_FADV_DONTNEED)


def _make_place(files: SegmentFiles, found: _Found, seq: int, *, durable: bool) -> ForkPlace:
    """Return the place of event ``seq`` in its block. Raises OptionError for a missing event."""
    block, segment = found.block, found.segment
    header = block.header
    events = block.block()
    count = bisect_right(events.seqs, seq)
    if not count or events.seqs[count - 1] != seq:
        raise OptionError(f"{files.path} has no event {seq} to fork at")
    if count == events.count:
        link, next_seq, time, rest = _find_end(found), block.next_seq, header.time_last, None
    else:
        link = (header.previous_end, header.previous_hash)
        first_seq = segment.header.first_seq + segment.shift
        next_seq, time = max(found.next_seq_before, first_seq), found.time_before
        rest = slice_block(events, 0, count)
    if next_seq > SEQ_LAST:
        raise LimitExceeded("the sequence numbers have run out", block.offset, segment.name)
    journal_id, time_of_event = segment.header.journal_id, events.time(count - 1)
    place = ForkPlace(files.path, seq, journal_id, None, rest, header.body_hash, time_of_event)
    if not found.is_chain or segment.offset or not _can_continue(segment):
        return place
    sources = open_all(files, found.names)
    point = ForkPoint(
        sources,
        segment.header,
        link,
        segment.shift,
        next_seq,
        time,
        is_durable=durable,
    )
    return place._replace(point=_add_seal(point, found) if segment.seal else point)


def open_all(files: SegmentFiles, names: list[str]) -> dict[str, ByteSource]:
    """Open the files that a child shares, by their names in a directory.

    > Why hold them open? A link is made from the open file, whatever its name leads to by then.
    """
    opened = {}
    for name in names:
        try:
            source = files.open(name)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise OptionError(
                f"{files.path} has {len(names)} files to share, more than this process may open: "
                "raise the limit of open files (ulimit -n)"
            ) from error
        if source is None:
            raise OptionError(f"{files.path} was replaced meanwhile: fork it again")
        opened[name or segment_files.segment_name(0)] = source
    return opened


def _find_end(found: _Found) -> tuple[int, int]:
    """Return the (end, hash) of the block, or of the index after it, which ends its segment."""
    segment, header = found.segment, found.block.header
    last = segment_index.read_index_header(found.file, segment.header)
    if (
        last is not None
        and (last.end, last.hash) == segment.continuation
        and segment.continuation_seq == found.block.next_seq
    ):
        return last.end, last.hash
    return header.end, header.hash


def _can_continue(segment: Segment) -> bool:
    """Return whether the key of this process can seal a segment that continues this one.

    Raises WrongKey if the segment is sealed and its key is not known.
    """
    key = choose_writing_key(None)
    if not segment.header.is_sealed:
        return key is None
    if segment.seal is None or key is None:
        raise WrongKey("the journal is sealed: its key is needed to fork it")
    from journal.format.seal_key import find_wrapping_key  # Slow to import.

    own = segment.seal.wrapping
    wrapping = find_wrapping_key(key, own.cost_log2, own.salt)
    return wrapping is not None and wrapping.key_id == own.key_id


def _add_seal(point: ForkPoint, found: _Found) -> ForkPoint:
    from dataclasses import replace

    from journal.format.segment_seal import read_tag  # Slow to import.

    assert found.segment.seal is not None
    tag = read_tag(found.file, 0, point.link[0])
    return replace(point, wrapping=found.segment.seal.wrapping, tag=tag)
