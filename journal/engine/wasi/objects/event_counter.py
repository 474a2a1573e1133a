"""Event counters inside the guest, as Linux's eventfd."""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from journal.engine.wasi.channel import (
    ByteChannel,
    ChannelState,
    Readiness,
)
from journal.engine.wasi.objects.waits import wait_inside
from journal.events.paths import FileType
from journal.wasi_abi import Errno, FdFlags, Rights, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

#: Flag of an event counter from which each read takes 1.
SEMAPHORE = 1

#: Largest value of a counter. A write that exceeds it waits.
VALUE_MAX = (1 << 64) - 2

_NUMBER = struct.Struct("<Q")
_BOTH = Readiness.READABLE | Readiness.WRITABLE  # Computed once, because enum flags are slow.
_NONBLOCK = int(FdFlags.NONBLOCK)


class CounterChannel(ByteChannel):
    """A counter: a write adds to it, and a read takes its value, or 1 from a semaphore."""

    filetype: ClassVar[FileType] = FileType.UNKNOWN
    rights: ClassVar[Rights] = (
        Rights.FD_READ
        | Rights.FD_WRITE
        | Rights.FD_FDSTAT_SET_FLAGS
        | Rights.FD_FILESTAT_GET
        | Rights.POLL_FD_READWRITE
    )

    def __init__(self, value: int, *, is_semaphore: bool) -> None:
        self.value, self.is_semaphore = value, is_semaphore
        self._initial_value = value

    def read(self, context: "CallContext", fd: int, size_max: int) -> bytes:
        """Take the value, as 8 bytes; wait while it is 0."""
        if size_max < _NUMBER.size:
            raise WasiError(Errno.INVAL)
        while not self.value:
            self._wait(context, fd, "fd_read", lambda: self.value > 0)
        taken = 1 if self.is_semaphore else self.value
        self.value -= taken
        self.announce(Readiness.WRITABLE)
        return _NUMBER.pack(taken)

    def write(self, context: "CallContext", fd: int, data: bytes) -> int:
        """Add a number of 8 bytes; wait while the sum is too large."""
        if len(data) != _NUMBER.size:
            raise WasiError(Errno.INVAL)
        (number,) = _NUMBER.unpack(data)
        if number > VALUE_MAX:
            raise WasiError(Errno.INVAL)
        while self.value + number > VALUE_MAX:
            self._wait(context, fd, "fd_write", lambda: self.value + number <= VALUE_MAX)
        self.value += number
        self.announce(Readiness.READABLE)
        return _NUMBER.size

    def _wait(
        self, context: "CallContext", fd: int, function: str, is_ready: Callable[[], bool]
    ) -> None:
        if self.flags & _NONBLOCK:
            raise WasiError(Errno.AGAIN)
        wait_inside(context, fd, function, is_ready)

    def readiness(self) -> Readiness:
        """Return whether a read gets a value, and whether 1 can be added."""
        if not self.value:
            return Readiness.WRITABLE
        return _BOTH if self.value < VALUE_MAX else Readiness.READABLE

    def save(self) -> ChannelState | None:
        """Return the value."""
        return ChannelState(self.value, 0, ()) if self.value != self._initial_value else None

    def load(self, state: ChannelState) -> None:
        """Restore the value."""
        if state.parts or state.value > VALUE_MAX:
            raise ValueError(f"an event counter cannot have the value {state.value}")
        self.value = state.value
