"""Writers to which a process appends its events."""

from typing import Protocol

from journal.engine.wasi.stdio.outbox import OutboxWriter
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
