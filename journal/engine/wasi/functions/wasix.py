"""Import table of WASIX, with the first functions that wasix-libc imports.

Programs import the functions that WASIX shares with preview 1 from ``wasi_snapshot_preview1``.
"""

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.functions import sockets, terminals

MODULE = "wasix_32v1"


def proc_snapshot(context: CallContext) -> int:
    """Return success: the engine takes the requested snapshot before it makes the call."""
    return 0


#: Parameter types (i: i32) and handler of each function. All return an errno.
FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "proc_snapshot": ("", proc_snapshot),
    "sock_addr_local": ("ii", sockets.sock_addr_local),
    "sock_bind": ("ii", sockets.sock_bind),
    "sock_listen": ("ii", sockets.sock_listen),
    "sock_open": ("iiii", sockets.sock_open),
    "tty_get": ("i", terminals.tty_get),
    "tty_set": ("i", terminals.tty_set),
}
