"""Signals and time limits end each phase of a command, with the exit codes of the table."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from journaltool.exit_codes import ExitCode
from journaltool.processes import signals, supervisor

from tests.support.command_line import build_environment, run_tool, start_tool, wait_for_watch
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.journals import write_stories
from tests.support.programs import ROOT, guest

SLOW_START = """
import ctypes, sys
from journal.engine.session import session_builder, verify
from journaltool.processes import supervisor

supervisor.START_SECONDS_MIN = 0.05

def prepare(*_, **__):
    print("begun", flush=True)
    ctypes.CDLL(None).sleep(100000)

{name} = prepare
from journaltool import main
main()
"""


def start_slowly(at: Path, name: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start a command whose start-up is in native code for a day."""
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_START.format(name=name), *map(str, arguments)],
        cwd=at,
        env={**build_environment(), "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the status of a process in a shell, and what it said on stderr."""
    try:
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
    code = process.returncode
    return (code if code >= 0 else 128 - code), said


def test_a_time_limit_ends_the_start_of_a_run(tmp_path: Path) -> None:
    arguments = ("run", "--timeout", "0.05", "-j", "a.journal", guest("exit7"))
    code, said = finish(start_slowly(tmp_path, "session_builder.prepare_new_run", *arguments))
    assert code == ExitCode.TIMEOUT
    assert said == "journaltool: stopped after 0.05 s, before the program was running\n"
    assert not list(tmp_path.iterdir())


def test_a_time_limit_ends_the_start_of_a_resume_which_can_be_repeated(tmp_path: Path) -> None:
    limit = ("--timeout", "0.3")
    assert run_tool("run", *limit, "-qj", "a.journal", guest("spin"), at=tmp_path).returncode == 124
    code, said = finish(
        start_slowly(tmp_path, "session_builder.prepare", "resume", *limit, "a.journal")
    )
    assert code == ExitCode.TIMEOUT
    assert "before the program was running; continue with: journaltool resume a.journal" in said
    assert run_tool("resume", *limit, "-q", "a.journal", at=tmp_path).returncode == 124


def test_a_time_limit_ends_a_replay(tmp_path: Path) -> None:
    assert run_tool("run", "-qj", "a.journal", guest("exit7"), at=tmp_path).returncode == 7
    replay = ("replay", "--timeout", "0.3", "a.journal")
    code, said = finish(start_slowly(tmp_path, "verify.prepare", *replay))
    assert code == ExitCode.TIMEOUT
    assert said == "journaltool: stopped after 0.3 s, before the end\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_start_of_a_run(number: signal.Signals, tmp_path: Path) -> None:
    process = start_slowly(
        tmp_path, "session_builder.prepare_new_run", "run", "-j", "a.journal", guest("exit7")
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    code, said = finish(process)
    assert (code, said) == (128 + number, "")
    assert not list(tmp_path.iterdir())


def test_a_start_in_time_has_no_limit_afterwards(tmp_path: Path, monkeypatch: Any) -> None:
    ended = list[int]()
    monkeypatch.setattr(supervisor, "START_SECONDS_MIN", 0.01)
    monkeypatch.setattr("os._exit", ended.append)
    with supervisor.limit_start(0.01, tmp_path, quiet=True):
        wait_until(lambda: ended)
    assert ended == [ExitCode.TIMEOUT]
    with supervisor.limit_start(None, tmp_path, quiet=True):
        pass
    assert ended == [ExitCode.TIMEOUT]


class FakeRecorder:
    """A recorder whose guest does not stop."""

    takes_snapshots = False

    def __init__(self) -> None:
        self.stops: list[bool] = []

    def stop(self, *, compact: bool) -> None:
        self.stops.append(compact)

    def notify(self, trigger: object) -> bool:
        return False


def test_a_second_signal_ends_a_guest_that_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    exits, now = list[int](), SimpleNamespace(time=0.0)
    monkeypatch.setattr("os._exit", exits.append)
    monkeypatch.setattr("time.monotonic", lambda: now.time)
    recorder: Any = FakeRecorder()
    watcher = signals.SignalWatcher(recorder, SimpleNamespace(on=frozenset()))  # type: ignore[arg-type]
    actions: dict[int, Callable[[], object]] = watcher.actions()
    actions[signal.SIGINT]()
    now.time += signals.AGAIN_SECONDS / 2
    actions[signal.SIGINT]()  # The shell has passed on the same Ctrl-C.
    assert not exits
    now.time += signals.AGAIN_SECONDS
    actions[signal.SIGTERM]()
    assert exits == [ExitCode.TERMINATED]
    assert watcher.stop_signal == signal.SIGINT
    assert set(recorder.stops) == {False}


def test_a_signal_ends_a_command_that_follows_a_journal(tmp_path: Path) -> None:
    write_stories(tmp_path / "a.journal", [(200, b"text")])
    with start_tool(tmp_path, "inspect", "--follow", "a.journal") as process:
        wait_for_watch(process)
        process.terminate()
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == ExitCode.TERMINATED
    assert said == b""


@pytest.mark.parametrize(
    ("number", "arguments"),
    [(signal.SIGINT, ("compact", "-")), (signal.SIGTERM, ("filter", "-", "--group", "core"))],
)
def test_a_signal_ends_a_command_that_waits_for_its_source_and_leaves_no_file(
    number: signal.Signals, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """The end of the standard input never comes."""
    with start_tool(tmp_path, *arguments, "-o", "out.journal") as process:
        wait_until(lambda: _is_reading(process))
        process.send_signal(number)
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 128 + number
    assert said == b""
    assert not list(tmp_path.iterdir())


def _is_reading(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process waits for its standard input (system call 0, descriptor 0)."""
    call = Path(f"/proc/{process.pid}/syscall")
    try:
        return call.read_text().startswith("0 0x0 ")
    except OSError:
        pytest.skip("the system does not tell the system calls of a process")
