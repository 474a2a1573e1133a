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
from journal.engine.program.module import make_engine
from tools import programs

START_MILLISECONDS_MAX = 250
_GROUP = "start-up, wall"
_SHOWN = 8


def environment() -> dict[str, str]:
    """Return our environment, with compiled Python files like those of an installed package."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(FOLDER / "bytecode")}


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
        found: dict[str, list[float]] = {name: [] for name in commands}
        for index in range(times + 1):
            for name, command in commands.items():
                taken = milliseconds(command, 7 if command is run else 0)
                if index:
                    found[name].append(taken)
        for name, values in found.items():
            limit = START_MILLISECONDS_MAX if commands[name] is run else None
            yield Figure(group=_GROUP, name=name, unit="ms", values=tuple(values), limit=limit)
        yield from _imports(run)
    yield from _compilations()


def milliseconds(command: Sequence[str], code: int) -> float:
    """Return the wall time of a command that exits with ``code``."""
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=False)
    taken = (time.perf_counter() - begin) * 1000
    if done.returncode != code:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.decode()}")
    return taken


def _imports(run: Sequence[str]) -> Iterator[Figure]:
    """Return the modules with the longest own import time, from ``-X importtime``."""
    command = [run[0], "-X", "importtime", *run[1:]]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    took: dict[str, float] = {}
    for line in done.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").rpartition("|")
        if "|" in own and own.split("|")[0].strip().isdigit():
            took[name.strip()] = int(own.split("|")[0]) / 1000
    for name in sorted(took, key=lambda name: -took[name])[:_SHOWN]:
        yield Figure(group="start-up: imports, traced", name=name, unit="ms", values=(took[name],))
    yield Figure(
        group="start-up: imports, traced",
        name=f"all {len(took)}",
        unit="ms",
        values=(sum(took.values()),),
    )


def _compilations() -> Iterator[Figure]:
    """Return the extra time of a module's first run, which compiles it on all cores."""
    settings = Configuration()
    for name in ("quickjs", "cpython"):
        data = programs.fetch(name).read_bytes()
        watch = Stopwatch()
        wasmtime.Module(make_engine(settings), data)
        span = watch.lap()
        group = f"compiling {name} ({len(data) >> 10} KiB), once per machine"
        yield Figure(group=group, name="wall", unit="s", values=(span.wall,))
        yield Figure(group=group, name="CPU", unit="s", values=(span.cpu,))
