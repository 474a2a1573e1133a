"""Snapshots every tenth of a second of a guest that computes and changes memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import journal
from benchmarks import snap_guests
from benchmarks.figures import RATIO, Figure, Side, ratios
from benchmarks.peers import Span
from benchmarks.stopwatch import FOLDER, Stopwatch, module_folder
from journal.engine import Durability, SnapshotOptions, Stacks
from journal.snapshots import Trigger

PERIOD_SECONDS = 0.1
RATIO_MAX = 1.10

_WORK = 3_000_000
"""Random numbers computed between two calls: about ten milliseconds."""
_TURNS = 10
"""Calls between changes of the page set: one percent changes in each period."""
_PLAIN, _PERIODIC = "without snapshots", f"a snapshot every {PERIOD_SECONDS:g} s"


class Run(NamedTuple):
    """Time of one run while the guest computed and called, and its snapshots."""

    span: Span
    snapshots: int
    pages: int


def figures(rounds: int, mebibytes: int, times: int) -> Iterator[Figure]:
    """Yield the ratios of a run with snapshots to a run of the same module without snapshots."""
    pages = snap_guests.count_hundredth(mebibytes)
    wasm = snap_guests.make_computing_guest(mebibytes, pages, work=_WORK, turns=_TURNS, times=times)
    options = {
        _PLAIN: SnapshotOptions(stacks=Stacks.ALWAYS, on=frozenset({Trigger.SIGALRM})),
        _PERIODIC: SnapshotOptions(
            stacks=Stacks.ALWAYS,
            on=frozenset({Trigger.PERIODIC_INTERVAL}),
            period_seconds=PERIOD_SECONDS,
        ),
    }
    runs_by_name: dict[str, list[Run]] = {name: [] for name in options}
    for index in range(rounds + 1):
        for name in options if index % 2 else reversed(options):
            run = _run(wasm, options[name])
            if index:
                runs_by_name[name].append(run)
    group = f"snapshots: a guest of {mebibytes} MiB that changes {pages} pages between calls"
    for clock in ("cpu", "wall"):
        times_of = {
            name: tuple(getattr(run.span, clock) for run in runs)
            for name, runs in runs_by_name.items()
        }
        yield Figure(
            group=group,
            name=f"{_PERIODIC} / {_PLAIN}, {clock}",
            unit=RATIO,
            values=ratios(times_of[_PERIODIC], times_of[_PLAIN]),
            limit=RATIO_MAX,
        )
        for name, values in times_of.items():
            side = Side.OURS if name == _PERIODIC else Side.LIMIT
            side = side if clock == "cpu" else Side.NONE
            yield Figure(group=group, name=f"{name}, {clock}", unit="s", values=values, side=side)
    yield from _count_snapshots(group, runs_by_name[_PERIODIC])


def _count_snapshots(group: str, runs: list[Run]) -> Iterator[Figure]:
    counts = tuple(float(run.snapshots) for run in runs)
    yield Figure(group=group, name="snapshots in a run", unit="", values=counts)
    pages = tuple(run.pages / max(run.snapshots, 1) for run in runs)
    yield Figure(group=group, name="pages in a snapshot", unit="", values=pages)


def _run(wasm: Path, snapshots: SnapshotOptions) -> Run:
    """Measure from the moment the guest starts to compute, without its initial fill."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / "journal"
        with journal.record(
            wasm,
            path,
            cache=module_folder(),
            durability=Durability.INTERVAL,
            snapshots=snapshots,
        ) as guest:
            # The first snapshot contains all pages and is not measured.
            first = guest.snapshot()
            watch = Stopwatch()
            guest.close_stdin()
            outcome = guest.wait()
            span = watch.lap()
        assert outcome is not None
        assert outcome.code == 0, outcome
        with journal.Reader(path) as reader:
            infos = [info for info in journal.list_snapshots(reader) if info.seq > (first or 0)]
    return Run(span, len(infos), sum(info.pages for info in infos))
