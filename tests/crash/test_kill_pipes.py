"""Pipes and kills: of many small writes one may be in doubt; input resumes at its position."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.kill_bench import strace
from tests.support.killed_runs import (
    CACHE_HOME,
    JOURNALTOOL,
    Outputs,
    Place,
    Plan,
    SyscallKill,
    Trial,
    writes_of,
)
from tests.support.programs import guest
from tests.support.run_results import is_printed_once

__all__ = ["strace"]

COUNT = 300


def expected_output() -> bytes:
    """Return the output of the guest chatty."""
    said = "".join(f"{number}{chr(10) if number % 16 == 15 else ' '}" for number in range(COUNT))
    return f"{said}\n{COUNT} said\n".encode()


@pytest.mark.deep
@pytest.mark.parametrize("drop", [False, True], ids=["repeat", "drop"])
@pytest.mark.parametrize("nth", [2, 57, 290])
def test_of_many_small_writes_only_one_is_in_doubt(
    nth: int, drop: bool, strace: str, tmp_path: Path
) -> None:
    if strace:
        pytest.skip(strace)
    plan = Plan(
        guest("chatty"),
        (str(COUNT),),
        b"",
        place=Place.MEMORY,
        outputs=Outputs.PIPES,
        in_flight="drop" if drop else "repeat",
    )
    trial = Trial(plan, tmp_path / "trial")
    kills = [SyscallKill("write", nth), SyscallKill("write", 5), SyscallKill("pwrite64", 9), None]
    for kill in kills:
        code = trial.session(kill)
    assert trial.kills >= 1, trial.codes
    assert code == 0, trial.last_words()
    written = [data for stream, data in writes_of(trial.journal) if stream == 1]
    assert b"".join(written) == expected_output()
    assert is_printed_once(expected_output(), trial.heard[0], written, drop), trial.heard[0]


@pytest.mark.deep
def test_a_pipe_goes_on_behind_what_the_killed_process_had_read(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    said = tmp_path / "said"
    said.touch()
    command = ["run", "--journal", str(tmp_path / "j"), str(guest("cat")), "3"]
    for number in range(4):
        process = _start(command, reads, said)
        os.write(writes, b"line %d\n" % number)
        _wait_for_output(said, b"".join(b"line %d\n" % line for line in range(number + 1)), process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        command = ["resume", "--quiet", str(tmp_path / "j")]
    os.close(writes)
    process = _start(command, reads, said)
    assert process.wait(DEADLINE_SECONDS) == 0
    os.close(reads)
    assert said.read_bytes() == b"line 0\nline 1\nline 2\nline 3\n"


def _start(command: list[str], stdin: int, said: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"XDG_CACHE_HOME": str(CACHE_HOME)}
    with said.open("ab") as stdout:
        return subprocess.Popen(
            [*JOURNALTOOL, *command],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            env=environment,
        )


def _wait_for_output(path: Path, wanted: bytes, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while path.read_bytes() != wanted:
        assert process.poll() is None, f"it ended, and said {path.read_bytes()!r}"
        assert time.monotonic() < deadline, f"it said {path.read_bytes()!r}"
        time.sleep(0.002)
