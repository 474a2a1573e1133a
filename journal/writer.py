"""Writing a journal: append, and say what is durable.

One writer per journal, one thread per writer. It never truncates and never writes over a byte that
was not zero; after a failed write or sync it never trusts its descriptor again.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from journal import block, durable, recovery
from journal.block import BLOCK_SIZE_TARGET, COLUMNS_SIZE_EACH, TIME_SPAN_MAX, Place
from journal.errors import JournalError, LimitExceeded, OptionError, StorageError
from journal.frame import PAYLOAD_SIZE_MAX, TAG_MAX

if TYPE_CHECKING:
    from journal.event import Event

_TAG_END = TAG_MAX + 1


def _clock() -> Callable[[], int]:
    """Make a clock of µs since the epoch that goes on evenly when the system's is set."""
    monotonic_ns = time.monotonic_ns
    base = time.time_ns() - monotonic_ns()

    def now() -> int:
        return (monotonic_ns() + base) // 1000

    return now


class Writer:
    """The one writer of a journal: creates the file, or recovers its tail and goes on behind it.

    ``time`` is the stamp of the last appended frame, ``durable_seq`` the number below which all
    events survive a power cut. With ``publish`` off, a new journal has no name until ``publish``
    is called, and leaves nothing behind when it never is. Raises JournalLocked when another process
    writes the journal, and a FormatError when acknowledged bytes of it are damaged.
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
        "_wrote",
        "durable_seq",
        "journal_id",
        "path",
        "time",
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
        self._clock = clock or _clock()
        self._compressor = block.compressor() if compress else None
        self._encode: Callable[[Event], bytes] | None = None
        self._pending: list[tuple[int, bytes, int]] = []
        self._room = BLOCK_SIZE_TARGET
        self._failure: BaseException | None = None
        self._wrote = False
        self._descriptor, self._temporary, start = recovery.open_journal(
            self.path, publish, journal_id, self._clock
        )
        self._salt = start.header.salt
        self._segment_offset = start.segment_offset
        self._shift = start.shift
        self._end = self._durable_upto = start.end
        self._chain = start.chain
        self._first_seq = self.durable_seq = start.next_seq
        self.time = start.time
        self.journal_id = start.header.journal_id
        try:
            if start.explain:  # make the debris known as such before anyone reads on
                self._write_block([])
                self._sync_file()
            if publish:
                self.publish()
        except BaseException:
            self._let_go()
            raise

    # -- appending ---------------------------------------------------------------------------

    @property
    def next_seq(self) -> int:
        """The number that the next event will get."""
        return self._first_seq + len(self._pending)

    def append(self, event: "Event") -> int:
        """Add an event; give its number."""
        encode = self._encode or self._load_codec()
        return self.append_frame(event.tag, encode(event))

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Add an event that is encoded already; give its number."""
        now = self._clock()  # raises when the writer is closed or poisoned
        if now < self.time:
            now = self.time
        if not 0 < tag < _TAG_END:
            raise OptionError(f"an event's tag is 1 to {TAG_MAX}, not {tag}")
        size = len(payload)
        if size > PAYLOAD_SIZE_MAX:
            raise LimitExceeded(f"a payload of {size} bytes cannot be written", self._end)
        pending = self._pending
        pending.append((tag, payload, now))
        self.time = now
        seq = self._first_seq + len(pending) - 1
        self._room -= size + COLUMNS_SIZE_EACH
        if self._room <= 0:
            self.flush()
        return seq

    # -- making durable ----------------------------------------------------------------------

    def flush(self) -> None:
        """Close the block and hand it to the kernel: it survives the process, not a power cut."""
        self._check()
        while self._pending:
            pending = self._pending
            first, last = pending[0][2], pending[-1][2]
            if last - first > TIME_SPAN_MAX:  # a block's times have 32 bits
                pending = [row for row in pending if row[2] - first <= TIME_SPAN_MAX]
            self._write_block(pending)
            self._first_seq += len(pending)
            self._pending = self._pending[len(pending) :]
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
                        self._write_block([])
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

    def _write_block(self, pending: list[tuple[int, bytes, int]]) -> None:
        end, digest = self._chain
        place = Place(
            self._salt, self._first_seq - self._shift, self._end, end, digest, self._durable_upto
        )
        data, header = block.encode(place, pending, self._compressor, time=self.time)
        self._write(data, self._end)
        self._end = header.end
        self._chain = (header.end, header.hash)
        self._wrote = bool(pending)

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
