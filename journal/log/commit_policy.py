"""Commit policy, which sets when events become durable, and the thread that commits."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self

from journal._arguments import check_choice, check_int, check_seconds, refuse
from journal.errors import JournalError
from journal.fs.open_resources import OwnThread

PERIOD_SECONDS_MAX = 1_000_000
"""Longest period of a commit policy. A wait of an operating system has a limit."""


class CommitLevel(StrEnum):
    """Durability of an event when ``append`` returns, and the trigger of the next sync."""

    EVERY = "every"
    """Durable. One sync for each event, or for the events of all threads that append at once."""
    GROUP = "group"
    """In memory. Durable after a number of events or a period, whichever comes first."""
    INTERVAL = "interval"
    """In memory. Durable after the interval at the latest."""
    EXPLICIT = "explicit"
    """In memory. Durable after ``sync``, ``wait`` or ``close``."""
    NONE = "none"
    """In memory, and passed to the operating system when a block is full.

    Durable after ``close``. Blocks are not kept in memory for fail-over when the disk fails.
    """


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """Policy that sets when the events of a writer become durable.

    One of ``CommitPolicy.EVERY``, ``EXPLICIT``, ``NONE``, or the result of
    ``CommitPolicy.group(...)`` or ``CommitPolicy.interval(...)``.

    Importable as ``journal.log.CommitPolicy``.
    """

    level: CommitLevel
    events_max: int = 0
    period_seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", check_choice("level", self.level, CommitLevel))
        check_int("events_max", self.events_max)
        check_seconds("period_seconds", self.period_seconds)
        if self.period_seconds > PERIOD_SECONDS_MAX:
            allowed = f"at most {PERIOD_SECONDS_MAX} seconds"
            refuse("period_seconds", allowed, self.period_seconds)

    EVERY: ClassVar["CommitPolicy"]
    EXPLICIT: ClassVar["CommitPolicy"]
    NONE: ClassVar["CommitPolicy"]

    @classmethod
    def group(cls, events: int = 1000, milliseconds: float = 5.0) -> Self:
        """Commit when ``events`` events wait, or when the first has waited for ``milliseconds``."""
        is_number = isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool)
        if not is_number or not 0 < milliseconds <= 1000 * PERIOD_SECONDS_MAX:
            high = 1000 * PERIOD_SECONDS_MAX
            refuse("milliseconds", f"greater than 0 and at most {high}", milliseconds)
        return cls(CommitLevel.GROUP, check_int("events", events, 1), milliseconds / 1000)

    @classmethod
    def interval(cls, seconds: float = 1.0) -> Self:
        """Commit every ``seconds`` while there are new events."""
        check_seconds("seconds", seconds, can_be_zero=False)
        return cls(CommitLevel.INTERVAL, 0, seconds)


CommitPolicy.EVERY = CommitPolicy(CommitLevel.EVERY)
CommitPolicy.EXPLICIT = CommitPolicy(CommitLevel.EXPLICIT)
CommitPolicy.NONE = CommitPolicy(CommitLevel.NONE)


class Committer:
    """Thread that calls ``sync`` one period after ``wake``, and sleeps otherwise.

    A failed sync is tried again while ``can_retry`` returns true.
    """

    def __init__(
        self,
        sync: Callable[[], None],
        can_retry: Callable[[], bool],
        period_seconds: float,
        name: str,
    ) -> None:
        self._sync = sync
        self._can_retry = can_retry
        self._period = period_seconds
        self._wake_event = threading.Event()
        self._stop_event = threading.Event()
        self._thread = OwnThread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Report that there are events to commit."""
        if not self._wake_event.is_set():
            self._wake_event.set()

    def stop(self) -> None:
        """End the thread. The caller must sync events that are not committed yet."""
        self._stop_event.set()
        self._wake_event.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop_event.is_set():
            self._wake_event.wait()
            if self._stop_event.wait(self._period):
                return
            self._wake_event.clear()  # Clear before the sync: later events set it again.
            try:
                self._sync()
            except JournalError:
                if not self._can_retry():
                    return  # The writer is poisoned; the next append raises.
                self._wake_event.set()
