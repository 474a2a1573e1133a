"""The terminal, as WASIX has it: one struct that the guest reads and writes as a whole."""

import struct

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.terminal import SIDE_MAX, TerminalSettings
from journal.engine.wasi_abi import Errno, WasiError

_TTY = struct.Struct("<4I6B2x")  # columns, rows, width, height, and six bools
assert _TTY.size == 24


def tty_get(context: CallContext, result: int) -> None:
    """The size of the terminal, and what it does with what is typed."""
    context.memory.check(result, _TTY.size)
    context.memory.write(result, _TTY.pack(*context.terminal.read()))


def tty_set(context: CallContext, pointer: int) -> None:
    """Change the terminal. A bool of the guest is true unless it is 0: some leave them unset."""
    found = context.memory.unpack(_TTY, pointer)
    if max(found[:4]) > SIDE_MAX:
        raise WasiError(Errno.INVAL)
    context.terminal.set(TerminalSettings(*found[:4], *map(bool, found[4:])))
