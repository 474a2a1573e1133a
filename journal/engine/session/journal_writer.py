"""Writers to which a process appends its events, and the schedule of their syncs."""

import time
from collections.abc import Callable
from typing import Protocol

from journal.engine.runtime.epoch_ticker import INTERVAL_SECONDS
from journal.engine.session.run_config import EventCallback
from journal.engine.wasi.stdio.outbox import Durability, OutboxWriter
from journal.events import codec
from journal.events.definition import Event
from journal.format.frame import Frame

NO_OFFSET = -1
"""Offset of an event whose block is not written yet."""


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


class ObservedWriter:
    """A writer whose events an embedder observes.

    ``on_event`` receives each event after it was appended. After the first exception it is not
    called again: ``error`` has the exception, and ``stop`` is called to end the run.
    """

    def __init__(
        self, writer: JournalWriter, on_event: EventCallback, stop: Callable[[], None]
    ) -> None:
        self._writer, self._on_event, self._stop = writer, on_event, stop
        self.error: Exception | None = None
        self.flush, self.sync = writer.flush, writer.sync

    @property
    def time(self) -> int:
        """Return the time of the latest frame, in microseconds since the epoch."""
        return self._writer.time

    @property
    def next_seq(self) -> int:
        """Return the sequence number of the next event."""
        return self._writer.next_seq

    @property
    def size(self) -> int:
        """Return the size of the written part of the journal in bytes."""
        return self._writer.size

    def append(self, event: Event) -> int:
        """Append an event and return its sequence number."""
        return self.append_frame(event.tag, codec.encode(event))

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append a frame, report it, and return its sequence number."""
        seq = self._writer.append_frame(tag, payload)
        if self.error is None:
            try:
                self._on_event(Frame(seq, tag, payload, self._writer.time, NO_OFFSET))
            except Exception as error:
                self.error = error
                self._stop()
        return seq


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
