"""Progress on stderr: what long phases show on a terminal and elsewhere, and when it disappears."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from journaltool.output import progress, terminal

from tests.support.command_line import start_on_terminal, start_tool
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.programs import guest

_WAITING_TOOL = """#!/bin/sh
[ "$1" = --version ] && echo "wasm-opt version 999" && exit
while [ ! -e "{folder}/go" ]; do sleep 0.05; done
exit 3
"""


def set_quiet_seconds(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.delenv(progress.DELAY_VARIABLE, raising=False)
    for name in ("QUIET_SECONDS", "QUIET_SECONDS_IN_LOGS"):
        monkeypatch.setattr(progress, name, seconds)


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Yield a function that returns the text on stderr. Phases are shown almost at once."""
    stream = io.StringIO()
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=stream))
    set_quiet_seconds(monkeypatch, 0.01)
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.01)
    yield stream.getvalue
    terminal.clear_transient_line()


def test_a_line_on_a_terminal_shows_the_share_and_disappears_with_its_phase(
    stderr: Callable[[], str],
) -> None:
    with progress.ProgressDisplay(is_terminal=True) as report:
        report("working", 0, 10)
        wait_until(lambda: re.search(r"\rjournaltool: working: \d+ s", stderr()))
        report("working", 5, 10)
        wait_until(lambda: "\rjournaltool: working: 50 %, " in stderr())
        report("working", 10, 10)
        after = stderr()
        assert re.fullmatch(r"\r +\r", after.rpartition("s")[2])
        report("working", 10, 10)
        assert stderr() == after
        report("resting", 0, 10)
        wait_until(lambda: "resting" in stderr())
    assert stderr().endswith(" \r")


def test_a_message_takes_the_place_of_the_line(stderr: Callable[[], str]) -> None:
    with progress.ProgressDisplay(is_terminal=True) as report:
        report("working", 0, 10)
        wait_until(lambda: "working" in stderr())
        terminal.print_status("a remark")
        assert " \rjournaltool: a remark\n" in stderr()
        size = len(stderr())
        wait_until(lambda: "working" in stderr()[size:])


def test_elsewhere_a_phase_has_a_line_at_its_begin_and_end_and_some_between(
    stderr: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.ProgressDisplay(is_terminal=False) as report:
        report("working", 0, 10)
        wait_until(stderr)
        report("working", 10, 10)
        line = "journaltool: working"
        assert re.fullmatch(rf"{line}\n{line}: done after \d+ s\n", stderr())
        monkeypatch.setattr(progress, "REPEAT_SECONDS", 0.01)
        report("resting", 1, 3)
        wait_until(lambda: "journaltool: resting\njournaltool: resting: 33 %, " in stderr())


def test_short_phases_and_quiet_commands_show_nothing(
    stderr: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.show_progress(quiet=True) as report:
        assert report is progress.ignore
    set_quiet_seconds(monkeypatch, DEADLINE_SECONDS)
    for is_terminal in (True, False):
        with progress.ProgressDisplay(is_terminal=is_terminal) as report:
            for done in range(11):
                report("working", done, 10)
    assert stderr() == ""


def test_the_environment_says_when_phases_are_shown(
    stderr: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_working_after(size: int) -> bool:
        return "working" in stderr()[size:]

    for seconds in ("9" * 400, "3600"):
        monkeypatch.setenv(progress.DELAY_VARIABLE, seconds)
        with progress.ProgressDisplay(is_terminal=False) as report:
            report("working", 0, 1)
            time.sleep(0.05)  # Long enough to be shown without the variable.
        assert stderr() == ""
    for seconds in ("0", "soon", "-1", "\u0663"):
        monkeypatch.setenv(progress.DELAY_VARIABLE, seconds)
        size = len(stderr())
        with progress.ProgressDisplay(is_terminal=False) as report:
            report("working", 0, 1)
            wait_until(partial(is_working_after, size))


def test_short_phases_in_a_row_are_one_silence(
    stderr: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_quiet_seconds(monkeypatch, 0.1)
    with progress.ProgressDisplay(is_terminal=True) as report:

        def work() -> bool:
            report("working", 0, 1)
            time.sleep(0.02)
            report("working", 1, 1)
            return "working" in stderr()

        wait_until(work)


def test_a_reader_of_stderr_that_has_left_does_not_end_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Closed(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            raise BrokenPipeError

    closed = Closed()
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=closed))
    set_quiet_seconds(monkeypatch, 0.01)
    with progress.ProgressDisplay(is_terminal=False) as report:
        report("working", 0, 1)
        wait_until(lambda: closed.writes)
        report("working", 1, 1)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_a_time_has_no_more_than_two_units(seconds: float, text: str) -> None:
    assert progress.format_elapsed(seconds) == text


@pytest.fixture
def waiting_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file for which the newest Binaryen in PATH waits."""
    folder = tmp_path / "tool"
    folder.mkdir()
    path = folder / "wasm-opt"
    path.write_text(_WAITING_TOOL.format(folder=folder))
    path.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv(progress.DELAY_VARIABLE)
    return folder / "go"


def test_instrumenting_announces_itself_before_the_guest_starts(
    waiting_tool: Path, tmp_path: Path
) -> None:
    arguments = ("run", "-j", "j", "--snapshot-on", "idle", guest("exit7"))
    with start_tool(tmp_path, *arguments) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"journaltool: instrumenting the module\n"
        waiting_tool.touch()
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, out) == (7, b"leaving\n")
    first, second, *rest = (line for line in err.splitlines() if b"compiling" not in line)
    assert first.startswith(b"journaltool: instrumenting the module: done after ")
    assert second.startswith(b"journaltool: snapshots have no stacks")
    assert not rest


def test_a_quiet_run_announces_nothing(waiting_tool: Path, tmp_path: Path) -> None:
    arguments = ("run", "-q", "--snapshot-on", "idle", guest("exit7"))
    with start_tool(tmp_path, *arguments) as process:
        waiting_tool.touch()
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, out, err) == (7, b"leaving\n", b"")


def test_the_line_on_a_terminal_has_gone_before_the_output_of_the_guest(
    waiting_tool: Path, tmp_path: Path
) -> None:
    arguments = ("run", "-j", "j", "--snapshot-on", "idle", guest("exit7"))
    with start_on_terminal(tmp_path, *arguments) as session:
        session.read_until(b"journaltool: instrumenting the module: ")
        waiting_tool.touch()
        assert session.read_to_end() == 7
    line, _, rest = session.shown.rpartition(b"instrumenting the module: ")
    assert line.endswith(b"\rjournaltool: ")
    cleared, _, rest = rest.partition(b"journaltool: snapshots have no stacks")
    assert re.fullmatch(rb"\r +\r", cleared.partition(b"s")[2])
    assert rest.endswith(b"\r\nleaving\r\n")
