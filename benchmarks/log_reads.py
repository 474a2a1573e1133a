"""Reads from the page cache: everything, columns, one kind, and single events."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import log_events, log_race
from benchmarks.figures import RATIO, Figure, Side
from benchmarks.log_events import Events
from benchmarks.log_field import appenders, finders, readers
from benchmarks.log_ours import Ours
from benchmarks.log_race import Clock, Result, Runner
from benchmarks.log_stores import AppendStore, Store, Work, store_size
from benchmarks.stopwatch import FOLDER

SCAN_RATIO_MIN = 1.0
COLUMNS_RATIO_MIN = 10.0
SELECTION_RATIO_MIN = 2.0
LOOKUP_MILLIONS_MIN = 0.1
RAW_SPACE_MAX = 1.09
ZSTD_SPACE_MAX = 0.22

_CURSOR = "lmdb"
_JOURNAL = "journal"


def figures(rounds: int, count: int, lookups: int) -> Iterator[Figure]:
    """Yield the figures of all reads, over the same events."""
    events = log_events.make_small_events(count)
    with _fill_stores(events) as folder:
        yield from _measure_space(folder, events)
        yield from _race_scans(folder, rounds, count)
        yield from _race_selection(folder, rounds, count)
        yield from _race_lookups(folder, rounds, count, lookups)


@contextmanager
def _fill_stores(events: Events) -> Iterator[Path]:
    """Return a folder with one closed store of each kind, filled in its best way."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        for store in appenders():
            with store.append(_path(folder, store), events, store.ways[0]) as operation:
                operation()
        yield folder


def _path(folder: Path, store: Store) -> Path:
    return folder / store.name.replace(", ", "_").replace(" ", "_")


def _runner(
    store: AppendStore, words: str, amount: int, work: Callable[[Path], Work], folder: Path
) -> Runner:
    name = f"{store.name}: {words}" if words else store.name
    open_ = partial(work, _path(folder, store))
    return Runner(name=name, side=store.side, amount=amount, open=open_, note=store.promises)


def _ours() -> list[Ours]:
    return [store for store in readers() if isinstance(store, Ours)]


def _measure_space(folder: Path, events: Events) -> Iterator[Figure]:
    group = f"log: space of {events.count} events of 60 bytes, files / payloads"
    limits = dict(
        zip((store.name for store in _ours()), (RAW_SPACE_MAX, ZSTD_SPACE_MAX), strict=True)
    )
    for store in appenders():
        yield Figure(
            group=group,
            name=store.name,
            unit=RATIO,
            values=(store_size(_path(folder, store)) / events.size,),
            limit=limits.get(store.name),
            side=store.side,
            note=store.promises,
        )


def _race_scans(folder: Path, rounds: int, count: int) -> Iterator[Figure]:
    group = f"log: scan {count} events of 60 bytes, verified where there are checksums"
    runners = [_runner(store, "", count, store.scan, folder) for store in readers()]
    for store in _ours():
        runners.append(_runner(store, "frames()", count, store.frames, folder))
        runners.append(_runner(store, "columns only", count, store.columns, folder))
    results = log_race.race(runners, rounds)
    yield from log_race.rates(group, results, "M/s", 1e6, Clock.CPU)
    cursor = log_race.find_result(results, _CURSOR)
    for name, floor in (
        (_JOURNAL, SCAN_RATIO_MIN),
        (f"{_JOURNAL}: frames()", None),
        (f"{_JOURNAL}: columns only", COLUMNS_RATIO_MIN),
    ):
        yield from log_race.versus(
            group, log_race.find_result(results, name), cursor, Clock.CPU, floor
        )


def _race_selection(folder: Path, rounds: int, count: int) -> Iterator[Figure]:
    group = f"log: read one tag of seven, of {count} events of 60 bytes"
    runners = [
        _runner(store, "", count, partial(store.select, tag=log_events.SELECTED_TAG), folder)
        for store in readers()
    ]
    results = log_race.race(runners, rounds)
    yield from log_race.rates(group, results, "M/s", 1e6, Clock.CPU)
    yield from _against_best(group, results, SELECTION_RATIO_MIN)


def _race_lookups(folder: Path, rounds: int, count: int, lookups: int) -> Iterator[Figure]:
    group = f"log: {lookups} events by sequence number, among {count} of 60 bytes"
    generator = random.Random(5)
    numbers = [generator.randrange(count) for _ in range(lookups)]
    runners = [
        _runner(store, "", lookups, partial(store.find, numbers=numbers), folder)
        for store in finders()
    ]
    for store in _ours():
        work = partial(store.find_unverified, numbers=numbers)
        runners.append(_runner(store, "unverified", lookups, work, folder))
    results = log_race.race(runners, rounds)
    for figure in log_race.rates(group, results, "M/s", 1e6, Clock.CPU):
        if figure.name == _JOURNAL:
            figure = Figure(
                group=group,
                name=figure.name,
                unit=figure.unit,
                values=figure.values,
                floor=LOOKUP_MILLIONS_MIN,
                side=figure.side,
            )
        yield figure
    yield from _against_best(group, results, None)


def _against_best(group: str, results: Sequence[Result], floor: float | None) -> Iterator[Figure]:
    best = log_race.find_fastest(results, Side.PEER, Clock.CPU)
    yield from log_race.versus(
        group, log_race.find_result(results, _JOURNAL), best, Clock.CPU, floor
    )
