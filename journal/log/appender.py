"""Write path of a journal: writes blocks to segment files, rolls, syncs, and fails over.

Not thread-safe, except ``PendingSync.sync``. The appender never truncates written bytes and never
overwrites a byte that was not zero. It neither writes to nor trusts a file that has failed once.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from journal.errors import JournalError, StorageError
from journal.format import block
from journal.format.block import BlockHeader, Compressor, Frames
from journal.format.columns import PackedFrames
from journal.format.segment_header import SegmentHeader
from journal.fs.open_resources import OPEN_RESOURCES
from journal.log import segment_files
from journal.log.clock import choose_steady_clock
from journal.log.fail_over import UnsyncedBlock, UnsyncedBlocks, reopen_past_failure
from journal.log.fork_point import ForkPoint
from journal.log.opening import OpenOptions, open_journal
from journal.log.roll_policy import RollPolicy
from journal.log.segment_creation import create_next_segment, name_segment, publish_journal
from journal.log.segment_writer import DiskFull, NameLost, SegmentWriter

UNSYNCED_SIZE_MAX = 1 << 26
"""Bytes of blocks kept in memory for fail-over. Larger backlogs are synced."""
_RETRY_SIZE = 1 << 20
"""Bytes to write before a failed roll is tried again."""
_NO_FRAMES = Frames([], [], [])


class PendingSync(NamedTuple):
    """State that one sync makes durable. ``sync`` needs no lock, ``Appender.finish_sync`` does."""

    file: SegmentWriter
    descriptor: int
    end: int
    link: tuple[int, int]
    next_seq: int
    unsynced_count: int
    origin: ForkPoint | None = None
    """Shared files of a fork that are to be synced too."""

    def sync(self) -> None:
        """Wait until the data is on the disk, and check that the path leads to it.

        An error is stored in the file, and not raised.
        """
        try:
            os.fdatasync(self.descriptor)
            if self.origin is not None:
                self._sync_origin(self.origin)
            self.file.check_name()
        except BaseException as error:
            # It stays there, because an interrupt may come before ``finish_sync``.
            self.file.sync_error = error

    def _sync_origin(self, origin: ForkPoint) -> None:
        try:
            origin.sync(self.file.path.parent)
        except OSError as error:  # A fail-over would not write the shared files again.
            reason = error.strerror or str(error)
            raise NameLost(f"the files of a fork cannot be synced: {reason}") from error


class Appender:
    """Open end of a journal. Sequence numbers are the journal's.

    ``next_seq`` is the sequence number of the next block. All events below ``durable_upto`` are
    durable. With ``keeps_unsynced``, blocks are kept in memory until they are durable, for
    fail-over. ``roll_policy`` is None in a single-file journal. After ``failure`` is set, nothing
    may be written or synced. While ``is_hasty``, publication and ``close`` sync nothing; the first
    sync after the publication makes the journal an ordinary one.
    """

    __slots__ = (
        "__weakref__",
        "_file",
        "_file_index",
        "_has_events",
        "_lock",
        "_needs_recovery_marker",
        "_origin",
        "_retry_end",
        "_segment_start",
        "_shift",
        "_steady_clock",
        "_temporary",
        "_unsynced",
        "clock",
        "durable_upto",
        "failure",
        "keeps_unsynced",
        "key",
        "last_block",
        "next_seq",
        "on_poison",
        "path",
        "roll_policy",
        "time",
        "written_size",
    )

    def __init__(self, options: OpenOptions, roll: RollPolicy | None, keeps_unsynced: bool) -> None:
        start = open_journal(options)
        tail = start.tail
        self.path = options.path
        self.clock = options.clock
        self._steady_clock = choose_steady_clock(options.clock)
        self.key = options.key
        origin = options.origin
        self._origin = None if origin is None or origin.is_durable else origin
        self.keeps_unsynced = keeps_unsynced
        self._lock = start.lock
        self._temporary = start.temporary
        self._file_index = start.file_index
        self._file = tail.file
        self._shift = tail.shift
        self.roll_policy = roll or RollPolicy() if start.file_index >= 0 else None
        self._retry_end = 0
        self._segment_start = self._find_segment_start()
        self._unsynced = UnsyncedBlocks()
        self.written_size = 0  # Bytes of all written blocks.
        self.last_block: BlockHeader | None = None  # Of the blocks of this writer.
        self._has_events = False
        self._needs_recovery_marker = tail.needs_recovery_marker
        self.time = tail.time
        self.next_seq = self.durable_upto = tail.next_seq
        self.failure: BaseException | None = None
        self.on_poison: Callable[[], object] = bool  # A callback that does nothing.
        OPEN_RESOURCES.release_in_children(self)

    @property
    def end(self) -> int:
        """Offset of the next block in its segment."""
        return self._file.end

    @property
    def header(self) -> SegmentHeader:
        """Header of the current segment."""
        return self._file.header

    @property
    def is_open(self) -> bool:
        """Return whether the appender is open."""
        return self._lock.is_open

    @property
    def is_published(self) -> bool:
        """Return whether the journal has its final name."""
        return self._temporary is None

    @property
    def is_hasty(self) -> bool:
        """Return whether the journal is a fork of which nothing was synced yet."""
        return self._origin is not None

    @property
    def must_sync(self) -> bool:
        """Return whether so many unsynced bytes are kept in memory that a sync is needed."""
        return self._unsynced.size > UNSYNCED_SIZE_MAX

    @property
    def is_commit_due(self) -> bool:
        """Return whether a sync or a roll is due."""
        return self.must_sync or (self.roll_policy is not None and self.should_roll)

    @property
    def file(self) -> SegmentWriter:
        """The file of the current segment."""
        return self._file

    @property
    def shift(self) -> int:
        """Number that is added to a sequence number of the segment to get the journal's."""
        return self._shift

    def set_path(self, path: Path) -> None:
        """Record that the journal is being renamed to ``path``."""
        self.path = path
        self._file.set_path(path / self._file.path.name if self.roll_policy else path)

    # -- blocks --------------------------------------------------------------------------------

    def write_recovery_marker(self) -> None:
        """Write and sync a marker block if readers must skip superseded blocks."""
        if self._needs_recovery_marker:
            self._needs_recovery_marker = False
            self.write_marker()
            self.sync()

    def write_frames(
        self, frames: Frames | PackedFrames, compressor: Compressor | None, *, last_resort: bool
    ) -> bool:
        """Write a block of frames, numbered from ``next_seq``; return False if it used the reserve.

        Raises DiskFull when the disk is full. With ``last_resort`` the reserve is used first.
        """
        placement = self._file.place(self.next_seq - self._shift)
        parts, header = block.encode_parts(placement, frames, compressor, time=self.time)
        return self._write(parts, header, self.next_seq + header.frame_count, last_resort)

    def write_block(self, header: BlockHeader, body: bytes, seqs: range | list[int]) -> None:
        """Write a block of another journal with these sequence numbers. Raises DiskFull."""
        shift = self._shift
        placement = self._file.place(seqs[0] - shift)
        has_gaps = seqs[0] != self.next_seq or seqs[-1] - seqs[0] >= len(seqs)
        numbers = [seq - shift for seq in seqs] if has_gaps or header.has_seqs else None
        data, header = block.rewrite_header(header, body, placement, numbers)
        self._write([data], header, seqs[-1] + 1, False)

    def write_payload(self, payload: bytes) -> None:
        """Write a block without events that carries a payload. Raises DiskFull."""
        placement = self._file.place(self.next_seq - self._shift)
        data, header = block.encode_index(placement, payload, self.time)
        self._write([data], header, self.next_seq, False)

    def write_marker(self) -> None:
        """Write a block without events that records the durable offset before it."""
        placement = self._file.place(self.next_seq - self._shift)
        parts, header = block.encode_parts(placement, _NO_FRAMES, time=self.time)
        self._write(parts, header, self.next_seq, True)

    def _write(
        self, parts: list[bytes], header: BlockHeader, next_seq: int, last_resort: bool
    ) -> bool:
        file, is_reserve_left = self._file, True
        written = UnsyncedBlock(header, parts, next_seq)
        try:
            file.reserve(header.size)
        except DiskFull:
            if not last_resort or not file.has_space_for(header.size):
                raise
            is_reserve_left = False
        except OSError as error:
            self._fail_over(error, written)
            return True
        try:
            file.write(parts, header, next_seq - self._shift)
        except OSError as error:
            self._fail_over(error, written)
            return is_reserve_left
        except BaseException as error:
            # After an interrupt, the number of bytes in the file is unknown.
            self.poison(error, "write interrupted")
        if self.keeps_unsynced:
            self._unsynced.add(written)
        self._count(header, next_seq)
        return is_reserve_left

    def _count(self, header: BlockHeader, next_seq: int) -> None:
        self.next_seq = next_seq
        self.written_size += header.size
        self.last_block = header
        self.time = header.time_last
        self._has_events = bool(header.frame_count)

    # -- durability ----------------------------------------------------------------------------

    def pending_sync(self) -> PendingSync | None:
        """Return the state that a sync would make durable now; None if everything is durable."""
        file = self._file
        is_durable = self.durable_upto == self.next_seq and file.durable[0] == file.end
        if is_durable and self._origin is None:
            return None
        count, origin = len(self._unsynced), self._origin if self.is_published else None
        return PendingSync(file, file.descriptor, file.end, file.link, self.next_seq, count, origin)

    def finish_sync(self, pending: PendingSync) -> None:
        """Record the result of a sync."""
        if pending.file is not self._file:
            return  # The file failed in the meantime; its blocks are durable in another place.
        error = pending.file.sync_error
        if isinstance(error, NameLost):
            self.poison(error, "nothing more is written")
        elif isinstance(error, OSError):
            self._fail_over(error)
        elif error is not None:
            self.poison(error, "sync interrupted")
        else:
            pending.file.durable = (pending.end, pending.link)
            self.durable_upto = pending.next_seq
            self._unsynced.drop(pending.unsynced_count)
            if pending.origin is not None:
                self._origin = None
                self._file.restore_reserve()

    def sync(self) -> None:
        """Make all blocks durable."""
        pending = self.pending_sync()
        if pending is not None:
            pending.sync()
            self.finish_sync(pending)

    def reserve_space(self) -> None:
        """Allocate the reserve. Raises OSError if that fails, as on a full disk."""
        self._file.reserve(0)

    # -- segments ------------------------------------------------------------------------------

    @property
    def should_roll(self) -> bool:
        """Return whether the next segment is due."""
        roll, file = self.roll_policy, self._file
        if roll is None or not self._has_events or file.end < self._retry_end:
            return False
        if file.end >= roll.size_bytes:
            return True
        age = roll.age_seconds
        return age is not None and self._steady_clock() - self._segment_start >= age * 1e6

    def _find_segment_start(self) -> int:
        """Return the creation of the segment on the steady clock, which no later step changes.

        The clock is read only if segments have a maximum age.
        """
        if self.roll_policy is None or self.roll_policy.age_seconds is None:
            return 0
        return self._steady_clock() - max(0, self.clock() - self._file.header.created)

    def roll(self) -> None:
        """End the segment and begin the next one; continue with this one if there is no space.

        The header of the next segment records that this segment is durable to its end, so this
        segment is synced first.
        """
        old = self._file
        self._retry_end = old.end + _RETRY_SIZE
        with suppress(DiskFull):
            self._write_index()
            self.sync()
            if old is not self._file:
                return  # The disk failed in the meantime, and fail-over began a new segment.
            try:
                new = self._create_next_segment()
            except OSError:
                return  # Appending continues as long as this segment can be written.
            try:
                self._name_next_segment(new)
            except BaseException as error:
                # A crash may reveal the new name, which would end the old segment at this point.
                self.poison(error, "the next segment cannot be named")
            old.trim()
            self._switch(new)

    def _write_index(self) -> None:
        file = self._file
        if file.sealed_end is not None:
            self.write_marker()  # The last bytes of a sealed block lead to no index.
            return
        self.write_payload(file.index_builder.payload(file.end))

    def _create_next_segment(self) -> SegmentWriter:
        """Create the segment, unnamed so far, that continues the durable part of this one."""
        first_seq = self.durable_upto - self._shift
        return create_next_segment(self._file, self._file_index + 1, first_seq, self.clock)

    def _name_next_segment(self, file: SegmentWriter) -> None:
        name_segment(file, self._file_index + 1)
        self._file_index += 1

    def _switch(self, new: SegmentWriter) -> None:
        old, self._file = self._file, new
        self._retry_end = 0
        self._segment_start = self._find_segment_start()
        old.close()

    # -- failures ------------------------------------------------------------------------------

    def _fail_over(self, error: OSError, new_block: UnsyncedBlock | None = None) -> None:
        """Write and sync all unsynced blocks, then ``new_block``, in a place that has not failed.

        The place is the next segment, or in a single file after all written bytes.
        """
        if not self.keeps_unsynced:
            self.poison(error, "write failed")
        old, replacement = self._file, self._file
        try:
            if self.roll_policy is not None:
                old.check_name()  # The directory may be another journal's by now.
                replacement = self._create_next_segment()
            else:
                size = new_block.header.size if new_block else 0
                replacement = reopen_past_failure(old, self._lock, size)
            if new_block:
                self._unsynced.add(new_block)
            self._unsynced.copy_to(replacement, self._shift, old.sealed_end)
            if replacement.path != old.path:
                self._name_next_segment(replacement)
        except BaseException as second:
            if replacement is not old:
                replacement.close()
            second.add_note(f"after: {error}")
            self.poison(second, "write failed, and fail-over failed too")
        self._switch(replacement)
        if new_block:
            self._count(new_block.header, new_block.next_seq)
        self.durable_upto = self.next_seq
        self._unsynced.drop(len(self._unsynced))

    def poison(self, error: BaseException, what: str) -> NoReturn:
        """Disable all further writes, and raise ``error``, as StorageError if it is an OSError."""
        self.failure = error
        self.on_poison()
        if not isinstance(error, OSError):
            raise error
        reason = f"{self.path}: {what}: {error.strerror or error}"
        raise StorageError(reason, self.durable_upto, str(self.path)) from error

    # -- publish and close ---------------------------------------------------------------------

    def publish(self) -> None:
        """Give the journal its final name. Everything written must be durable, unless is_hasty."""
        if self._temporary is not None:
            publish_journal(self._temporary, self.path, durable=not self.is_hasty)
            self._temporary = None
            self.set_path(self.path)

    def close(self) -> None:
        """Close the files. An unpublished journal is removed."""
        if not self.is_open:
            return
        if self._temporary is None and self.failure is None:
            with suppress(JournalError, DiskFull):  # Readers do not need this marker.
                if self._has_events:
                    self.write_marker()
                self._file.trim()
        self._file.close()
        if self._temporary is not None:
            segment_files.remove_journal(self._temporary)
        self._lock.release()

    def _abandon(self, owner: int) -> None:
        """Close the file, in a forked child. The lock closes itself."""
        del owner
        self._file.abandon()
