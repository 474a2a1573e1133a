"""Replay: time until a resume reaches the state just before the recorded end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import micro, workloads
from benchmarks.figures import RATIO, Figure, ratios
from benchmarks.peers import ROOT, Measurement, Peer, Plan, journal_path, measure
from benchmarks.rounds import check_agreement
from benchmarks.stopwatch import FOLDER
from journal import Reader, Writer
from journal.events.core import ProcessExit

REPLAY_RATIO_MAX = 0.8
_COUNT = 300_000
_GUESTS = ROOT / "fixtures" / "guests"


def _loop(name: str, peer: Peer) -> Plan:
    return Plan(peer=peer, wasm=str(micro.build_module(name, _COUNT)), folder="")


def _guest(arguments: tuple[str, ...], peer: Peer) -> Plan:
    wasm = str(_GUESTS / f"{arguments[0]}.wasm")
    return Plan(peer=peer, wasm=wasm, folder="", arguments=arguments)


CASES: dict[str, Callable[[Peer], Plan]] = {
    "quickjs": partial(workloads.make_plan, "quickjs"),
    "cpython": partial(workloads.make_plan, "cpython"),
    "clocks": partial(_loop, "clock"),
    "file-writes": partial(_loop, "file-write"),
    "prints": partial(_guest, ("chatty", "50000")),
    "sleeps": partial(_guest, ("sleepy", "20", "10000")),
}
#: Cases whose recorded run waits for the disk or for a time, so that its CPU time says little.
_WAITING = ("prints", "sleeps")
_WORDS = {
    "clocks": f"{_COUNT} clock readings",
    "file-writes": f"{_COUNT} writes to a file in memory",
    "prints": "50000 lines, synced before delivery",
    "sleeps": "20 times three sleeps of up to 10 ms",
}


def figures(name: str, rounds: int) -> Iterator[Figure]:
    """Yield the figures of one case. The first round only warms up."""
    recorded: list[Measurement] = []
    resumed: list[Measurement] = []
    for index in range(rounds + 1):
        pair = _measure_pair(CASES[name](Peer.RECORDED))
        if index:
            recorded.append(pair[0])
            resumed.append(pair[1])
    check_agreement({Peer.RECORDED: recorded, Peer.RESUMED: resumed})
    group = f"replay: {_WORDS.get(name, f'workload {name}')}"
    limit = REPLAY_RATIO_MAX
    wall = [tuple(run.whole.wall for run in runs) for runs in (resumed, recorded)]
    cpu = [tuple(run.whole.cpu for run in runs) for runs in (resumed, recorded)]
    yield Figure(
        group=group, name="replay / recorded, wall", unit=RATIO, values=ratios(*wall), limit=limit
    )
    yield Figure(
        group=group,
        name="replay / recorded, CPU",
        unit=RATIO,
        values=ratios(*cpu),
        limit=None if name in _WAITING else limit,
    )
    for text, runs in (("recorded", recorded), ("replay", resumed)):
        opening = tuple(run.opening.wall for run in runs)
        running = tuple(run.running.wall for run in runs)
        yield Figure(group=group, name=f"{text}: opening, wall", unit="s", values=opening)
        yield Figure(group=group, name=f"{text}: running, wall", unit="s", values=running)


def _measure_pair(plan: Plan) -> tuple[Measurement, Measurement]:
    """Measure a recorded run and the replay of its journal."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        recorded = measure(replace(plan, folder=name))
        cut(journal_path(folder), folder / "cut")
        shutil.move(folder / "cut", journal_path(folder))
        return recorded, measure(replace(plan, folder=name, peer=Peer.RESUMED))


def cut(source: Path, target: Path) -> None:
    """Copy a journal up to the end of its program, block by block."""
    now = 0
    with Reader(source) as reader, Writer(target, clock=lambda: now) as writer:
        offset = -1
        for frame in reader.frames():
            if frame.tag == ProcessExit.tag:
                return
            if frame.offset != offset:
                writer.flush()
                offset = frame.offset
            now = frame.time
            writer.append_frame(frame.tag, frame.payload)
