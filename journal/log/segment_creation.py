"""Creation of segment files, and the publication of a journal under its name."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from journal.errors import JournalExists, StorageError
from journal.format.segment_header import MINOR_SEALED, SegmentHeader
from journal.fs import atomic_file
from journal.log import journal_lock, segment_files
from journal.log.sealed_end import SealedEnd
from journal.log.segment_writer import SegmentWriter

if TYPE_CHECKING:
    from journal.format.seal_key import WrappingKey


def create_segment(
    path: Path,
    header: SegmentHeader,
    wrapping: "WrappingKey | None" = None,
    previous_tag: bytes = b"",
    *,
    durable: bool = True,
) -> SegmentWriter:
    """Create a file with a durable segment header and a reserve. Raises OSError.

    Without ``durable``, nothing is synced, and there is no reserve. The file is removed on an
    error. ``wrapping`` and ``previous_tag`` are those of a sealed segment.
    """
    descriptor = atomic_file.create_private(path)
    try:
        return write_segment_header(
            path, descriptor, header, wrapping, previous_tag, durable=durable
        )
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        raise


def write_segment_header(
    path: Path,
    descriptor: int,
    header: SegmentHeader,
    wrapping: "WrappingKey | None" = None,
    previous_tag: bytes = b"",
    *,
    durable: bool = True,
) -> SegmentWriter:
    """Begin a segment in an empty file: write a durable header, then allocate the reserve.

    The header of a sealed segment is followed by its key block. Without ``durable``, nothing is
    synced, and there is no reserve. Raises OSError.
    """
    data, header = header.encode()
    new = None
    if wrapping is not None:
        from journal.format.segment_seal import NO_TAG, make_seal  # Slow to import.

        new = make_seal(wrapping, header, data, previous_tag or NO_TAG)
        data += new.data
    if os.pwrite(descriptor, data, 0) != len(data):
        raise OSError("the header was written in part")
    if durable:
        os.fdatasync(descriptor)
    if new is None:
        file = SegmentWriter(path, descriptor, header)
    else:
        end, link = new.header.end, (new.header.end, new.header.hash)
        sealed_end = SealedEnd(new.seal, data, 0, end)
        file = SegmentWriter(path, descriptor, header, 0, end, link, sealed_end=sealed_end)
    if durable:
        file.reserve(0)
    else:
        file.forgo_reserve()
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
    sealed_end = old.sealed_end
    header = make_header(
        journal_id, clock(), first_seq, (end, digest), is_sealed=sealed_end is not None
    )
    target = old.path.with_name(segment_files.segment_name(index))
    temporary = atomic_file.make_temporary_path(target)
    if sealed_end is None:
        new = create_segment(temporary, header)
    else:
        wrapping = sealed_end.seal.wrapping
        new = create_segment(temporary, header, wrapping, sealed_end.tag_at(end))
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


def publish_journal(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Give a journal, whose files are durable, its name; ``durable`` makes it durable.

    Raises JournalExists if the name is taken, StorageError if the journal cannot be published.
    """
    try:
        if temporary.is_dir():
            if durable:
                atomic_file.sync_directory(temporary)  # The directory entries of its segments.
            temporary.rename(path)
            if durable:
                atomic_file.sync_directory(path.parent)
        else:
            atomic_file.publish(temporary, path)
    except OSError as error:
        if path.exists() and temporary.exists():
            reason = f"{path} already exists: choose another path"
            raise JournalExists(reason, str(path)) from None
        raise StorageError(f"{path} cannot be published: {error}", 0, str(path)) from error


def make_header(
    journal_id: bytes,
    created: int,
    first_seq: int,
    link: tuple[int, int] = (0, 0),
    *,
    is_sealed: bool,
) -> SegmentHeader:
    """Return the header of a new segment, with a random salt. ``link`` is what it continues."""
    salt = int.from_bytes(secrets.token_bytes(8), "little")
    if is_sealed:
        return SegmentHeader(
            salt, journal_id, created, first_seq, *link, minor=MINOR_SEALED, is_sealed=True
        )
    return SegmentHeader(salt, journal_id, created, first_seq, *link)
