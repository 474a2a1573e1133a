"""Time limits of waiting tests. No test depends on speed: each waits for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE_SECONDS = 120.0
"""Longest wait for a condition that always comes. It only stops a test that would hang."""

_POLL_SECONDS = 0.001


def wait_until(condition: Callable[[], object], reason: str = "the condition never held") -> None:
    """Wait until a condition holds, and fail with ``reason`` if it never does."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, reason
        time.sleep(_POLL_SECONDS)
