"""MCAP: a container of chunks for robot logs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Side
from benchmarks.log_events import Events
from benchmarks.log_stores import Operation, ReadStore, import_optional

_ONLY = "add_message"


class Mcap(ReadStore):
    """The Python library of MCAP. It has no index by number, so it finds no event by number."""

    module = "mcap"
    side = Side.PEER
    ways = (_ONLY,)

    def __init__(self, *, compress: bool) -> None:
        self.name = "mcap, zstd" if compress else "mcap"
        self.promises = "crc32 per chunk; never syncs"
        self._compression = "ZSTD" if compress else "NONE"

    @contextmanager
    def append(self, path: Path, events: Events, way: str) -> Iterator[Operation]:
        """Append to one channel for each tag. The summary at the end is part of the file."""
        del way
        module = import_optional("mcap.writer")
        with path.open("wb") as file:

            def operation() -> None:
                kind = module.CompressionType[self._compression]
                writer = module.Writer(file, compression=kind)
                writer.start()
                channels = {
                    tag: writer.register_channel(
                        topic=str(tag), message_encoding="raw", schema_id=0
                    )
                    for tag in sorted(set(events.tags))
                }
                add = writer.add_message
                for number, (tag, payload) in enumerate(
                    zip(events.tags, events.payloads, strict=True)
                ):
                    add(channels[tag], number, payload, number, number)
                writer.finish()
                file.flush()

            yield operation

    @contextmanager
    def scan(self, path: Path) -> Iterator[Operation]:
        """Read schema, channel and message."""
        make_reader = import_optional("mcap.reader").make_reader
        with path.open("rb") as file:
            yield lambda: deque(make_reader(file).iter_messages(log_time_order=False), maxlen=0)

    @contextmanager
    def select(self, path: Path, tag: int) -> Iterator[Operation]:
        """Read one channel."""
        make_reader = import_optional("mcap.reader").make_reader
        with path.open("rb") as file:
            yield lambda: [
                message.data
                for _, _, message in make_reader(file).iter_messages(
                    topics=[str(tag)], log_time_order=False
                )
            ]
