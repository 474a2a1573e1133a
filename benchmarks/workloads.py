"""QuickJS and CPython at work: recorded, without a journal, and under wasmtime's own WASI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import RATIO, Figure, ratios
from benchmarks.peers import ROOT, Measurement, Peer, Plan
from benchmarks.rounds import run_interleaved
from tools import programs

JOURNAL_RATIO_MAX = 1.10
WASI_RATIO_MAX = 1.5

_HERE = ROOT / "benchmarks"
_SCRIPTS = {"quickjs": _HERE / "workload.js", "cpython": _HERE / "workload.py"}
_ARGUMENTS = {"quickjs": ("qjs", "--std", "/workload.js"), "cpython": ("python", "/workload.py")}


def make_plan(name: str, peer: Peer, folder: Path = Path()) -> Plan:
    """Return the plan of a workload."""
    return Plan(
        peer=peer,
        wasm=str(programs.fetch(name)),
        folder=str(folder),
        arguments=_ARGUMENTS[name],
        script=str(_SCRIPTS[name]),
    )


def figures(name: str, rounds: int) -> Iterator[Figure]:
    """Yield the figures of one workload."""
    peers = (Peer.RECORDED, Peer.UNWRITTEN, Peer.WASI, Peer.WASI_REPEATABLE)
    runs_by_peer = run_interleaved([make_plan(name, peer) for peer in peers], rounds)
    group = f"workload {name}"

    def ratio(text: str, other: Peer, kind: str, limit: float | None = None) -> Figure:
        values = ratios(*(_seconds(runs_by_peer[peer], kind) for peer in (Peer.RECORDED, other)))
        return Figure(group=group, name=text, unit=RATIO, values=values, limit=limit)

    for kind, words in (("cpu", "CPU"), ("wall", "wall")):
        yield ratio(f"recorded / no journal, {words}", Peer.UNWRITTEN, kind, JOURNAL_RATIO_MAX)
        yield ratio(f"recorded / wasmtime's WASI, {words}", Peer.WASI, kind, WASI_RATIO_MAX)
    yield ratio("recorded / wasmtime's WASI in our engine, CPU", Peer.WASI_REPEATABLE, "cpu")
    yield Figure(
        group=group,
        name="wasmtime's WASI in our engine / plain, CPU",
        unit=RATIO,
        values=ratios(
            _seconds(runs_by_peer[Peer.WASI_REPEATABLE], "cpu"),
            _seconds(runs_by_peer[Peer.WASI], "cpu"),
        ),
    )
    for peer in peers:
        opening = tuple(run.opening.cpu for run in runs_by_peer[peer])
        running = tuple(run.running.cpu for run in runs_by_peer[peer])
        yield Figure(group=group, name=f"{peer}: opening, CPU", unit="s", values=opening)
        yield Figure(group=group, name=f"{peer}: running, CPU", unit="s", values=running)


def _seconds(runs: list[Measurement], kind: str) -> tuple[float, ...]:
    return tuple(run.whole.cpu if kind == "cpu" else run.whole.wall for run in runs)
