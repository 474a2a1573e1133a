"""Pipes between processes. Each end is in one process, and each process has a journal of its own.

A write is recorded with its bytes, and is durable before another process can read them. A read is
recorded with its bytes, too. So each process is replayed from its own journal, and the journals of
all processes together tell which bytes are still in the pipe.
"""

import struct
import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from journal.engine.wasi.channel import NOT_READY, ByteChannel, ChannelState, Readiness
from journal.engine.wasi.objects.pipe import ATOMIC_SIZE, PIPE_SIZE
from journal.engine.wasi.objects.waits import Condition
from journal.events import codec
from journal.events.paths import FileType
from journal.events.processes import PipeRead, PipeWrite
from journal.wasi_abi import Errno, FdFlags, Rights, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

_NONBLOCK = int(FdFlags.NONBLOCK)
_RIGHTS = Rights.FD_FDSTAT_SET_FLAGS | Rights.FD_FILESTAT_GET | Rights.POLL_FD_READWRITE
_HEAD = struct.Struct("<IIQ")
_pack_read, _unpack_read = codec.make_late_packer(PipeRead), codec.make_late_unpacker(PipeRead)
_pack_write, _unpack_write = codec.make_late_packer(PipeWrite), codec.make_late_unpacker(PipeWrite)


class PipeId(NamedTuple):
    """Identity of a pipe: the process that created it, and the number of its CreatePipe event.

    With the creator 0 it is the number of a standard stream of the first process.
    """

    creator: int
    number: int


class PipePart(NamedTuple):
    """Bytes of a pipe at an offset of all its bytes."""

    offset: int
    data: bytes


class EndOwner(Protocol):
    """The process of an end of a pipe."""

    def wake(self) -> None:
        """Wake the guest if it waits. Safe from any thread."""

    def barrier(self) -> None:
        """Make the events of the guest durable."""


class SharedPipe:
    """A bounded buffer whose ends are in several processes. Thread-safe.

    ``wanted_size`` is the size of a read that waits for bytes, 0 if none does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: deque[PipePart] = deque()
        self._size = 0
        self._end = 0
        self._has_reservation = False
        self.wanted_size = 0
        self._readers: list[SharedEnd] = []
        self._writers: list[SharedEnd] = []

    def load(self, parts: Iterable[PipePart], end: int) -> None:
        """Set the bytes that were written and not read; ``end`` is the count of all bytes."""
        self._parts = deque(parts)
        self._size = sum(len(part.data) for part in self._parts)
        self._end = end

    # -- ends --------------------------------------------------------------------------------------

    def attach(self, end: "SharedEnd") -> None:
        """Add an end."""
        with self._lock:
            (self._writers if end.is_writer else self._readers).append(end)

    def detach(self, end: "SharedEnd") -> None:
        """Remove an end that was attached."""
        with self._lock:
            (self._writers if end.is_writer else self._readers).remove(end)
        self._notify()

    @property
    def has_reader(self) -> bool:
        """Return whether a process has the reading end."""
        return bool(self._readers)

    @property
    def has_writer(self) -> bool:
        """Return whether a process has the writing end."""
        return bool(self._writers)

    def is_used_beside(self, owner: object) -> bool:
        """Return whether another process than ``owner`` has an end."""
        with self._lock:
            return any(end.owner is not owner for end in (*self._readers, *self._writers))

    def _notify(self) -> None:
        with self._lock:
            ends = (*self._readers, *self._writers)
        for end in ends:
            end.notify()

    # -- bytes -------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Return the count of bytes that can be read."""
        return self._size

    def has_room(self, size: int) -> bool:
        """Return whether a write of ``size`` bytes need not wait, as nobody reads or it fits."""
        if not self._readers:
            return True
        return not self._has_reservation and PIPE_SIZE - self._size >= size

    def can_read(self) -> bool:
        """Return whether there are bytes, or the stream has ended."""
        return bool(self._size) or self._has_ended()

    def _has_ended(self) -> bool:
        return not self._writers and not self._has_reservation

    def reserve(self, size: int, *, is_whole: bool) -> PipePart | None:
        """Reserve room for at most ``size`` bytes, or all of them; None if the write must wait.

        Returns the offset of the bytes, and as many zeros as fit. Until :meth:`commit` or
        :meth:`cancel` nobody else can write. Raises ``WasiError`` with ``PIPE`` if nobody reads.
        """
        with self._lock:
            if not self._readers:
                raise WasiError(Errno.PIPE)
            room = PIPE_SIZE - self._size
            if self._has_reservation or room <= 0 or (is_whole and room < size):
                return None
            self._has_reservation = True
            return PipePart(self._end, bytes(min(size, room)))

    def commit(self, part: PipePart) -> None:
        """Let other processes read the bytes of a reservation."""
        with self._lock:
            self._has_reservation = False
            self._parts.append(part)
            self._size += len(part.data)
            self._end = part.offset + len(part.data)
            self.wanted_size = 0
        self._notify()

    def ask(self, size: int) -> None:
        """Tell the writers that a reader waits for bytes."""
        with self._lock:
            if self._size or self.wanted_size >= size:
                return
            self.wanted_size = size
        self._notify()

    def cancel(self) -> None:
        """Give a reservation back."""
        with self._lock:
            self._has_reservation = False
        self._notify()

    def take(self, size_max: int) -> PipePart | None:
        """Remove and return bytes from the front, none at the end; None if a read must wait."""
        with self._lock:
            if not self._parts:
                return PipePart(self._end, b"") if self._has_ended() else None
            taken = self._take_parts(size_max)
        self._notify()
        return taken

    def _take_parts(self, size_max: int) -> PipePart:
        """Remove at most ``size_max`` consecutive bytes."""
        start = end = self._parts[0].offset
        data = bytearray()
        while self._parts and self._parts[0].offset == end and len(data) < size_max:
            offset, part = self._parts.popleft()
            fitting = part[: size_max - len(data)]
            if len(fitting) < len(part):
                self._parts.appendleft(PipePart(offset + len(fitting), part[len(fitting) :]))
            data += fitting
            end += len(fitting)
        self._size -= len(data)
        return PipePart(start, bytes(data))


class SharedEnd(ByteChannel):
    """An end of a pipe between processes, in one process.

    During a replay no pipe is attached: all results are in the journal. ``owner`` is the process.
    """

    filetype: ClassVar[FileType] = FileType.UNKNOWN
    is_writer: ClassVar[bool]

    def __init__(self, pipe_id: PipeId) -> None:
        self.id = pipe_id
        self.owner: EndOwner | None = None
        self._pipe: SharedPipe | None = None

    def attach(self, pipe: SharedPipe, owner: "EndOwner") -> None:
        """Connect the end of a live guest."""
        self._pipe, self.owner = pipe, owner
        pipe.attach(self)

    def notify(self) -> None:
        """Tell the guest that the pipe has changed. Called in the thread of any process."""
        self.announce()
        if self.owner is not None:
            self.owner.wake()

    @property
    def pipe(self) -> SharedPipe:
        """Return the pipe of a live guest; raise ``WasiError`` if it has none."""
        if self._pipe is None:
            raise WasiError(Errno.IO)
        return self._pipe

    def _make_head(self, fd: int) -> bytes:
        return _HEAD.pack(fd, *self.id)

    def pass_barrier(self) -> None:
        """Make the events of the process durable, if another process can learn of them."""
        pipe, owner = self._pipe, self.owner
        if pipe is not None and owner is not None and pipe.is_used_beside(owner):
            owner.barrier()

    def close(self) -> None:
        """Close the end. The event is durable before another process learns of it."""
        self.pass_barrier()
        self.detach()

    def detach(self) -> None:
        """Remove the end from its pipe."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.detach(self)


class SharedReader(SharedEnd):
    """The reading end of a pipe between processes."""

    rights: ClassVar[Rights] = _RIGHTS | Rights.FD_READ
    is_writer = False

    def read(self, context: "CallContext", fd: int, size_max: int) -> bytes:
        """Return bytes; none at the end of the stream."""
        if not size_max:
            return b""
        payload = context.tape.request_input(
            PipeRead.tag, self._make_head(fd), lambda: self._receive(context, fd, size_max)
        )
        *_, errno, _, data = _unpack_read(payload)
        if errno:
            raise WasiError(errno)
        if len(data) > size_max:
            raise ValueError(
                f"recorded input has {len(data)} bytes: at most {size_max} were requested"
            )
        return bytes(data)

    def _receive(self, context: "CallContext", fd: int, size_max: int) -> bytes:
        """Take bytes of the pipe, and wait for them; return the payload of the event."""
        try:
            while (taken := self.pipe.take(size_max)) is None:
                self.pipe.ask(size_max)
                if self.flags & _NONBLOCK:
                    raise WasiError(Errno.AGAIN)
                context.wait("fd_read", Condition(self.pipe.can_read))
        except WasiError as error:
            if error.errno == Errno.INTR:  # The tape records the signal instead.
                raise
            return _pack_read(fd, *self.id, error.errno, 0, b"")
        return _pack_read(fd, *self.id, 0, *taken)

    def available_size(self) -> int:
        """Return the count of bytes in the pipe."""
        return 0 if self._pipe is None else self._pipe.size

    def readiness(self) -> Readiness:
        """Return whether there are bytes, and whether the writing end is closed."""
        if self._pipe is None:
            return NOT_READY
        self._pipe.ask(1)
        ready = Readiness.READABLE if self._pipe.size else NOT_READY
        return ready if self._pipe.has_writer else ready | Readiness.HANGUP


class SharedWriter(SharedEnd):
    """The writing end of a pipe between processes.

    ``accepted_size`` counts the bytes of an unfinished write that the pipe has accepted.
    """

    rights: ClassVar[Rights] = _RIGHTS | Rights.FD_WRITE
    is_writer = True
    accepted_size: int = 0

    def write(self, context: "CallContext", fd: int, data: bytes) -> int:
        """Accept bytes. A write fails with ``PIPE`` if nobody can read it."""
        try:
            while self.accepted_size < len(data):
                rest = data[self.accepted_size :]
                part = self._write_part(context, fd, rest, is_whole=len(data) <= ATOMIC_SIZE)
                self.accepted_size += len(part)
                if self.flags & _NONBLOCK:
                    break
        except WasiError as error:
            if error.errno == Errno.PIPE:
                context.on_broken_pipe()
            if not self.accepted_size:
                raise
        accepted_size, self.accepted_size = self.accepted_size, 0
        return min(accepted_size, len(data))

    def _write_part(self, context: "CallContext", fd: int, data: bytes, *, is_whole: bool) -> bytes:
        """Write the first bytes of ``data``, and return them."""
        reserved: list[PipePart] = []

        def live() -> bytes:
            try:
                reserved.append(self._reserve(context, data, is_whole=is_whole))
            except WasiError as error:
                if error.errno == Errno.INTR:
                    raise
                return _pack_write(fd, *self.id, error.errno, 0, b"")
            return _pack_write(fd, *self.id, 0, *reserved[0])

        try:
            payload = context.tape.request_input(PipeWrite.tag, self._make_head(fd), live)
            if reserved:
                self.pass_barrier()
        except BaseException:
            if reserved:
                self.pipe.cancel()
            raise
        *_, errno, _, accepted = _unpack_write(payload)
        if reserved:
            self.pipe.commit(reserved[0])
        if errno:
            raise WasiError(errno)
        if not accepted or not data.startswith(accepted):
            raise context.tape.make_divergence(
                f"PipeWrite(fd={fd}, data={data[: len(accepted)]!r})"
            )
        return bytes(accepted)

    def _reserve(self, context: "CallContext", data: bytes, *, is_whole: bool) -> PipePart:
        """Reserve room for the first bytes of ``data``, and wait for it."""
        needed = len(data) if is_whole else 1
        while (room := self.pipe.reserve(len(data), is_whole=is_whole)) is None:
            if self.flags & _NONBLOCK:
                raise WasiError(Errno.AGAIN)
            context.wait("fd_write", Condition(lambda: self.pipe.has_room(needed)))
        return PipePart(room.offset, data[: len(room.data)])

    def readiness(self) -> Readiness:
        """Return whether there is room, and whether the reading end is closed."""
        if self._pipe is None:
            return NOT_READY
        ready = Readiness.WRITABLE if self._pipe.has_room(ATOMIC_SIZE) else NOT_READY
        return ready if self._pipe.has_reader else ready | Readiness.ERROR

    def save(self) -> ChannelState | None:
        """Return as value how much of an unfinished write the pipe has."""
        return ChannelState(self.accepted_size, 0, ()) if self.accepted_size else None

    def load(self, state: ChannelState) -> None:
        """Restore the state of an unfinished write."""
        if state.parts:
            raise ValueError("the writing end of a pipe has no bytes")
        self.accepted_size = state.value
