"""Terminal of the guest, connected to a terminal of the host if there is one.

A change by the guest is recorded as an event and applied to the terminal of the host while the
guest is live. The end of the run restores that terminal. A read by the guest is an input.
"""

import fcntl
import struct
import termios
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from journal.engine.tape import Tape
from journal.engine.wasi.stdio.outbox import STDERR, STDIN, STDOUT, OutputTarget
from journal.engine.wasi.stdio.stdin import StdinSource
from journal.events import codec
from journal.events.core import TtySet
from journal.events.inputs import TtyRead
from journal.events.streams import TargetKind

#: The largest number of columns, rows or pixels that a terminal of the host can have.
SIDE_MAX = 0xFFFF

_WINDOW = struct.Struct("@4H")  # rows, columns, width, height
_SIZE_COUNT = 4  # Columns, rows, width and height are the first settings.
_LOCAL, _CHARACTERS = 3, 6  # Indexes of the local modes and the characters in termios.tcgetattr.

_pack_read = codec.make_late_packer(TtyRead)
_unpack_read = codec.make_late_unpacker(TtyRead)
_pack_set = codec.make_late_packer(TtySet)


class TerminalSettings(NamedTuple):
    """Terminal settings of WASIX: size in characters and pixels, terminal streams, and modes."""

    columns: int = 80
    rows: int = 25
    width: int = 0
    height: int = 0
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    echo: bool = True
    line_buffered: bool = True
    line_feeds: bool = True


def find_terminal(stdin: StdinSource, output_targets: Mapping[int, OutputTarget]) -> int | None:
    """Return the descriptor of the first standard stream that is a host terminal, or None."""
    if stdin.make_opened_event().kind is TargetKind.TERMINAL:
        return stdin.fileno()
    descriptors = [
        target.fd for _, target in sorted(output_targets.items()) if _is_terminal(target)
    ]
    return descriptors[0] if descriptors else None


def _is_terminal(target: OutputTarget) -> bool:
    return target.kind is TargetKind.TERMINAL


class Terminal:
    """Terminal of one process.

    ``streams`` are the standard streams that the guest sees as a terminal. ``handle`` is the
    descriptor of the host terminal in this session. ``line_feeds`` is stored but not applied,
    because wasix-libc fills it from the wrong word.
    """

    def __init__(
        self, tape: Tape, streams: Collection[int] = (), handle: int | None = None
    ) -> None:
        self._tape = tape
        self._handle = handle
        self._original: tuple[list[Any], bytes] | None = (
            None  # Settings and size before the first change.
        )
        self._last_size = b""  # The last size that this class set.
        self._read_size: tuple[int, ...] = ()  # The last size that the guest read.
        self._has_resized = False  # Whether the size of the settings is the guest's own.
        self._is_set = False
        self._is_closed = False
        stream_flags = (STDIN in streams, STDOUT in streams, STDERR in streams)
        self.settings = TerminalSettings(
            stdin=stream_flags[0], stdout=stream_flags[1], stderr=stream_flags[2]
        )

    def read(self) -> TerminalSettings:
        """Return the settings of the host terminal, or without one the settings of the guest."""
        payload = self._tape.request_input(
            TtyRead.tag, b"", lambda: _pack_read(*self._read_current())
        )
        self.note_reading(payload)
        return TerminalSettings(*_unpack_read(payload))

    def note_reading(self, payload: bytes) -> None:
        """Note the size in a TtyRead: settings with this size do not resize the terminal."""
        self._read_size = _unpack_read(payload)[:_SIZE_COUNT]

    def set(self, settings: TerminalSettings) -> None:
        """Set the settings, except for the flags that say which streams are a terminal.

        The library of a guest sets a single mode by reading all settings and setting them with one
        change. Such a call does not make the size that it read the guest's own.
        """
        self._tape.record_effect(TtySet.tag, _pack_set(*settings))
        size = settings[:_SIZE_COUNT]
        if size != self._read_size:
            self._has_resized = True
        elif size != self.settings[:_SIZE_COUNT]:
            self._has_resized = False  # The user has resized the terminal since.
        stream_flags = self.settings[4:7]
        self.settings = TerminalSettings(*settings[:4], *stream_flags, *settings[7:])
        self._is_set = True
        self.apply_settings()

    def apply_settings(self) -> None:
        """Apply the last settings of the guest to the host terminal, if the guest is live."""
        if self._tape.replaying or self._is_closed or not self._is_set or self._handle is None:
            return
        with suppress(OSError, termios.error):  # A terminal that hung up has no settings.
            if self._original is None:
                window = fcntl.ioctl(self._handle, termios.TIOCGWINSZ, bytes(_WINDOW.size))
                self._original = termios.tcgetattr(self._handle), window
            self._set_modes(self._handle)
            if self._has_resized:
                self._set_size(self._handle)

    def close(self) -> None:
        """Restore the host terminal, and apply no further settings."""
        self._is_closed = True
        original, self._original = self._original, None
        if original is None or self._handle is None:
            return
        with suppress(OSError, termios.error):
            termios.tcsetattr(self._handle, termios.TCSANOW, original[0])
            current = fcntl.ioctl(self._handle, termios.TIOCGWINSZ, bytes(_WINDOW.size))
            if current == self._last_size:  # Otherwise the user has resized the window.
                fcntl.ioctl(self._handle, termios.TIOCSWINSZ, original[1])

    def _read_current(self) -> TerminalSettings:
        if self._handle is None:
            return self.settings
        with suppress(OSError, termios.error):
            window = fcntl.ioctl(self._handle, termios.TIOCGWINSZ, bytes(_WINDOW.size))
            local = termios.tcgetattr(self._handle)[_LOCAL]
            rows, columns, width, height = _WINDOW.unpack(window)
            return self.settings._replace(
                columns=columns,
                rows=rows,
                width=width,
                height=height,
                echo=bool(local & termios.ECHO),
                line_buffered=bool(local & termios.ICANON),
            )
        return self.settings

    def _set_modes(self, handle: int) -> None:
        attributes = termios.tcgetattr(handle)
        local = attributes[_LOCAL] & ~(termios.ECHO | termios.ICANON)
        local |= termios.ECHO if self.settings.echo else 0
        local |= termios.ICANON if self.settings.line_buffered else 0
        attributes[_LOCAL] = local
        if not self.settings.line_buffered:  # A read waits for one byte.
            attributes[_CHARACTERS][termios.VMIN] = 1
            attributes[_CHARACTERS][termios.VTIME] = 0
        termios.tcsetattr(handle, termios.TCSANOW, attributes)

    def _set_size(self, handle: int) -> None:
        columns, rows, width, height = self.settings[:4]
        size = _WINDOW.pack(rows, columns, width, height)
        current = fcntl.ioctl(handle, termios.TIOCGWINSZ, bytes(_WINDOW.size))
        if columns and rows and size != current:
            fcntl.ioctl(handle, termios.TIOCSWINSZ, size)
            self._last_size = size
