"""Fork point: the end of a block, after which other journals continue without a copy of its bytes.

A child of a journal is a directory. Its first files are hard links to the files of the parent, its
last file is a segment of its own that continues a block of the parent. Written blocks never change,
and readers ignore the blocks after the one that the next segment continues. So the parent can grow,
be replaced by its compacted form, or be removed.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from journal.format.segment_header import SegmentHeader
from journal.fs import atomic_file
from journal.fs.byte_source import ByteSource
from journal.fs.file_link import link_or_copy
from journal.log import segment_files
from journal.log.clock import current_microseconds
from journal.log.segment_creation import create_segment, make_header
from journal.log.segment_writer import SegmentWriter

if TYPE_CHECKING:
    from journal.format.seal_key import WrappingKey


@dataclass(frozen=True, slots=True)
class ForkPoint:
    """End of a block of a journal, at which any number of children can be created.

    ``create_child`` in ``journal.log.writer`` creates one.
    ``files`` are the open segment files up to the one with that block, by their names in a
    directory. ``header`` is the header of the block's segment, ``link`` the block's (end, hash).
    ``shift`` is added to a sequence number of the segment to get that of the journal. The next
    event has the sequence number ``next_seq``, the last one the time ``time``. In a sealed journal
    ``wrapping`` encrypts the keys of segments, and ``tag`` is the tag of the block.

    If ``is_durable``, the block is durable, and so is each published child. Otherwise nothing is
    synced before the first ``Writer.sync`` of a published child, which makes all of it durable, and
    no space is reserved: until then a power cut can lose or damage the child, and a full disk can
    lose events that its writer had accepted.
    """

    files: Mapping[str, ByteSource]
    header: SegmentHeader
    link: tuple[int, int]
    shift: int
    next_seq: int
    time: int
    wrapping: "WrappingKey | None" = None
    tag: bytes = b""
    is_durable: bool = True

    @property
    def file_index(self) -> int:
        """Index of the first segment file that belongs to a child alone."""
        return (segment_files.segment_index(list(self.files)[-1]) or 0) + 1

    def create_files(self, directory: Path, descriptor: int) -> SegmentWriter:
        """Create the files of a child in an empty directory, and return the writer of the last.

        ``descriptor`` is that of the open directory. Raises OSError.
        """
        last = list(self.files)[-1]
        for name, file in self.files.items():
            size = self.link[0] if name == last else len(file)
            link_or_copy(file.descriptor, name, descriptor, size, durable=self.is_durable)
        header = make_header(
            self.header.journal_id,
            current_microseconds(),
            self.next_seq - self.shift,
            self.link,
            is_sealed=self.header.is_sealed,
        )
        path = directory / segment_files.segment_name(self.file_index)
        return create_segment(path, header, self.wrapping, self.tag, durable=self.is_durable)

    def sync(self, child: Path) -> None:
        """Make what a published child shares durable, and its name. Raises OSError.

        The last file of the child is synced by its writer.
        """
        for file in self.files.values():
            # Open since the fork: an error that the parent's sync has met meanwhile is reported
            # here, but not to a file that is opened now.
            os.fdatasync(file.descriptor)
        for name in segment_files.list_segments(child)[:-1]:
            atomic_file.sync_file(child / name)
        atomic_file.sync_directory(child)
        atomic_file.sync_directory(child.parent)

    def count_shared(self, child: Path) -> int:
        """Return how many files a child at this path shares with the journal."""
        return sum(
            os.path.samestat(os.fstat(file.descriptor), (child / name).stat())
            for name, file in self.files.items()
        )
