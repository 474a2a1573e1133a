"""Races: all who do one kind of work, round by round, and ratios between neighbours in a round."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from benchmarks.figures import RATIO, Figure, Side, ratios
from benchmarks.log_stores import Deed
from benchmarks.peers import Span
from benchmarks.stopwatch import Stopwatch

_TICK = 1e-9


class Clock(StrEnum):
    """Which time counts: the processor's, or the one on the wall where the disk is waited for."""

    CPU = "cpu"
    WALL = "wall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """One who takes part: ``opened`` gives the deed, which does ``amount`` of the work."""

    name: str
    side: Side
    amount: float
    opened: Callable[[], AbstractContextManager[Deed]]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one did in a second, in each round, by each clock."""

    name: str
    side: Side
    note: str
    cpu: tuple[float, ...]
    wall: tuple[float, ...]

    def by(self, clock: Clock) -> tuple[float, ...]:
        """The rates by one clock."""
        return self.cpu if clock is Clock.CPU else self.wall


def race(runners: Sequence[Runner], rounds: int) -> list[Result]:
    """Let each do its work once in each round; every second round goes backwards.

    The first round only warms up. What is alive at the start is not the collector's business.
    """
    spans: dict[str, list[Span]] = {runner.name: [] for runner in runners}
    assert len(spans) == len(runners), "two runners have one name"
    gc.collect()
    gc.freeze()
    try:
        for index in range(rounds + 1):
            for runner in runners if index % 2 else reversed(runners):
                span = _once(runner)
                if index:
                    spans[runner.name].append(span)
    finally:
        gc.unfreeze()
    return [
        result_of(runner.name, runner.side, runner.note, runner.amount, spans[runner.name])
        for runner in runners
    ]


def result_of(name: str, side: Side, note: str, amount: float, spans: Sequence[Span]) -> Result:
    """The rates of what was timed: ``amount`` in each round."""
    return Result(
        name=name,
        side=side,
        note=note,
        cpu=tuple(amount / max(span.cpu, _TICK) for span in spans),
        wall=tuple(amount / max(span.wall, _TICK) for span in spans),
    )


def _once(runner: Runner) -> Span:
    with runner.opened() as deed:
        gc.collect()
        watch = Stopwatch()
        deed()
        return watch.lap()


def best(results: Sequence[Result], side: Side, clock: Clock) -> Result | None:
    """The fastest of one side by the median of its rounds; None where nobody takes part."""
    return max(
        (result for result in results if result.side is side),
        key=lambda result: median(result.by(clock)),
        default=None,
    )


def named(results: Sequence[Result], name: str) -> Result | None:
    """One of them; None where it does not take part."""
    return next((result for result in results if result.name == name), None)


def rates(
    group: str, results: Sequence[Result], unit: str, scale: float, clock: Clock
) -> Iterator[Figure]:
    """What each one reached, with what it promises."""
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
    """How many times as fast ours is, by the clock that is judged, and by the other one."""
    if ours is None or theirs is None:
        return
    for one in (clock, Clock.WALL if clock is Clock.CPU else Clock.CPU):
        yield Figure(
            group=group,
            name=f"{ours.name} / {theirs.name}, {one.value}",
            unit=RATIO,
            values=ratios(ours.by(one), theirs.by(one)),
            floor=floor if one is clock else None,
        )
