"""Waits of a guest for a socket of the host, with the time limits of the socket."""

import select
import socket as host
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext


class HandleWait:
    """Wait until a socket of the host has one of the events of ``select.poll`` in ``mask``."""

    def __init__(self, handle: host.socket, mask: int) -> None:
        self._handle, self._mask = handle, mask

    def is_ready(self) -> bool:
        """Return whether the socket has one of the events, an error or a hang-up."""
        return bool(find_events(self._handle, self._mask))

    def poll_events(self) -> list[tuple[int, int]]:
        """Return the descriptor of the socket and its events."""
        return [(self._handle.fileno(), self._mask)]


def find_events(handle: host.socket, mask: int) -> int:
    """Return which events of ``mask`` a socket of the host has now, and errors and hang-ups."""
    poll = select.poll()
    poll.register(handle, mask)
    found = poll.poll(0)
    return found[0][1] if found else 0


def wait_for(
    context: "CallContext", function: str, handle: host.socket, mask: int, limit_ns: int | None
) -> bool:
    """Wait in a call that has had no effect yet, and return whether an event came in time.

    The call is made again after a snapshot. The time that it has waited before counts.
    """
    now = time.monotonic_ns()
    start = now if context.wait_started is None else context.wait_started
    remaining = None if limit_ns is None else max(limit_ns - (now - start), 0)
    context.wait_started = start
    is_ready = context.wait(function, HandleWait(handle, mask), remaining)
    context.wait_started = None
    return is_ready
