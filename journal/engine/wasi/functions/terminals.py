"""The terminal, as WASIX has it: one struct that the guest reads and writes as a whole."""

import struct

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.terminal import SIDE_MAX, TerminalSettings
from journal.engine.wasi_abi import Errno, WasiError

_TTY = struct.Struct("<4I6B2x")  # columns, rows, width, height, and six bools
assert _TTY.size == 24


def tty_get(state: CallContext, result: int) -> None:
    """The size of the terminal, and what it does with what is typed."""
    state.memory.check(result, _TTY.size)
    state.memory.write(result, _TTY.pack(*state.terminal.read()))


def tty_set(state: CallContext, pointer: int) -> None:
    """Change the terminal. A bool of the guest is true unless it is 0: some leave them unset."""
    found = state.memory.unpack(_TTY, pointer)
    if max(found[:4]) > SIDE_MAX:
        raise WasiError(Errno.INVAL)
    state.terminal.set(TerminalSettings(*found[:4], *map(bool, found[4:])))
