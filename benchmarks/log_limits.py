"""Limits of this machine for any log: memory, hash and disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from xxhash import xxh3_64_intdigest

from benchmarks import log_race
from benchmarks.figures import Figure, Side
from benchmarks.log_race import Clock, Runner
from benchmarks.log_stores import Operation
from benchmarks.stopwatch import FOLDER

_MEBIBYTE = 1 << 20
_BLOCK_SIZE = 1 << 16
_EVENT_SIZE = 60
_PREALLOCATED_SIZE = 64 << 20


def figures(rounds: int, mebibytes: int, syncs: int) -> Iterator[Figure]:
    """Yield memory and hash in bytes per second, and the disk in syncs per second."""
    size = mebibytes * _MEBIBYTE
    runners = [
        Runner(name="memcpy", side=Side.LIMIT, amount=size, open=partial(_copy, size)),
        Runner(
            name="xxh3, 64 KiB a call",
            side=Side.LIMIT,
            amount=size,
            open=partial(_hash, size, _BLOCK_SIZE),
        ),
        Runner(
            name="write into the page cache, 1 MiB a call",
            side=Side.LIMIT,
            amount=size,
            open=partial(_write, size),
        ),
    ]
    results = log_race.race(runners, rounds)
    yield from log_race.rates("log: limits, bytes", results, "GB/s", 1e9, Clock.CPU)
    yield from _calls(rounds, size // _BLOCK_SIZE * 10, syncs)


def _calls(rounds: int, count: int, syncs: int) -> Iterator[Figure]:
    group = "log: limits, calls"
    hash_events = partial(_hash, count * _EVENT_SIZE, _EVENT_SIZE)
    runner = Runner(name="xxh3, 60 bytes a call", side=Side.LIMIT, amount=count, open=hash_events)
    yield from log_race.rates(group, log_race.race([runner], rounds), "k/s", 1e3, Clock.CPU)
    runners = [
        Runner(
            name=f"4 KiB and fdatasync, {'preallocated' if is_preallocated else 'growing'} file",
            side=Side.LIMIT,
            amount=syncs,
            open=partial(_sync, syncs, is_preallocated),
        )
        for is_preallocated in (True, False)
    ]
    yield from log_race.rates(group, log_race.race(runners, rounds), "k/s", 1e3, Clock.WALL)


@contextmanager
def _copy(size: int) -> Iterator[Operation]:
    source, target = bytes(os.urandom(_MEBIBYTE)) * (size // _MEBIBYTE), bytearray(size)
    target[:] = source  # Touch each page before the measurement.
    with memoryview(target) as view:

        def operation() -> None:
            view[:] = source

        yield operation


@contextmanager
def _hash(size: int, step: int) -> Iterator[Operation]:
    data = os.urandom(step)

    def operation() -> None:
        for _ in range(size // step):
            xxh3_64_intdigest(data, 1)

    yield operation


@contextmanager
def _write(size: int) -> Iterator[Operation]:
    data = os.urandom(_MEBIBYTE)
    with tempfile.NamedTemporaryFile(dir=FOLDER, buffering=0) as file:

        def operation() -> None:
            for _ in range(size // _MEBIBYTE):
                file.write(data)

        yield operation


@contextmanager
def _sync(syncs: int, is_preallocated: bool) -> Iterator[Operation]:
    data = os.urandom(4096)
    with tempfile.NamedTemporaryFile(dir=FOLDER, buffering=0) as file:
        descriptor = os.open(Path(file.name), os.O_WRONLY)
        if is_preallocated:
            os.posix_fallocate(descriptor, 0, _PREALLOCATED_SIZE)
        os.fsync(descriptor)

        def operation() -> None:
            for _ in range(syncs):
                os.write(descriptor, data)
                os.fdatasync(descriptor)

        try:
            yield operation
        finally:
            os.close(descriptor)
