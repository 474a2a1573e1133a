"""Group commit: one thread syncs for all threads that wait."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_GROUP_WAIT_FRACTION = 0.5
"""Maximum time that a leader waits for other threads, as a fraction of the last sync's duration."""


class _Waiter:
    """Thread that waits until event ``seq`` is durable, or until it becomes the leader."""

    __slots__ = ("awake", "is_leader", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.is_leader = False
        self.awake = threading.Lock()
        self.awake.acquire()


class GroupCommit:
    """Leader election for syncs: at most one thread syncs at a time.

    ``sync`` makes all events durable that exist when it is called. ``durable_upto`` returns the
    sequence number below which all events are durable. That number only rises, so it is read
    without a lock.

    > Why one lock per waiter instead of a condition? Threads woken by a condition must take the
    condition's own lock one after the other, and the interpreter lock each time.
    """

    __slots__ = (
        "_durable_upto",
        "_gate",
        "_group_size",
        "_has_leader",
        "_queue",
        "_queue_lock",
        "_sync",
        "_sync_lock",
        "_sync_seconds",
    )

    def __init__(self, sync: Callable[[], None], durable_upto: Callable[[], int]) -> None:
        self._sync = sync
        self._durable_upto = durable_upto
        self._sync_lock = threading.Lock()
        self._queue_lock = threading.Lock()  # Guards the attributes below.
        self._queue: list[_Waiter] = []
        self._has_leader = False
        self._group_size = 1  # Threads that waited for the last sync.
        self._gate: threading.Lock | None = None  # Released when the leader's group is complete.
        self._sync_seconds = 0.0  # Duration of the last sync.

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the sync lock, and wake the threads whose events became durable meanwhile."""
        try:
            with self._sync_lock:
                yield
        finally:
            with self._queue_lock:
                ready = self._pop_durable()
            _wake(ready)

    def wait(self, seq: int, timeout_seconds: float | None) -> bool:
        """Wait until event ``seq`` is durable, and sync if no other thread does.

        Return False after the timeout. The timeout limits only the wait for other threads, not the
        thread's own sync.
        """
        if self._durable_upto() > seq:
            return True
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        waiter = _Waiter(seq)
        try:
            self._join(waiter)
            if (
                not waiter.is_leader
                and not waiter.awake.acquire(timeout=_seconds_left(end))
                and self._leave_queue(waiter)
            ):
                return False
            return not waiter.is_leader or self._lead(seq, end)
        finally:
            # A leader must hand over, however the wait ends, even by an interrupt.
            self._leave_queue(waiter)
            if waiter.is_leader:
                self._finish_lead()

    def _join(self, waiter: _Waiter) -> None:
        """Become the leader if there is none, else join the queue."""
        with self._queue_lock:
            waiter.is_leader = not self._has_leader
            self._has_leader = True
            if not waiter.is_leader:
                self._queue.append(waiter)
                self._open_gate()

    def _leave_queue(self, waiter: _Waiter) -> bool:
        """Leave the queue. Return False if the thread has already been removed from the queue."""
        with self._queue_lock:
            if waiter in self._queue:
                self._queue.remove(waiter)
                return True
        return False

    def _lead(self, seq: int, end: float | None) -> bool:
        """Sync when the group is complete. Return False after the timeout."""
        self._wait_for_group()
        if not self._sync_lock.acquire(timeout=_seconds_left(end)):
            return False
        try:
            if self._durable_upto() <= seq:
                begin = time.monotonic()
                self._sync()
                self._sync_seconds = time.monotonic() - begin
        finally:
            self._sync_lock.release()
        return True

    def _finish_lead(self) -> None:
        """Wake the threads whose events are durable, and make the first other thread the leader."""
        with self._queue_lock:
            self._group_size = 1 + len(self._queue)
            ready = self._pop_durable()
            self._has_leader = bool(self._queue)
            if self._queue:
                leader = self._queue.pop(0)
                leader.is_leader = True
                ready.insert(0, leader)  # Wake the leader first, so that the disk is not idle.
        _wake(ready)

    def _wait_for_group(self) -> None:
        """Wait briefly for as many threads as at the last sync: they usually return together."""
        gate = threading.Lock()
        gate.acquire()
        with self._queue_lock:
            if len(self._queue) + 1 >= self._group_size:
                return
            self._gate = gate
        gate.acquire(timeout=_GROUP_WAIT_FRACTION * self._sync_seconds)
        with self._queue_lock:
            self._gate = None

    def _open_gate(self) -> None:
        if self._gate is not None and len(self._queue) + 1 >= self._group_size:
            self._gate.release()
            self._gate = None

    def _pop_durable(self) -> list[_Waiter]:
        if not self._queue:
            return []
        upto = self._durable_upto()
        ready = [waiter for waiter in self._queue if waiter.seq < upto]
        if ready:
            self._queue = [waiter for waiter in self._queue if waiter.seq >= upto]
        return ready


def _seconds_left(end: float | None) -> float:
    return -1 if end is None else max(0.0, end - time.monotonic())


def _wake(waiters: list[_Waiter]) -> None:
    for waiter in waiters:
        waiter.awake.release()
