"""Syncing for all who wait: one thread leads, the others find their events durable."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_GATHER_FRACTION = 0.5
"""Part of a sync's duration that a leader waits for others, at most."""


class _Waiter:
    """A thread that waits for event ``seq``: woken when it is durable, or to lead."""

    __slots__ = ("awake", "is_leader", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.is_leader = False
        self.awake = threading.Lock()
        self.awake.acquire()


class GroupCommit:
    """The turn to sync, which one thread has at a time.

    ``sync`` makes all durable that is there when it is called, ``durable_upto`` tells how far all
    is; that number only rises, so that it is asked without a lock.

    > Why a lock for each who waits, and no condition? A thread that a condition wakes has to get
    the condition's own lock again, one after the other, and each time the interpreter's too.
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
        self._queue_lock = threading.Lock()  # of what follows
        self._queue: list[_Waiter] = []
        self._has_leader = False
        self._group_size = 1  # threads that were there at the last sync
        self._gate: threading.Lock | None = None  # behind which a leader lets a crowd gather
        self._sync_seconds = 0.0  # that the last sync took

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Have the turn, whoever waits."""
        try:
            with self._sync_lock:
                yield
        finally:
            with self._queue_lock:
                done = self._pop_durable()
            _wake(done)

    def wait(self, seq: int, timeout_seconds: float | None) -> bool:
        """Return when event ``seq`` is durable, syncing if nobody does; False when it takes long.

        Only what others do is timed.
        """
        if self._durable_upto() > seq:
            return True
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        me = _Waiter(seq)
        try:
            self._join(me)
            if (
                not me.is_leader
                and not me.awake.acquire(timeout=_seconds_left(end))
                and self._leave_queue(me)
            ):
                return False
            return not me.is_leader or self._lead(seq, end)
        finally:
            # whatever ends the waiting, an interrupt too: who was to lead lets another
            self._leave_queue(me)
            if me.is_leader:
                self._finish_lead()

    def _join(self, me: _Waiter) -> None:
        """Lead if nobody does, or queue."""
        with self._queue_lock:
            me.is_leader = not self._has_leader
            self._has_leader = True
            if not me.is_leader:
                self._queue.append(me)
                self._open_gate()

    def _leave_queue(self, me: _Waiter) -> bool:
        """Leave the queue, unless it came to the front meanwhile."""
        with self._queue_lock:
            if me in self._queue:
                self._queue.remove(me)
                return True
        return False

    def _lead(self, seq: int, end: float | None) -> bool:
        """Sync, when it is time; False when that takes long."""
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
        """Let another lead who came too late for the last sync, and wake those who did not."""
        with self._queue_lock:
            self._group_size = 1 + len(self._queue)
            done = self._pop_durable()
            self._has_leader = bool(self._queue)
            if self._queue:
                following = self._queue.pop(0)
                following.is_leader = True
                done.insert(0, following)  # first, so that the disk has something to do
        _wake(done)

    def _wait_for_group(self) -> None:
        """Wait a little for as many as were there the last time: they come back together.

        > Why not sync at once? Half of them would come during it, and wait for two.
        """
        gate = threading.Lock()
        gate.acquire()
        with self._queue_lock:
            if len(self._queue) + 1 >= self._group_size:
                return
            self._gate = gate
        gate.acquire(timeout=_GATHER_FRACTION * self._sync_seconds)
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
        done = [waiter for waiter in self._queue if waiter.seq < upto]
        if done:
            self._queue = [waiter for waiter in self._queue if waiter.seq >= upto]
        return done


def _seconds_left(end: float | None) -> float:
    return -1 if end is None else max(0.0, end - time.monotonic())


def _wake(waiters: list[_Waiter]) -> None:
    for waiter in waiters:
        waiter.awake.release()
