"""Sources of standard input, and the waits of a guest.

Every wait also watches the interrupter, so a guest that sleeps or reads can be stopped.
"""

import fcntl
import os
import select
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from journal._arguments import check_bytes, check_callable
from journal.engine.wasi.channel import WaitSource, make_poll
from journal.events.streams import StreamOpened, TargetKind
from journal.fs.open_resources import OPEN_RESOURCES, HomeProcess


class GuestStopped(BaseException):
    """Raised to end the run on request of the host. The journal can be resumed."""


#: Length of a wait after which the guest counts as idle, in nanoseconds.
IDLE_NS = 100_000_000

#: Called with true when the guest has become idle, else with false.
WaitCallback = Callable[[bool], None]


class Interrupter:
    """Stop requests and wake-ups for a guest, from any thread or signal handler."""

    def __init__(self) -> None:
        self.is_stop_requested = False
        self._closed = False
        # The lock is reentrant, because a signal handler may interrupt a thread that holds it.
        self._lock = threading.RLock()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        #: Raises ``WasiError`` if a signal ends a wait. Returns the time on the monotonic clock at
        #: which the next interval timer ends, or None.
        self.check_signals: Callable[[], int | None] = lambda: None

    def request_stop(self) -> None:
        """Request the guest to stop at its next safe point."""
        self.is_stop_requested = True
        self.wake()

    def wake(self) -> None:
        """Wake a waiting guest so that it checks for requests. Does nothing after :meth:`close`."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._event, 1)

    def check(self) -> None:
        """Raise ``GuestStopped`` if a stop was requested."""
        if self.is_stop_requested:
            raise GuestStopped

    def wait(
        self,
        source: WaitSource | None,
        timeout_ns: int | None,
        on_wait: WaitCallback | None = None,
    ) -> bool:
        """Wait until ``source`` is ready or the timeout ends; return whether it is ready.

        Raises ``GuestStopped`` if a stop is requested meanwhile, and ``WasiError`` with ``INTR`` if
        a signal ends the wait. A call with timeout 0 is not interrupted. ``on_wait`` is called with
        false at the start of the wait and after every wake-up, and once with true when the
        guest has become idle. An exception from ``on_wait`` ends the wait.
        """
        if source is not None and source.is_ready():
            return True
        start = time.monotonic_ns()
        deadline = None if timeout_ns is None else start + timeout_ns
        idle_at = start + IDLE_NS if on_wait is not None else None
        while True:
            self.check()
            expiry = self.check_signals() if timeout_ns != 0 else None
            if on_wait is not None:
                is_idle = idle_at is not None and time.monotonic_ns() >= idle_at
                on_wait(is_idle)
                idle_at = None if is_idle else idle_at
            self._wait_once(source, _earlier_time(_earlier_time(deadline, idle_at), expiry))
            self.check()
            if source is not None and source.is_ready():
                return True
            # A guest that wakes up late still becomes idle if its wait is long enough.
            is_idle_next = idle_at is not None and deadline is not None and idle_at < deadline
            if deadline is not None and time.monotonic_ns() >= deadline and not is_idle_next:
                return False

    def _wait_once(self, source: WaitSource | None, until: int | None) -> None:
        """Wait until ``source`` may be ready, a wake-up arrives, or the time ``until`` comes."""
        remaining = None if until is None else max(until - time.monotonic_ns(), 0)
        # poll waits for whole milliseconds. A sleep of the rest is too short to be interrupted.
        if remaining is None or remaining >= 1_000_000:
            watched = [] if source is None else source.poll_events()
            poll = make_poll([(self._event, select.POLLIN), *watched])
            poll.poll(None if remaining is None else min(remaining // 1_000_000, 3_600_000))
        elif remaining:
            time.sleep(remaining / 1e9)
        self._consume_wakeups()

    def _consume_wakeups(self) -> None:
        """Consume pending wake-ups. A stop request stays pending."""
        if not self.is_stop_requested:
            with suppress(BlockingIOError):
                os.eventfd_read(self._event)

    def wait_writable(self, fd: int) -> None:
        """Wait until ``fd`` is writable; raise ``GuestStopped`` if a stop is requested first."""
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        poll.register(self._event, select.POLLIN)
        while all(ready_fd != fd for ready_fd, _ in poll.poll()):
            self.check()
            self._consume_wakeups()

    def close(self) -> None:
        """Close the event descriptor."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._event)

    def abandon(self) -> None:
        """Close the event descriptor, in a forked child."""
        self._lock = threading.RLock()  # A thread of the parent may hold the old one.
        self.close()


def _earlier_time(one: int | None, other: int | None) -> int | None:
    """Return the earlier of two times; None means never."""
    return min((time for time in (one, other) if time is not None), default=None)


class StdinSource(WaitSource, Protocol):
    """Source of standard input. Offsets count from the first byte of the guest.

    ``is_rereadable`` says whether bytes can be read again at any offset.
    """

    is_rereadable: bool

    def make_opened_event(self) -> StreamOpened:
        """Return the event that describes this source."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when input is available."""

    def poll_events(self) -> list[tuple[int, int]]:
        """Return the events to watch: that the descriptor becomes readable."""
        return [(self.fileno(), select.POLLIN)]

    def is_ready(self) -> bool:
        """Return whether a read returns without waiting."""

    def read(self, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes; empty at the end of input."""


class FileSource(StdinSource):
    """A regular file, which can be read again at any offset."""

    is_rereadable = True

    def __init__(self, fd: int, base: int | None = None) -> None:
        self._fd = fd
        self._base = os.lseek(fd, 0, os.SEEK_CUR) if base is None else base

    def make_opened_event(self) -> StreamOpened:
        """Return the event of a regular file, with the offset of the first byte of the guest."""
        status = os.fstat(self._fd)
        return make_opened_event(TargetKind.REGULAR, self._base, status.st_dev, status.st_ino)

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self._fd

    def is_ready(self) -> bool:
        """Return true: a file is always ready."""
        return True

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes at an offset of the guest."""
        return os.pread(self._fd, size, self._base + offset)


class BytesSource(StdinSource):
    """Bytes that are complete before the run. The journal records them as a file."""

    is_rereadable = True

    def __init__(self, data: bytes) -> None:
        self._data = data

    def make_opened_event(self) -> StreamOpened:
        """Return the event of a file that begins with the first byte of the guest."""
        return make_opened_event(TargetKind.REGULAR, 0)

    def fileno(self) -> int:
        """Raise ``AssertionError``: bytes are always ready, so no wait needs a descriptor."""
        raise AssertionError("bytes are always ready")

    def is_ready(self) -> bool:
        """Return true: bytes are always ready."""
        return True

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes at an offset of the guest."""
        return self._data[offset : offset + size]


class DescriptorSource(StdinSource):
    """A pipe, a terminal or a socket, whose bytes can be read only once."""

    is_rereadable = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        access_mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        self._is_readable = access_mode != os.O_WRONLY

    def make_opened_event(self) -> StreamOpened:
        """Return the event of a terminal or a pipe."""
        return make_opened_event(TargetKind.TERMINAL if os.isatty(self._fd) else TargetKind.PIPE, 0)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def is_ready(self) -> bool:
        """Return whether a read returns without waiting: bytes, the end of input, or an error."""
        if not self._is_readable:
            return True  # The write end of a pipe would never become readable.
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))

    def read(self, offset: int, size: int) -> bytes:
        """Return the next bytes."""
        return os.read(self._fd, size)


class FedSource(StdinSource):
    """Bytes that the embedder feeds while the guest runs. Thread-safe.

    ``on_wait`` is called in the thread of the guest each time the guest begins to wait for input,
    after its output was delivered. ``is_awaited`` says whether the guest waits and has consumed all
    input. In a forked child :meth:`feed` and :meth:`close` raise ``WrongProcess``.
    """

    is_rereadable = False

    def __init__(self, on_wait: Callable[[], object] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._data = bytearray()
        self._closed = False
        self._has_waiting_guest = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._on_wait = check_callable("on_wait", on_wait)
        self._home = HomeProcess()
        OPEN_RESOURCES.release_in_children(self)

    def _abandon(self, owner: int) -> None:
        self._home.leave(owner)

    def __del__(self) -> None:
        # The descriptor is closed only here, because the embedder may feed the source after the
        # run.
        os.close(self._event)

    def feed(self, data: bytes) -> None:
        """Append bytes to the input."""
        self._home.check("standard input")
        added = check_bytes("data", data)
        with self._lock:
            self._data += added
            if added:
                self._has_waiting_guest = False
            os.eventfd_write(self._event, 1)

    def close(self) -> None:
        """End the input."""
        self._home.check("standard input")
        with self._lock:
            self._closed = True
            self._has_waiting_guest = False
            os.eventfd_write(self._event, 1)

    @property
    def is_awaited(self) -> bool:
        """Return whether the guest waits for input that was not fed yet."""
        return self._has_waiting_guest

    def begin_wait(self) -> None:
        """Note that the guest is about to wait for input."""
        with self._lock:
            self._has_waiting_guest = not self._data and not self._closed
        self._on_wait()

    def end_wait(self) -> None:
        """Note that a signal has ended the wait for input."""
        with self._lock:
            self._has_waiting_guest = False

    def make_opened_event(self) -> StreamOpened:
        """Return the event of a pipe."""
        return make_opened_event(TargetKind.PIPE, 0)

    def fileno(self) -> int:
        """Return a descriptor that is readable when input is available."""
        return self._event

    def is_ready(self) -> bool:
        """Return whether bytes are available or the input has ended."""
        with self._lock:
            if self._data or self._closed:
                return True
            # Consume old wake-ups. A later feed creates a new wake-up.
            with suppress(BlockingIOError):
                os.eventfd_read(self._event)
            return False

    def read(self, offset: int, size: int) -> bytes:
        """Return the next bytes."""
        with self._lock:
            data = bytes(self._data[:size])
            del self._data[:size]
            return data


def open_source(fd: int, earlier: StreamOpened | None = None) -> StdinSource:
    """Return the input source of a descriptor.

    ``earlier`` is the recorded first source: a regular file is read again from its base offset.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return DescriptorSource(fd)
    if earlier is not None and earlier.kind is TargetKind.REGULAR:
        return FileSource(fd, earlier.position)
    return FileSource(fd)


def make_opened_event(kind: TargetKind, base: int, device: int = 0, inode: int = 0) -> StreamOpened:
    """Return the event of a source whose first byte of the guest is at offset ``base``."""
    return StreamOpened(
        stream=0, kind=kind, append=False, position=base, device=device, inode=inode
    )
