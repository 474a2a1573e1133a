"""Writers with a schedule of compaction, and the events that they append."""

from __future__ import annotations

from journal import Writer
from journal.adapters import CompactingLog
from journal.events.process import RecordingLevel
from tests.support.compaction_histories import preamble
from tests.support.sample_events import open_path, write


def overwriting(writer: Writer | CompactingLog, count: int) -> None:
    """Append the events of a process that repeatedly overwrites the same bytes of a file."""
    for number in range(count):
        writer.append(write(5, 0, bytes([number % 256]) * 4096))
        if number % 16 == 15:
            writer.flush()


def begin(writer: Writer | CompactingLog) -> int:
    """Append the preamble of such a process. Return the number of its events."""
    events = [*preamble(RecordingLevel.STATE), open_path(5, 3, "a", 1)]
    for event in events:
        writer.append(event)
    return len(events)
