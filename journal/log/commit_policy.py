"""When events become durable, by name, and the thread that sees to it in time."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self

from journal.errors import JournalError, OptionError


class CommitLevel(StrEnum):
    """How far an event is when ``append`` returns, and who takes it further."""

    EVERY = "every"
    """Durable: one sync for each event, or for those of all threads that append at once."""
    GROUP = "group"
    """In memory; durable when so many events or so much time have come together."""
    INTERVAL = "interval"
    """In memory; durable after the interval at the latest."""
    EXPLICIT = "explicit"
    """In memory; durable by ``sync``, ``wait`` and ``close``."""
    NONE = "none"
    """In memory, and in the hands of the system when a block is full; durable by ``close``.
    Blocks are not kept to be written elsewhere should the disk fail."""


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """When the events of a writer become durable: ``CommitPolicy.EVERY`` and so on."""

    level: CommitLevel
    events_max: int = 0
    period_seconds: float = 0.0

    EVERY: ClassVar["CommitPolicy"]
    EXPLICIT: ClassVar["CommitPolicy"]
    NONE: ClassVar["CommitPolicy"]

    @classmethod
    def group(cls, events: int = 1000, milliseconds: float = 5.0) -> Self:
        """CommitPolicy when so many events wait, or when the first has waited for so long."""
        if events < 1 or milliseconds <= 0:
            raise OptionError("a group has at least one event and lasts longer than nothing")
        return cls(CommitLevel.GROUP, events, milliseconds / 1000)

    @classmethod
    def interval(cls, seconds: float = 1.0) -> Self:
        """CommitPolicy as often as this, while there is something to commit."""
        if seconds <= 0:
            raise OptionError("an interval lasts longer than nothing")
        return cls(CommitLevel.INTERVAL, 0, seconds)


CommitPolicy.EVERY = CommitPolicy(CommitLevel.EVERY)
CommitPolicy.EXPLICIT = CommitPolicy(CommitLevel.EXPLICIT)
CommitPolicy.NONE = CommitPolicy(CommitLevel.NONE)


class Committer:
    """A thread that calls ``sync`` a period after ``wake``, and sleeps while nobody wakes it.

    A sync that fails is tried again as long as ``can_go_on`` says yes.
    """

    def __init__(
        self,
        sync: Callable[[], None],
        can_go_on: Callable[[], bool],
        period_seconds: float,
        name: str,
    ) -> None:
        self._sync = sync
        self._can_retry = can_go_on
        self._period = period_seconds
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Tell that there is something to commit."""
        if not self._awake.is_set():
            self._awake.set()

    def stop(self) -> None:
        """End the thread; what it has not committed is for the caller to sync."""
        self._stopping.set()
        self._awake.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._awake.wait()
            if self._stopping.wait(self._period):
                return
            self._awake.clear()  # before the sync: what comes during it wakes anew
            try:
                self._sync()
            except JournalError:
                if not self._can_retry():
                    return  # the writer is poisoned, and tells whoever appends next
                self._awake.set()
