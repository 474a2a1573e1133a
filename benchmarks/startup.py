"""Start-up as a shell sees it, with a module that is already compiled."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import wasmtime

from benchmarks.figures import Figure
from benchmarks.peers import ROOT
from benchmarks.stopwatch import FOLDER, Stopwatch
from journal.engine.configuration import Configuration
from journal.engine.program.engine import make_engine
from tools import programs

START_MILLISECONDS_MAX = 250
_GROUP = "start-up, wall"
_IMPORTS_COUNT = 8


def environment() -> dict[str, str]:
    """Return our environment, with compiled Python files like those of an installed package."""
    variables = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**variables, "PYTHONPYCACHEPREFIX": str(FOLDER / "bytecode")}


def figures(times: int) -> Iterator[Figure]:
    """Yield the time of a run of the smallest program, and of its parts."""
    guest = ROOT / "fixtures" / "guests" / "exit7.wasm"
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        journal = Path(folder) / "journal"
        tool = [sys.executable, "-m", "journaltool"]
        run = [*tool, "run", "--force", "--quiet", "--journal", str(journal), str(guest)]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import wasmtime'": [sys.executable, "-c", "import wasmtime"],
            "python -c 'import journal.engine.session.api'": [
                *(sys.executable, "-c", "import journal.engine.session.api")
            ],
            "journaltool --version": [*tool, "--version"],
            "journaltool run of a cached module": run,
        }
        times_by_name: dict[str, list[float]] = {name: [] for name in commands}
        for index in range(times + 1):
            for name, command in commands.items():
                elapsed = measure_milliseconds(command, 7 if command is run else 0)
                if index:
                    times_by_name[name].append(elapsed)
        for name, values in times_by_name.items():
            limit = START_MILLISECONDS_MAX if commands[name] is run else None
            yield Figure(group=_GROUP, name=name, unit="ms", values=tuple(values), limit=limit)
        yield from _measure_imports(run)
    yield from _measure_compilations()


def measure_milliseconds(command: Sequence[str], code: int) -> float:
    """Return the wall time of a command that exits with ``code``."""
    begin = time.perf_counter()
    process = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=False)
    elapsed = (time.perf_counter() - begin) * 1000
    if process.returncode != code:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}: {process.stderr.decode()}")
    return elapsed


def _measure_imports(run: Sequence[str]) -> Iterator[Figure]:
    """Yield the modules with the longest import times of their own, from ``-X importtime``."""
    command = [run[0], "-X", "importtime", *run[1:]]
    process = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    import_times: dict[str, float] = {}
    for line in process.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").rpartition("|")
        if "|" in own and own.split("|")[0].strip().isdigit():
            import_times[name.strip()] = int(own.split("|")[0]) / 1000
    for name in sorted(import_times, key=lambda name: -import_times[name])[:_IMPORTS_COUNT]:
        yield Figure(
            group="start-up: imports, traced", name=name, unit="ms", values=(import_times[name],)
        )
    yield Figure(
        group="start-up: imports, traced",
        name=f"all {len(import_times)}",
        unit="ms",
        values=(sum(import_times.values()),),
    )


def _measure_compilations() -> Iterator[Figure]:
    """Yield the extra time of a module's first run, which compiles it on all cores."""
    settings = Configuration()
    for name in ("quickjs", "cpython"):
        data = programs.fetch(name).read_bytes()
        watch = Stopwatch()
        wasmtime.Module(make_engine(settings), data)
        span = watch.lap()
        group = f"compiling {name} ({len(data) >> 10} KiB), once per machine"
        yield Figure(group=group, name="wall", unit="s", values=(span.wall,))
        yield Figure(group=group, name="CPU", unit="s", values=(span.cpu,))
