"""Syncing for all who wait: one thread leads, the others find their events durable."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE = 0.5
"""Part of a sync's duration that a leader waits for others, at most."""


class _Waiter:
    """A thread that waits for event ``seq``: woken when it is durable, or to lead."""

    __slots__ = ("awake", "leads", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.leads = False
        self.awake = threading.Lock()
        self.awake.acquire()


class Turn:
    """The turn to sync, which one thread has at a time.

    ``sync`` makes all durable that is there when it is called, ``durable_upto`` tells how far all
    is; that number only rises, so that it is asked without a lock.

    > Why a lock for each who waits, and no condition? A thread that a condition wakes has to get
    the condition's own lock again, one after the other, and each time the interpreter's too.
    """

    __slots__ = (
        "_crowd",
        "_durable_upto",
        "_gate",
        "_guard",
        "_is_led",
        "_queue",
        "_seconds",
        "_sync",
        "_taken",
    )

    def __init__(self, sync: Callable[[], None], durable_upto: Callable[[], int]) -> None:
        self._sync = sync
        self._durable_upto = durable_upto
        self._taken = threading.Lock()
        self._guard = threading.Lock()  # of what follows
        self._queue: list[_Waiter] = []
        self._is_led = False
        self._crowd = 1  # threads that were there at the last sync
        self._gate: threading.Lock | None = None  # behind which a leader lets a crowd gather
        self._seconds = 0.0  # that the last sync took

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have the turn, whoever waits."""
        try:
            with self._taken:
                yield
        finally:
            with self._guard:
                done = self._take_done()
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
            if not me.leads and not me.awake.acquire(timeout=_left(end)) and self._gives_up(me):
                return False
            return not me.leads or self._lead(seq, end)
        finally:
            # whatever ends the waiting, an interrupt too: who was to lead lets another
            self._gives_up(me)
            if me.leads:
                self._pass_on()

    def _join(self, me: _Waiter) -> None:
        """Lead if nobody does, or queue."""
        with self._guard:
            me.leads = not self._is_led
            self._is_led = True
            if not me.leads:
                self._queue.append(me)
                self._open_gate()

    def _gives_up(self, me: _Waiter) -> bool:
        """Leave the queue, unless it came to the front meanwhile."""
        with self._guard:
            if me in self._queue:
                self._queue.remove(me)
                return True
        return False

    def _lead(self, seq: int, end: float | None) -> bool:
        """Sync, when it is time; False when that takes long."""
        self._let_gather()
        if not self._taken.acquire(timeout=_left(end)):
            return False
        try:
            if self._durable_upto() <= seq:
                begin = time.monotonic()
                self._sync()
                self._seconds = time.monotonic() - begin
        finally:
            self._taken.release()
        return True

    def _pass_on(self) -> None:
        """Let another lead who came too late for the last sync, and wake those who did not."""
        with self._guard:
            self._crowd = 1 + len(self._queue)
            done = self._take_done()
            self._is_led = bool(self._queue)
            if self._queue:
                following = self._queue.pop(0)
                following.leads = True
                done.insert(0, following)  # first, so that the disk has something to do
        _wake(done)

    def _let_gather(self) -> None:
        """Wait a little for as many as were there the last time: they come back together.

        > Why not sync at once? Half of them would come during it, and wait for two.
        """
        gate = threading.Lock()
        gate.acquire()
        with self._guard:
            if len(self._queue) + 1 >= self._crowd:
                return
            self._gate = gate
        gate.acquire(timeout=_PATIENCE * self._seconds)
        with self._guard:
            self._gate = None

    def _open_gate(self) -> None:
        if self._gate is not None and len(self._queue) + 1 >= self._crowd:
            self._gate.release()
            self._gate = None

    def _take_done(self) -> list[_Waiter]:
        if not self._queue:
            return []
        upto = self._durable_upto()
        done = [waiter for waiter in self._queue if waiter.seq < upto]
        if done:
            self._queue = [waiter for waiter in self._queue if waiter.seq >= upto]
        return done


def _left(end: float | None) -> float:
    return -1 if end is None else max(0.0, end - time.monotonic())


def _wake(waiters: list[_Waiter]) -> None:
    for waiter in waiters:
        waiter.awake.release()
