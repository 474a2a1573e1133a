"""A stopwatch for both kinds of time, and where the benchmarks keep what they make."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.peers import ROOT, Span

FOLDER = ROOT / ".cache" / "benchmarks"
MODULES = FOLDER / "modules"


class Stopwatch:
    """Runs from when it is made; `lap` tells the time since then or since the last lap."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def lap(self) -> Span:
        """The time since the last lap."""
        cpu, wall = time.process_time(), time.perf_counter()
        span = Span(cpu - self._cpu, wall - self._wall)
        self._cpu, self._wall = cpu, wall
        return span


def modules() -> Path:
    """Where compiled modules are kept; made if it is not there."""
    MODULES.mkdir(mode=0o700, parents=True, exist_ok=True)
    return MODULES
