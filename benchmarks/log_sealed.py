"""The log with and without a seal, side by side: appends, commits, reads and verification."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import log_events, log_race
from benchmarks.figures import Figure, Side
from benchmarks.log_race import Clock, Runner
from benchmarks.log_stores import Operation
from benchmarks.stopwatch import FOLDER
from journal import Reader, SealKey, Writer
from journal.log import CommitPolicy

_KEYS = {"plain": None, "sealed": SealKey(bytes(range(32)))}
_TAG = 224

Work = Callable[[Path, SealKey | None], object]


def figures(rounds: int, count: int, page_count: int, commits: int) -> Iterator[Figure]:
    """Yield the figures in payload bytes per second, and in commits per second."""
    events = log_events.make_small_events(count).payloads
    pages = log_events.make_pages(page_count).payloads
    for words, payloads in (("events of 60 bytes", events), ("pages of 4 KiB", pages)):
        size = sum(map(len, payloads))
        append = partial(_append, payloads)
        yield from _race(f"append {words}", rounds, size / 1e9, "GB/s", append)
        yield from _race(f"read {words}", rounds, size / 1e9, "GB/s", _read, append)
        yield from _race(f"verify {words}", rounds, size / 1e9, "GB/s", _verify, append)
    flush = partial(_commit, events[:commits], sync=False)
    yield from _race("a block for each event", rounds, commits / 1e3, "k/s", flush)
    yield from _race("read them", rounds, commits / 1e3, "k/s", _read, flush)
    sync = partial(_commit, events[: commits // 4], sync=True)
    yield from _race("a sync for each event", rounds, commits / 4e3, "k/s", sync, by=Clock.WALL)


def _race(
    words: str,
    rounds: int,
    amount: float,
    unit: str,
    work: Work,
    prepare: Work | None = None,
    by: Clock = Clock.CPU,
) -> Iterator[Figure]:
    """Yield the rate of ``work`` on a journal without and with a seal.

    ``prepare`` writes the journal that ``work`` reads; without it, ``work`` writes one.
    """
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        runners = []
        for kind, key in _KEYS.items():
            path = Path(name, kind)
            if prepare is not None:
                prepare(path, key)
            open_ = partial(_open, path, key, work, is_kept=prepare is not None)
            runners.append(
                Runner(name=f"{words}, {kind}", side=Side.OURS, amount=amount, open=open_)
            )
        for result in log_race.race(runners, rounds):
            values = tuple(result.by(by))
            group = f"log: sealed, {words}"
            yield Figure(group=group, name=result.name, unit=unit, values=values, side=result.side)


@contextmanager
def _open(path: Path, key: SealKey | None, work: Work, *, is_kept: bool) -> Iterator[Operation]:
    yield partial(work, path, key)
    if not is_kept:
        path.unlink()


def _append(payloads: list[bytes], path: Path, key: SealKey | None) -> None:
    with Writer(path, key=key, commit=CommitPolicy.NONE, compress=False) as writer:
        writer.append_payloads(_TAG, payloads)


def _commit(payloads: list[bytes], path: Path, key: SealKey | None, *, sync: bool) -> None:
    with Writer(path, key=key, compress=False) as writer:
        step = writer.sync if sync else writer.flush
        for payload in payloads:
            writer.append_frame(_TAG, payload)
            step()


def _read(path: Path, key: SealKey | None) -> None:
    with Reader(path, key=key) as reader:
        deque(reader.payloads(), maxlen=0)


def _verify(path: Path, key: SealKey | None) -> None:
    with Reader(path, key=key) as reader:
        assert not list(reader.verify(decode=False))
