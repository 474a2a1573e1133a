"""An editor drives a terminal, is killed and resumed, and gives the terminal back."""

from __future__ import annotations

import os
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.command_line import build_command, build_environment
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.programs import guest
from tests.support.wasix_terminals import Terminal


class Screen:
    """Terminal of an editor: what was typed in it, and what it shows."""

    def __init__(self) -> None:
        self.terminal = Terminal(90, 33)
        self.shown = b""

    def start(self, *arguments: str | Path, folder: Path) -> subprocess.Popen[bytes]:
        """Start journaltool in the terminal."""
        slave = self.terminal.slave
        with (folder / "stderr").open("ab") as stderr:
            return subprocess.Popen(
                build_command(*arguments),
                stdin=slave,
                stdout=slave,
                stderr=stderr,
                env=build_environment(),
                cwd=folder,
            )

    def type(self, keys: bytes, expected: bytes) -> None:
        """Type keys, and wait until the terminal shows a text after them."""
        seen = len(self.shown)
        os.write(self.terminal.master, keys)
        self.wait_for(expected, seen)

    def wait_for(self, expected: bytes, start: int = 0) -> None:
        """Wait until the terminal shows a text."""
        os.set_blocking(self.terminal.master, False)

        def is_shown() -> bool:
            with suppress(BlockingIOError):
                self.shown += os.read(self.terminal.master, 1 << 16)
            return expected in self.shown[start:]

        wait_until(is_shown, f"{expected!r} is not shown")


@pytest.mark.deep
def test_an_editor_drives_a_terminal_and_survives(tmp_path: Path) -> None:
    screen = Screen()
    before = termios.tcgetattr(screen.terminal.slave)
    path = tmp_path / "editor.journal"
    process = screen.start("run", "--quiet", "-j", path, guest("editor"), folder=tmp_path)
    try:
        screen.wait_for(b"90 columns, 33 rows")
        screen.type(b"helo\x1b[Dl\r", b"[hello]")
        screen.type(b"unfinished\x01an ", b"an unfinished\x1b[K\x1b[10D")
        process.kill()
        process.wait()
        termios.tcsetattr(screen.terminal.slave, termios.TCSANOW, before)  # As a shell does.
        process = screen.start("resume", "--quiet", path, folder=tmp_path)
        screen.type(b"\x05 line\r", b"[an unfinished line]")
        screen.type(b"\x04", b"bye")
        assert process.wait(DEADLINE_SECONDS) == 0
        assert termios.tcgetattr(screen.terminal.slave) == before
    finally:
        process.kill()
        process.wait()
        screen.terminal.close()
