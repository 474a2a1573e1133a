"""Writing a journal: append, and say what is durable.

One writer per journal, one thread per writer. It never truncates and never writes over a byte that
was not zero; after a failed write or sync it never trusts its descriptor again.
"""

import os
import time
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from journal import block, durable, recovery
from journal.block import BLOCK_SIZE_TARGET, COLUMNS_SIZE_EACH, TIME_SPAN_MAX, Frames, Place
from journal.errors import JournalError, LimitExceeded, OptionError, StorageError
from journal.frame import PAYLOAD_SIZE_MAX, TAG_MAX

if TYPE_CHECKING:
    from journal.event import Event

_TAG_END = TAG_MAX + 1
_NO_FRAMES = Frames([], [], [])


def _microseconds() -> int:
    return time.time_ns() // 1000


def _never_back(clock: Callable[[], int], last: int) -> Callable[[], int]:
    """Make a clock that stands still where another goes back."""

    def now() -> int:
        nonlocal last
        last = max(last, clock())
        return last

    return now


class Writer:
    """The one writer of a journal: creates the file, or recovers its tail and goes on behind it.

    ``next_seq`` is the number that the next event will get, ``durable_seq`` the one below which all
    events survive a power cut. With ``publish`` off, a new journal has no name until ``publish`` is
    called, and leaves nothing behind when it never is. Raises JournalLocked when another process
    writes the journal, and a DamagedJournal when acknowledged bytes of it are lost.
    """

    __slots__ = (
        "_chain",
        "_clock",
        "_compressor",
        "_descriptor",
        "_durable_upto",
        "_encode",
        "_end",
        "_failure",
        "_first_seq",
        "_pending",
        "_room",
        "_salt",
        "_segment_offset",
        "_shift",
        "_temporary",
        "_tick_base",
        "_tick_scale",
        "_time",
        "_wrote",
        "durable_seq",
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
    ) -> None:
        if journal_id is not None and len(journal_id) != 16:
            raise OptionError("a journal's id has 16 bytes")
        self.path = Path(path)
        self._compressor = block.compressor() if compress else None
        self._encode: Callable[[Event], bytes] | None = None
        self._pending: list[Any] = []  # tag, payload, tick; tag, payload, tick; ...
        self._room = BLOCK_SIZE_TARGET
        self._failure: BaseException | None = None
        self._wrote = False
        self._descriptor, self._temporary, start = recovery.open_journal(
            self.path, publish, journal_id, clock or _microseconds
        )
        self._salt = start.header.salt
        self._segment_offset = start.segment_offset
        self._shift = start.shift
        self._end = self._durable_upto = start.end
        self._chain = start.chain
        self._first_seq = self.next_seq = self.durable_seq = start.next_seq
        self._time = start.time
        self._clock = time.monotonic_ns if clock is None else _never_back(clock, start.time)
        self._tick_base, self._tick_scale = 0, 1
        if clock is None:  # the system's time, going on evenly when somebody sets it
            self._tick_base = max(time.time_ns(), start.time * 1000) - time.monotonic_ns()
            self._tick_scale = 1000
        self.journal_id = start.header.journal_id
        try:
            if start.explain:  # make the debris known as such before anyone reads on
                self._write_block(_NO_FRAMES)
                self._sync_file()
            if publish:
                self.publish()
        except BaseException:
            self._let_go()
            raise

    # -- appending ---------------------------------------------------------------------------

    @property
    def time(self) -> int:
        """The stamp of the last appended frame, µs since the epoch, as a reader will give it."""
        if self._pending:
            tick: int = self._pending[-1]
            return (tick + self._tick_base) // self._tick_scale
        return self._time

    def append(self, event: "Event") -> int:
        """Add an event; give its number."""
        encode = self._encode or self._load_codec()
        return self.append_frame(event.tag, encode(event))

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Add an event that is encoded already; give its number."""
        if not 0 < tag < _TAG_END:
            raise OptionError(f"an event's tag is 1 to {TAG_MAX}, not {tag}")
        seq = self.next_seq
        # one flat list: a single step that an interrupt cannot halve, and nothing for the
        # garbage collector to count; the clock raises when the writer is closed or poisoned
        self._pending += tag, payload, self._clock()
        self.next_seq = seq + 1
        room = self._room = self._room - len(payload) - COLUMNS_SIZE_EACH
        if room <= 0:
            self._close_block(payload)
        return seq

    # -- making durable ----------------------------------------------------------------------

    def flush(self) -> None:
        """Close the block and hand it to the kernel: it survives the process, not a power cut."""
        self._check()
        pending = self._pending
        if not pending:
            return
        base, scale = self._tick_base, self._tick_scale
        while pending:
            times = [(tick + base) // scale for tick in pending[2::3]]
            # a block's times have 32 bits: what comes later goes to the next block
            count = bisect_right(times, times[0] + TIME_SPAN_MAX)
            stop = 3 * count
            self._write_block(Frames(pending[0:stop:3], pending[1:stop:3], times[:count]))
            del pending[:stop]
        self.next_seq = self._first_seq  # an interrupt may have come between a frame and its count
        self._room = BLOCK_SIZE_TARGET

    def sync(self) -> None:
        """Flush, and return when all events so far survive a power cut."""
        self.flush()
        if self.durable_seq != self._first_seq:
            self._sync_file()

    def publish(self) -> None:
        """Make durable and give its name to a journal that has none yet."""
        self.sync()
        if self._temporary is None:
            return
        try:
            durable.publish(self._temporary, self.path)
        except FileExistsError:
            raise OptionError(f"{self.path} exists already") from None
        except OSError as error:
            raise StorageError(f"{self.path} cannot be published: {error}", 0) from error
        self._temporary = None

    def close(self) -> None:
        """Make durable and let go; an unpublished journal is gone.

        Raises StorageError when not all events are durable.
        """
        if self._descriptor < 0:
            return
        try:
            if self._temporary is None:
                self._check()
                self.sync()
                if self._wrote:
                    with suppress(JournalError):  # what it says is known without it
                        self._write_block(_NO_FRAMES)
        finally:
            self._let_go()

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

    def _load_codec(self) -> Callable[["Event"], bytes]:
        from journal.codec import encode  # construct is slow to import, frames do without

        self._encode = encode
        return encode

    def _check(self) -> None:
        if self._failure is not None:
            reason = f"{self.path} cannot be written any more: {self._failure}"
            raise StorageError(reason, self.durable_seq) from self._failure
        if self._descriptor < 0:
            raise OptionError(f"the writer of {self.path} is closed")

    def _refuse(self) -> NoReturn:
        self._check()
        raise AssertionError("a sound writer has its clock")

    def _poison(self, error: BaseException, what: str) -> NoReturn:
        self._failure = error
        self._clock = self._refuse
        if not isinstance(error, OSError):
            raise error
        reason = f"{self.path}: {what}: {error.strerror or error}"
        raise StorageError(reason, self.durable_seq) from error

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        self._clock = self._refuse
        if self._temporary is not None:
            with suppress(OSError):
                self._temporary.unlink()
        # after a sync that returned, and a failure that was told, a failing close says nothing new
        with suppress(OSError):
            os.close(descriptor)

    def _close_block(self, payload: bytes) -> None:
        if len(payload) > PAYLOAD_SIZE_MAX:
            del self._pending[-3:]
            self.next_seq -= 1
            self._room += len(payload) + COLUMNS_SIZE_EACH
            raise LimitExceeded(f"a payload of {len(payload)} bytes cannot be written", self._end)
        self.flush()

    def _write_block(self, frames: Frames) -> None:
        end, digest = self._chain
        place = Place(
            self._salt, self._first_seq - self._shift, self._end, end, digest, self._durable_upto
        )
        data, header = block.encode(place, frames, self._compressor, time=self._time)
        self._write(data, self._end)
        self._end = header.end
        self._chain = (header.end, header.hash)
        self._first_seq += len(frames.tags)
        self._time = header.time_last
        self._wrote = bool(frames.tags)

    def _sync_file(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except BaseException as error:
            self._poison(error, "sync failed")
        self._durable_upto = self._end
        self.durable_seq = self._first_seq

    def _write(self, data: bytes, offset: int) -> None:
        """Write all of ``data`` at the segment's ``offset``."""
        position = self._segment_offset + offset
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(self._descriptor, rest, position)
                if not written:
                    raise OSError(f"nothing of {len(rest)} bytes was written")
                position += written
                rest = rest[written:]
        except BaseException as error:
            # an interrupt too: how much stands in the file is no longer known
            self._poison(error, "write failed")
