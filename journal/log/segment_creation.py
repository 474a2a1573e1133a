"""Creation of segment files, and the publication of a journal under its name."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from journal.errors import JournalExists, StorageError
from journal.format.segment_header import SegmentHeader
from journal.fs import atomic_file
from journal.log import journal_lock, segment_files
from journal.log.segment_writer import SegmentWriter


def create_segment(path: Path, header: SegmentHeader) -> SegmentWriter:
    """Create a file with a durable segment header and a reserve. Raises OSError.

    The file is removed if that fails.
    """
    descriptor = atomic_file.create_private(path)
    try:
        return write_segment_header(path, descriptor, header)
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        raise


def write_segment_header(path: Path, descriptor: int, header: SegmentHeader) -> SegmentWriter:
    """Begin a segment in an empty file: write a durable header, then allocate the reserve.

    Raises OSError.
    """
    data, header = header.encode()
    if os.pwrite(descriptor, data, 0) != len(data):
        raise OSError("the header was written in part")
    os.fdatasync(descriptor)
    file = SegmentWriter(path, descriptor, header)
    file.reserve(0)
    return file


def create_next_segment(
    old: SegmentWriter, index: int, first_seq: int, clock: Callable[[], int]
) -> SegmentWriter:
    """Create the segment that continues the durable part of ``old``.

    It has no name until ``name_segment`` is called with the same ``index``. ``first_seq`` is
    relative to the old segment. Raises OSError.
    """
    if index > segment_files.SEGMENT_INDEX_MAX:
        raise OSError(f"segment index limit {segment_files.SEGMENT_INDEX_MAX} reached")
    _, (end, digest) = old.durable
    journal_id = old.header.journal_id
    header = SegmentHeader(make_salt(), journal_id, clock(), first_seq, end, digest)
    target = old.path.with_name(segment_files.segment_name(index))
    new = create_segment(atomic_file.make_temporary_path(target), header)
    try:
        journal_lock.lock(new.descriptor, old.path)
    except BaseException:
        new.close()
        new.path.unlink()
        raise
    return new


def name_segment(file: SegmentWriter, index: int) -> None:
    """Give a segment file its durable name. Raises OSError."""
    target = file.path.with_name(segment_files.segment_name(index))
    atomic_file.publish(file.path, target)
    file.set_path(target)


def publish_journal(temporary: Path, path: Path) -> None:
    """Give a journal, whose files are durable, its durable name.

    Raises JournalExists if the name is taken, StorageError if the journal cannot be published.
    """
    try:
        if temporary.is_dir():
            atomic_file.sync_directory(temporary)  # The directory entry of its segment.
            temporary.rename(path)
            atomic_file.sync_directory(path.parent)
        else:
            atomic_file.publish(temporary, path)
    except OSError as error:
        if path.exists() and temporary.exists():
            reason = f"{path} already exists: choose another path"
            raise JournalExists(reason, str(path)) from None
        raise StorageError(f"{path} cannot be published: {error}", 0, str(path)) from error


def make_salt() -> int:
    """Return a random seed for the hashes of a segment."""
    return int.from_bytes(secrets.token_bytes(8), "little")
