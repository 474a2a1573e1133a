"""Clocks for the times of events."""

import time
from collections.abc import Callable


def current_microseconds() -> int:
    """Return the system time in µs since the epoch."""
    return time.time_ns() // 1000


def make_monotonic(clock: Callable[[], int], last: int) -> Callable[[], int]:
    """Return a clock that repeats its last time when ``clock`` goes back."""

    def now() -> int:
        nonlocal last
        last = max(last, clock())
        return last

    return now
