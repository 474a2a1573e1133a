"""Guests run in this process: started, waited for, and looked at."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import journal
from tests.programs import guest

DEADLINE_SECONDS = 60.0


def finished(recorder: journal.Recorder) -> journal.Outcome:
    """The outcome of a run, which must come."""
    outcome = recorder.wait(DEADLINE_SECONDS)
    assert outcome is not None, "the guest does not come to its end"
    return outcome


def recorded(name: str, path: Path, cache: Path, *args: str, stdin: bytes = b"") -> bytes:
    """Record a guest to its end, with its files in memory; what it printed."""
    with journal.record(
        guest(name), path, args=[name, *args], stdin=stdin, cache=cache
    ) as recorder:
        finished(recorder)
        return recorder.stdout


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come to be."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.001)
