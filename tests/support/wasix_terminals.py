"""Pseudo-terminals, and the terminal functions of WASIX."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from typing import NamedTuple

import pytest

from tests.support.remote_guest import DATA, Remote, Session

_TTY = struct.Struct("<4I6B2x")


class Tty(NamedTuple):
    """Structure of terminal settings in the memory of a guest."""

    columns: int = 80
    rows: int = 25
    width: int = 0
    height: int = 0
    stdin: int = 0
    stdout: int = 0
    stderr: int = 0
    echo: int = 1
    line_buffered: int = 1
    line_feeds: int = 1


QUIET = Tty(columns=100, rows=30, width=1000, height=600, echo=0, line_buffered=0)


def get_tty(guest: Remote | Session) -> Tty:
    answer = guest("tty_get", DATA)
    assert answer.errno == 0
    return Tty(*_TTY.unpack_from(answer.data))


def set_tty(guest: Remote | Session, tty: Tty) -> None:
    assert guest("tty_set", DATA, data=_TTY.pack(*tty)).errno == 0


class Terminal:
    """A pseudo-terminal; ``slave`` is the side that a guest uses."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        try:
            self.master, self.slave = pty.openpty()
        except OSError as error:
            pytest.skip(f"this machine gives no terminals: {error}")
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """Set the size, as the resize of a window does."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    @property
    def size(self) -> tuple[int, int, int, int]:
        """Return columns, rows, width and height."""
        found = fcntl.ioctl(self.slave, termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("4H", found)
        return columns, rows, width, height

    @property
    def attributes(self) -> list[object]:
        """Return all attributes of termios."""
        return list(termios.tcgetattr(self.slave))

    @property
    def modes(self) -> tuple[bool, bool]:
        """Return whether echo and line buffering are on."""
        local = termios.tcgetattr(self.slave)[3]
        return bool(local & termios.ECHO), bool(local & termios.ICANON)

    def close(self) -> None:
        """Close both sides."""
        os.close(self.master)
        os.close(self.slave)
