"""Import table of WASIX.

Each module of functions has a table of its own. Programs import the functions that WASIX shares
with preview 1 from ``wasi_snapshot_preview1``, and older programs from ``wasix_32v1``.
"""

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.functions import (
    channels,
    clocks,
    directories,
    duplicates,
    epolls,
    names,
    paths,
    ports,
    processes,
    signals,
    socket_options,
    sockets,
    terminals,
)

MODULE = "wasix_32v1"


def proc_snapshot(context: CallContext) -> int:
    """Return success: the engine takes the requested snapshot before it makes the call."""
    return 0


#: Parameter types (i: i32, l: i64) and handler of each function.
FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "proc_snapshot": ("", proc_snapshot),
    **channels.FUNCTIONS,
    **clocks.FUNCTIONS,
    **directories.FUNCTIONS,
    **duplicates.FUNCTIONS,
    **epolls.FUNCTIONS,
    **names.FUNCTIONS,
    **paths.FUNCTIONS,
    **ports.FUNCTIONS,
    **signals.FUNCTIONS,
    **processes.FUNCTIONS,
    **socket_options.FUNCTIONS,
    **sockets.FUNCTIONS,
    **terminals.FUNCTIONS,
}
