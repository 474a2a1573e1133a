"""Check for connections that a resume would lose, before its guest continues."""

from enum import Enum
from typing import Any

from journal.engine.session.guest_descriptors import open_descriptors
from journal.engine.session.journal_writer import NullWriter
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.snapshot.rebuild import REBUILD_TAGS, rebuild_last_state
from journal.engine.tape import Tape
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.filesystem.reopening import RecordedTimes
from journal.engine.wasi.network.addresses import format_address
from journal.engine.wasi.network.socket_state import HostSocketState
from journal.engine.wasi.stdio.stdin import BytesSource
from journal.errors import NotResumable

_SHOWN_MAX = 4


class LostConnections(Enum):
    """Treatment of the connections that a guest had open when its last session ended."""

    #: The next use of such a connection fails with ``ECONNRESET``.
    RESET = "reset"
    #: A guest that had open connections is not resumed.
    REFUSE = "refuse"


def check_connections(recording: RecordedRun) -> None:
    """Raise ``NotResumable`` if the guest had open connections at the end of its journal."""
    if recording.result is not None:
        return
    connections = _find_connections(recording)
    if not connections:
        return
    shown = ", ".join(
        f"descriptor {fd}" + (f" to {format_address(socket.peer)}" if socket.peer else "")
        for fd, socket in connections[:_SHOWN_MAX]
    )
    more = len(connections) - _SHOWN_MAX
    raise NotResumable(
        f"the guest has {len(connections)} open connections that a resume would lose ({shown}"
        f"{f' and {more} more' if more > 0 else ''}): resume with --on-lost-connection reset to "
        "let each one fail with ECONNRESET"
    )


def _find_connections(recording: RecordedRun) -> list[tuple[int, HostSocketState]]:
    """Return the connections of the host at the end of a journal, by their descriptors."""
    nothing: Any = None  # No guest runs, and nothing uses its streams.
    context = CallContext(Tape(NullWriter()), nothing, nothing, [], [])
    mounts = open_descriptors(
        context, recording.identity, BytesSource(b""), (), {}, RecordedTimes()
    )
    try:
        rebuild_last_state(context, recording.batches(recording.first_seq, REBUILD_TAGS))
        return [
            (fd, descriptor)
            for fd, descriptor in sorted(context.descriptors.used.items())
            if isinstance(descriptor, HostSocketState) and descriptor.is_connected
        ]
    finally:
        mounts.close()
