"""Events that a writer has accepted but not written, and the state that says what it accepts.

A full disk is seen before an event is accepted, because the segment file is allocated ahead: the
pending block always fits into the *reserve* at its end (``segment_writer``). So a writer refuses
new events while the disk is full, and can still write and sync all accepted events.
"""

import threading
from collections.abc import Sequence
from enum import Enum
from itertools import chain, repeat
from typing import Any

from journal.errors import LimitExceeded, OptionError, StorageError
from journal.format.block import BLOCK_SIZE_TARGET, BlockHeader, Compressor, Frames
from journal.format.block_header import ALIGNMENT, BLOCK_HEADER_SIZE
from journal.format.columns import (
    COLUMNS_SIZE_PER_EVENT_MAX,
    PENDING_COUNT_MAX,
    PackedFrames,
    freeze,
)
from journal.format.frame import PAYLOAD_SIZE_MAX
from journal.fs.open_resources import HomeProcess
from journal.log.appender import Appender
from journal.log.clock import TickClock, count_for_one_block, fit_into_one_block
from journal.log.segment_writer import RESERVE_SIZE, DiskFull, make_disk_full_error

_PARTS_MAX = 1 << 6
"""Maximum number of blocks for the pending events. All of them fit into the reserve."""

assert (_PARTS_MAX + 1) * (BLOCK_HEADER_SIZE + ALIGNMENT) <= RESERVE_SIZE - BLOCK_SIZE_TARGET


class WriterState(Enum):
    """State of a writer. All threads see the same state, because it changes under the lock.

    | state | append | flush, sync | close |
    |---|---|---|---|
    | OPEN | accepts | write and sync | writes and syncs, then CLOSED |
    | DISK_FULL | with a reserve OPEN, else StorageError | use the reserve | as OPEN |
    | FAILED | StorageError | StorageError | closes the files, then StorageError |
    | CLOSING | OptionError | write and sync | does nothing |
    | CLOSED | OptionError | OptionError | does nothing |
    | INHERITED | WrongProcess | WrongProcess | does nothing |

    A failed write or sync changes no state if the fail-over succeeds. A switchover leaves the
    writer OPEN, in the new journal, or FAILED if it is unknown which journal is in place.
    """

    OPEN = "open", True, True
    """The writer accepts events."""
    DISK_FULL = "disk full", False, True
    """A block did not fit, or used the reserve. An append first tries to allocate the reserve."""
    FAILED = "failed", False, False
    """A write or sync failed or was interrupted, and the file must not be written or trusted."""
    CLOSING = "closing", False, True
    """``close`` makes the accepted events durable."""
    CLOSED = "closed", False, False
    """The files are closed."""
    INHERITED = "inherited", False, False
    """This process was forked from the writer's. Its descriptors are closed."""

    def __init__(self, _: str, accepts: bool, writes: bool) -> None:
        self.accepts = accepts  # New events.
        self.writes = writes  # Accepted events.


_NEXT_STATES = {
    WriterState.OPEN: (
        WriterState.DISK_FULL,
        WriterState.CLOSING,
        WriterState.FAILED,
        WriterState.INHERITED,
    ),
    WriterState.DISK_FULL: (
        WriterState.OPEN,
        WriterState.CLOSING,
        WriterState.FAILED,
        WriterState.INHERITED,
    ),
    WriterState.CLOSING: (WriterState.CLOSED, WriterState.FAILED, WriterState.INHERITED),
    # Closing the files does not end it: calls still report the failure.
    WriterState.FAILED: (WriterState.INHERITED,),
    WriterState.CLOSED: (),
    WriterState.INHERITED: (),
}


class PendingBlock:
    """Pending events of a writer, its state, and the appender that writes their blocks.

    Hold ``lock`` to call a method or to change an attribute. ``frames`` is one flat list (tag,
    payload, tick, tag, ...): an interrupt cannot split a step that adds an event, and the garbage
    collector has nothing to track. ``next_seq`` is the sequence number of the next event.
    ``must_commit`` is set if the commit policy has to be applied after each append.

    ``space`` is the number of bytes until the block is full. It is 0 unless the state is OPEN. So
    an append makes one check: ``append_last`` takes the events that leave no space.
    """

    __slots__ = (
        "_compressor",
        "_scale",
        "appender",
        "frames",
        "home",
        "lock",
        "must_commit",
        "next_seq",
        "read_tick",
        "space",
        "state",
    )

    def __init__(self, appender: Appender, clock: TickClock, compressor: Compressor | None) -> None:
        self.lock = threading.Lock()
        self.appender = appender
        appender.on_poison = self._fail
        self.read_tick, self._scale = clock
        self._compressor = compressor
        self.frames: list[Any] = []
        self.space = BLOCK_SIZE_TARGET
        self.next_seq = appender.next_seq
        self.must_commit = False
        self.state = WriterState.OPEN
        self.home = HomeProcess()

    @property
    def time(self) -> int:
        """Time of the last appended frame in µs since the epoch. Needs no lock."""
        try:  # Without a look at the length: another thread may write the block meanwhile.
            tick: int = self.frames[-1]
        except IndexError:
            return self.appender.time
        return tick // self._scale

    def time_of(self, tick: int) -> int:
        """Return the time of a tick in µs since the epoch."""
        return tick // self._scale

    # -- state -------------------------------------------------------------------------------

    def enter(self, state: WriterState) -> None:
        """Change the state. A change that ``_NEXT_STATES`` does not have is ignored."""
        if state in _NEXT_STATES[self.state]:
            self.state = state
        self._measure_space()

    def check_accepts(self) -> None:
        """Raise unless the writer accepts events. On a full disk, look for space first."""
        if self.state.accepts:
            return
        if self.state is not WriterState.DISK_FULL:
            self.check_writes()
            raise self._closed_error()
        try:
            self.appender.reserve_space()
        except OSError as error:
            raise self._disk_full_error(error) from error
        self.enter(WriterState.OPEN)

    def check_writes(self) -> None:
        """Raise unless the writer can write and sync the events that it has accepted."""
        self.check_process()
        failure = self.appender.failure
        if failure is not None:
            reason = f"{self.appender.path} cannot be written after an earlier failure: {failure}"
            raise StorageError(
                reason, self.appender.durable_upto, str(self.appender.path)
            ) from failure
        if not self.state.writes:
            raise self._closed_error()

    def check_process(self) -> None:
        """Raise WrongProcess in a forked child."""
        self.home.check(self.appender.path)

    def abandon(self, owner: int) -> None:
        """Refuse all calls, in a child of ``owner``. Needs no lock: there is one thread."""
        self.lock = threading.Lock()  # A thread of the parent may hold the old one.
        if self.state is WriterState.CLOSED:
            return
        self.home.leave(owner)
        self.must_commit = True  # An append that a forking signal handler interrupts raises too.
        self.enter(WriterState.INHERITED)

    def continue_in(self, appender: Appender) -> None:
        """Write to another journal from now on."""
        self.appender = appender
        appender.on_poison = self._fail
        if appender.failure is not None:
            self._fail()

    def _fail(self) -> None:
        self.enter(WriterState.FAILED)

    def _closed_error(self) -> OptionError:
        return OptionError(f"the writer of {self.appender.path} is closed")

    def _disk_full_error(self, error: OSError) -> StorageError:
        """Accept no more events until there is space again, and return the error to raise."""
        self.enter(WriterState.DISK_FULL)
        return make_disk_full_error(self.appender.path, error, self.appender.durable_upto)

    def _measure_space(self) -> None:
        used = 0
        if self.frames:
            payloads = self.frames[1::3]
            used = sum(map(len, payloads)) + COLUMNS_SIZE_PER_EVENT_MAX * len(payloads)
        self.space = BLOCK_SIZE_TARGET - used if self.state.accepts else 0

    # -- events ------------------------------------------------------------------------------

    def append_last(self, tag: int, payload: bytes) -> None:
        """Append an event that leaves no space, and write the block.

        An event that fits, because there is space on the disk again, is only appended. After
        LimitExceeded, and after StorageError on a full disk, the event was not appended.
        """
        self.check_accepts()
        if len(payload) > PAYLOAD_SIZE_MAX:
            reason = f"payload must be at most {PAYLOAD_SIZE_MAX} bytes, got {len(payload)}"
            raise LimitExceeded(reason, self.appender.end)
        self.frames += tag, payload, self.read_tick()
        self.next_seq += 1
        self.space -= len(payload) + COLUMNS_SIZE_PER_EVENT_MAX
        if self.space > 0:
            return
        try:
            self._write_frames(last_resort=False)
        except DiskFull as full:
            del self.frames[-3:]
            self.next_seq -= 1
            raise self._disk_full_error(full) from full
        self.update_must_commit()

    def append_few(
        self, tags: bytes, payloads: Sequence[bytes], sizes: list[int], start: int, tick: int
    ) -> bool:
        """Append the events from index ``start`` on and return True, if they are few and fit.

        ``tags`` and ``sizes`` have one value for each payload, or one for all. Call
        ``finish_batch`` afterwards.
        """
        count = len(payloads) - start
        if count >= PENDING_COUNT_MAX:
            return False
        size = count * sizes[0] if len(sizes) == 1 else sum(sizes[start:])
        size += COLUMNS_SIZE_PER_EVENT_MAX * count
        if size >= self.space:
            return False
        column = repeat(tags[0]) if len(tags) == 1 else tags[start:]
        rest = freeze(payloads[start:]) if start else payloads
        self.frames += chain.from_iterable(zip(column, rest, repeat(tick)))
        self.space -= size
        return True

    def finish_batch(self) -> int:
        """Count the events that are written or pending, and return the next sequence number."""
        self.next_seq = self.appender.next_seq + len(self.frames) // 3
        self.update_must_commit()
        return self.next_seq

    # -- blocks ------------------------------------------------------------------------------

    def write(self) -> None:
        """Write all pending events, using the reserve if necessary: they always fit."""
        try:
            self._write_frames(last_resort=True)
        except DiskFull as full:
            raise self._disk_full_error(full) from full

    def write_packed(self, packed: PackedFrames) -> None:
        """Write all pending events, and a block of other events after them."""
        try:
            self._write_frames(last_resort=False)
            self.appender.write_frames(packed, self._compressor, last_resort=False)
        except DiskFull as full:
            raise self._disk_full_error(full) from full

    def write_copy(self, header: BlockHeader, body: bytes, seqs: range | list[int]) -> None:
        """Write all pending events, and a block of another journal after them."""
        try:
            self._write_frames(last_resort=False)
            self.appender.write_block(header, body, seqs)
        except DiskFull as full:
            raise self._disk_full_error(full) from full
        self.next_seq = self.appender.next_seq

    def write_payload(self, payload: bytes) -> None:
        """Write a block without events. No event is pending."""
        self.check_accepts()
        try:
            self.appender.write_payload(payload)
        except DiskFull as full:
            raise self._disk_full_error(full) from full

    def update_must_commit(self) -> None:
        """Set ``must_commit`` if a sync or a roll is due."""
        self.must_commit = self.must_commit or self.appender.is_commit_due

    def _write_frames(self, *, last_resort: bool) -> None:
        pending, appender = self.frames, self.appender
        if not pending:
            return
        scale = self._scale
        times = [tick // scale for tick in pending[2::3]]
        parts = 0
        while pending:
            parts += 1
            if parts == _PARTS_MAX:
                times = fit_into_one_block(times)
            count = count_for_one_block(times)
            stop = 3 * count
            frames = Frames(pending[0:stop:3], pending[1:stop:3], times[:count])
            is_reserve_left = appender.write_frames(
                frames, self._compressor, last_resort=last_resort
            )
            del pending[:stop], times[:count]
            if not is_reserve_left:
                self.enter(WriterState.DISK_FULL)
        self.next_seq = appender.next_seq  # An interrupt may have left an event uncounted.
        self._measure_space()
