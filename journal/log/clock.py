"""Clocks for the times of events."""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from journal.format.block import TIME_SPAN_MAX

_TIME_MAX = (1 << 63) - 1


class TickClock(NamedTuple):
    """Clock that is cheap to read: ``read`` returns a tick, from which the time is computed later.

    The time in µs since the epoch is ``tick // scale``.
    """

    read: Callable[[], int]
    scale: int


def make_tick_clock(clock: Callable[[], int] | None) -> TickClock:
    """Return a clock with the times of ``clock``, or without one the real-time clock."""
    if clock is None:
        return TickClock(time.time_ns, 1000)
    read = clock
    return TickClock(lambda: min(max(read(), 0), _TIME_MAX), 1)


def current_microseconds() -> int:
    """Return the real-time clock in µs since the epoch."""
    return time.time_ns() // 1000


def choose_steady_clock(clock: Callable[[], int]) -> Callable[[], int]:
    """Return the clock in µs for durations beside ``clock``: nobody sets it, and it counts the
    time in which the machine is suspended.
    """
    return _steady_microseconds if clock is current_microseconds else clock


def _steady_microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def count_for_one_block(times: Sequence[int]) -> int:
    """Return how many of the times, from the first on, one block can store.

    They must not decrease, and their span is limited. The clock may have been set between any two.
    """
    count = len(times)
    if times != sorted(times):
        count = next(at for at, (time, later) in enumerate(pairwise(times), 1) if later < time)
    return bisect_right(times, times[0] + TIME_SPAN_MAX, 0, count)


def fit_into_one_block(times: Sequence[int]) -> list[int]:
    """Return the times with those changed that one block cannot store beside the first."""
    last = times[0] + TIME_SPAN_MAX
    return [min(time, last) for time in accumulate(times, max)]
