"""Queue of requested snapshots, for any thread and for signal handlers."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from journal.events.snapshots import Trigger

if TYPE_CHECKING:
    from journal.engine.snapshot.forked_state import ForkedState


@dataclass(slots=True, eq=False)
class PendingSnapshot:
    """A requested snapshot with its trigger.

    ``seq`` is the sequence number of its Snapshot event, None until the snapshot is complete. If
    ``copies_state``, the snapshot leaves its state in ``state``, which the requester closes.
    """

    trigger: Trigger
    copies_state: bool = False
    seq: int | None = None
    state: "ForkedState | None" = None


class SnapshotQueue:
    """Requested snapshots that have not begun, in the order of their requests. Thread-safe.

    Requests for one trigger share a snapshot until it begins, so that many requests for one trigger
    delay the others by one snapshot at most. ``on_request`` is called after each request. ``lock``
    is reentrant.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self._on_request = on_request
        self.lock = threading.Condition()
        self._pending: dict[Trigger | PendingSnapshot, PendingSnapshot] = {}
        self.has_ended = False

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, trigger: Trigger, *, copies_state: bool = False) -> PendingSnapshot:
        """Request a snapshot, and return its ticket for ``wait``.

        A snapshot that copies its state is not shared.
        """
        with self.lock:
            new = PendingSnapshot(trigger, copies_state)
            if self.has_ended:
                return new
            # ``setdefault`` is atomic, because a signal handler may interrupt this function and
            # call it again.
            ticket = self._pending.setdefault(new if copies_state else trigger, new)
            self._on_request()
            return ticket

    def pop(self) -> PendingSnapshot | None:
        """Remove and return the first request, or return None without one."""
        with self.lock:
            return self._pending.pop(next(iter(self._pending))) if self._pending else None

    def complete(
        self, ticket: PendingSnapshot, seq: int, state: "ForkedState | None" = None
    ) -> None:
        """Set the sequence number of a complete snapshot, and its state if it was copied."""
        with self.lock:
            ticket.seq = seq
            if ticket.copies_state:
                ticket.state = state
            elif state is not None:
                state.close()  # The requester no longer waits for it.
            self.lock.notify_all()

    def cancel_copy(self, ticket: PendingSnapshot) -> None:
        """Give up the copied state of a snapshot for which nobody waits any more."""
        with self.lock:
            ticket.copies_state = False
            if ticket.state is not None:
                ticket.state.close()

    def wait(self, ticket: PendingSnapshot, timeout_seconds: float | None) -> int | None:
        """Wait for a snapshot, and return its sequence number, or None if it was not taken."""
        with self.lock:
            self.lock.wait_for(lambda: ticket.seq is not None or self.has_ended, timeout_seconds)
            return ticket.seq

    def end(self) -> None:
        """End the guest: no pending snapshot will be taken."""
        with self.lock:
            self.has_ended = True
            self.lock.notify_all()
