"""Instances per second: made, called once and dropped, by journal and by wasmtime's objects."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

import wasmtime

from benchmarks.figures import Figure, ratios
from benchmarks.stopwatch import module_folder
from journal.engine import InstanceAllocationStrategy, InstancePool, OnDemand, Pooling

COUNT, QUICK_COUNT = 4000, 1000
CPU_MICROS_MAX, PROCESSES_MIN = 1e6 / 70_000, 1.95
_BURSTS = 5
_GROUP = "instances of a module with 1 MiB"
_KEPT = 16 << 10
"""Bytes of a dropped memory that are cleared in place, more than the module writes."""

MODULE = """(module (memory (export "memory") 16)
    (data (i32.const 0) "hello") (data (i32.const 70000) "x")
    (func (export "run") (result i32)
        (i32.store (i32.const 4096) (i32.const 7)) (i32.load (i32.const 4096))))"""
POOL = Pooling(
    total_core_instances=64,
    total_memories=64,
    total_tables=64,
    total_stacks=0,
    max_memory_size=64 << 20,
    linear_memory_keep_resident=_KEPT,
)

Loop = Callable[[int], None]


class Subject(NamedTuple):
    """A way to make instances, and the function that returns its loop."""

    name: str
    make_loop: Callable[[], Loop]


def figures(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """Yield the rates of each subject in one process, and of the pool in two processes."""
    count = QUICK_COUNT if quick else COUNT
    loops = {subject.name: subject.make_loop() for subject in SUBJECTS}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    processor: dict[str, list[float]] = {name: [] for name in loops}
    for loop in loops.values():
        loop(count)
    for _ in range(rounds):
        for name, loop in loops.items():
            rate, seconds = _measure(loop, count)
            rates[name].append(rate)
            processor[name].append(seconds * 1e6)
    for name in loops:
        yield Figure(group=_GROUP, name=name, unit="/s", values=tuple(rates[name]))
        times, limit = tuple(processor[name]), CPU_MICROS_MAX if name == POOLED else None
        yield Figure(group=_GROUP, name=f"{name}, CPU each", unit="µs", values=times, limit=limit)
    over = ratios(rates[POOLED], rates[OBJECTS])
    yield Figure(group=_GROUP, name="pool over wasmtime's objects", unit="x", values=over)
    single, double = _measure_processes(1, rounds, count), _measure_processes(2, rounds, count)
    name, note = "two processes over one", "the rates by the clock: other load counts"
    values = ratios(double.by_clock, single.by_clock)
    yield Figure(group=_GROUP, name=name, unit="x", values=values, note=note)
    values, note = ratios(double.by_cpu, single.by_cpu), "instances per second of a processor"
    name = f"{name}, by CPU"
    yield Figure(group=_GROUP, name=name, unit="x", values=values, floor=PROCESSES_MIN, note=note)


def _measure(loop: Loop, count: int) -> tuple[float, float]:
    """Return the best rate of a few bursts, and the smallest CPU time of one instance."""
    best_wall = best_cpu = float("inf")
    for _ in range(_BURSTS):
        wall, cpu = time.perf_counter(), time.process_time()
        loop(count)
        best_cpu = min(best_cpu, time.process_time() - cpu)
        best_wall = min(best_wall, time.perf_counter() - wall)
    return count / best_wall, best_cpu / count


# -- subjects -------------------------------------------------------------------------------------


def _make_pool_loop(allocation: InstanceAllocationStrategy) -> Loop:
    pool = InstancePool(
        bytes(wasmtime.wat2wasm(MODULE)), allocation=allocation, cache=module_folder()
    )

    def loop(count: int) -> None:
        call = pool.call
        for _ in range(count):
            call("run")

    return loop


def _make_many_loop() -> Loop:
    pool = InstancePool(bytes(wasmtime.wat2wasm(MODULE)), allocation=POOL, cache=module_folder())

    def loop(count: int) -> None:
        pool.call_many("run", [()] * count)

    return loop


def _make_object_loop() -> Loop:
    engine = wasmtime.Engine()
    pre_instance = wasmtime.Linker(engine).instantiate_pre(wasmtime.Module(engine, MODULE))

    def loop(count: int) -> None:
        for _ in range(count):
            store = wasmtime.Store(engine)
            function: Any = pre_instance.instantiate(store).exports(store)["run"]
            function(store)
            store.close()

    return loop


POOLED = "InstancePool.call, Pooling"
OBJECTS = "objects of wasmtime-py, on demand"
SUBJECTS = (
    Subject(POOLED, lambda: _make_pool_loop(POOL)),
    Subject("InstancePool.call_many, Pooling", _make_many_loop),
    Subject("InstancePool.call, OnDemand", lambda: _make_pool_loop(OnDemand())),
    Subject(OBJECTS, _make_object_loop),
)


# -- processes ------------------------------------------------------------------------------------


class Rates(NamedTuple):
    """Rates of all processes together in each round, by the clock and by their CPU time."""

    by_clock: list[float]
    by_cpu: list[float]


def _measure_processes(processes: int, rounds: int, count: int) -> Rates:
    """Return the rates of processes that run at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_work, args=(barrier, results, rounds, count))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    rates = Rates([0.0] * rounds, [0.0] * rounds)
    for _ in range(processes * rounds):
        index, rate, seconds = results.get()
        rates.by_clock[index] += rate
        rates.by_cpu[index] += 1 / seconds
    for worker in workers:
        worker.join()
    return rates


def _work(barrier: Barrier, results: Any, rounds: int, count: int) -> None:
    loop = _make_pool_loop(POOL)
    loop(count)
    for index in range(rounds):
        barrier.wait()
        results.put((index, *_measure(loop, count)))
