"""Code in sandboxes: one evaluation in a clean clone, and many through worker processes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figures import Figure, Side
from benchmarks.stopwatch import FOLDER
from journal.engine.recipes.sandbox import PythonSandbox, QuickJSSandbox, Sandbox
from journal.engine.recipes.sandbox_pool import SandboxPool
from tools import programs

MILLISECONDS_MAX = {"quickjs": 0.25, "cpython": 0.5}
PER_SECOND_MIN = {"quickjs": 5000.0, "cpython": 2000.0}
WORKERS = 2
CODE = "1 + 1"

_CACHE = FOLDER / "wasm-journal" / "modules"
_SANDBOXES: dict[str, type[PythonSandbox | QuickJSSandbox]] = {
    "quickjs": QuickJSSandbox,
    "cpython": PythonSandbox,
}


def figures(rounds: int, name: str, count: int) -> Iterator[Figure]:
    """Yield the time of an evaluation in this process, and the rate through two workers."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / "warm.journal"
        sandbox = _SANDBOXES[name].prepare(programs.fetch(name), path, cache=_CACHE)
        seconds = list(_measure_alone(sandbox, rounds, count))
        rates = list(_measure_rate(sandbox, rounds, count))
    yield Figure(
        group=f"sandboxes: {name} evaluates {CODE} in a clean clone",
        name="in this process, CPU",
        unit="ms",
        values=tuple(1000 * each for each in seconds),
        limit=MILLISECONDS_MAX[name],
        side=Side.OURS,
    )
    yield Figure(
        group=f"sandboxes: {name} evaluates {CODE} in a clean clone",
        name=f"through {WORKERS} workers, wall",
        unit="1/s",
        values=tuple(rates),
        floor=PER_SECOND_MIN[name],
        side=Side.OURS,
    )


def _measure_alone(sandbox: Sandbox, rounds: int, count: int) -> Iterator[float]:
    """Yield the processor time of one evaluation, which includes the return of its clone."""
    with sandbox.open(workers=0, files=False) as box:
        _evaluate(box, count)
        for _ in range(rounds):
            begin = time.process_time()
            _evaluate(box, count)
            yield (time.process_time() - begin) / count


def _measure_rate(sandbox: Sandbox, rounds: int, count: int) -> Iterator[float]:
    """Yield the evaluations per second of wall time."""
    with (
        sandbox.open(workers=WORKERS, slots=2, files=False) as box,
        ThreadPoolExecutor(2 * WORKERS) as threads,
    ):
        for index in range(rounds + 1):
            begin = time.perf_counter()
            for done in [threads.submit(_evaluate, box, count) for _ in range(2 * WORKERS)]:
                done.result()
            if index:
                yield 2 * WORKERS * count / (time.perf_counter() - begin)


def _evaluate(box: SandboxPool, count: int) -> None:
    for _ in range(count):
        if box.evaluate(CODE).value != 2:
            raise SystemExit("a sandbox gave a wrong value")
