"""Stacks: the cost of an instrumented guest, whose stack can be part of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import wasmtime

from benchmarks.figures import RATIO, Figure, ratios
from benchmarks.peers import ROOT, Measurement, Peer, Plan
from benchmarks.rounds import run_alone
from benchmarks.stopwatch import FOLDER, Stopwatch, module_folder
from benchmarks.workloads import make_plan
from journal.engine.program.instrument import instrument

_PLAIN, _CALLS, _LOOPS = "plain", "unwound at calls", "unwound at calls and loops"

_POINTERS = """(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (table (export "pointers") funcref (elem $fibonacci))
    (func $fibonacci (param i32) (result i32)
        (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (local.get 0)) (else
            (i32.add
                (call_indirect (param i32) (result i32)
                    (i32.sub (local.get 0) (i32.const 1)) (i32.load (i32.const 0)))
                (call_indirect (param i32) (result i32)
                    (i32.sub (local.get 0) (i32.const 2)) (i32.load (i32.const 0)))))))
    (func (export "_start") (call $exit
        (i32.ne (call $fibonacci (i32.const 36)) (i32.const 14930352)))))"""


def _compute_loops() -> Plan:
    """Return loops in C, as compiled; no call in them can reach the host."""
    guest = ROOT / "fixtures" / "guests" / "computing.wasm"
    return _plan(guest, "computing", "300")


def _compute_pointers() -> Plan:
    """Return Fibonacci numbers with calls through a pointer; each might reach the host."""
    path = FOLDER / "pointers.wasm"
    path.write_bytes(wasmtime.wat2wasm(_POINTERS))
    return _plan(path, "pointers")


def _plan(wasm: Path, *arguments: str) -> Plan:
    return Plan(peer=Peer.WASI_REPEATABLE, wasm=str(wasm), folder="", arguments=arguments)


CASES: dict[str, Callable[[], Plan]] = {
    "computing": _compute_loops,
    "pointers": _compute_pointers,
    "quickjs": lambda: make_plan("quickjs", Peer.WASI_REPEATABLE),
    "cpython": lambda: make_plan("cpython", Peer.WASI_REPEATABLE),
}


def figures(name: str, rounds: int) -> Iterator[Figure]:
    """Yield ratios of the instrumented to the unmodified program, and the time to instrument."""
    plan, group = CASES[name](), f"stacks {name}"
    plans = {_PLAIN: plan}
    plain = Path(plan.wasm).read_bytes()
    for variant in (_CALLS, _LOOPS):
        watch = Stopwatch()
        module = instrument(plain, loops=variant is _LOOPS)
        seconds = watch.lap().wall
        path = module_folder() / f"{name}-{module.hash.hex()[:16]}.wasm"
        path.write_bytes(module.data)
        plans[variant] = replace(plan, wasm=str(path))
        size = (len(module.data) / len(plain),)
        yield Figure(group=group, name=f"{variant}: instrumentation", unit="s", values=(seconds,))
        yield Figure(
            group=group, name=f"{variant}: size", unit=RATIO, values=size, note=module.tool
        )
    runs_by_variant = _run_interleaved(plans, rounds)
    for variant in (_CALLS, _LOOPS):
        for kind, words in (("cpu", "CPU"), ("wall", "wall")):
            values = ratios(
                _seconds(runs_by_variant[variant], kind), _seconds(runs_by_variant[_PLAIN], kind)
            )
            yield Figure(group=group, name=f"{variant} / plain, {words}", unit=RATIO, values=values)
    for variant, runs in runs_by_variant.items():
        yield Figure(group=group, name=f"{variant}: CPU", unit="s", values=_seconds(runs, "cpu"))


def _run_interleaved(plans: dict[str, Plan], rounds: int) -> dict[str, list[Measurement]]:
    """Run each plan once in each round. The first round only warms up."""
    runs_by_variant: dict[str, list[Measurement]] = {variant: [] for variant in plans}
    for index in range(rounds + 1):
        for variant, plan in plans.items() if index % 2 else reversed(plans.items()):
            measurement = run_alone(plan)
            if index:
                runs_by_variant[variant].append(measurement)
    return runs_by_variant


def _seconds(runs: list[Measurement], kind: str) -> tuple[float, ...]:
    return tuple(run.running.cpu if kind == "cpu" else run.running.wall for run in runs)
