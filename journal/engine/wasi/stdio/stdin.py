"""What the guest reads from its standard input, and how a guest waits.

Every wait watches the interrupter too, so that a guest that sleeps or reads can be stopped.
"""

import os
import select
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from journal.events.streams import StreamOpened, TargetKind


class GuestStopped(BaseException):
    """The host asked the guest to stop; the journal can be resumed."""


#: A guest that has waited for so long is idle.
IDLE_NS = 100_000_000

WaitCallback = Callable[[bool], None]


class Interrupter:
    """A request to stop, or to look up, from any thread or signal handler."""

    def __init__(self) -> None:
        self.requested = False
        self._closed = False
        self._lock = threading.RLock()  # a signal handler may come in between
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def request_stop(self) -> None:
        """Let the guest stop at its next safe point."""
        self.requested = True
        self.wake()

    def wake(self) -> None:
        """Let a guest that waits look up. Too late it does nothing: the number is another's."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._event, 1)

    def check(self) -> None:
        """Raise ``GuestStopped`` if a stop was requested."""
        if self.requested:
            raise GuestStopped

    def wait(
        self, source: "StdinSource | None", timeout_ns: int | None, hold: WaitCallback | None = None
    ) -> bool:
        """Wait until ``source`` can be read, or the time is over; whether it can be read.

        Raises ``GuestStopped`` when a stop is requested meanwhile. ``hold`` is called when the wait
        begins and whenever the guest is to look up, and once with true when it has become idle;
        what it raises ends the wait.
        """
        if source is not None and source.is_ready():
            return True
        began = time.monotonic_ns()
        deadline = None if timeout_ns is None else began + timeout_ns
        idle_at = began + IDLE_NS if hold is not None else None
        while True:
            self.check()
            if hold is not None:
                is_idle = idle_at is not None and time.monotonic_ns() >= idle_at
                hold(is_idle)
                idle_at = None if is_idle else idle_at
            self._wait_once(source, _earlier_time(deadline, idle_at))
            self.check()
            if source is not None and source.is_ready():
                return True
            if deadline is not None and time.monotonic_ns() >= deadline:
                return False

    def _wait_once(self, source: "StdinSource | None", until: int | None) -> None:
        """Wait until something can be read, or somebody wants the guest to look up."""
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        if source is not None:
            poll.register(source.fileno(), select.POLLIN)
        left = None if until is None else max(until - time.monotonic_ns(), 0)
        # poll counts whole milliseconds: wait for them, then for the rest by select.
        if left is None or left >= 1_000_000:
            poll.poll(None if left is None else min(left // 1_000_000, 3_600_000))
        elif left:
            select.select([self._event], [], [], left / 1e9)
        self._look_up()

    def _look_up(self) -> None:
        """Wake-ups that were seen are used up; a request to stop stays."""
        if not self.requested:
            with suppress(BlockingIOError):
                os.eventfd_read(self._event)

    def wait_writable(self, fd: int) -> None:
        """Wait until ``fd`` can be written; raises ``GuestStopped`` if a stop comes first."""
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        poll.register(self._event, select.POLLIN)
        while all(found != fd for found, _ in poll.poll()):
            self.check()
            self._look_up()

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._event)


def _earlier_time(one: int | None, other: int | None) -> int | None:
    """The earlier of two times; none is never."""
    return min((time for time in (one, other) if time is not None), default=None)


class StdinSource(Protocol):
    """Where standard input comes from. Offsets count from the guest's first byte."""

    is_rereadable: bool

    def make_opened_event(self) -> StreamOpened:
        """The event that says what this is."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when there is something."""

    def is_ready(self) -> bool:
        """Whether a read would return at once."""

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes; empty at the end."""


class FileSource:
    """A regular file: it can be read again at any byte."""

    is_rereadable = True

    def __init__(self, fd: int, base: int | None = None) -> None:
        self._fd = fd
        self._base = os.lseek(fd, 0, os.SEEK_CUR) if base is None else base

    def make_opened_event(self) -> StreamOpened:
        """A regular file, and where its first byte for the guest stands."""
        found = os.fstat(self._fd)
        return _make_opened_event(TargetKind.REGULAR, self._base, found.st_dev, found.st_ino)

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._fd

    def is_ready(self) -> bool:
        """A file is always ready."""
        return True

    def read(self, offset: int, size: int) -> bytes:
        """Bytes at the guest's offset."""
        return os.pread(self._fd, size, self._base + offset)


class BytesSource:
    """Bytes given beforehand: like a file."""

    is_rereadable = True

    def __init__(self, data: bytes) -> None:
        self._data = data

    def make_opened_event(self) -> StreamOpened:
        """Seen as a file that begins with the guest's first byte."""
        return _make_opened_event(TargetKind.REGULAR, 0)

    def fileno(self) -> int:
        """There is nothing to wait for."""
        raise AssertionError("bytes are always ready")

    def is_ready(self) -> bool:
        """Bytes are always ready."""
        return True

    def read(self, offset: int, size: int) -> bytes:
        """Bytes at the guest's offset."""
        return self._data[offset : offset + size]


class DescriptorSource:
    """A pipe, a terminal or a socket: what has been read is gone."""

    is_rereadable = False

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def make_opened_event(self) -> StreamOpened:
        """A terminal or a pipe."""
        return _make_opened_event(
            TargetKind.TERMINAL if os.isatty(self._fd) else TargetKind.PIPE, 0
        )

    def fileno(self) -> int:
        """The descriptor itself."""
        return self._fd

    def is_ready(self) -> bool:
        """Whether there are bytes, or the end."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))

    def read(self, offset: int, size: int) -> bytes:
        """Whatever comes next."""
        return os.read(self._fd, size)


class FedSource:
    """Bytes that the embedder feeds while the guest runs."""

    is_rereadable = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data = bytearray()
        self._closed = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._event)  # whoever has it may still feed it when the run is over

    def feed(self, data: bytes) -> None:
        """Add bytes behind those that wait."""
        with self._lock:
            self._data += data
            os.eventfd_write(self._event, 1)

    def close(self) -> None:
        """No more will come: the guest reads the end."""
        with self._lock:
            self._closed = True
            os.eventfd_write(self._event, 1)

    def make_opened_event(self) -> StreamOpened:
        """Like a pipe."""
        return _make_opened_event(TargetKind.PIPE, 0)

    def fileno(self) -> int:
        """Readable when there is something."""
        return self._event

    def is_ready(self) -> bool:
        """Whether there are bytes, or the end."""
        with self._lock:
            if self._data or self._closed:
                return True
            # Old wake-ups are used up; a feed that comes now makes a new one.
            with suppress(BlockingIOError):
                os.eventfd_read(self._event)
            return False

    def read(self, offset: int, size: int) -> bytes:
        """What was fed next."""
        with self._lock:
            taken = bytes(self._data[:size])
            del self._data[:size]
            return taken


def open_source(fd: int, earlier: StreamOpened | None = None) -> StdinSource:
    """The input behind a descriptor; a regular file that is read again goes on from its base."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return DescriptorSource(fd)
    if earlier is not None and earlier.kind is TargetKind.REGULAR:
        return FileSource(fd, earlier.position)
    return FileSource(fd)


def _make_opened_event(
    kind: TargetKind, base: int, device: int = 0, inode: int = 0
) -> StreamOpened:
    return StreamOpened(
        stream=0, kind=kind, append=False, position=base, device=device, inode=inode
    )
