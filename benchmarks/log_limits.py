"""The limits: what the memory, the hash and the disk of this machine give to anybody."""

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
from benchmarks.log_stores import Deed
from benchmarks.stopwatch import FOLDER

_MEBIBYTE = 1 << 20
_BLOCK_SIZE = 1 << 16
_EVENT_SIZE = 60
_PREALLOCATED_SIZE = 64 << 20


def figures(rounds: int, mebibytes: int, syncs: int) -> Iterator[Figure]:
    """Memory and hash by their bytes, the disk by its syncs."""
    size = mebibytes * _MEBIBYTE
    runners = [
        Runner(name="memcpy", side=Side.LIMIT, amount=size, opened=partial(_copied, size)),
        Runner(
            name="xxh3, 64 KiB a call",
            side=Side.LIMIT,
            amount=size,
            opened=partial(_hashed, size, _BLOCK_SIZE),
        ),
        Runner(
            name="write into the page cache, 1 MiB a call",
            side=Side.LIMIT,
            amount=size,
            opened=partial(_written, size),
        ),
    ]
    results = log_race.race(runners, rounds)
    yield from log_race.rates("log: limits, bytes", results, "GB/s", 1e9, Clock.CPU)
    yield from _calls(rounds, size // _BLOCK_SIZE * 10, syncs)


def _calls(rounds: int, count: int, syncs: int) -> Iterator[Figure]:
    group = "log: limits, calls"
    hashed = partial(_hashed, count * _EVENT_SIZE, _EVENT_SIZE)
    runner = Runner(name="xxh3, 60 bytes a call", side=Side.LIMIT, amount=count, opened=hashed)
    yield from log_race.rates(group, log_race.race([runner], rounds), "k/s", 1e3, Clock.CPU)
    runners = [
        Runner(
            name=f"4 KiB and fdatasync, {'preallocated' if preallocated else 'growing'} file",
            side=Side.LIMIT,
            amount=syncs,
            opened=partial(_synced, syncs, preallocated),
        )
        for preallocated in (True, False)
    ]
    yield from log_race.rates(group, log_race.race(runners, rounds), "k/s", 1e3, Clock.WALL)


@contextmanager
def _copied(size: int) -> Iterator[Deed]:
    source, target = bytes(os.urandom(_MEBIBYTE)) * (size // _MEBIBYTE), bytearray(size)
    target[:] = source  # so that each page is there before the clock runs
    with memoryview(target) as view:

        def deed() -> None:
            view[:] = source

        yield deed


@contextmanager
def _hashed(size: int, step: int) -> Iterator[Deed]:
    data = os.urandom(step)

    def deed() -> None:
        for _ in range(size // step):
            xxh3_64_intdigest(data, 1)

    yield deed


@contextmanager
def _written(size: int) -> Iterator[Deed]:
    data = os.urandom(_MEBIBYTE)
    with tempfile.NamedTemporaryFile(dir=FOLDER, buffering=0) as file:

        def deed() -> None:
            for _ in range(size // _MEBIBYTE):
                file.write(data)

        yield deed


@contextmanager
def _synced(syncs: int, preallocated: bool) -> Iterator[Deed]:
    data = os.urandom(4096)
    with tempfile.NamedTemporaryFile(dir=FOLDER, buffering=0) as file:
        descriptor = os.open(Path(file.name), os.O_WRONLY)
        if preallocated:
            os.posix_fallocate(descriptor, 0, _PREALLOCATED_SIZE)
        os.fsync(descriptor)

        def deed() -> None:
            for _ in range(syncs):
                os.write(descriptor, data)
                os.fdatasync(descriptor)

        try:
            yield deed
        finally:
            os.close(descriptor)
