"""Our journal, done as its peers are."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import Any

from benchmarks.figures import Side
from benchmarks.log_events import Events
from benchmarks.log_stores import Commit, Commits, Deed, Finds
from journal import Reader, Writer
from journal.events.descriptors import FileDescriptorWrite

ACCELERATED = bool(getattr(__import__("journal"), "accelerated", False))
EACH, MANY, ALIKE = "append_frame", "append_many", "append_payloads"
_TAGS = range(1, 8)


class Ours(Finds):
    """One journal, compressed or not; its file is a single one."""

    side = Side.OURS

    def __init__(self, *, compress: bool) -> None:
        self.name = "journal, zstd" if compress else "journal"
        self.promises = "xxh3 per block, chained; each event's tag and time"
        self.ways = tuple(way for way in (MANY, ALIKE, EACH) if hasattr(Writer, way))
        self._compress = compress

    @contextmanager
    def append(self, path: Path, events: Events, way: str) -> Iterator[Deed]:
        """As far as the kernel."""
        with Writer(path, compress=self._compress) as writer:
            yield lambda: _fill(writer, events, way)

    @contextmanager
    def append_fields(self, path: Path, fields: Sequence[tuple[int, bytes]]) -> Iterator[Deed]:
        """From what the guest said: make the event, encode it, and append it."""
        with Writer(path, compress=self._compress) as writer:

            def deed() -> None:
                append = writer.append
                for offset, data in fields:
                    append(FileDescriptorWrite(fd=4, offset=offset, data=data))
                writer.flush()

            yield deed

    @contextmanager
    def scan(self, path: Path) -> Iterator[Deed]:
        """Number, tag and bytes of every event, block by block."""
        with Reader(path) as reader:

            def deed() -> None:
                for block in reader.blocks():
                    deque(zip(block.seqs, block.tags, block.payloads(), strict=True), maxlen=0)

            yield deed

    @contextmanager
    def frames(self, path: Path) -> Iterator[Deed]:
        """A Frame for every event: number, tag, bytes, time and offset."""
        with Reader(path) as reader:
            yield lambda: deque(reader.frames(), maxlen=0)

    @contextmanager
    def columns(self, path: Path) -> Iterator[Deed]:
        """How many events there are of each tag."""
        with Reader(path) as reader:

            def deed() -> dict[int, int]:
                counts = dict.fromkeys(_TAGS, 0)
                for block in reader.blocks():
                    for tag in _TAGS:
                        counts[tag] += block.tags.count(tag)
                return counts

            yield deed

    @contextmanager
    def keep(self, path: Path, tag: int) -> Iterator[Deed]:
        """The bytes alone, as the peers give them."""
        with Reader(path) as reader:

            def deed() -> list[bytes]:
                kept: list[bytes] = []
                for block in reader.blocks(tags=(tag,)):
                    kept += compress(block.payloads(), map(tag.__eq__, block.tags))
                return kept

            yield deed

    @contextmanager
    def find(self, path: Path, numbers: Sequence[int]) -> Iterator[Deed]:
        """Each with its block's hash checked."""
        with self._found(path, numbers, verify=True) as deed:
            yield deed

    @contextmanager
    def find_unverified(self, path: Path, numbers: Sequence[int]) -> Iterator[Deed]:
        """Each without."""
        with self._found(path, numbers, verify=False) as deed:
            yield deed

    @contextmanager
    def _found(self, path: Path, numbers: Sequence[int], *, verify: bool) -> Iterator[Deed]:
        with Reader(path, verify=verify) as reader:

            def slowly(number: int) -> object:
                return next(reader.frames(number))

            frame: Callable[..., object] | None = getattr(reader, "frame", None)

            def deed() -> None:
                for number in numbers:
                    slowly(number) if frame is None else frame(number, verify=verify)

            yield deed


class OurCommits(Commits):
    """A journal that syncs each commit: `append_frame` for one event, and then `sync`."""

    name = "journal"
    promises = "xxh3 per block, chained"
    side = Side.OURS

    @contextmanager
    def commits(self, path: Path) -> Iterator[Commit]:
        """Compressed as by default, where it gains."""
        with Writer(path) as writer:
            many: Callable[..., object] | None = getattr(writer, ALIKE, None)
            lock = threading.Lock()

            def commit(first: int, payloads: Sequence[bytes]) -> None:
                with lock:
                    locked(payloads)

            def locked(payloads: Sequence[bytes]) -> None:
                if len(payloads) == 1 or many is None:
                    for payload in payloads:
                        writer.append_frame(FileDescriptorWrite.tag, payload)
                else:
                    many(FileDescriptorWrite.tag, payloads)
                writer.sync()

            yield commit


def _fill(writer: Any, events: Events, way: str) -> None:
    if way == ALIKE and events.one_kind:
        writer.append_payloads(events.tags[0], events.payloads)
    elif way == MANY:
        writer.append_many(zip(events.tags, events.payloads, strict=True))
    else:
        append = writer.append_frame
        for tag, payload in zip(events.tags, events.payloads, strict=True):
            append(tag, payload)
    writer.flush()
