"""Checks of a journal: verify it completely, and find the next block after garbage."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import log_events, log_race
from benchmarks.figures import Figure, Side
from benchmarks.log_events import Events
from benchmarks.log_ours import Ours
from benchmarks.log_race import Clock, Result, Runner
from benchmarks.log_stores import Operation
from benchmarks.stopwatch import FOLDER
from journal import Reader
from journal.format.block import BLOCK_MAGIC

VERIFY_RAW_GIGABYTES_MIN = 2.0
VERIFY_ZSTD_GIGABYTES_MIN = 0.9
SEARCH_GIGABYTES_MIN = 1.5

_MEBIBYTE = 1 << 20


def figures(rounds: int, count: int, page_count: int, mebibytes: int) -> Iterator[Figure]:
    """Yield the figures in payload bytes and in bytes of garbage per second."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        events, pages = log_events.make_small_events(count), log_events.make_pages(page_count)
        runners = [
            _runner(words, payloads.size, _verify, _fill(folder / words, payloads, compress))
            for words, payloads, compress in (
                ("events of 60 bytes, raw", events, False),
                ("events of 60 bytes, zstd", events, True),
                ("pages of 4 KiB, raw", pages, False),
                ("pages of 4 KiB, zstd", pages, True),
            )
        ]
        floors = dict.fromkeys((runners[0].name, runners[2].name), VERIFY_RAW_GIGABYTES_MIN)
        floors |= dict.fromkeys((runners[1].name, runners[3].name), VERIFY_ZSTD_GIGABYTES_MIN)
        yield from _make_figures("log: verify", log_race.race(runners, rounds), floors)
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        yield from _race_searches(Path(name), rounds, mebibytes * _MEBIBYTE)


def _race_searches(folder: Path, rounds: int, size: int) -> Iterator[Figure]:
    chance = random.Random(9)
    false = (BLOCK_MAGIC + bytes(504)) * (_MEBIBYTE // 512)
    garbage = {
        "noise": chance.randbytes(_MEBIBYTE),
        "zeros": bytes(_MEBIBYTE),
        "words": b"the log never loses a byte   " * (_MEBIBYTE // 29),
        "magics of blocks": false,
    }
    runners = []
    for words, unit in garbage.items():
        path, part = folder / words, size if unit is not false else size // 16
        _write_damaged(path, unit, part)
        runners.append(_runner(words, part, _search, path))
    floors = dict.fromkeys(("noise", "zeros", "words"), SEARCH_GIGABYTES_MIN)
    results = log_race.race(runners, rounds)
    yield from _make_figures("log: search for the next block after garbage", results, floors)


def _runner(words: str, size: int, operation: Callable[[Path, int], object], path: Path) -> Runner:
    open_ = partial(_yield_operation, partial(operation, path, size))
    return Runner(name=words, side=Side.OURS, amount=size, open=open_)


def _make_figures(group: str, results: list[Result], floors: dict[str, float]) -> Iterator[Figure]:
    for result in results:
        yield Figure(
            group=group,
            name=result.name,
            unit="GB/s",
            values=tuple(rate / 1e9 for rate in result.cpu),
            floor=floors.get(result.name),
            side=result.side,
        )
    for result in results:
        values = tuple(rate / 1e9 for rate in result.by(Clock.WALL))
        yield Figure(group=group, name=f"{result.name}, wall", unit="GB/s", values=values)


@contextmanager
def _yield_operation(operation: Operation) -> Iterator[Operation]:
    yield operation


def _fill(path: Path, events: Events, compress: bool) -> Path:
    ours = Ours(compress=compress)
    with ours.append(path, events, ours.ways[0]) as operation:
        operation()
    return path


def _write_damaged(path: Path, unit: bytes, size: int) -> None:
    """Write a journal of two blocks with garbage between them."""
    _fill(path, log_events.make_pages(size // log_events.PAGE_SIZE + 256), compress=False)
    with Reader(path) as reader:
        blocks = list(reader.blocks())
        start, stop = blocks[1].offset, blocks[-1].offset
    assert stop - start >= size
    with path.open("r+b") as file:
        file.seek(start)
        while start < stop:
            start += file.write(unit[: stop - start])


def _verify(path: Path, size: int) -> None:
    del size
    with Reader(path) as reader:
        assert not list(reader.verify(decode=False))


def _search(path: Path, size: int) -> None:
    with Reader(path) as reader:
        (damage,) = reader.summary().damage
        assert damage.size >= size
