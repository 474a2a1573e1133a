"""Durable appends in wall time: commits of one event, of a hundred, and from eight threads."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import log_race
from benchmarks.figures import Figure, Side
from benchmarks.log_events import make_small_events
from benchmarks.log_field import committers
from benchmarks.log_race import Clock, Result, Runner
from benchmarks.log_stores import Commit, CommitStore, Operation
from benchmarks.peers import Span
from benchmarks.stopwatch import FOLDER, Stopwatch

RAW_RATIO_MIN = 0.95
PEER_RATIO_MIN = 1.0
THREADS = 8

_SLICES = 10
_PREALLOCATED = "raw, preallocated"
_GROWING = "raw"
_WEAK = "lmdb metasync=False"


def single(rounds: int, commits: int, batch: int) -> Iterator[Figure]:
    """Measure one thread that commits ``commits`` times ``batch`` events.

    All stores are open at once and take turns, a few commits each, because other load on the disk
    changes within tenths of a second.
    """
    group = f"log: durable, {batch} events a commit" if batch > 1 else "log: durable, one event"
    payloads = make_small_events(commits * batch).payloads
    batches = [payloads[at : at + batch] for at in range(0, len(payloads), batch)]
    laps: dict[str, list[list[Span]]] = {store.name: [] for store in committers()}
    for index in range(rounds + 1):
        spans_by_name = _measure_round(batches, batch, backwards=bool(index % 2))
        if index:
            for name, times in spans_by_name.items():
                laps[name].append(times)
    results = [
        log_race.make_result(
            store.name,
            _side(store),
            store.promises,
            len(payloads),
            [_sum_spans(lap) for lap in laps[store.name]],
        )
        for store in committers()
    ]
    yield from log_race.rates(group, results, "k/s", 1e3, Clock.WALL)
    floor = RAW_RATIO_MIN if batch == 1 else None
    yield from log_race.versus(group, *_pair(results, _PREALLOCATED), Clock.WALL, floor)
    yield from log_race.versus(group, *_pair(results, _GROWING), Clock.WALL)
    yield from _against_best(group, results)
    yield from _percentiles(group, laps)


def _measure_round(
    batches: Sequence[Sequence[bytes]], batch: int, *, backwards: bool
) -> dict[str, list[Span]]:
    """Return the span of each commit of each store."""
    spans_by_name: dict[str, list[Span]] = {}
    step = max(1, len(batches) // _SLICES)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=FOLDER)))
        commits = [
            (store.name, stack.enter_context(store.commits(folder / f"store{number}")))
            for number, store in enumerate(committers())
        ]
        for start in range(0, len(batches), step):
            for name, commit in reversed(commits) if backwards else commits:
                spans = spans_by_name.setdefault(name, [])
                for number, payloads in enumerate(batches[start : start + step], start):
                    watch = Stopwatch()
                    commit(number * batch, payloads)
                    spans.append(watch.lap())
    return spans_by_name


def _sum_spans(spans: Sequence[Span]) -> Span:
    return sum(spans, start=Span(0, 0))


def _percentiles(group: str, laps: dict[str, list[list[Span]]]) -> Iterator[Figure]:
    """Yield the median and the 99th percentile of the commit times of each round."""
    for name, rounds in laps.items():
        for words, part in (("median", 0.5), ("99th percentile", 0.99)):
            values = tuple(
                sorted(span.wall for span in spans)[int(len(spans) * part)] * 1e6
                for spans in rounds
            )
            yield Figure(group=group, name=f"{name}: {words}", unit="µs", values=values)


def threaded(rounds: int, count: int) -> Iterator[Figure]:
    """Measure eight threads, each of which commits one event at a time."""
    group = f"log: durable, one event, {THREADS} threads at once"
    payloads = make_small_events(THREADS * count).payloads
    runners = [
        Runner(
            name=store.name,
            side=_side(store),
            amount=len(payloads),
            open=partial(_run_threads, store, payloads),
            note=store.promises,
        )
        for store in committers()
    ]
    results = log_race.race(runners, rounds)
    yield from log_race.rates(group, results, "k/s", 1e3, Clock.WALL)
    yield from _against_best(group, results)


@contextmanager
def _run_threads(store: CommitStore, payloads: Sequence[bytes]) -> Iterator[Operation]:
    count = len(payloads) // THREADS
    gate = threading.Barrier(THREADS + 1)
    errors: list[BaseException] = []

    def work(commit: Commit, start: int) -> None:
        gate.wait()
        try:
            for number in range(start, start + count):
                commit(number, payloads[number : number + 1])
        except BaseException as error:
            errors.append(error)

    with (
        tempfile.TemporaryDirectory(dir=FOLDER) as folder,
        store.commits(Path(folder) / "store") as commit,
    ):
        threads = [threading.Thread(target=work, args=(commit, n * count)) for n in range(THREADS)]
        for thread in threads:
            thread.start()

        def operation() -> None:
            gate.wait()
            for thread in threads:
                thread.join()

        try:
            yield operation
        finally:
            gate.abort()  # Release the threads if the operation was never run.
        if errors:
            raise errors[0]


def _side(store: CommitStore) -> Side:
    return Side.NONE if store.name == _WEAK else store.side


def _pair(results: Sequence[Result], name: str) -> tuple[Result | None, Result | None]:
    return log_race.find_result(results, "journal"), log_race.find_result(results, name)


def _against_best(group: str, results: Sequence[Result]) -> Iterator[Figure]:
    best = log_race.find_fastest(results, Side.PEER, Clock.WALL)
    ours = log_race.find_result(results, "journal")
    yield from log_race.versus(group, ours, best, Clock.WALL, PEER_RATIO_MIN)
