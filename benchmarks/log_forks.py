"""Forks of a large journal: children with and without durability, against a copy."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import journal
from benchmarks.figures import RATIO, Figure, Side, ratios
from benchmarks.peers import Span
from benchmarks.stopwatch import FOLDER, Stopwatch
from journal.log.commit_policy import CommitPolicy
from journal.log.fork_search import find_fork_place
from journal.operations.fork import open_fork

FORK_MILLISECONDS_MAX = 0.5
_COUNT = 200
_DURABLE_COUNT = 20
_EVENT_SIZE = 230_000
_FORK, _DURABLE, _COPY = "fork, not durable", "fork, durable", "copy (cut)"


def figures(rounds: int, mebibytes: int) -> Iterator[Figure]:
    """Yield the time of one child, which must not grow with its parent, and of a copy."""
    group = f"log: forks of a journal of {mebibytes} MiB"
    spans_by_name: dict[str, list[Span]] = {_FORK: [], _DURABLE: [], _COPY: []}
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        parent = Path(name) / "parent"
        at = _write_parent(parent, mebibytes)
        for index in range(rounds + 1):
            for title, make in _list_ways(parent, at).items():
                folder = Path(name) / "children"
                folder.mkdir()
                span = make(folder)
                if index:
                    spans_by_name[title].append(span)
                shutil.rmtree(folder)
    for clock in ("cpu", "wall"):
        times = {n: tuple(getattr(s, clock) for s in spans) for n, spans in spans_by_name.items()}
        for title, values in times.items():
            yield Figure(
                group=group,
                name=f"{title}, {clock}",
                unit="ms",
                values=tuple(value * 1000 for value in values),
                limit=FORK_MILLISECONDS_MAX if (title, clock) == (_FORK, "cpu") else None,
                side=Side.NONE if clock == "wall" else Side.OURS,
            )
        yield Figure(
            group=group,
            name=f"{_COPY} / {_DURABLE}, {clock}",
            unit=RATIO,
            values=ratios(times[_COPY], times[_DURABLE]),
        )


def _write_parent(path: Path, mebibytes: int) -> int:
    """Write a journal of incompressible events, and return the number of its last one."""
    count = (mebibytes << 20) // _EVENT_SIZE
    with journal.Writer(path) as writer:
        for _ in range(count):
            writer.append_frame(224, os.urandom(_EVENT_SIZE))
    return count - 1


def _list_ways(parent: Path, at: int) -> dict[str, Callable[[Path], Span]]:
    def make_hasty(folder: Path) -> Span:
        place = find_fork_place(parent, at, durable=False)
        watch = Stopwatch()
        for number in range(_COUNT):
            with open_fork(place, folder / str(number), CommitPolicy.NONE, reseed=False) as writer:
                writer.publish()
        return _divide(watch.lap(), _COUNT)

    def make_durable(folder: Path) -> Span:
        watch = Stopwatch()
        journal.fork(parent, folder / "child", at=at, count=_DURABLE_COUNT)
        return _divide(watch.lap(), _DURABLE_COUNT)

    def copy(folder: Path) -> Span:
        watch = Stopwatch()
        journal.cut(parent, folder / "copy", at=at)
        return watch.lap()

    return {_FORK: make_hasty, _DURABLE: make_durable, _COPY: copy}


def _divide(span: Span, count: int) -> Span:
    return Span(span.cpu / count, span.wall / count)
