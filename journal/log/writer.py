"""Writer of a journal: appends events, and reports which of them are durable.

A journal has one writer. Any number of threads may append and wait at the same time.
"""

import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from journal.errors import JournalError, LimitExceeded, OptionError, StorageError
from journal.format import block
from journal.format.block import BLOCK_SIZE_TARGET, TIME_SPAN_MAX, Block, Frames
from journal.format.columns import COLUMNS_SIZE_PER_EVENT_MAX, PackedFrames, pack_block, pack_tags
from journal.format.frame import PAYLOAD_SIZE_MAX, TAG_MAX
from journal.log.appender import Appender, DiskFull, RollPolicy
from journal.log.clock import current_microseconds, make_monotonic
from journal.log.commit_policy import CommitLevel, CommitPolicy, Committer
from journal.log.group_commit import GroupCommit
from journal.log.scan import RecoveryMode
from journal.log.switchover import SwitchoverStats, SwitchoverTarget
from journal.log.tail_recovery import SEQ_LAST, OpenOptions

if TYPE_CHECKING:
    from journal.events.definition import Event

_TAG_END = TAG_MAX + 1
_FIRST, _SECOND = itemgetter(0), itemgetter(1)
_PENDING_COUNT_MAX = 1 << 8
"""Fewer events than this wait for the next block instead of filling a block of their own."""


class Writer:
    """The only writer of a journal: creates it, or recovers its tail and resumes after it.

    Importable as ``journal.Writer``. Thread-safe. ``next_seq`` is the sequence number of the next
    event. A journal is a file; with ``roll``, a new one is a directory of segments. ``commit`` sets
    when events become durable, ``mode`` the accepted defects of an existing journal. Without
    ``publish``, a new journal has no name until ``publish`` is called, and is removed if that never
    happens.

    Raises JournalLocked if another process writes the journal, and a DamagedJournal if acknowledged
    bytes of it are lost. When the disk fails, the writer writes its unsynced blocks in another
    place; if that fails too, every call raises StorageError. While the disk is full, ``append``
    raises StorageError and accepts nothing; events accepted before still fit.
    """

    __slots__ = (
        "_appender",
        "_block_space",
        "_clock",
        "_commit",
        "_committer",
        "_compressor",
        "_encode",
        "_group_commit",
        "_is_closing",
        "_lock",
        "_must_apply_policy",
        "_pending",
        "_tick_base",
        "_tick_clock",
        "_tick_scale",
        "journal_id",
        "next_seq",
        "path",
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        publish: bool = True,
        compress: bool = True,
        clock: Callable[[], int] | None = None,
        journal_id: bytes | None = None,
        commit: CommitPolicy = CommitPolicy.EXPLICIT,
        roll: RollPolicy | None = None,
        mode: RecoveryMode = RecoveryMode.POINT_IN_TIME,
        first_seq: int = 0,
    ) -> None:
        self.path = Path(path)
        begin = clock or current_microseconds
        options = OpenOptions(
            self.path, roll is not None, publish, journal_id, begin, mode, first_seq
        )
        options.check()
        if roll is not None:
            roll.check()
        self._lock = threading.Lock()  # The group commit's lock is always taken before this one.
        self._group_commit = GroupCommit(self._sync_all, self._get_durable_upto)
        self._compressor = block.make_compressor() if compress else None
        self._encode: Callable[[Event], bytes] | None = None
        self._pending: list[Any] = []  # Flat: tag, payload, tick, tag, ...
        self._block_space = BLOCK_SIZE_TARGET
        self._committer: Committer | None = None
        self._is_closing = False
        self._appender = appender = Appender(options, roll, commit.level is not CommitLevel.NONE)
        appender.on_poison = self._stop
        self.next_seq = appender.next_seq
        self.journal_id = appender.header.journal_id
        self._tick_base, self._tick_scale = 0, 1
        self._tick_clock = (
            time.monotonic_ns if clock is None else make_monotonic(clock, appender.time)
        )
        if clock is None:  # The system time, unaffected when the system clock is set.
            self._tick_base = max(time.time_ns(), appender.time * 1000) - time.monotonic_ns()
            self._tick_scale = 1000
        self._clock: Callable[[], int] = self._tick_clock
        self._commit = commit
        self._must_apply_policy = commit.level not in (CommitLevel.EXPLICIT, CommitLevel.NONE)
        try:
            appender.write_recovery_marker()
            if publish:
                appender.publish()
        except BaseException:
            appender.close()
            raise
        if commit.period_seconds:
            name = f"commits of {self.path.name}"
            self._committer = Committer(self.sync, self._is_usable, commit.period_seconds, name)

    # -- append ------------------------------------------------------------------------------

    @property
    def time(self) -> int:
        """Time of the last appended frame in µs since the epoch, as readers will return it."""
        if self._pending:
            tick: int = self._pending[-1]
            return (tick + self._tick_base) // self._tick_scale
        return self._appender.time

    def append(self, event: "Event") -> int:
        """Append an event and return its sequence number."""
        encode = self._encode or self._load_codec()
        return self.append_frame(event.tag, encode(event))

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append an encoded event and return its sequence number."""
        if not 0 < tag < _TAG_END:
            raise OptionError(f"event tag must be 1 to {TAG_MAX}, got {tag}")
        with self._lock:
            seq = self.next_seq
            # One flat list: an interrupt cannot split this single step, and the garbage collector
            # has nothing to track. The clock raises when the writer is closed or the disk is full.
            self._pending += tag, payload, self._clock()
            self.next_seq = seq + 1
            space = self._block_space = (
                self._block_space - len(payload) - COLUMNS_SIZE_PER_EVENT_MAX
            )
            if space <= 0:
                self._close_block(payload)
        if self._must_apply_policy:
            self._apply_commit_policy(seq)
        return seq

    def append_many(self, frames: Iterable[tuple[int, bytes]]) -> range:
        """Append encoded events, given as (tag, payload); return their sequence numbers.

        All events get the same time. After an exception, ``next_seq`` shows how many events were
        appended.
        """
        pairs = frames if isinstance(frames, list) else list(frames)
        return self._append(pack_tags(map(_FIRST, pairs)), list(map(_SECOND, pairs)))

    def append_payloads(self, tag: int, payloads: Sequence[bytes]) -> range:
        """Append encoded events of one kind; return their sequence numbers.

        All events get the same time. After an exception, ``next_seq`` shows how many events were
        appended.
        """
        return self._append(pack_tags((tag,)), payloads)

    def append_columns(self, tags: Sequence[int], payloads: Sequence[bytes]) -> range:
        """Append encoded events; return their sequence numbers.

        ``tags`` has one tag for each payload, or one tag for all.

        This is the fastest way to append many events. All events get the same time. After an
        exception, ``next_seq`` shows how many events were appended.
        """
        if len(tags) not in (1, len(payloads)):
            raise OptionError(
                f"{len(payloads)} payloads need 1 or {len(payloads)} tags, got {len(tags)}"
            )
        return self._append(pack_tags(tags), payloads)

    def _append(self, tags: bytes, payloads: Sequence[bytes]) -> range:
        count = len(payloads)
        with self._batch() as tick:
            stamp = (tick + self._tick_base) // self._tick_scale
            first_seq, start = self.next_seq, 0
            while start < count:
                if count - start < _PENDING_COUNT_MAX and self._keep_pending(
                    tags, payloads, start, tick
                ):
                    break
                packed, stop = pack_block(tags, payloads, start, stamp)
                self._write_packed(packed)
                start = stop
        return range(first_seq, first_seq + count)

    def append_rows(self, kind: "type[Event]", rows: Iterable[tuple[Any, ...]]) -> range:
        """Append events of one kind; return their sequence numbers.

        Each row is a tuple of the event's values in wire order.
        """
        from journal.events.codec import pack_rows  # Slow to import, and not needed for frames.

        with self._batch() as tick:
            stamp = (tick + self._tick_base) // self._tick_scale
            first_seq = self.next_seq
            for packed in pack_rows(kind, rows, stamp):
                self._write_packed(packed)
        return range(first_seq, self.next_seq)

    def append_block(self, source: Block) -> None:
        """Append the events of another journal's block, with their times and sequence numbers."""
        source.check()
        seqs = source.seqs
        if not source.count:
            return
        if seqs[-1] > SEQ_LAST:
            reason = f"the block's last sequence number {seqs[-1]} is too high, limit {SEQ_LAST}"
            raise LimitExceeded(reason, source.offset)
        with self._lock:
            self._clock()
            if seqs[0] < self.next_seq:
                raise OptionError(f"first event must be at least {self.next_seq}, got {seqs[0]}")
            try:
                self._flush(False)
                self._appender.write_block(source.header, source.body, seqs)
            except DiskFull as full:
                raise self._disk_full_error(full) from full
            self.next_seq = self._appender.next_seq
            self._must_apply_policy = self._must_apply_policy or self._is_due()
        if self._must_apply_policy:
            self._apply_commit_policy(self.next_seq - 1)

    # -- durability --------------------------------------------------------------------------

    @property
    def durable_upto(self) -> int:
        """Sequence number below which all events survive a power cut."""
        return self._appender.durable_upto

    @property
    def roll(self) -> RollPolicy | None:
        """The roll policy; None in a single-file journal."""
        return self._appender.roll_policy

    @property
    def size(self) -> int:
        """Bytes of all blocks that this writer has written."""
        return self._appender.written_size

    def flush(self) -> None:
        """Write the pending block to the kernel: it survives the process, but not a power cut."""
        with self._lock:
            self._appender.check_writable()
            self._flush_all()
        if self._is_due():
            self.sync()

    def sync(self) -> None:
        """Flush, and wait until all events appended so far survive a power cut."""
        with self._group_commit.exclusive():
            self._sync_all()

    def wait(self, seq: int, timeout_seconds: float | None = None) -> bool:
        """Wait until event ``seq`` is durable. Return False after the timeout.

        The first waiting thread syncs for all. The timeout limits only the wait for another
        thread's sync.
        """
        if seq >= self.next_seq:
            raise OptionError(f"cannot wait for event {seq}: the last event is {self.next_seq - 1}")
        return self._group_commit.wait(seq, timeout_seconds)

    def publish(self) -> None:
        """Make an unpublished journal durable and give it its name."""
        with self._group_commit.exclusive():
            self._sync_all()
            with self._lock:
                self._appender.publish()

    def switch_to(self, beside: str | os.PathLike[str]) -> SwitchoverStats:
        """Continue in the journal at ``beside``, which takes over the path of this journal.

        The other journal must have this journal's id. Up to some sequence number it must contain
        this journal's events or, as after compaction, events with the same effect. Later events are
        copied, most of them while other threads append; then everything is durable. A reader with
        the old journal open can read a file to its end. After an exception the writer continues in
        the old journal, unless the error states that it cannot.
        """
        successor = SwitchoverTarget(self.path, Path(beside), self.journal_id, self._appender)
        try:
            successor.catch_up()
            with self._group_commit.exclusive(), self._lock:
                begin = time.monotonic()
                self._clock()
                self._flush_all()
                old = self._appender
                try:
                    successor.finish(old)
                finally:
                    if successor.is_in_place:
                        self._appender = successor.appender
                        old.close()
                pause = time.monotonic() - begin
        finally:
            successor.close()
        return SwitchoverStats(successor.copied_size, successor.rest_size, pause)

    def set_path(self, path: str | os.PathLike[str]) -> None:
        """Record that another program renamed the journal to ``path``."""
        with self._lock:
            self.path = Path(path)
            self._appender.set_path(self.path)

    def close(self) -> None:
        """Make all events durable and close the journal. An unpublished journal is removed.

        Raises StorageError if not all events are durable.
        """
        if self._committer is not None:
            self._committer.stop()
            self._committer = None
        with self._group_commit.exclusive():
            if not self._appender.is_open:
                return
            with self._lock:
                self._is_closing, self._clock = True, self._refuse
            try:
                if self._appender.is_published:
                    self._sync_all(roll=False)
            finally:
                with self._lock:
                    self._appender.close()
                    self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        try:
            self.close()
        except JournalError as failure:
            if not isinstance(error, BaseException):
                raise
            error.add_note(str(failure))  # The first error is the one to raise.

    # -- internals ---------------------------------------------------------------------------

    def _is_usable(self) -> bool:
        return self._appender.failure is None

    def _get_durable_upto(self) -> int:
        return self._appender.durable_upto

    def _load_codec(self) -> Callable[["Event"], bytes]:
        from journal.events.codec import encode  # Slow to import, and not needed for frames.

        self._encode = encode
        return encode

    def _stop(self) -> None:
        self._clock = self._refuse

    def _refuse(self) -> NoReturn:
        self._appender.check_writable()
        raise OptionError(f"the writer of {self.path} is closed")

    def _block_appends(self) -> None:
        """Reject appends until there is space again."""
        if not self._is_closing:
            self._clock = self._retry_append

    def _retry_append(self) -> int:
        """Replace the clock while the disk is full: raise until there is space again."""
        try:
            self._appender.reserve_space()
        except DiskFull as full:
            raise self._disk_full_error(full) from full
        self._clock = self._tick_clock
        return self._tick_clock()

    def _disk_full_error(self, full: DiskFull) -> StorageError:
        self._block_appends()
        reason = f"{self.path}: no space left to write: {full.error.strerror}"
        return StorageError(reason, self._appender.durable_upto)

    def _close_block(self, payload: bytes) -> None:
        """Write the block that the last event filled. If that fails, the event was not appended."""
        try:
            if len(payload) > PAYLOAD_SIZE_MAX:
                reason = f"payload must be at most {PAYLOAD_SIZE_MAX} bytes, got {len(payload)}"
                raise LimitExceeded(reason, self._appender.end)
            self._flush(False)
        except (LimitExceeded, DiskFull) as error:
            del self._pending[-3:]
            self.next_seq -= 1
            self._block_space += len(payload) + COLUMNS_SIZE_PER_EVENT_MAX
            if isinstance(error, DiskFull):
                raise self._disk_full_error(error) from error
            raise
        self._must_apply_policy = self._must_apply_policy or self._is_due()

    @contextmanager
    def _batch(self) -> Iterator[int]:
        """Hold the lock while many events are appended; yield their common tick."""
        with self._lock:
            tick = self._clock()
            try:
                yield tick
            except DiskFull as full:
                raise self._disk_full_error(full) from full
            finally:
                self.next_seq = self._appender.next_seq + len(self._pending) // 3
                seq = self.next_seq - 1
            self._must_apply_policy = self._must_apply_policy or self._is_due()
        if self._must_apply_policy:
            self._apply_commit_policy(seq)

    def _write_packed(self, packed: PackedFrames) -> None:
        self._flush(False)
        self._appender.write_frames(packed, self._compressor, last_resort=False)

    def _keep_pending(self, tags: bytes, payloads: Sequence[bytes], start: int, tick: int) -> bool:
        """Keep a few events for the next block, and return whether they fit in it."""
        rest = payloads[start:]
        size = sum(map(len, rest)) + COLUMNS_SIZE_PER_EVENT_MAX * len(rest)
        if size >= self._block_space:
            return False
        column = repeat(tags[0], len(rest)) if len(tags) == 1 else tags[start:]
        for tag, payload in zip(column, rest, strict=True):
            self._pending += tag, payload, tick
        self._block_space -= size
        return True

    def _apply_commit_policy(self, seq: int) -> None:
        """Commit as the policy requires after an append. Call without the lock."""
        if self._is_due():
            self.sync()
        commit = self._commit
        if commit.level is CommitLevel.EVERY:
            self.wait(seq)
        elif self._committer is not None:
            self._committer.wake()
            if commit.events_max and seq + 1 - self._appender.durable_upto >= commit.events_max:
                self.wait(seq)
        else:
            self._must_apply_policy = False

    def _is_due(self) -> bool:
        """Return whether a sync or roll is due."""
        return self._appender.must_sync or self._appender.should_roll

    def _flush_all(self) -> None:
        """Write all pending events, using the reserve if necessary: they always fit."""
        try:
            self._flush(True)
        except DiskFull as full:
            raise self._disk_full_error(full) from full

    def _flush(self, last_resort: bool) -> None:
        pending, appender = self._pending, self._appender
        if not pending:
            return
        base, scale = self._tick_base, self._tick_scale
        while pending:
            times = [(tick + base) // scale for tick in pending[2::3]]
            # A block stores times in 32 bits: later events go to the next block.
            count = bisect_right(times, times[0] + TIME_SPAN_MAX)
            stop = 3 * count
            frames = Frames(pending[0:stop:3], pending[1:stop:3], times[:count])
            reserve_intact = appender.write_frames(
                frames, self._compressor, last_resort=last_resort
            )
            del pending[:stop]
            if not reserve_intact:
                self._block_appends()
        self.next_seq = appender.next_seq  # An interrupt may have left an event uncounted.
        self._block_space = BLOCK_SIZE_TARGET

    def _sync_all(self, *, roll: bool = True) -> None:
        """Flush and sync; the caller holds the sync lock.

        Other threads can append during the sync.
        """
        appender = self._appender
        with self._lock:
            appender.check_writable()
            self._flush_all()
            pending = appender.pending_sync()
        if pending is not None:
            error: BaseException | None = None
            try:
                pending.sync()
            except BaseException as caught:
                error = caught
            with self._lock:
                appender.finish_sync(pending, error)
        if roll and appender.should_roll:
            with self._lock:
                appender.roll()
