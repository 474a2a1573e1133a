"""Processes and kills: a run of several processes that is killed at any moment loses no byte."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from journal.engine import verify_replay
from tests.support.budget import Budget
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.killed_runs import CACHE, CACHE_HOME, JOURNALTOOL
from tests.support.programs import guest

SHELL, PROCESSES = guest("shell"), guest("processes")
COMMANDS = [
    *(f"--command={name}={SHELL}" for name in ("emit", "upper", "sum", "fail")),
    f"--command=processes={PROCESSES}",
]
PIPELINES = ("emit 2000 | upper | sum", "fail 3 | fail 4", "emit 1500 | upper | upper")
#: Program, arguments, and exit code of each run.
RUNS: dict[str, tuple[Path, tuple[str, ...], int]] = {
    "pipelines": (SHELL, PIPELINES, 0),
    "generations": (PROCESSES, ("generations", "3"), 3),
    "forks": (PROCESSES, ("forks",), 0),
    "programs": (PROCESSES, ("replace", "handles"), 0),
}
TRIALS = 200


def start(path: Path, name: str) -> subprocess.Popen[bytes]:
    """Start a run, or resume it if its journal exists. Its output is appended to a file."""
    module, arguments, _ = RUNS[name]
    command = ["resume", str(path)] if path.exists() else ["run", "--journal", str(path)]
    program = [] if path.exists() else [str(module), *arguments]
    with path.with_suffix(".output").open("ab") as output:
        return subprocess.Popen(
            [*JOURNALTOOL, *command, "--quiet", *COMMANDS, *program],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            env=os.environ | {"XDG_CACHE_HOME": str(CACHE_HOME)},
        )


def finish(path: Path, name: str) -> bytes:
    """Run to the end, and return the output."""
    process = start(path, name)
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == RUNS[name][2], errors
    return path.with_suffix(".output").read_bytes()


def kill_and_finish(path: Path, name: str, chance: random.Random) -> tuple[bytes, int]:
    """Kill a run at random moments, resume it to its end; return the output and count the kills."""
    kills = 0
    for _ in range(chance.randrange(1, 5)):
        process = start(path, name)
        try:
            process.communicate(timeout=chance.uniform(0.2, 1.5))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    return finish(path, name), kills


@pytest.mark.deep
@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_processes_that_is_killed_prints_what_one_that_was_not_prints(
    name: str, tmp_path: Path, budget: Budget
) -> None:
    expected = finish(tmp_path / "whole.journal", name)
    for seed in budget.spend(range(TRIALS), minimum=1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = folder / "a.journal"
        found, kills = kill_and_finish(path, name, random.Random(seed))
        assert found == expected, f"{kills} kills of seed {seed}"
        for each in (path, *sorted((folder / "a.children").glob("*.journal"))):
            assert verify_replay(each, cache=CACHE).matches, f"{each.name} of seed {seed}"
