"""A program that is resumed on a terminal and waits for input does not look dead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from journaltool.exit_codes import ExitCode

import journal
from tests.support.command_line import TerminalSession, run_tool, start_on_terminal
from tests.support.deadlines import wait_until
from tests.support.programs import guest, program

GREETING = b"journaltool: resumed, waiting for input\r\n"


def stop(session: TerminalSession) -> None:
    """Stop a session. After a kill, the last output would be in doubt and be repeated."""
    session.process.terminate()
    assert session.read_to_end() == ExitCode.TERMINATED


@pytest.mark.deep
def test_the_prompt_of_quickjs_is_shown_again(tmp_path: Path) -> None:
    with start_on_terminal(tmp_path, "run", "-j", "j", program("quickjs")) as session:
        session.read_until(b"qjs > ")
        session.type(b"let answer = 41\n")
        session.read_until(b"qjs > ", session.shown.index(b"qjs > ") + 1)
        stop(session)
    with start_on_terminal(tmp_path, "resume", "j") as session:
        session.read_until(b"qjs > ")
        assert session.shown.endswith(b"qjs > ")
        assert session.shown.count(b"answer") == 0
        session.type(b"answer + 1\n")
        session.read_until(b"42")


def test_a_program_without_an_unfinished_line_is_announced_once(tmp_path: Path) -> None:
    with start_on_terminal(tmp_path, "run", "-j", "j", guest("cat")) as session:
        session.type(b"one\n")
        session.read_until(b"one\r\none\r\n")  # The terminal echoes the first.
        stop(session)
    with start_on_terminal(tmp_path, "resume", "j") as session:
        session.read_until(GREETING)
        session.type(b"two\n")
        session.read_until(b"two\r\ntwo\r\n")
        session.type(b"\x04")
        assert session.read_to_end() == 0
    assert session.shown.count(GREETING) == 1


def test_output_that_was_not_delivered_is_sign_enough(tmp_path: Path) -> None:
    with journal.record(guest("prompt"), tmp_path / "j", args=["prompt"]) as recorder:
        wait_until(lambda: recorder.stdout)
        prompt = recorder.stdout
    with start_on_terminal(tmp_path, "resume", "j") as session:
        session.read_until(prompt.rstrip())
        session.type(b"quit 3\n")
        assert session.read_to_end() == 3
    assert GREETING not in session.shown
    assert session.shown.count(prompt.rstrip()) == 1


@pytest.mark.parametrize("options", [("-q",), ()], ids=["quiet", "pipe"])
def test_nothing_is_announced_to_pipes_and_by_quiet_commands(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    with journal.record(guest("cat"), tmp_path / "j", args=["cat"]) as recorder:
        recorder.feed(b"x")
        wait_until(lambda: recorder.stdout)
    if options:
        with start_on_terminal(tmp_path, "resume", *options, "j") as session:
            session.type(b"y\n\x04")
            assert session.read_to_end() == 0
        assert b"resumed" not in session.shown
    else:
        done = run_tool("resume", "j", at=tmp_path, stdin=b"y")
        assert (done.returncode, done.stderr) == (0, b"2 bytes\n")


def test_the_library_passes_the_unfinished_line_on(tmp_path: Path, cache_dir: Path) -> None:
    leader, follower = os.openpty()
    lines = list[bytes]()
    module = guest("prompt")
    with journal.record(
        module, tmp_path / "j", args=["prompt"], stdout=follower, stderr=follower, cache=cache_dir
    ):
        prompt = os.read(leader, 100)
    for _ in range(2):
        with journal.resume(
            tmp_path / "j",
            stdout=follower,
            stderr=follower,
            cache=cache_dir,
            on_input_wait=lines.append,
        ):
            wait_until(lambda: lines)
            assert lines.pop() == prompt.rpartition(b"\n")[2]
    for descriptor in (leader, follower):
        os.close(descriptor)
