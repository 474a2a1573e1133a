"""Raw writes of the payloads, without lengths or hashes: the lower bound of any log."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Side
from benchmarks.log_events import Events
from benchmarks.log_stores import AppendStore, Commit, CommitStore, Operation

_BUFFER_SIZE = 1 << 20
_VECTORS = 256
_PREALLOCATED_SIZE = 64 << 20
_JOINED, _BUFFERED, _VECTORED = "write of joined MiBs", "file.write each", "writev of 256"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Raw(AppendStore):
    """A file of payloads."""

    name = "raw"
    promises = "nothing: payloads without lengths or hashes"
    side = Side.LIMIT
    ways = (_JOINED, _BUFFERED, _VECTORED)

    @contextmanager
    def append(self, path: Path, events: Events, way: str) -> Iterator[Operation]:
        """Write the payloads only."""
        payloads = events.payloads

        def write_buffered() -> None:
            with path.open("wb", buffering=_BUFFER_SIZE) as file:
                write = file.write
                for payload in payloads:
                    write(payload)

        def write_joined() -> None:
            step = max(1, _BUFFER_SIZE // len(payloads[0]))
            for start in range(0, len(payloads), step):
                os.write(descriptor, b"".join(payloads[start : start + step]))

        def write_vectored() -> None:
            for start in range(0, len(payloads), _VECTORS):
                os.writev(descriptor, payloads[start : start + _VECTORS])

        descriptor = os.open(path, _FLAGS)
        try:
            yield {_JOINED: write_joined, _BUFFERED: write_buffered, _VECTORED: write_vectored}[way]
        finally:
            os.close(descriptor)


class RawCommits(CommitStore):
    """One write and one fdatasync for each commit, for any number of threads."""

    side = Side.LIMIT
    promises = "only the sync"

    def __init__(self, *, preallocated: bool) -> None:
        self.name = "raw, preallocated" if preallocated else "raw"
        self._preallocated = preallocated

    @contextmanager
    def commits(self, path: Path) -> Iterator[Commit]:
        """Write the payloads only, one after another."""
        descriptor = os.open(path, _FLAGS)
        if self._preallocated:
            os.posix_fallocate(descriptor, 0, _PREALLOCATED_SIZE)
        os.fsync(descriptor)

        def commit(first: int, payloads: Sequence[bytes]) -> None:
            del first
            os.write(descriptor, b"".join(payloads))
            os.fdatasync(descriptor)

        try:
            yield commit
        finally:
            os.close(descriptor)
