"""``--forward-signals``: signals reach the guest's handler, and a user can always stop a run."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from journaltool.exit_codes import ExitCode
from journaltool.processes import signals

import journal
from tests.support.command_line import (
    read_line,
    run_inside,
    start_on_terminal,
    start_tool,
    write_input,
)
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.programs import guest


def read_until(process: subprocess.Popen[bytes], last: bytes) -> list[bytes]:
    """Return the lines of the guest's output up to ``last``."""
    lines: list[bytes] = []
    while not lines or lines[-1] != last:
        line = read_line(process)
        assert line, lines
        lines.append(line)
    return lines


def test_a_signal_reaches_the_handler_of_the_guest(tmp_path: Path) -> None:
    options = ("--forward-signals", "INT,sigterm", "-j", "j")
    with start_tool(tmp_path, "run", *options, guest("signals"), "wait") as process:
        read_until(process, b"ready 0\n")
        process.send_signal(signal.SIGINT)
        assert read_until(process, b"handled 1\n")[0] == b"signal 2\n"
        write_input(process, b"abc")
        read_until(process, b"read 3\n")
        process.send_signal(signal.SIGTERM)
        read_until(process, b"signal 15\n")
        assert process.wait(DEADLINE_SECONDS) == 3
    assert run_inside("replay", "--verify", "j", at=tmp_path).returncode == 0


@pytest.mark.deep
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR2])
def test_a_signal_stops_a_guest_without_a_handler(number: signal.Signals, tmp_path: Path) -> None:
    options = ("--forward-signals", number.name, "-j", "j")
    with start_tool(tmp_path, "run", *options, guest("stdin")) as process:
        assert read_line(process)
        process.send_signal(number)
        assert process.wait(DEADLINE_SECONDS) == 128 + number
    done = run_inside("resume", *options[:2], "j", at=tmp_path)
    assert done.returncode == 0


@pytest.mark.deep
def test_a_guest_sees_the_new_size_of_its_terminal(tmp_path: Path) -> None:
    command = ("run", "--forward-signals", "WINCH,TERM", guest("signals"), "wait")
    with start_on_terminal(tmp_path, *command) as session:
        session.read_until(b"ready 0")
        session.resize(columns=123, rows=41)
        session.process.send_signal(signal.SIGWINCH)
        session.read_until(b"size 123 41")
        session.process.send_signal(signal.SIGTERM)
        session.read_until(b"signal 15")
        assert session.read_to_end() == 3


@pytest.mark.parametrize("names", ["KILL", "STOP", "INT,", "", "SIGSIGINT", "2", "CHLD"])
def test_other_names_are_refused(names: str, tmp_path: Path) -> None:
    done = run_inside("run", "--forward-signals", names, guest("stdin"), at=tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert b"--forward-signals cannot forward" in done.stderr


class FakeRecorder:
    """A recorder that notes its calls. Its guest takes signals if ``takes`` is set."""

    takes_snapshots = False

    def __init__(self, *, takes: bool) -> None:
        self.takes = takes
        self.calls: list[Any] = []

    def signal(self, number: int) -> bool:
        self.calls.append(number)
        return self.takes

    def stop(self, *, compact: bool) -> None:
        self.calls.append("stop")

    def notify(self, trigger: object) -> bool:
        return False


def watch(recorder: FakeRecorder, *forwarded: signal.Signals) -> signals.SignalWatcher:
    options = journal.engine.SnapshotOptions(on=frozenset())
    return signals.SignalWatcher(recorder, options, forwarded)  # type: ignore[arg-type]


def test_a_signal_that_the_guest_does_not_take_acts_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped: list[int] = []
    monkeypatch.setattr(os, "kill", lambda process, number: stopped.append(number))
    recorder = FakeRecorder(takes=False)
    actions = watch(
        recorder, signal.SIGINT, signal.SIGWINCH, signal.SIGTSTP, signal.SIGUSR1
    ).actions()
    for number in (signal.SIGWINCH, signal.SIGTSTP, signal.SIGINT, signal.SIGUSR1):
        actions[number]()
    assert stopped == [signal.SIGSTOP]
    assert recorder.calls == [
        *(signal.SIGWINCH, signal.SIGTSTP, signal.SIGINT, "stop"),
        *(signal.SIGUSR1, "stop"),
    ]
    assert watch(recorder).actions().keys() == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def test_a_second_signal_stops_a_guest_that_has_not_handled_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = FakeRecorder(takes=True)
    watcher = watch(recorder, signal.SIGINT)
    interrupt = watcher.actions()[signal.SIGINT]
    interrupt()
    recorder.takes = False
    interrupt()  # A shell may pass on the same keystroke.
    assert recorder.calls == [signal.SIGINT] * 2
    monkeypatch.setattr(signals, "AGAIN_SECONDS", 0.0)
    interrupt()
    assert recorder.calls == [*[signal.SIGINT] * 3, "stop"]
    assert watcher.stop_signal == signal.SIGINT
