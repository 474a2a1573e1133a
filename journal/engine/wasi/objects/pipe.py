"""Pipes inside the guest: a bounded buffer with a reading and a writing end."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from journal.engine.wasi.channel import (
    NOT_READY,
    ByteChannel,
    ChannelState,
    Readiness,
)
from journal.engine.wasi.objects.waits import StreamSink, wait_inside, write_stream
from journal.events.paths import FileType
from journal.wasi_abi import Errno, FdFlags, Rights, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

#: Size of the buffer of a pipe, as on Linux.
PIPE_SIZE = 65536

#: A write of at most this size is not divided (POSIX: PIPE_BUF).
ATOMIC_SIZE = 4096
assert ATOMIC_SIZE <= PIPE_SIZE

_NONBLOCK = int(FdFlags.NONBLOCK)
_RIGHTS = Rights.FD_FDSTAT_SET_FLAGS | Rights.FD_FILESTAT_GET | Rights.POLL_FD_READWRITE


def _ignore_change() -> None:
    """Do nothing: only one guest uses the pipe."""


class PipeBuffer:
    """A buffer of bytes that were written and not yet read.

    ``written_size`` and ``read_size`` count all bytes since the pipe was created. ``readers`` and
    ``writers`` are the open ends of a guest, which announce the changes. ``on_change`` is called
    after each change that can end a wait of another guest.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.read_size = 0
        self.has_reader = self.has_writer = True
        self.readers: list[PipeReader] = []
        self.writers: list[PipeWriter] = []
        self.on_change: Callable[[], None] = _ignore_change

    @property
    def written_size(self) -> int:
        """Return the count of all bytes that were written."""
        return self.read_size + len(self._buffer)

    @property
    def size(self) -> int:
        """Return the count of bytes that can be read."""
        return len(self._buffer)

    @property
    def room(self) -> int:
        """Return the count of bytes that can be written."""
        return max(PIPE_SIZE - len(self._buffer), 0)

    def put(self, data: bytes) -> None:
        """Add bytes at the end."""
        self._buffer += data
        for reader in self.readers:
            reader.announce(Readiness.READABLE)
        self.on_change()

    def take(self, size_max: int) -> bytes:
        """Remove and return at most ``size_max`` bytes from the front."""
        data = bytes(self._buffer[:size_max])
        was_full = self.room < ATOMIC_SIZE
        del self._buffer[:size_max]
        self.read_size += len(data)
        if data:
            if was_full:
                for writer in self.writers:
                    writer.announce(Readiness.WRITABLE)
            self.on_change()
        return data

    def copy_bytes(self) -> bytes:
        """Return the bytes that can be read, without removing them."""
        return bytes(self._buffer)

    def load(self, read_size: int, data: bytes) -> None:
        """Replace the bytes; ``read_size`` bytes were read before them."""
        self._buffer[:] = data
        self.read_size = read_size

    def close_reader(self) -> None:
        """Discard the bytes: nobody can read them."""
        self.has_reader = False
        self._buffer.clear()
        for writer in self.writers:
            writer.announce(Readiness.WRITABLE | Readiness.ERROR)
        self.on_change()

    def close_writer(self) -> None:
        """End the stream after the bytes that were written."""
        self.has_writer = False
        for reader in self.readers:
            reader.announce(Readiness.HANGUP)
        self.on_change()


class PipeReader(ByteChannel):
    """The reading end of a pipe."""

    filetype: ClassVar[FileType] = FileType.UNKNOWN
    rights: ClassVar[Rights] = _RIGHTS | Rights.FD_READ

    def __init__(self, pipe: PipeBuffer) -> None:
        self.pipe = pipe
        pipe.readers.append(self)

    def read(self, context: "CallContext", fd: int, size_max: int) -> bytes:
        """Return bytes; none at the end of the stream."""
        while size_max and not self._has_data_or_end():
            if self.flags & _NONBLOCK:
                raise WasiError(Errno.AGAIN)
            wait_inside(context, fd, "fd_read", self._has_data_or_end)
        return self.pipe.take(size_max)

    def _has_data_or_end(self) -> bool:
        return bool(self.pipe.size) or not self.pipe.has_writer

    def readiness(self) -> Readiness:
        """Return whether there are bytes, and whether the writing end is closed."""
        ready = Readiness.READABLE if self.pipe.size else NOT_READY
        return ready if self.pipe.has_writer else ready | Readiness.HANGUP

    def available_size(self) -> int:
        """Return the count of bytes in the pipe."""
        return self.pipe.size

    def buffered_size(self) -> int:
        """Return the count of bytes in the pipe."""
        return self.pipe.size

    def save(self) -> ChannelState | None:
        """Return the bytes of the pipe, and as value the count of bytes before them."""
        if not self.pipe.written_size:
            return None
        data = self.pipe.copy_bytes()
        return ChannelState(self.pipe.read_size, 0, (data,) if data else ())

    def load(self, state: ChannelState) -> None:
        """Restore the bytes of the pipe."""
        data = b"".join(state.parts)
        if len(data) > PIPE_SIZE or len(state.parts) > 1:
            raise ValueError(f"a pipe cannot have {len(data)} bytes in {len(state.parts)} parts")
        self.pipe.load(state.value, data)

    def close(self) -> None:
        """Close the end: a write fails from now on."""
        self.pipe.close_reader()


class PipeWriter(StreamSink):
    """The writing end of a pipe."""

    filetype: ClassVar[FileType] = FileType.UNKNOWN
    rights: ClassVar[Rights] = _RIGHTS | Rights.FD_WRITE

    def __init__(self, pipe: PipeBuffer) -> None:
        self.pipe = pipe
        pipe.writers.append(self)

    def write(self, context: "CallContext", fd: int, data: bytes) -> int:
        """Accept bytes. A write fails with ``PIPE`` if nobody can read it."""
        if not data:
            return 0
        waits = not self.flags & _NONBLOCK
        return write_stream(
            context, fd, "fd_write", self, data, waits=waits, atomic_size=ATOMIC_SIZE
        )

    def check_writable(self) -> None:
        """Raise ``WasiError`` with ``PIPE`` if the reading end is closed."""
        if not self.pipe.has_reader:
            raise WasiError(Errno.PIPE)

    def room(self) -> int:
        """Return how many bytes the pipe can take."""
        return self.pipe.room

    def put(self, data: bytes) -> None:
        """Add bytes to the pipe."""
        self.pipe.put(data)

    def readiness(self) -> Readiness:
        """Return whether there is room, and whether the reading end is closed."""
        ready = Readiness.WRITABLE if self.pipe.room >= ATOMIC_SIZE else NOT_READY
        return ready if self.pipe.has_reader else ready | Readiness.ERROR

    def save(self) -> ChannelState | None:
        """Return as value how much of an unfinished write the pipe has."""
        return ChannelState(self.accepted_size, 0, ()) if self.accepted_size else None

    def load(self, state: ChannelState) -> None:
        """Restore the state of an unfinished write."""
        if state.parts:
            raise ValueError("the writing end of a pipe has no bytes")
        self.accepted_size = state.value

    def close(self) -> None:
        """Close the end: the stream ends after the bytes that were written."""
        self.pipe.close_writer()
