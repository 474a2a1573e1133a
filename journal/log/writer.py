"""Writing a journal: append, and say what is durable.

One writer per journal; any number of threads may append and wait at once.
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
_KEPT_MAX = 1 << 8
"""Events that are better kept for the next block than written in one of their own."""


class Writer:
    """The one writer of a journal: creates it, or recovers its tail and goes on behind it.

    ``next_seq`` is the number that the next event will get. A journal is a file; with ``roll``, a
    new one is a directory of segments. ``commit`` says when events become durable, ``mode`` what
    may be wrong with the journal. With ``publish`` off, a new journal has no name until
    ``publish`` is called, and leaves nothing behind when it never is.

    Raises JournalLocked when another process writes the journal, and a DamagedJournal when
    acknowledged bytes of it are lost. When the disk fails, what is not durable is written to
    another place; when it fails there too, every call raises StorageError. When the disk is full,
    ``append`` raises StorageError as long as it is, and takes nothing: what it has taken fits.
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
        wish = OpenOptions(self.path, roll is not None, publish, journal_id, begin, mode, first_seq)
        wish.check()
        if roll is not None:
            roll.check()
        self._lock = threading.Lock()  # where the turn is taken too, it is taken first
        self._group_commit = GroupCommit(self._sync_all, self._get_durable_upto)
        self._compressor = block.make_compressor() if compress else None
        self._encode: Callable[[Event], bytes] | None = None
        self._pending: list[Any] = []  # tag, payload, tick; tag, payload, tick; ...
        self._block_space = BLOCK_SIZE_TARGET
        self._committer: Committer | None = None
        self._is_closing = False
        self._appender = appender = Appender(wish, roll, commit.level is not CommitLevel.NONE)
        appender.on_poison = self._stop
        self.next_seq = appender.next_seq
        self.journal_id = appender.header.journal_id
        self._tick_base, self._tick_scale = 0, 1
        self._tick_clock = (
            time.monotonic_ns if clock is None else make_monotonic(clock, appender.time)
        )
        if clock is None:  # the system's time, going on evenly when somebody sets it
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

    # -- appending ---------------------------------------------------------------------------

    @property
    def time(self) -> int:
        """The stamp of the last appended frame, µs since the epoch, as a reader will give it."""
        if self._pending:
            tick: int = self._pending[-1]
            return (tick + self._tick_base) // self._tick_scale
        return self._appender.time

    def append(self, event: "Event") -> int:
        """Add an event; give its number."""
        encode = self._encode or self._load_codec()
        return self.append_frame(event.tag, encode(event))

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Add an event that is encoded already; give its number."""
        if not 0 < tag < _TAG_END:
            raise OptionError(f"an event's tag is 1 to {TAG_MAX}, not {tag}")
        with self._lock:
            seq = self.next_seq
            # one flat list: a single step that an interrupt cannot halve, and nothing for the
            # garbage collector to count; the clock raises when the writer is closed, or full
            self._pending += tag, payload, self._clock()
            self.next_seq = seq + 1
            room = self._block_space = self._block_space - len(payload) - COLUMNS_SIZE_PER_EVENT_MAX
            if room <= 0:
                self._close_block(payload)
        if self._must_apply_policy:
            self._apply_commit_policy(seq)
        return seq

    def append_many(self, frames: Iterable[tuple[int, bytes]]) -> range:
        """Add encoded events, each a tag and a payload; give their numbers. They share one time.

        Where it raises, ``next_seq`` tells how many were added.
        """
        pairs = frames if isinstance(frames, list) else list(frames)
        return self._append(pack_tags(map(_FIRST, pairs)), list(map(_SECOND, pairs)))

    def append_payloads(self, tag: int, payloads: Sequence[bytes]) -> range:
        """Add encoded events of one kind; give their numbers. They share one time.

        Where it raises, ``next_seq`` tells how many were added.
        """
        return self._append(pack_tags((tag,)), payloads)

    def append_columns(self, tags: Sequence[int], payloads: Sequence[bytes]) -> range:
        """Add encoded events, a tag for each payload or one for all: the fastest way to add many.

        Gives their numbers. They share one time. Where it raises, ``next_seq`` tells how many were
        added.
        """
        if len(tags) not in (1, len(payloads)):
            raise OptionError(f"{len(payloads)} events have {len(tags)} tags")
        return self._append(pack_tags(tags), payloads)

    def _append(self, tags: bytes, payloads: Sequence[bytes]) -> range:
        count = len(payloads)
        with self._batch() as tick:
            stamp = (tick + self._tick_base) // self._tick_scale
            first_seq, start = self.next_seq, 0
            while start < count:
                if count - start < _KEPT_MAX and self._keep_pending(tags, payloads, start, tick):
                    break
                packed, stop = pack_block(tags, payloads, start, stamp)
                self._write_packed(packed)
                start = stop
        return range(first_seq, first_seq + count)

    def append_rows(self, kind: "type[Event]", rows: Iterable[tuple[Any, ...]]) -> range:
        """Add events of one kind, each given by the tuple of its values in wire order.

        Gives their numbers. They share one time. Raises MalformedEvent for a row that does not fit;
        ``next_seq`` tells how many were added.
        """
        from journal.events.codec import pack_rows  # construct is slow to import, frames do without

        with self._batch() as tick:
            stamp = (tick + self._tick_base) // self._tick_scale
            first_seq = self.next_seq
            for some in pack_rows(kind, rows, stamp):
                self._write_packed(some)
        return range(first_seq, self.next_seq)

    def append_block(self, source: Block) -> None:
        """Add the events of a block of another journal with their tags, payloads, times, numbers.

        The numbers must not be below ``next_seq``; where they leave some out, readers know that it
        was on purpose. Raises CorruptBlock for a block that contradicts itself.
        """
        source.check()
        seqs = source.seqs
        if not source.count:
            return
        if seqs[-1] > SEQ_LAST:
            raise LimitExceeded(f"a block claims event number {seqs[-1]}", source.offset)
        with self._lock:
            self._clock()
            if seqs[0] < self.next_seq:
                raise OptionError(f"there is an event number {seqs[0]} already")
            try:
                self._flush(False)
                self._appender.write_block(source.header, source.body, seqs)
            except DiskFull as full:
                raise self._disk_full_error(full) from full
            self.next_seq = self._appender.next_seq
            self._must_apply_policy = self._must_apply_policy or self._is_due()
        if self._must_apply_policy:
            self._apply_commit_policy(self.next_seq - 1)

    # -- making durable ----------------------------------------------------------------------

    @property
    def durable_upto(self) -> int:
        """The number below which all events survive a power cut."""
        return self._appender.durable_upto

    @property
    def roll(self) -> RollPolicy | None:
        """When the next segment begins; None where the journal is one file."""
        return self._appender.roll_policy

    @property
    def size(self) -> int:
        """Bytes of the blocks that it has written."""
        return self._appender.written_size

    def flush(self) -> None:
        """Close the block and hand it to the kernel: it survives the process, not a power cut."""
        with self._lock:
            self._appender.check_writable()
            self._flush_all()
        if self._is_due():
            self.sync()

    def sync(self) -> None:
        """Flush, and return when all events so far survive a power cut."""
        with self._group_commit.exclusive():
            self._sync_all()

    def wait(self, seq: int, timeout_seconds: float | None = None) -> bool:
        """Return when event ``seq`` is durable, or False when that takes too long.

        Whoever waits first syncs for all who wait. Only waiting for another's sync is timed.
        """
        if seq >= self.next_seq:
            raise OptionError(f"there is no event number {seq} to wait for")
        return self._group_commit.wait(seq, timeout_seconds)

    def publish(self) -> None:
        """Make durable and give its name to a journal that has none yet."""
        with self._group_commit.exclusive():
            self._sync_all()
            with self._lock:
                self._appender.publish()

    def switch_to(self, beside: str | os.PathLike[str]) -> SwitchoverStats:
        """Go on in the journal that stands ``beside``, which takes the name and place of this one.

        It has this journal's id, and leads to the same as this one does up to some number, as a
        compaction. What came behind is copied while others go on appending, but for the rest of it;
        then all is durable. Who has the old one open reads it to its end, if it is a file. Where it
        raises, the writer goes on where it was, unless it says that it cannot.
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
        """Take note that somebody has given the journal another name."""
        with self._lock:
            self.path = Path(path)
            self._appender.set_path(self.path)

    def close(self) -> None:
        """Make durable and let go; an unpublished journal is gone.

        Raises StorageError when not all events are durable.
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
            error.add_note(str(failure))  # the first error is the one to be told

    # -- inside ------------------------------------------------------------------------------

    def _is_usable(self) -> bool:
        return self._appender.failure is None

    def _get_durable_upto(self) -> int:
        return self._appender.durable_upto

    def _load_codec(self) -> Callable[["Event"], bytes]:
        from journal.events.codec import encode  # construct is slow to import, frames do without

        self._encode = encode
        return encode

    def _stop(self) -> None:
        self._clock = self._refuse

    def _refuse(self) -> NoReturn:
        self._appender.check_writable()
        raise OptionError(f"the writer of {self.path} is closed")

    def _block_appends(self) -> None:
        """Take nothing until there is room again."""
        if not self._is_closing:
            self._clock = self._retry_append

    def _retry_append(self) -> int:
        """Stand for the clock while the disk is full: nothing is taken that may not fit."""
        try:
            self._appender.reserve_space()
        except DiskFull as full:
            raise self._disk_full_error(full) from full
        self._clock = self._tick_clock
        return self._tick_clock()

    def _disk_full_error(self, full: DiskFull) -> StorageError:
        self._block_appends()
        reason = f"{self.path}: there is no room: {full.error.strerror}"
        return StorageError(reason, self._appender.durable_upto)

    def _close_block(self, payload: bytes) -> None:
        """Write the block that the last event filled; what cannot be written was never added."""
        try:
            if len(payload) > PAYLOAD_SIZE_MAX:
                reason = f"a payload of {len(payload)} bytes cannot be written"
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
        """Hold the lock while many events are added; give the tick they share."""
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
        """Keep a few events for the next block, if they leave room in it."""
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
        """Do what the level asks for behind an append, outside of the lock."""
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
        """Whether there is something to do that wants the disk, and not the lock."""
        return self._appender.must_sync or self._appender.should_roll

    def _flush_all(self) -> None:
        """Write what is pending, with the reserve if need be: it fits, whatever the disk says."""
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
            # a block's times have 32 bits: what comes later goes to the next block
            count = bisect_right(times, times[0] + TIME_SPAN_MAX)
            stop = 3 * count
            frames = Frames(pending[0:stop:3], pending[1:stop:3], times[:count])
            roomy = appender.write_frames(frames, self._compressor, last_resort=last_resort)
            del pending[:stop]
            if not roomy:
                self._block_appends()
        self.next_seq = appender.next_seq  # an interrupt may have come before an event was counted
        self._block_space = BLOCK_SIZE_TARGET

    def _sync_all(self, *, roll: bool = True) -> None:
        """Flush and sync, in the caller's turn; others go on appending meanwhile."""
        appender = self._appender
        with self._lock:
            appender.check_writable()
            self._flush_all()
            ticket = appender.pending_sync()
        if ticket is not None:
            error: BaseException | None = None
            try:
                ticket.sync()
            except BaseException as caught:
                error = caught
            with self._lock:
                appender.finish_sync(ticket, error)
        if roll and appender.should_roll:
            with self._lock:
                appender.roll()
