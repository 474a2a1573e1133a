"""Blocks into files: where the next one goes, what is durable, and what to do when a disk fails.

One thread at a time, but for ``PendingSync.sync``. It never truncates what was written and never
writes over a byte that was not zero; what has failed once is never written to nor believed again.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from journal.errors import JournalError, OptionError, StorageError
from journal.format import block
from journal.format.block import BLOCK_HEADER_SIZE, BlockHeader, Compressor, Frames
from journal.format.columns import PackedFrames
from journal.format.segment_header import SegmentHeader
from journal.fs import atomic_file as durable
from journal.log import segment_files
from journal.log.segment_writer import SegmentWriter, is_disk_full
from journal.log.tail_recovery import (
    OpenOptions,
    OpenResult,
    create_segment,
    make_salt,
    open_journal,
)

UNSYNCED_SIZE_MAX = 1 << 26
"""Bytes of blocks kept to be written elsewhere should the disk fail; more of them are synced."""
ROLL_SIZE_MAX = 1 << 34
_RETRY_SIZE = 1 << 20
"""Bytes to write before a roll that failed is tried again."""
_NO_FRAMES = Frames([], [], [])


class RollPolicy(NamedTuple):
    """When a journal that is a directory begins its next segment: by size, and by age if given."""

    size_bytes: int = 1 << 26
    age_seconds: float | None = None

    def check(self) -> None:
        """Raise OptionError for what cannot be."""
        if not 0 < self.size_bytes <= ROLL_SIZE_MAX:
            raise OptionError(f"a segment has 1 to {ROLL_SIZE_MAX} bytes")
        if self.age_seconds is not None and self.age_seconds <= 0:
            raise OptionError("a segment's age is longer than nothing")


class DiskFull(Exception):
    """The disk is full: nothing was written, and nothing that was taken is lost."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class PendingSync(NamedTuple):
    """What a sync is to make durable: syncing needs no lock, telling the appender does."""

    file: SegmentWriter
    descriptor: int
    end: int
    link: tuple[int, int]
    next_seq: int
    unsynced_count: int

    def sync(self) -> None:
        """Wait for the disk."""
        os.fdatasync(self.descriptor)


class _UnsyncedBlock(NamedTuple):
    """A block that is not durable yet; ``next_seq`` is the journal's number behind it."""

    header: BlockHeader
    parts: list[bytes]
    next_seq: int


class Appender:
    """An open journal's end. Numbers are the journal's.

    ``next_seq`` is that of the next block, ``durable_upto`` the number below which all is durable.
    """

    __slots__ = (
        "_file",
        "_file_index",
        "_has_events",
        "_keeps_unsynced",
        "_lock",
        "_needs_recovery_marker",
        "_path",
        "_retry_end",
        "_roll_policy",
        "_shift",
        "_temporary",
        "_unsynced",
        "_unsynced_size",
        "clock",
        "durable_upto",
        "failure",
        "next_seq",
        "on_poison",
        "time",
        "written_size",
    )

    def __init__(self, wish: OpenOptions, roll: RollPolicy | None, keep: bool) -> None:
        start: OpenResult = open_journal(wish)
        self._path = wish.path
        self.clock = wish.clock
        self._keeps_unsynced = keep
        self._lock = start.lock
        self._temporary = start.temporary
        self._file_index = start.file_index
        self._file = start.file
        self._shift = start.shift
        self._roll_policy = roll or RollPolicy() if start.file_index >= 0 else None
        self._retry_end = 0
        self._unsynced: list[_UnsyncedBlock] = []
        self._unsynced_size = 0
        self.written_size = 0  # bytes of the blocks that were written
        self._has_events = False
        self._needs_recovery_marker = start.needs_recovery_marker
        self.time = start.time
        self.next_seq = self.durable_upto = start.next_seq
        self.failure: BaseException | None = None
        self.on_poison: Callable[[], object] = bool  # nobody to tell

    @property
    def end(self) -> int:
        """Where the next block goes, in its segment."""
        return self._file.end

    @property
    def header(self) -> SegmentHeader:
        """The header of the segment that is being written."""
        return self._file.header

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return self._lock >= 0

    @property
    def is_published(self) -> bool:
        """Whether the journal has its name."""
        return self._temporary is None

    @property
    def must_sync(self) -> bool:
        """Whether so much is held back for a failing disk that it should be made durable."""
        return self._unsynced_size > UNSYNCED_SIZE_MAX

    @property
    def roll_policy(self) -> RollPolicy | None:
        """When the next segment begins; None in a journal that is one file."""
        return self._roll_policy

    @property
    def keeps_unsynced(self) -> bool:
        """Whether blocks are kept until they are durable, to be written elsewhere if need be."""
        return self._keeps_unsynced

    def set_path(self, path: Path) -> None:
        """Take note that the journal has another name now."""
        self._path = path
        self._file.path = path / self._file.path.name if self._roll_policy else path

    # -- blocks --------------------------------------------------------------------------------

    def write_recovery_marker(self) -> None:
        """Make debris known as such before anyone reads on."""
        if self._needs_recovery_marker:
            self._needs_recovery_marker = False
            self.write_marker()
            self.sync()

    def write_frames(
        self, frames: Frames | PackedFrames, compressor: Compressor | None, *, last_resort: bool
    ) -> bool:
        """Write a block of frames that are numbered on from here. False if it took the reserve.

        Raises NoRoom when the disk is full; with ``last_resort`` the reserve is used up first.
        """
        place = self._file.place(self.next_seq - self._shift)
        parts, header = block.encode_parts(place, frames, compressor, time=self.time)
        return self._write(parts, header, self.next_seq + header.frame_count, last_resort)

    def write_block(self, header: BlockHeader, body: bytes, seqs: range | list[int]) -> None:
        """Write a block of another journal with these numbers; NoRoom when the disk is full."""
        shift = self._shift
        place = self._file.place(seqs[0] - shift)
        holes = seqs[0] != self.next_seq or seqs[-1] - seqs[0] >= len(seqs)
        numbers = [seq - shift for seq in seqs] if holes or header.has_seqs else None
        data, header = block.rewrite_header(header, body, place, numbers)
        self._write([data], header, seqs[-1] + 1, False)

    def write_marker(self) -> None:
        """Write a block of no events, which says what is durable before it."""
        place = self._file.place(self.next_seq - self._shift)
        parts, header = block.encode_parts(place, _NO_FRAMES, time=self.time)
        self._write(parts, header, self.next_seq, True)

    def _write(
        self, parts: list[bytes], header: BlockHeader, next_seq: int, last_resort: bool
    ) -> bool:
        file, roomy = self._file, True
        try:
            file.reserve(header.size)
        except OSError as error:
            if not is_disk_full(error):
                self._fail_over(error, _UnsyncedBlock(header, parts, next_seq))
                return True
            if not last_resort or not file.has_space_for(header.size):
                raise DiskFull(error) from error
            roomy = False
        try:
            file.write(parts, header, next_seq - self._shift)
        except OSError as error:
            self._fail_over(error, _UnsyncedBlock(header, parts, next_seq))
            return roomy
        except BaseException as error:
            # an interrupt: how much stands in the file is no longer known
            self.poison(error, "write interrupted")
        if self._keeps_unsynced:
            self._unsynced.append(_UnsyncedBlock(header, parts, next_seq))
            self._unsynced_size += header.size
        self._count(header, next_seq)
        return roomy

    def _count(self, header: BlockHeader, next_seq: int) -> None:
        self.next_seq = next_seq
        self.written_size += header.size
        self.time = header.time_last
        self._has_events = bool(header.frame_count)

    # -- durable -------------------------------------------------------------------------------

    def pending_sync(self) -> PendingSync | None:
        """Say what a sync would make durable now; None when all is."""
        file = self._file
        if self.durable_upto == self.next_seq and file.durable[0] == file.end:
            return None
        return PendingSync(
            file, file.descriptor, file.end, file.link, self.next_seq, len(self._unsynced)
        )

    def finish_sync(self, ticket: PendingSync, error: BaseException | None) -> None:
        """Take note of how a sync went."""
        if ticket.file is not self._file:
            return  # it failed meanwhile, and all that it held is durable elsewhere
        if isinstance(error, OSError):
            self._fail_over(error)
        elif error is not None:
            self.poison(error, "sync interrupted")
        else:
            ticket.file.durable = (ticket.end, ticket.link)
            self.durable_upto = ticket.next_seq
            del self._unsynced[: ticket.unsynced_count]
            self._unsynced_size = sum(held.header.size for held in self._unsynced)

    def sync(self) -> None:
        """Make all blocks durable."""
        ticket = self.pending_sync()
        if ticket is None:
            return
        error: BaseException | None = None
        try:
            ticket.sync()
        except BaseException as caught:
            error = caught
        self.finish_sync(ticket, error)

    def reserve_space(self) -> None:
        """Have the reserve; NoRoom when the disk is full."""
        try:
            self._file.reserve(0)
        except OSError as error:
            raise DiskFull(error) from error

    # -- segments ------------------------------------------------------------------------------

    @property
    def should_roll(self) -> bool:
        """Whether it is time for the next segment."""
        roll, file = self._roll_policy, self._file
        if roll is None or not self._has_events or file.end < self._retry_end:
            return False
        if file.end >= roll.size_bytes:
            return True
        age = roll.age_seconds
        return age is not None and self.clock() - file.header.created >= age * 1e6

    def roll(self) -> None:
        """Seal the segment and begin the next; where there is no room for one, go on with this.

        The next segment says that this one is durable to its end, so that this is synced first.
        """
        old = self._file
        self._retry_end = old.end + _RETRY_SIZE
        with suppress(DiskFull):
            self._seal()
            self.sync()
            if old is not self._file:
                return  # the disk failed meanwhile, and a new segment is what came of it
            try:
                new = self._next_segment(old)
            except (OSError, StorageError):
                return  # as long as this one can be written, events come first
            try:
                self._name_segment(new)
            except BaseException as error:
                # the new name may come up after a crash, and end the old segment where it says
                self.poison(error, "the next segment cannot be named")
            old.trim()
            self._switch(new)

    def _seal(self) -> None:
        file = self._file
        place = file.place(self.next_seq - self._shift)
        data, header = block.encode_index(place, file.index_builder.payload(file.end), self.time)
        self._write([data], header, self.next_seq, False)

    def _next_segment(self, old: SegmentWriter) -> SegmentWriter:
        """Create the file, without a name yet, that goes on at what is durable of the old one."""
        if self._file_index >= segment_files.SEGMENT_INDEX_MAX:
            raise OSError("there are no numbers for more segments")
        _, (end, digest) = old.durable
        first_seq = self.durable_upto - self._shift
        created, journal_id = self.clock(), old.header.journal_id
        header = SegmentHeader(make_salt(), journal_id, created, first_seq, end, digest)
        target = old.path.with_name(segment_files.segment_name(self._file_index + 1))
        new = create_segment(durable.make_temporary_path(target), header)
        try:
            new.reserve(0)
        except BaseException:
            new.close()
            new.path.unlink()
            raise
        return new

    def _name_segment(self, file: SegmentWriter) -> None:
        target = file.path.with_name(segment_files.segment_name(self._file_index + 1))
        durable.publish(file.path, target)
        file.path = target
        self._file_index += 1

    def _switch(self, new: SegmentWriter) -> None:
        old, self._file = self._file, new
        self._retry_end = 0
        old.close()

    # -- failing -------------------------------------------------------------------------------

    def _fail_over(self, error: OSError, refused: _UnsyncedBlock | None = None) -> None:
        """Write what is not durable to where nothing has failed yet, and make it durable there.

        > Why not once more? After a failed sync the next one says yes, and the data is gone from
        the disk while the page cache still shows it.
        """
        if not self._keeps_unsynced:
            self.poison(error, "writing failed")
        moving = [*self._unsynced, refused] if refused else self._unsynced
        old, again = self._file, self._file
        try:
            again = self._open_replacement(old, refused.header.size if refused else 0)
            self._copy_unsynced(moving, again)
            if again.path != old.path:
                self._name_segment(again)
        except BaseException as second:
            if again is not old:
                again.close()
            second.add_note(f"after: {error}")
            self.poison(second, "writing failed, and again elsewhere")
        self._switch(again)
        if refused:
            self._count(refused.header, refused.next_seq)
        self.durable_upto = self.next_seq
        self._unsynced, self._unsynced_size = [], 0

    def _open_replacement(self, old: SegmentWriter, size: int) -> SegmentWriter:
        """Open what to go on in: the next segment, or this file behind all that was tried."""
        if self._roll_policy is not None:
            return self._next_segment(old)
        descriptor = os.open(old.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if not os.path.samestat(os.fstat(descriptor), os.fstat(self._lock)):
                raise OSError(f"{old.path} is another file now")
            new = SegmentWriter(
                old.path,
                descriptor,
                old.header,
                old.segment_offset,
                old.offset_past_failure(size),
                old.durable[1],
                old.index_builder,
            )
        except BaseException:
            os.close(descriptor)
            raise
        new.durable = old.durable
        return new

    def _copy_unsynced(self, moving: list[_UnsyncedBlock], new: SegmentWriter) -> None:
        written = []
        for held in moving:
            place = new.place(held.header.first_seq)
            body = b"".join(held.parts)[BLOCK_HEADER_SIZE:]
            data, header = block.rewrite_header(held.header, body, place)
            new.reserve(len(data))
            new.write([data], header, held.next_seq - self._shift)
            written.append((header.offset, data))
        new.sync()
        if not all(new.is_on_disk(offset, data) for offset, data in written):
            raise OSError("the disk has something else than was written")

    def poison(self, error: BaseException, what: str) -> NoReturn:
        """Never write again; raise."""
        self.failure = error
        self.on_poison()
        if not isinstance(error, OSError):
            raise error
        reason = f"{self._path}: {what}: {error.strerror or error}"
        raise StorageError(reason, self.durable_upto) from error

    def check_writable(self) -> None:
        """Raise when nothing can be written any more."""
        if self.failure is not None:
            reason = f"{self._path} cannot be written any more: {self.failure}"
            raise StorageError(reason, self.durable_upto) from self.failure
        if not self.is_open:
            raise OptionError(f"the writer of {self._path} is closed")

    # -- the name, and the end -----------------------------------------------------------------

    def publish(self) -> None:
        """Give the journal its name; all that was written must be durable."""
        if self._temporary is None:
            return
        try:
            if self._roll_policy is None:
                durable.publish(self._temporary, self._path)
                self._file.path = self._path
            else:
                durable.sync_directory(self._temporary)  # its segment has a name in it
                self._temporary.rename(self._path)
                durable.sync_directory(self._path.parent)
                self._file.path = self._path / self._file.path.name
        except OSError as error:
            if self._path.exists() and self._temporary.exists():
                raise OptionError(f"{self._path} exists already") from None
            raise StorageError(f"{self._path} cannot be published: {error}", 0) from error
        self._temporary = None

    def close(self) -> None:
        """Let go; a journal without a name is gone."""
        if not self.is_open:
            return
        if self._temporary is None and self.failure is None:
            with suppress(JournalError, DiskFull):  # what a mark says is known without it
                if self._has_events:
                    self.write_marker()
                self._file.trim()
        self._file.close()
        lock, self._lock = self._lock, -1
        if self._temporary is not None:
            segment_files.remove_journal(self._temporary)
        os.close(lock)
