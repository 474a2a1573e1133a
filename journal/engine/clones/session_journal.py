"""Journal of one session with a clone: none, in memory, or a file."""

import os
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from journal.errors import JournalExists
from journal.events import codec
from journal.events.definition import Event
from journal.log.commit_policy import CommitPolicy
from journal.log.fork_search import ForkPlace
from journal.log.writer import Writer
from journal.operations.fork import open_fork
from journal.rewrite.block_copier import check_new_journal


class JournalKind(Enum):
    """Journals of sessions that are no files."""

    MEMORY = "memory"
    """The events are kept in memory, and can be saved as a journal after the session."""


MEMORY = JournalKind.MEMORY


class SessionFrame(NamedTuple):
    """One event of a session; ``time`` is in microseconds since the epoch."""

    tag: int
    payload: bytes
    time: int


class Unrecorded:
    """A writer that counts events and keeps none. Files of the guest get the same inode numbers."""

    size = 0

    def __init__(self, next_seq: int) -> None:
        self.next_seq = next_seq

    @property
    def time(self) -> int:
        """Return the present time in microseconds since the epoch."""
        return time.time_ns() // 1000

    def append(self, event: Event) -> int:
        """Count an event."""
        return self.append_frame(event.tag, b"")

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Count a frame and return its sequence number."""
        seq = self.next_seq
        self.next_seq = seq + 1
        return seq

    def flush(self) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""


class SessionJournal:
    """The events of one session in memory, which continue a journal at ``place``."""

    size = 0

    def __init__(self, place: ForkPlace, next_seq: int) -> None:
        self._place = place
        self.next_seq, self.time = next_seq, 0
        self.frames: list[SessionFrame] = []

    def append(self, event: Event) -> int:
        """Append an event and return its sequence number."""
        return self.append_frame(event.tag, codec.encode(event))

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append a frame and return its sequence number."""
        self.time = time.time_ns() // 1000
        self.frames.append(SessionFrame(tag, payload, self.time))
        self.next_seq += 1
        return self.next_seq - 1

    def flush(self) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""

    def save(self, path: Path) -> None:
        """Write a journal with this session: a fork of the source, and the events.

        Raises ``OptionError`` if ``path`` exists, and ``StorageError`` if the disk fails.
        """
        now = 0
        with _open_fork(self._place, path, lambda: now) as writer:
            for tag, payload, now in self.frames:  # noqa: B007 (the clock reads it)
                writer.append_frame(tag, payload)
            writer.publish()


def open_file(place: ForkPlace, path: Path) -> Writer:
    """Create the journal of a session at ``path``, and return its writer."""
    writer = _open_fork(place, path)
    try:
        writer.publish()
    except BaseException:
        writer.close()
        raise
    return writer


def _open_fork(place: ForkPlace, path: Path, clock: Callable[[], int] | None = None) -> Writer:
    """Return the writer of a child at ``path``, which is not published yet."""
    if os.path.lexists(path):
        raise JournalExists(f"{path} exists: choose another path", str(path))
    check_new_journal(path, [place.path])
    return open_fork(place, path, CommitPolicy.EXPLICIT, reseed=False, clock=clock)
