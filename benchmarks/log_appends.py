"""Appends without waiting for the disk: events of 60 bytes, and memory pages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import log_events, log_ours, log_race
from benchmarks.figures import Figure, Side
from benchmarks.log_events import Events
from benchmarks.log_field import appenders
from benchmarks.log_race import Clock, Result, Runner
from benchmarks.log_stores import AppendStore, Operation, Work, remove
from benchmarks.stopwatch import FOLDER
from journal._compiled import IS_COMPILED

PEER_RATIO_MIN = 1.8
FIELDS_RATIO_MIN = 3.0
PAGE_PEER_RATIO_MIN = 2.0
PAGE_RAW_RATIO_MIN = 0.5


def figures(rounds: int, count: int) -> Iterator[Figure]:
    """Yield the figures for events of seven kinds and of one kind."""
    yield from _race_mixed(rounds, log_events.make_small_events(count))
    yield from _race_one_kind(rounds, count)


def _race_mixed(rounds: int, events: Events) -> Iterator[Figure]:
    group = f"log: append {events.count} events of 60 bytes, seven kinds, no sync"
    results = log_race.race(_runners(events), rounds)
    yield from log_race.rates(group, results, "M/s", 1e6, Clock.CPU)
    best = log_race.find_fastest(results, Side.PEER, Clock.CPU)
    yield from log_race.versus(group, _best_of_ours(results), best, Clock.CPU, PEER_RATIO_MIN)


def _race_one_kind(rounds: int, count: int) -> Iterator[Figure]:
    fields, events = log_events.make_writes(count)
    group = f"log: append {count} events of 60 bytes, one kind, no sync"
    ours = log_ours.Ours(compress=False)
    from_fields = [
        Runner(
            name=f"journal: {way}, from fields",
            side=Side.OURS,
            amount=count,
            open=partial(_open_in_folder, partial(ours.append_fields, fields=fields, way=way)),
            note="also encodes; peers do not",
        )
        for way in log_ours.FROM_FIELDS
    ]
    results = log_race.race([*from_fields, *_runners(events, all_ways=False)], rounds)
    yield from log_race.rates(group, results, "M/s", 1e6, Clock.CPU)
    best = log_race.find_fastest(results, Side.PEER, Clock.CPU)
    from_fields_results, encoded_results = results[: len(from_fields)], results[len(from_fields) :]
    yield from log_race.versus(
        group, _best_of_ours(encoded_results), best, Clock.CPU, PEER_RATIO_MIN
    )
    floor = FIELDS_RATIO_MIN if IS_COMPILED else None
    yield from log_race.versus(group, _best_of_ours(from_fields_results), best, Clock.CPU, floor)


def pages(rounds: int, count: int) -> Iterator[Figure]:
    """Yield the figures for pages of 4 KiB."""
    events = log_events.make_pages(count)
    group = f"log: append {count} pages of 4 KiB, no sync"
    results = log_race.race(_runners(events), rounds)
    scale = 1e9 / log_events.PAGE_SIZE
    yield from log_race.rates(group, results, "GB/s", scale, Clock.CPU)
    best = log_race.find_fastest(results, Side.PEER, Clock.CPU)
    raw = log_race.find_fastest(results, Side.LIMIT, Clock.CPU)
    ours = _best_of_ours(results)
    yield from log_race.versus(group, ours, best, Clock.CPU, PAGE_PEER_RATIO_MIN)
    yield from log_race.versus(group, ours, raw, Clock.CPU, PAGE_RAW_RATIO_MIN)


def _best_of_ours(results: Sequence[Result]) -> Result | None:
    return log_race.find_fastest(results, Side.OURS, Clock.CPU)


def _runners(events: Events, *, all_ways: bool = True) -> list[Runner]:
    """Return the runners of all stores. Without ``all_ways``, peers only have their first way."""
    return [
        Runner(
            name=f"{store.name}: {way}",
            side=store.side,
            amount=events.count,
            open=partial(_open_in_folder, partial(_append, store, events, way)),
            note=store.promises,
        )
        for store in appenders()
        for way in store.ways
        if all_ways or store.side is Side.OURS or way == store.ways[0]
        if events.one_kind or way != log_ours.ALIKE
    ]


def _append(store: AppendStore, events: Events, way: str, path: Path) -> Work:
    return store.append(path, events, way)


@contextmanager
def _open_in_folder(
    work: Callable[[Path], AbstractContextManager[Operation]],
) -> Iterator[Operation]:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / "store"
        with work(path) as operation:
            yield operation
        remove(path)
