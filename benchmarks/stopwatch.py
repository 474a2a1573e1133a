"""Stopwatch for processor and wall time, and folders of the benchmarks."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.peers import ROOT, Span

FOLDER = ROOT / ".cache" / "benchmarks"
MODULES = FOLDER / "modules"


class Stopwatch:
    """Stopwatch that starts when it is created."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def lap(self) -> Span:
        """Return the time since the last lap, or since the start."""
        cpu, wall = time.process_time(), time.perf_counter()
        span = Span(cpu - self._cpu, wall - self._wall)
        self._cpu, self._wall = cpu, wall
        return span


def module_folder() -> Path:
    """Return the folder of compiled modules; create it if it is missing."""
    MODULES.mkdir(mode=0o700, parents=True, exist_ok=True)
    return MODULES
