"""Writers to which a process appends its events, and the schedule of their syncs."""

import time
from typing import Protocol

from journal.engine.runtime.epoch_ticker import INTERVAL_SECONDS
from journal.engine.wasi.stdio.outbox import Durability, OutboxWriter
from journal.events.definition import Event


class JournalWriter(OutboxWriter, Protocol):
    """Methods of a writer that a process needs."""

    def append(self, event: Event) -> int:
        """Append an event and return its sequence number."""

    def sync(self) -> None:
        """Make all appended events durable."""

    @property
    def next_seq(self) -> int:
        """Return the sequence number of the next event."""

    @property
    def size(self) -> int:
        """Return the size of the written part of the journal in bytes."""


class SyncSchedule:
    """Schedule by which the journal reaches the kernel and the disk, for one ``durability``."""

    def __init__(self, writer: JournalWriter, durability: Durability) -> None:
        self._writer, self._durability = writer, durability
        self._last_sync = time.monotonic()

    def barrier(self) -> None:
        """Make the events before an output as durable as the user asked."""
        if self._durability is Durability.OUTPUT:
            self._writer.sync()
        else:
            self._writer.flush()

    def flush_regularly(self) -> None:
        """Pass the journal to the kernel, and sync it once per interval, to limit losses."""
        self._writer.flush()
        due = time.monotonic() - self._last_sync >= INTERVAL_SECONDS
        if due and self._durability is not Durability.NONE:
            self._writer.sync()
            self._last_sync = time.monotonic()


class NullWriter:
    """A writer that discards all events, for a replay without a session."""

    time = 0
    next_seq = 0
    size = 0

    def append(self, event: Event) -> int:
        """Discard an event."""
        return 0

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Discard a frame."""
        return 0

    def flush(self) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""
