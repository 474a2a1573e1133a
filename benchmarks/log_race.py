"""Races: all runners of one kind of work, round by round, with ratios within each round."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from benchmarks.figures import RATIO, Figure, Side, ratios
from benchmarks.log_stores import Operation
from benchmarks.peers import Span
from benchmarks.stopwatch import Stopwatch

_TICK = 1e-9


class Clock(StrEnum):
    """Clock to compare by: processor time, or wall time for work that waits for the disk."""

    CPU = "cpu"
    WALL = "wall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A participant. ``open`` yields the operation, which does ``amount`` of the work."""

    name: str
    side: Side
    amount: float
    open: Callable[[], AbstractContextManager[Operation]]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Rates of one runner per second, in each round, by each clock."""

    name: str
    side: Side
    note: str
    cpu: tuple[float, ...]
    wall: tuple[float, ...]

    def by(self, clock: Clock) -> tuple[float, ...]:
        """Return the rates by one clock."""
        return self.cpu if clock is Clock.CPU else self.wall


def race(runners: Sequence[Runner], rounds: int) -> list[Result]:
    """Run each runner once in each round; every second round runs backwards.

    The first round only warms up. Objects that exist at the start are hidden from the garbage
    collector.
    """
    spans: dict[str, list[Span]] = {runner.name: [] for runner in runners}
    assert len(spans) == len(runners), "two runners have one name"
    gc.collect()
    gc.freeze()
    try:
        for index in range(rounds + 1):
            for runner in runners if index % 2 else reversed(runners):
                span = _run_once(runner)
                if index:
                    spans[runner.name].append(span)
    finally:
        gc.unfreeze()
    return [
        make_result(runner.name, runner.side, runner.note, runner.amount, spans[runner.name])
        for runner in runners
    ]


def make_result(name: str, side: Side, note: str, amount: float, spans: Sequence[Span]) -> Result:
    """Return the rates of spans that each did ``amount`` of work."""
    return Result(
        name=name,
        side=side,
        note=note,
        cpu=tuple(amount / max(span.cpu, _TICK) for span in spans),
        wall=tuple(amount / max(span.wall, _TICK) for span in spans),
    )


def _run_once(runner: Runner) -> Span:
    with runner.open() as operation:
        gc.collect()
        watch = Stopwatch()
        operation()
        return watch.lap()


def find_fastest(results: Sequence[Result], side: Side, clock: Clock) -> Result | None:
    """Return the result of one side with the best median; None if the side has no result."""
    return max(
        (result for result in results if result.side is side),
        key=lambda result: median(result.by(clock)),
        default=None,
    )


def find_result(results: Sequence[Result], name: str) -> Result | None:
    """Return the result of this name, or None."""
    return next((result for result in results if result.name == name), None)


def rates(
    group: str, results: Sequence[Result], unit: str, scale: float, clock: Clock
) -> Iterator[Figure]:
    """Yield the rates of each runner, with its promise."""
    for result in results:
        yield Figure(
            group=group,
            name=result.name,
            unit=unit,
            values=tuple(rate / scale for rate in result.by(clock)),
            side=result.side,
            note=result.note,
        )


def versus(
    group: str,
    ours: Result | None,
    theirs: Result | None,
    clock: Clock,
    floor: float | None = None,
) -> Iterator[Figure]:
    """Yield the ratio of ``ours`` to ``theirs``, by ``clock`` and by the other clock."""
    if ours is None or theirs is None:
        return
    for each_clock in (clock, Clock.WALL if clock is Clock.CPU else Clock.CPU):
        yield Figure(
            group=group,
            name=f"{ours.name} / {theirs.name}, {each_clock.value}",
            unit=RATIO,
            values=ratios(ours.by(each_clock), theirs.by(each_clock)),
            floor=floor if each_clock is clock else None,
        )
