"""Terminal functions of WASIX. The guest reads and writes all settings as one structure."""

import struct

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.terminal import SIDE_MAX, TerminalSettings
from journal.wasi_abi import Errno, WasiError

_TTY = struct.Struct("<4I6B2x")  # columns, rows, width, height, and six bools
assert _TTY.size == 24


def tty_get(context: CallContext, result: int) -> None:
    """Write the size and the modes of the terminal."""
    context.memory.check(result, _TTY.size)
    context.memory.write(result, _TTY.pack(*context.terminal.read()))


def tty_set(context: CallContext, pointer: int) -> None:
    """Change the size and the modes of the terminal.

    A boolean of the guest is true unless it is 0; some guests leave it uninitialized.
    """
    values = context.memory.unpack(_TTY, pointer)
    if max(values[:4]) > SIDE_MAX:
        raise WasiError(Errno.INVAL)
    context.terminal.set(TerminalSettings(*values[:4], *map(bool, values[4:])))


FUNCTIONS: dict[str, tuple[str, Handler]] = {"tty_get": ("i", tty_get), "tty_set": ("i", tty_set)}
"""Parameter types and handler of each function of WASIX in this module."""
