"""Clocks for the times of events."""

import time
from collections.abc import Callable
from typing import NamedTuple


class TickClock(NamedTuple):
    """Clock that is cheap to read: ``read`` returns a tick, from which the time is computed later.

    The time in µs since the epoch is ``(tick + base) // scale``.
    """

    read: Callable[[], int]
    base: int
    scale: int


def make_tick_clock(clock: Callable[[], int] | None, last: int) -> TickClock:
    """Return a clock that never returns a time before ``last`` or before its own last time.

    Without ``clock``, it begins at the system time, and is unaffected when the system clock is set.
    """
    if clock is not None:
        return TickClock(_make_monotonic(clock, last), 0, 1)
    base = max(time.time_ns(), last * 1000) - time.monotonic_ns()
    return TickClock(time.monotonic_ns, base, 1000)


def current_microseconds() -> int:
    """Return the system time in µs since the epoch."""
    return time.time_ns() // 1000


def _make_monotonic(clock: Callable[[], int], last: int) -> Callable[[], int]:
    """Return a clock that repeats its last time when ``clock`` goes back."""

    def now() -> int:
        nonlocal last
        last = max(last, clock())
        return last

    return now
