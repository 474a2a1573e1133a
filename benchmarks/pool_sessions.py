"""Sessions through the worker processes of a pool: checkout, one call, and return."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import journal
from benchmarks import clone_sessions
from benchmarks.figures import Figure, Side
from benchmarks.stopwatch import FOLDER
from journal.engine.recipes import driver_protocol
from journal.engine.recipes.sandbox import PythonSandbox, QuickJSSandbox, Sandbox
from tools import programs

WORKERS = 2
CLIENTS = 2
"""Threads that check out sessions: one for each worker.

With two slots a worker costs a fifth more, because two guests take turns at Python's lock.
"""
SESSIONS = 4000
QUICK_SESSIONS = 400

_CACHE = FOLDER / "wasm-journal" / "modules"
_VALUE_SIZE_MAX = 1 << 20
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


class Case(NamedTuple):
    """A sandbox with an interpreter, the code of one call, and the target in sessions a second."""

    prepare: Callable[[Path], Sandbox]
    code: str
    rate_min: float


CASES = {
    "quickjs": Case(
        lambda path: QuickJSSandbox.prepare(programs.fetch("quickjs"), path, cache=_CACHE),
        "[1, 2, 3].map(x => x * x).join()",
        5000,
    ),
    "cpython": Case(
        lambda path: PythonSandbox.prepare(programs.fetch("cpython"), path, cache=_CACHE),
        "sum(x * x for x in range(3))",
        2000,
    ),
}


class Load(NamedTuple):
    """Cost of a number of sessions: wall time, and processor time of the pool and its workers."""

    wall: float
    pool_cpu: float
    worker_cpu: float


def figures(name: str, rounds: int, session_count: int) -> Iterator[Figure]:
    """Yield the sessions a second, and the processor time of a session.

    The target is for an interpreter that evaluates a line, as in ``clone_sessions``. A sandbox does
    more: its requests and replies are JSON, and say what failed.
    """
    case = CASES[name]
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / "warm.journal"
        line = clone_sessions.warm_interpreter(name, path)
        loads = _measure_rounds(path, line, rounds, session_count)
        yield from _make_figures(f"pool: {name}, a line", loads, session_count, case.rate_min)
        sandbox = case.prepare(Path(folder) / "sandbox.journal")
        nonce, seed = driver_protocol.make_nonce(), driver_protocol.make_seed()
        request = driver_protocol.encode_request(nonce, seed, _VALUE_SIZE_MAX, "<code>", case.code)
        loads = _measure_rounds(sandbox.path, request, rounds, session_count)
        yield from _make_figures(f"pool: {name}, a sandbox", loads, session_count)


def _measure_rounds(path: Path, data: bytes, rounds: int, session_count: int) -> list[Load]:
    with journal.Pool(path, workers=WORKERS, slots=1, cache=_CACHE) as pool:
        _run_sessions(pool, data, session_count // 10)
        return [_measure(pool, data, session_count) for _ in range(rounds)]


def _make_figures(
    group: str, loads: list[Load], session_count: int, rate_min: float | None = None
) -> Iterator[Figure]:
    group = f"{group}: checkout, one call and return through {WORKERS} workers"
    yield Figure(
        group=group,
        name="sessions, wall",
        unit="1/s",
        values=tuple(session_count / load.wall for load in loads),
        floor=rate_min,
        side=Side.OURS,
    )
    cpu = [(load.pool_cpu, load.worker_cpu) for load in loads]
    yield Figure(
        group=group,
        name="sessions, if two cores do nothing else",
        unit="1/s",
        values=tuple(WORKERS * session_count / sum(each) for each in cpu),
        floor=rate_min,
        note="two seconds of processor time each second",
    )
    for index, part in enumerate(("the pool", "the workers")):
        yield Figure(
            group=group,
            name=f"a session, CPU of {part}",
            unit="µs",
            values=tuple(each[index] / session_count * 1e6 for each in cpu),
        )


def _measure(pool: journal.Pool, request: bytes, count: int) -> Load:
    processes = pool.status.process_ids
    cpu, worker_cpu, begin = time.process_time(), _read_cpu(processes), time.perf_counter()
    _run_sessions(pool, request, count)
    wall = time.perf_counter() - begin
    return Load(wall, time.process_time() - cpu, _read_cpu(processes) - worker_cpu)


def _run_sessions(pool: journal.Pool, request: bytes, count: int) -> None:
    """Run sessions in several threads, and check each answer."""

    def run_some(_: int) -> None:
        for _ in range(count // CLIENTS):
            with pool.checkout() as session:
                reply = session.run(request)
            assert reply.is_alive, reply
            assert reply.stdout, reply

    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(run_some, range(CLIENTS)))


def _read_cpu(processes: tuple[int, ...]) -> float:
    """Return the processor time of processes in seconds."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * _TICK_SECONDS
