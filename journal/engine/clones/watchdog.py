"""Interruption of the calls of guests: regularly, and at their deadlines."""

import threading
import time
from typing import Protocol

PERIOD_SECONDS = 0.1
"""Time after which a call is interrupted, so that signal handlers run and limits are checked."""
MEMORY_PERIOD_SECONDS = 0.01
"""The same for a guest whose memory is limited."""
_NEVER = float("inf")


class WatchedCall(Protocol):
    """A call of a guest. Times are those of ``time.monotonic``."""

    deadline: float
    period_seconds: float

    def interrupt(self) -> None:
        """Let the guest check its limits soon. Called from another thread."""


class Watchdog:
    """A thread that interrupts running calls. It sleeps while there are none.

    ``enter`` and ``leave`` take a microsecond: the thread is woken only if it would come too late,
    which is rare while calls follow each other.
    """

    def __init__(self) -> None:
        self._calls: dict[int, tuple[WatchedCall, float]] = {}
        self._condition = threading.Condition()
        self._wake_at = _NEVER
        self._entries_count = 0
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def enter(self, call: WatchedCall, now: float) -> None:
        """Begin to watch a call, which starts at the time ``now``."""
        self._entries_count += 1
        self._calls[id(call)] = call, now
        if min(call.deadline, now + call.period_seconds) < self._wake_at:
            with self._condition:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="journal-watchdog", daemon=True
                    )
                    self._thread.start()
                self._condition.notify()

    def leave(self, call: WatchedCall) -> None:
        """End watching a call."""
        self._calls.pop(id(call), None)

    def close(self) -> None:
        """Stop the thread."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        entries_count = 0
        with self._condition:
            while not self._is_closed:
                # A call that is entered from here on sees this value and waits for the lock, so
                # that its notification is not lost.
                self._wake_at = _NEVER
                now = time.monotonic()
                wake_at = self._interrupt_due(now)
                if self._entries_count != entries_count:
                    wake_at = min(wake_at, now + PERIOD_SECONDS)
                entries_count = self._entries_count
                self._wake_at = wake_at
                self._condition.wait(None if wake_at == _NEVER else max(wake_at - now, 0.001))

    def _interrupt_due(self, now: float) -> float:
        """Interrupt the calls that are due, and return when the next call is due."""
        next_due = _NEVER
        for call, started in list(self._calls.values()):
            if now >= call.deadline or now - started >= call.period_seconds:
                call.interrupt()
            next_due = min(next_due, now + call.period_seconds)
            if call.deadline > now:
                next_due = min(next_due, call.deadline)
        return next_due
