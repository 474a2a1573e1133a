"""Writer of a journal: appends events, and reports which of them are durable.

A journal has one writer. Any number of threads may append and wait at the same time.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from journal._arguments import (
    check_bytes,
    check_callable,
    check_choice,
    check_each,
    check_flag,
    check_int,
    check_optional,
    check_path,
    check_seconds,
    check_type,
    iterate,
)
from journal.errors import FormatError, JournalError, LimitExceeded, OptionError
from journal.format import block
from journal.format.block import Block
from journal.format.columns import (
    COLUMNS_SIZE_PER_EVENT_MAX,
    measure_payloads,
    pack_block,
    pack_tags,
)
from journal.format.frame import TAG_MAX, TAG_MIN
from journal.fs.open_resources import OPEN_RESOURCES, close_unclosed
from journal.log.appender import Appender
from journal.log.clock import TickClock, current_microseconds, make_tick_clock
from journal.log.commit_policy import CommitLevel, CommitPolicy
from journal.log.declarations import check_kinds, read_declared
from journal.log.fork_point import ForkPoint
from journal.log.opening import OpenOptions
from journal.log.pending_block import PendingBlock, WriterState
from journal.log.roll_policy import RollPolicy
from journal.log.scan import RecoveryMode
from journal.log.seal_keys import check_key, choose_writing_key
from journal.log.switchover import SwitchoverStats, SwitchoverTarget
from journal.log.tail_recovery import SEQ_LAST
from journal.log.writer_sync import WriterSync

if TYPE_CHECKING:
    from journal.events.application import ApplicationKind
    from journal.events.definition import Event
    from journal.format.seal_key import SealKey

_TAGS = [None, *range(TAG_MIN, TAG_MAX + 1)]
"""Each tag at its own index: the cheapest check of the type and the range of a tag."""
_FIRST, _SECOND = itemgetter(0), itemgetter(1)


class Writer:
    """The only writer of a journal: creates it, or recovers its tail and resumes after it.

    Importable as ``journal.Writer``. Thread-safe. A journal is a file; with ``roll``, a new one is
    a directory of segments. ``commit`` sets when events become durable, ``mode`` the accepted
    defects of an existing journal. Without ``publish``, a new journal has no name until ``publish``
    is called, and is removed if that never happens. ``clock`` returns the time of each event in µs
    since the epoch; the default is the real-time clock. ``kinds`` are classes of application events
    to ``declare``. ``key`` seals a new journal, and is needed to continue a sealed one.

    Raises JournalLocked if another process writes the journal, and a DamagedJournal if acknowledged
    bytes of it are lost. When the disk fails, the writer writes its unsynced blocks in another
    place; if that fails too, every call raises StorageError. So does every call after a sync that
    found the journal removed, renamed or replaced; events acknowledged before are durable in the
    file that lost its name. While the disk is full, ``append`` raises StorageError and accepts
    nothing; events accepted before still fit. A full disk also refuses to open a journal.
    ``WriterState`` in ``journal.log.pending_block`` lists what each call does in each state.

    A writer belongs to the process that opened it. In a forked child its calls raise WrongProcess,
    and ``close`` and the end of a ``with`` block change nothing. A writer that nobody closed is
    closed with a ResourceWarning when it is garbage-collected, or at the exit of the interpreter.
    """

    __slots__ = ("__weakref__", "_declared", "_encode", "_pending", "_sync", "journal_id", "path")

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
        kinds: "Iterable[type[Event]]" = (),
        key: "SealKey | None" = None,
    ) -> None:
        check_flag("compress", compress)
        check_optional("clock", clock, check_callable)
        check_type("commit", commit, CommitPolicy)
        if roll is not None:
            check_type("roll", roll, RollPolicy).check()
        declared = check_kinds(kinds)
        self.path = check_path("path", path)
        options = OpenOptions(
            self.path,
            roll is not None,
            check_flag("publish", publish),
            check_optional("journal_id", journal_id, check_bytes),
            clock or current_microseconds,
            check_choice("mode", mode, RecoveryMode),
            check_int("first_seq", first_seq, 0, SEQ_LAST),
            check_key(key),
        )
        self._open(options, roll, commit, make_tick_clock(clock), compress=compress)
        self._register(declared)

    def _open(
        self,
        options: OpenOptions,
        roll: RollPolicy | None,
        commit: CommitPolicy,
        tick_clock: TickClock,
        *,
        compress: bool = True,
    ) -> None:
        options.check()
        compressor = block.make_compressor() if compress else None
        try:
            appender = Appender(options, roll, commit.level is not CommitLevel.NONE)
        except FormatError as error:
            error.path = str(self.path)
            raise
        self.journal_id = appender.header.journal_id
        self._pending = PendingBlock(appender, tick_clock, compressor)
        try:
            appender.write_recovery_marker()
            if options.publish:
                appender.publish()
        except BaseException:
            appender.close()
            raise
        self._sync = WriterSync(self._pending, commit, self.path.name)

    def _register(self, kinds: "tuple[type[Event], ...]") -> None:
        """Register the open writer for forks and for the exit, and declare its kinds."""
        OPEN_RESOURCES.release_in_children(self)
        OPEN_RESOURCES.close_at_exit(self)
        self._declared: dict[int, ApplicationKind] | None = None
        self._encode: Callable[[Event], bytes] | None = None
        try:
            self.declare(*kinds)
        except BaseException:
            self.close()
            raise

    # -- append ------------------------------------------------------------------------------

    @property
    def next_seq(self) -> int:
        """Sequence number of the next event."""
        return self._pending.next_seq

    @property
    def time(self) -> int:
        """Time of the last appended frame in µs since the epoch, as readers will return it."""
        return self._pending.time

    def append(self, event: "Event") -> int:
        """Append an event and return its sequence number."""
        payload = (self._encode or self._load_codec())(event)
        return self.append_frame(event.tag, payload)

    def declare(self, *kinds: "type[Event]") -> None:
        """Append the declarations of application events that the journal does not have yet.

        The classes have the decorator ``application_event``. Raises OptionError for a tag that the
        journal declares in another way; then nothing is appended.
        """
        if not kinds:
            return
        from journal.events.declared_kinds import check_declarations

        if self._declared is None:
            key = self._pending.appender.key
            self._declared = read_declared(self.path, key) if self.path.exists() else {}
        for declaration in check_declarations(kinds, self._declared):
            self.append(declaration)
            self._declared[declaration.number] = declaration

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append an encoded event and return its sequence number."""
        try:
            is_plain = type(payload) is bytes and _TAGS[tag] is tag
        except (IndexError, TypeError):
            is_plain = False
        if not is_plain:
            tag, payload = check_int("tag", tag, TAG_MIN, TAG_MAX), check_bytes("payload", payload)
        pending = self._pending
        read_tick = pending.read_tick
        size = len(payload) + COLUMNS_SIZE_PER_EVENT_MAX
        with pending.lock:
            seq = pending.next_seq
            space = pending.space - size
            if space <= 0:  # The block will be full, or the writer is not open.
                pending.append_last(tag, payload)
            else:
                pending.frames += tag, payload, read_tick()
                pending.next_seq = seq + 1
                pending.space = space
        if pending.must_commit:
            self._sync.apply_policy(seq)
        return seq

    def append_many(self, frames: Iterable[tuple[int, bytes]]) -> range:
        """Append encoded events, given as (tag, payload); return their sequence numbers.

        Works as ``append_columns``.
        """
        pairs = frames if isinstance(frames, list) else list(iterate("frames", frames))
        try:
            column, payloads = list(map(_FIRST, pairs)), list(map(_SECOND, pairs))
        except (LookupError, TypeError):
            raise OptionError("each of frames must be a pair of a tag and a payload") from None
        return self._append(pack_tags(column), payloads)

    def append_payloads(self, tag: int, payloads: Sequence[bytes]) -> range:
        """Append encoded events of one kind; return their sequence numbers.

        Works as ``append_columns``.
        """
        if type(tag) is not int:
            tag = check_int("tag", tag, TAG_MIN, TAG_MAX)
        if type(payloads) is not list:
            payloads = _as_sequence(payloads)
        return self._append(pack_tags((tag,)), payloads)

    def append_columns(self, tags: Sequence[int], payloads: Sequence[bytes]) -> range:
        """Append encoded events; return their sequence numbers.

        ``tags`` has one tag for each payload, or one tag for all.

        This is the fastest way to append many events. All events get the same time. An invalid tag
        or payload appends nothing. After StorageError, ``next_seq`` shows how many events were
        appended.
        """
        if type(payloads) is not list:
            payloads = _as_sequence(payloads)
        tags = pack_tags(tags)
        if len(tags) not in (1, len(payloads)):
            raise OptionError(
                f"{len(payloads)} payloads need 1 or {len(payloads)} tags, got {len(tags)}"
            )
        return self._append(tags, payloads)

    def _append(self, tags: bytes, payloads: Sequence[bytes]) -> range:
        try:
            sizes = measure_payloads(payloads)
        except (TypeError, ValueError):
            # Buffers of other types become bytes, which cannot change.
            payloads = check_each("payloads", payloads, check_bytes)
            sizes = measure_payloads(payloads)
        pending, count = self._pending, len(payloads)
        with self._batch() as tick:
            first_seq, start = pending.next_seq, 0
            while start < count and not pending.append_few(tags, payloads, sizes, start, tick):
                packed, start = pack_block(tags, payloads, sizes, start, pending.time_of(tick))
                pending.write_packed(packed)
        return range(first_seq, first_seq + count)

    def append_rows(self, kind: "type[Event]", rows: Iterable[tuple[Any, ...]]) -> range:
        """Append events of one kind; return their sequence numbers.

        Each row is a tuple of the event's values in wire order. All rows are packed before the
        first event is appended, so memory grows with their number.
        """
        # Slow to import, and not needed for frames.
        from journal.events.codec import check_kind, pack_rows

        check_kind(kind)
        pending = self._pending
        # A generator runs before the lock is taken, because it may itself append.
        values = rows if isinstance(rows, list) else list(iterate("rows", rows))
        blocks = list(pack_rows(kind, values, 0))
        with self._batch() as tick:
            first_seq, now = pending.next_seq, pending.time_of(tick)
            for packed in blocks:
                pending.write_packed(packed._replace(time_first=now, time_last=now))
        return range(first_seq, first_seq + sum(packed.frame_count for packed in blocks))

    def append_block(self, source: Block) -> None:
        """Append the events of another journal's block, with their times and sequence numbers."""
        check_type("source", source, Block).check()
        seqs = source.seqs
        if not source.count:
            return
        if seqs[-1] > SEQ_LAST:
            reason = f"the block's last sequence number {seqs[-1]} is too high, limit {SEQ_LAST}"
            raise LimitExceeded(reason, source.offset)
        pending = self._pending
        with pending.lock:
            pending.check_accepts()
            if seqs[0] < pending.next_seq:
                raise OptionError(f"first event must be at least {self.next_seq}, got {seqs[0]}")
            pending.write_copy(source.header, source.body, seqs)
            pending.update_must_commit()
        if pending.must_commit:
            self._sync.apply_policy(pending.next_seq - 1)

    @contextmanager
    def _batch(self) -> Iterator[int]:
        """Hold the lock while many events are appended; yield their common tick."""
        pending = self._pending
        with pending.lock:
            pending.check_accepts()
            tick = pending.read_tick()
            try:
                yield tick
            finally:
                seq = pending.finish_batch() - 1
        if pending.must_commit:
            self._sync.apply_policy(seq)

    def _load_codec(self) -> Callable[["Event"], bytes]:
        from journal.events.codec import encode  # Slow to import, and not needed for frames.

        self._encode = encode
        return encode

    # -- durability --------------------------------------------------------------------------

    @property
    def durable_upto(self) -> int:
        """Sequence number below which all events survive a power cut."""
        return self._pending.appender.durable_upto

    @property
    def key(self) -> "SealKey | None":
        """The key of a sealed journal, also if it is that of the process; None without a seal."""
        return choose_writing_key(self._pending.appender.key) if self.is_sealed else None

    @property
    def is_sealed(self) -> bool:
        """Whether the journal is sealed."""
        return self._pending.appender.header.is_sealed

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the writer's, and so cannot use the writer."""
        return self._pending.home.is_left

    @property
    def roll(self) -> RollPolicy | None:
        """The roll policy; None in a single-file journal."""
        return self._pending.appender.roll_policy

    @property
    def size(self) -> int:
        """Bytes of all blocks that this writer has written."""
        return self._pending.appender.written_size

    def flush(self) -> None:
        """Write the pending block to the kernel: it survives the process, but not a power cut."""
        self._sync.flush()

    def sync(self) -> None:
        """Flush, and wait until all events appended so far survive a power cut."""
        self._sync.sync()

    def wait(self, seq: int, timeout_seconds: float | None = None) -> bool:
        """Wait until event ``seq`` is durable. Return False after the timeout.

        The first waiting thread syncs for all. The timeout limits only the wait for another
        thread's sync.
        """
        self._pending.check_process()
        check_int("seq", seq)
        if timeout_seconds is not None:
            timeout_seconds = check_seconds("timeout_seconds", timeout_seconds)
        if seq >= self.next_seq:
            raise OptionError(f"cannot wait for event {seq}: the last event is {self.next_seq - 1}")
        return self._sync.wait(seq, timeout_seconds)

    def publish(self) -> None:
        """Make an unpublished journal durable and give it its name."""
        with self._sync.exclusive():
            self._sync.settle_exclusively(roll=True)
            with self._pending.lock:
                self._pending.appender.publish()

    def append_signature(self, payload: bytes) -> None:
        """Write a durable signature of everything before it. See ``journal.log.sign_journal``."""
        with self._sync.exclusive():
            self._sync.sync_exclusively()
            with self._pending.lock:
                self._pending.write_payload(check_bytes("payload", payload))
            self._sync.sync_exclusively()

    def switch_to(self, beside: str | os.PathLike[str]) -> SwitchoverStats:
        """Continue in the journal at ``beside``, which takes over the path of this journal.

        The other journal must have this journal's id. Up to some sequence number it must contain
        this journal's events or, as after compaction, events with the same effect. Later events are
        copied, most of them while other threads append; then everything is durable. A reader with
        the old journal open can read a file to its end. After an exception the writer continues in
        the old journal, unless the error states that it cannot.
        """
        pending = self._pending
        pending.check_process()
        successor = SwitchoverTarget(
            self.path, check_path("beside", beside), self.journal_id, pending.appender
        )
        try:
            successor.catch_up()
            with self._sync.exclusive(), pending.lock:
                begin = time.monotonic()
                pending.check_accepts()
                pending.write()
                old = pending.appender
                try:
                    successor.finish(old)
                finally:
                    pending.continue_in(successor.appender if successor.is_in_place else old)
                    if successor.is_in_place:
                        old.close()
                pause = time.monotonic() - begin
        finally:
            successor.close()
        return SwitchoverStats(successor.copied_size, successor.rest_size, pause)

    def set_path(self, path: str | os.PathLike[str]) -> None:
        """Record that the journal is being renamed to ``path``: call this before the rename."""
        target = check_path("path", path)
        with self._pending.lock:
            self._pending.check_process()
            self.path = target
            self._pending.appender.set_path(self.path)

    def close(self) -> None:
        """Make all events durable and close the journal. An unpublished journal is removed.

        Raises StorageError if not all events are durable.
        """
        pending = self._pending
        if pending.home.is_left:
            return
        self._sync.stop()
        with self._sync.exclusive():
            if not pending.appender.is_open:
                return
            with pending.lock:
                pending.enter(WriterState.CLOSING)
            try:
                if pending.appender.is_published:
                    self._sync.settle_exclusively(roll=False)
            finally:
                with pending.lock:
                    pending.appender.close()
                    pending.enter(WriterState.CLOSED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        try:
            self.close()
        except JournalError as failure:
            if not isinstance(error, BaseException):
                raise
            error.add_note(str(failure))  # The first error is the one to raise.

    def __del__(self) -> None:
        # ``_sync`` is the last attribute: without it, the constructor has failed and cleaned up.
        if hasattr(self, "_sync") and self._pending.appender.is_open:
            close_unclosed(self, f"the writer of {self.path}")

    def _abandon(self, owner: int) -> None:
        self._sync.abandon()
        self._pending.abandon(owner)


def create_child(
    path: Path,
    origin: ForkPoint,
    *,
    commit: CommitPolicy = CommitPolicy.EXPLICIT,
    roll: RollPolicy | None = None,
    clock: Callable[[], int] | None = None,
) -> Writer:
    """Return the writer of a new journal that continues another one after ``origin``.

    The journal is not published yet. ``clock`` is that of :class:`Writer`. Raises JournalExists if
    ``path`` exists, and StorageError.
    """
    writer = Writer.__new__(Writer)
    writer.path = path
    options = OpenOptions(
        path,
        is_directory=True,
        publish=False,
        journal_id=None,
        clock=clock or current_microseconds,
        mode=RecoveryMode.STRICT,
        origin=origin,
    )
    writer._open(options, roll, commit, make_tick_clock(clock))
    writer._register(())
    return writer


def _as_sequence(payloads: Sequence[bytes]) -> Sequence[bytes]:
    """Return payloads whose length and order are fixed."""
    return payloads if type(payloads) is tuple else check_each("payloads", payloads, check_bytes)
