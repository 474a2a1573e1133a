"""The first functions of WASIX, as wasix-libc imports them.

WASIX stands beside preview 1: programs import what both have from ``wasi_snapshot_preview1``.
"""

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.functions import sockets, terminals

MODULE = "wasix_32v1"


def proc_snapshot(context: CallContext) -> int:
    """Nothing: whether a snapshot is taken was decided before the call had any effect."""
    return 0


#: name: what the guest passes, and the function. Every one returns an errno.
FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "proc_snapshot": ("", proc_snapshot),
    "sock_addr_local": ("ii", sockets.sock_addr_local),
    "sock_bind": ("ii", sockets.sock_bind),
    "sock_listen": ("ii", sockets.sock_listen),
    "sock_open": ("iiii", sockets.sock_open),
    "tty_get": ("i", terminals.tty_get),
    "tty_set": ("i", terminals.tty_set),
}
