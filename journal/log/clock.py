"""The clocks that events have their times from."""

import time
from collections.abc import Callable


def current_microseconds() -> int:
    """The system's time, µs since the epoch."""
    return time.time_ns() // 1000


def make_monotonic(clock: Callable[[], int], last: int) -> Callable[[], int]:
    """Make a clock that stands still where another goes back."""

    def now() -> int:
        nonlocal last
        last = max(last, clock())
        return last

    return now
