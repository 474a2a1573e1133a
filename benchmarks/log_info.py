"""`journaltool info` from a cold start: its wall time and its imports."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import log_events
from benchmarks.figures import Figure, Side
from benchmarks.log_ours import Ours
from benchmarks.peers import ROOT
from benchmarks.startup import environment, measure_milliseconds
from benchmarks.stopwatch import FOLDER

INFO_MILLISECONDS_MAX = 150.0
_GROUP = "log: journaltool info, cold start"
_UNNEEDED = ("construct", "wasmtime", "numpy", "lmdb", "journal.engine", "journal.events.codec")


def figures(times: int, count: int) -> Iterator[Figure]:
    """Measure `info`, which reads only headers, however large the blocks are."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        path = Path(name) / "log.journal"
        ours = Ours(compress=False)
        with ours.append(path, log_events.make_small_events(count), ours.ways[0]) as operation:
            operation()
        command = [sys.executable, "-m", "journaltool", "info", str(path)]
        empty = [sys.executable, "-c", "pass"]
        times_by_name: dict[str, list[float]] = {"info": [], "python": []}
        for index in range(times + 1):
            pair = measure_milliseconds(command, 0), measure_milliseconds(empty, 0)
            if index:
                times_by_name["info"].append(pair[0])
                times_by_name["python"].append(pair[1])
        unneeded = _list_unneeded_imports(command)
    yield Figure(
        group=_GROUP,
        name=f"journaltool info of {count} events, wall",
        unit="ms",
        values=tuple(times_by_name["info"]),
        limit=INFO_MILLISECONDS_MAX,
        side=Side.OURS,
    )
    yield Figure(
        group=_GROUP,
        name="python -c pass, wall",
        unit="ms",
        values=tuple(times_by_name["python"]),
        side=Side.LIMIT,
    )
    yield Figure(
        group=_GROUP,
        name="unneeded imports",
        unit="modules",
        values=(len(unneeded),),
        limit=0,
        note=", ".join(unneeded),
    )


def _list_unneeded_imports(command: list[str]) -> list[str]:
    """Return the unneeded modules that the command imports, from ``-X importtime``."""
    trace_command = [command[0], "-X", "importtime", *command[1:]]
    process = subprocess.run(
        trace_command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    names = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines()}
    return [name for name in _UNNEEDED if name in names]
