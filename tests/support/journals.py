"""Small journals for the tests of the file format."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

from journal.errors import DamagedJournal, JournalError
from journal.format.frame import Frame
from journal.log.reader import Reader
from journal.log.writer import Writer

Story = list[tuple[int, bytes]]


def make_clock(start: int = 1_000_000, step: int = 7) -> Callable[[], int]:
    """Return a clock with predictable times."""
    return count(start, step).__next__


def write_stories(path: Path, *stories: Iterable[tuple[int, bytes]]) -> bytes:
    """Write each story as one synced block, and return the bytes of the file."""
    with Writer(path, clock=make_clock()) as writer:
        for story in stories:
            for tag, payload in story:
                writer.append_frame(tag, payload)
            writer.sync()
    return path.read_bytes()


def read_rows(path: Path) -> Story:
    """Return all events, as a strict reader yields them."""
    with Reader(path) as reader:
        return [(frame.tag, frame.payload) for frame in reader.frames()]


def salvage_frames(path: Path) -> Iterator[Frame]:
    """Yield the frames of a reader that continues after damage."""
    start = 0
    with Reader(path) as reader:
        for _ in range(1000):
            try:
                for frame in reader.frames(start):
                    yield frame
                    start = frame.seq + 1
            except DamagedJournal as error:
                if error.last_seq < start:
                    return
                start = error.last_seq + 1
            else:
                return


def is_damage_noticed(path: Path) -> bool:
    """Return whether reading or verification reports that a file was changed."""
    try:
        with Reader(path) as reader:
            summary = reader.summary()
            found = summary.torn_size or summary.debris or summary.damage
            return bool(found or list(reader.verify(decode=False)))
    except JournalError:
        return True
