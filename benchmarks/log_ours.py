"""The journal as a store of the log benchmarks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Side
from benchmarks.log_events import Events, Fields
from benchmarks.log_stores import Commit, CommitStore, LookupStore, Operation
from journal import Reader, Writer
from journal.events.descriptors import FileDescriptorWrite
from journal.log import CommitPolicy

MANY, ALIKE, COLUMNS, EACH = "append_many", "append_payloads", "append_columns", "append_frame"
"""Ways to append encoded events; the second way is for events of one kind."""
EVENTS, ROWS = "append(event)", "append_rows"
FROM_FIELDS = (EVENTS, ROWS)
_TAG = 3


class Ours(LookupStore):
    """A journal of one file, compressed or not."""

    side = Side.OURS
    ways = (MANY, ALIKE, COLUMNS, EACH)

    def __init__(self, *, compress: bool) -> None:
        self.name = "journal, zstd" if compress else "journal"
        self.promises = "xxh3 per block, chained; each event's tag and time"
        self._compress = compress

    @contextmanager
    def append(self, path: Path, events: Events, way: str) -> Iterator[Operation]:
        """Append without waiting for the disk."""
        with Writer(path, compress=self._compress, commit=CommitPolicy.NONE) as writer:
            yield lambda: _fill(writer, events, way)

    @contextmanager
    def append_fields(self, path: Path, fields: Sequence[Fields], way: str) -> Iterator[Operation]:
        """Append from fields: as event objects, or as rows."""
        with Writer(path, compress=self._compress, commit=CommitPolicy.NONE) as writer:

            def events() -> None:
                append = writer.append
                for fd, offset, is_64bit, data in fields:
                    append(FileDescriptorWrite(fd=fd, offset=offset, is_64bit=is_64bit, data=data))
                writer.flush()

            def rows() -> None:
                writer.append_rows(FileDescriptorWrite, fields)
                writer.flush()

            yield rows if way == ROWS else events

    @contextmanager
    def scan(self, path: Path) -> Iterator[Operation]:
        """Read sequence number, tag and payload of every event."""
        with Reader(path) as reader:
            yield lambda: deque(reader.rows(), maxlen=0)

    @contextmanager
    def frames(self, path: Path) -> Iterator[Operation]:
        """Read a Frame for every event: sequence number, tag, payload, time and offset."""
        with Reader(path) as reader:
            yield lambda: deque(reader.frames(), maxlen=0)

    @contextmanager
    def columns(self, path: Path) -> Iterator[Operation]:
        """Count the events of one tag."""
        with Reader(path) as reader:

            def operation() -> int:
                return sum(block.tags.count(_TAG) for block in reader.blocks())

            yield operation

    @contextmanager
    def select(self, path: Path, tag: int) -> Iterator[Operation]:
        """Read only the payloads, as the peers do."""
        with Reader(path) as reader:
            yield lambda: list(reader.payloads(tags=(tag,)))

    @contextmanager
    def find(self, path: Path, numbers: Sequence[int]) -> Iterator[Operation]:
        """Find each event, and verify the hash of its block."""
        with self._find(path, numbers, verify=True) as operation:
            yield operation

    @contextmanager
    def find_unverified(self, path: Path, numbers: Sequence[int]) -> Iterator[Operation]:
        """Find each event without verification."""
        with self._find(path, numbers, verify=False) as operation:
            yield operation

    @contextmanager
    def _find(self, path: Path, numbers: Sequence[int], *, verify: bool) -> Iterator[Operation]:
        with Reader(path, verify=verify) as reader:

            def operation() -> None:
                frame = reader.frame
                for number in numbers:
                    frame(number)

            yield operation


class OurCommits(CommitStore):
    """A journal with durable commits: the first waiting thread syncs for all."""

    name = "journal"
    promises = "xxh3 per block, chained"
    side = Side.OURS

    @contextmanager
    def commits(self, path: Path) -> Iterator[Commit]:
        """Open a journal that compresses by default."""
        with Writer(path) as writer:

            def commit(first: int, payloads: Sequence[bytes]) -> None:
                del first
                if len(payloads) == 1:
                    last = writer.append_frame(FileDescriptorWrite.tag, payloads[0])
                else:
                    last = writer.append_payloads(FileDescriptorWrite.tag, payloads)[-1]
                writer.wait(last)

            yield commit


def _fill(writer: Writer, events: Events, way: str) -> None:
    if way == ALIKE and events.one_kind:
        writer.append_payloads(events.tags[0], events.payloads)
    elif way == COLUMNS:
        writer.append_columns(events.tags, events.payloads)
    elif way == MANY:
        writer.append_many(zip(events.tags, events.payloads, strict=True))
    else:
        append = writer.append_frame
        for tag, payload in zip(events.tags, events.payloads, strict=True):
            append(tag, payload)
    writer.flush()
