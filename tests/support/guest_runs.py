"""Runs of guests in this process."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import journal
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.killed_runs import CACHE_HOME
from tests.support.programs import ROOT, guest

#: Limit of the data of a process. A host that needs more for a small guest fails.
HOST_SIZE_MAX = 1 << 30


def wait_for_end(recorder: journal.Recorder) -> journal.engine.RunResult:
    """Wait for the end of a run, and return its result."""
    outcome = recorder.wait(DEADLINE_SECONDS)
    assert outcome is not None, "the guest does not come to its end"
    return outcome


def record_output(name: str, path: Path, cache: Path, *args: str, stdin: bytes = b"") -> bytes:
    """Record a guest to its end, with its files in memory, and return its output."""
    with journal.record(
        guest(name), path, args=[name, *args], stdin=stdin, cache=cache
    ) as recorder:
        wait_for_end(recorder)
        return recorder.stdout


def run(
    module: bytes, path: Path, cache: Path, limits: journal.engine.Configuration | None = None
) -> journal.engine.RunResult:
    """Record a module to its end, with its files in memory, and return the result."""
    with journal.record(module, path, configuration=limits, cache=cache) as recorder:
        return wait_for_end(recorder)


def run_limited_tool(
    *arguments: str | Path, folder: Path, timeout: float = DEADLINE_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run journaltool in a process with little memory."""
    return subprocess.run(
        [sys.executable, "-m", "journaltool", *map(str, arguments)],
        cwd=folder,
        env={"XDG_CACHE_HOME": str(CACHE_HOME), "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        preexec_fn=_with_little_memory,
    )


def _with_little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (HOST_SIZE_MAX, HOST_SIZE_MAX))
