"""MCAP: a container of logs for robots, chunk by chunk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Side
from benchmarks.log_events import Events
from benchmarks.log_stores import Deed, Reads, imported

_ONLY = "add_message"


class Mcap(Reads):
    """Its Python library; it has no index by number, so it finds no frames here."""

    module = "mcap"
    side = Side.PEER
    ways = (_ONLY,)

    def __init__(self, *, compress: bool) -> None:
        self.name = "mcap, zstd" if compress else "mcap"
        self.promises = "crc32 per chunk; never syncs"
        self._compression = "ZSTD" if compress else "NONE"

    @contextmanager
    def append(self, path: Path, events: Events, way: str) -> Iterator[Deed]:
        """One channel for each tag; the summary at the end belongs to the file."""
        del way
        module = imported("mcap.writer")
        with path.open("wb") as file:

            def deed() -> None:
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

            yield deed

    @contextmanager
    def scan(self, path: Path) -> Iterator[Deed]:
        """Schema, channel and message."""
        make_reader = imported("mcap.reader").make_reader
        with path.open("rb") as file:
            yield lambda: deque(make_reader(file).iter_messages(log_time_order=False), maxlen=0)

    @contextmanager
    def keep(self, path: Path, tag: int) -> Iterator[Deed]:
        """One channel."""
        make_reader = imported("mcap.reader").make_reader
        with path.open("rb") as file:
            yield lambda: [
                message.data
                for _, _, message in make_reader(file).iter_messages(
                    topics=[str(tag)], log_time_order=False
                )
            ]
