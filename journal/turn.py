"""Syncing for all who wait: one thread leads, the others find their events durable."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE = 0.5
"""Part of a sync's duration to wait, at most, for as many threads as came to the last one."""


class Turn:
    """The turn to sync, which one thread has at a time.

    ``sync`` makes all durable that is there when it is called, ``durable_upto`` tells how far all
    is.
    """

    __slots__ = ("_change", "_crowd", "_durable_upto", "_seconds", "_sync", "_taken", "_waiting")

    def __init__(self, sync: Callable[[], None], durable_upto: Callable[[], int]) -> None:
        self._sync = sync
        self._durable_upto = durable_upto
        self._taken = threading.Lock()
        self._change = threading.Condition(threading.Lock())
        self._waiting = self._crowd = 0
        self._seconds = 0.0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have the turn."""
        with self._taken:
            yield
        with self._change:
            self._change.notify_all()

    def wait(self, seq: int, timeout_seconds: float | None) -> bool:
        """Return when event ``seq`` is durable, syncing if nobody does; False when it takes long.

        The number that ``durable_upto`` gives only rises, so that it is asked without a lock.
        """
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        change = self._change
        with change:
            self._waiting += 1
            try:
                while self._durable_upto() <= seq:
                    if self._taken.acquire(blocking=False):
                        change.release()
                        try:
                            self._lead()
                        finally:
                            self._taken.release()
                            change.acquire()
                            change.notify_all()
                        continue
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    change.wait(left)
            finally:
                self._waiting -= 1
        return True

    def _lead(self) -> None:
        """Sync, once as many wait as the last time: they come at once, and go together."""
        if self._crowd > 1:
            limit = time.monotonic() + _PATIENCE * self._seconds
            while self._waiting < self._crowd and time.monotonic() < limit:
                time.sleep(0)  # lets them come
        self._crowd = self._waiting
        begin = time.monotonic()
        self._sync()
        self._seconds = time.monotonic() - begin
