"""Resume of a real program in the middle of its work: wall time until the next output."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import journal
from benchmarks.figures import Figure, Side
from benchmarks.peers import ROOT, Span
from benchmarks.startup import environment
from benchmarks.stopwatch import FOLDER
from journal.engine import Durability, FileCopy, SnapshotOptions, Stacks
from journal.snapshots import Trigger
from tools import programs

MILLISECONDS_MAX = {"quickjs": 300.0, "cpython": 400.0}

_SCRIPTS = {"quickjs": "snap_workload.js", "cpython": "snap_workload.py"}
_ARGUMENTS = {"quickjs": ("qjs", "--std"), "cpython": ("python",)}
_CACHE = FOLDER / "wasm-journal" / "modules"
_SUSPEND_ROUND = 20
"""Round of the program after which the snapshot is taken."""
_RESUMED, _REEXECUTED = "from a snapshot", "re-executed"


def figures(name: str, times: int) -> Iterator[Figure]:
    """Yield the times from a resume to the program's next line, with and without a snapshot.

    The first resume creates the image and compiles the module, and is not counted.
    """
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / "journal"
        last_number = _record(name, path)
        spans_by_way: dict[str, list[Span]] = {_RESUMED: [], _REEXECUTED: []}
        for index in range(times + 1):
            for way, options in ((_RESUMED, ()), (_REEXECUTED, ("--reexecute",))):
                span = _resume(path, last_number, options)
                if index:
                    spans_by_way[way].append(span)
    for clock in ("wall", "cpu"):
        for way, spans in spans_by_way.items():
            yield Figure(
                group=f"snapshots: {name} resumed until its next line, {clock}",
                name=way,
                unit="ms",
                values=tuple(getattr(span, clock) * 1000 for span in spans),
                limit=MILLISECONDS_MAX[name] if way == _RESUMED else None,
                side=Side.OURS if way == _RESUMED else Side.PEER,
            )


def _record(name: str, path: Path) -> int:
    """Record a journal that ends with a snapshot. Return the number of its last line."""
    script = ROOT / "benchmarks" / _SCRIPTS[name]
    read_end, stdout = os.pipe()
    with (
        os.fdopen(read_end, encoding="utf-8") as lines,
        journal.record(
            programs.fetch(name),
            path,
            args=[*_ARGUMENTS[name], f"/{script.name}"],
            copies=[FileCopy(str(script), f"/{script.name}")],
            stdin=b"",
            stdout=stdout,
            cache=_CACHE,
            durability=Durability.INTERVAL,
            snapshots=SnapshotOptions(
                stacks=Stacks.ALWAYS, on=frozenset({Trigger.EXPLICIT}), stop_after=True
            ),
            note=print,
        ) as guest,
    ):
        while _number(lines.readline()) < _SUSPEND_ROUND:
            pass
        guest.snapshot()
        guest.wait()
        os.close(stdout)
        return max((_number(line) for line in lines), default=_SUSPEND_ROUND)


def _number(line: str) -> int:
    return int(line.split()[0])


def _resume(path: Path, last_number: int, options: tuple[str, ...]) -> Span:
    """Resume a copy of a journal until a line after number ``last_number`` arrives."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        copy = Path(folder) / "journal"
        shutil.copy(path, copy)
        command = [sys.executable, "-m", "journaltool", "resume", "--quiet", *options, str(copy)]
        before, begin = _children_cpu_seconds(), time.perf_counter()
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment(), "XDG_CACHE_HOME": str(FOLDER)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if _number(line) > last_number:
                    break
            else:
                sys.exit(f"a resume printed no further line: exit code {process.wait()}")
            wall = time.perf_counter() - begin
            process.kill()
            process.stdout.close()
        return Span(_children_cpu_seconds() - before, wall)


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
