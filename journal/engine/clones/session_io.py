"""Input, output and interruptions of one session with a clone."""

from collections.abc import Callable

from journal.engine.runtime.call_gate import SuspendCall
from journal.engine.session.reply import Ending
from journal.engine.wasi.channel import WaitSource
from journal.engine.wasi.stdio.outbox import STDERR, STDOUT, Outbox
from journal.engine.wasi.stdio.stdin import (
    GuestStopped,
    Interrupter,
    StdinSource,
    WaitCallback,
    make_opened_event,
)
from journal.events.streams import StreamOpened, TargetKind


class SessionEnded(BaseException):
    """The end of a session, raised in a call of its guest because of a limit."""

    def __init__(self, ending: Ending, message: str) -> None:
        super().__init__(ending, message)
        self.ending, self.message = ending, message


class CloneInput(StdinSource):
    """Input of a session: bytes that are fed between the calls of the guest."""

    is_rereadable = False

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_ended = False

    def feed(self, data: bytes, *, end: bool) -> None:
        """Append bytes to the input; with ``end``, they are the last."""
        self._data += data
        self._is_ended |= end

    @property
    def is_ended(self) -> bool:
        """Return whether no more bytes can be fed."""
        return self._is_ended

    def clear(self) -> None:
        """Forget everything."""
        self._data.clear()
        self._is_ended = False

    def make_opened_event(self) -> StreamOpened:
        """Return the event of a pipe."""
        return make_opened_event(TargetKind.PIPE, 0)

    def fileno(self) -> int:
        """Raise ``AssertionError``: the guest is suspended instead of waiting."""
        raise AssertionError("a clone does not wait for input")

    def is_ready(self) -> bool:
        """Return whether bytes are available or the input has ended."""
        return bool(self._data) or self._is_ended

    def read(self, offset: int, size: int) -> bytes:
        """Return the next bytes."""
        data = bytes(self._data[:size])
        del self._data[:size]
        return data


class CloneInterrupter(Interrupter):
    """Interruptions of a guest that is suspended where it would wait for input.

    ``on_check`` raises ``SessionEnded`` if a limit of the session is exceeded. A guest whose stack
    cannot be saved cannot be suspended: without ``can_suspend`` its session ends instead.
    """

    def __init__(self, on_check: Callable[[], None], *, can_suspend: bool) -> None:
        super().__init__()
        self._on_check, self._can_suspend = on_check, can_suspend

    def check(self) -> None:
        """Raise ``GuestStopped`` or ``SessionEnded`` if the guest has to end."""
        if self.is_stop_requested:
            raise GuestStopped
        self._on_check()

    def wait(
        self,
        source: WaitSource | None,
        timeout_ns: int | None,
        on_wait: WaitCallback | None = None,
    ) -> bool:
        """Sleep, or suspend the guest if it waits for input that was not fed.

        A wait for input with a timeout suspends the guest too: the time goes on meanwhile.
        """
        self.check()
        if source is None:
            return super().wait(None, timeout_ns, None)
        if source.is_ready():
            return True
        if timeout_ns == 0:
            return False
        self.check_signals()
        if self._can_suspend:
            raise SuspendCall
        raise SessionEnded(
            Ending.STOPPED, "the guest waits for input, and this snapshot has no stack to save"
        )


class CloneOutbox(Outbox):
    """Output of a session, collected for its next reply."""

    def __init__(self) -> None:
        self._parts: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
        self._total, self._limit = 0, 0
        self.has_reached_terminal = False

    def begin(self, size_max: int) -> None:
        """Begin a session with at most ``size_max`` bytes of output."""
        self._total, self._limit = 0, size_max
        self.take(STDOUT)
        self.take(STDERR)

    def is_writable(self, stream: int) -> bool:
        """Return True: the output is in memory."""
        return True

    def put(self, stream: int, offset: int, data: bytes) -> None:
        """Collect ``data``; raise ``SessionEnded`` above the limit, with the output up to it."""
        self._total += len(data)
        if self._total > self._limit:
            self._parts[stream].append(data[: len(data) - (self._total - self._limit)])
            raise SessionEnded(
                Ending.OUTPUT_LIMIT, f"the output exceeds the limit of {self._limit} bytes"
            )
        self._parts[stream].append(data)

    def requeue(self, stream: int, offset: int, data: bytes) -> None:
        """Do nothing: the output before the snapshot is not part of a reply."""

    def deliver(self) -> None:
        """Do nothing: the reply delivers the output."""

    def take(self, stream: int) -> bytes:
        """Return the collected output of a stream, and forget it."""
        parts = self._parts[stream]
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return data
