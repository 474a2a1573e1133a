"""Slots of a pool: their choice for a session, and the bounded queue of checkouts."""

import copy
import threading
from collections import deque
from collections.abc import Hashable
from concurrent.futures import Future
from enum import Enum
from random import SystemRandom
from typing import TYPE_CHECKING

from journal.errors import JournalError, OptionError, PoolFull

if TYPE_CHECKING:
    from journal.engine.pool.channel import Channel
    from journal.engine.pool.worker import Worker

_RANDOM = SystemRandom()
CLOSED = "the pool is closed: open another one"


class SlotSelection(Enum):
    """Choice of a slot among the free slots of a pool."""

    AFFINITY = "affinity"
    """The slot of the last session with the same key, whose caches are warm. Without a key, or if
    the slot is in use: as ``NEXT_AVAILABLE``."""
    NEXT_AVAILABLE = "next_available"
    """A slot of the worker with the fewest sessions, the slot that has been free for longest."""
    RANDOM = "random"
    """Any slot: a guest cannot predict which sessions share its worker."""


class Slot:
    """A place for one session in a worker. ``session`` is the number of its latest session."""

    __slots__ = ("affinity", "channel", "index", "session", "worker")

    def __init__(self, worker: "Worker", index: int, channel: "Channel") -> None:
        self.worker = worker
        self.index = index
        self.channel = channel
        self.session = 0
        self.affinity: Hashable = None


class SlotQueue:
    """The free slots of a pool, and the checkouts that wait for one. Thread-safe.

    A worker retires after ``recycle_after`` sessions: it gets no more, and ``give_back`` tells when
    its last session has ended.
    """

    def __init__(
        self, selection: SlotSelection, waiting_max: int, recycle_after: int | None
    ) -> None:
        self._selection = selection
        self._waiting_max = waiting_max
        self._recycle_after = recycle_after
        self._lock = threading.Lock()
        self._is_idle = threading.Condition(self._lock)
        self._free: dict[Worker, dict[Slot, None]] = {}
        """The free slots of each worker, the slot that has been free for longest first."""
        self._used: dict[Worker, set[Slot]] = {}
        self._order: dict[Worker, int] = {}
        """The number of the latest session of each worker."""
        self._slots_by_key: dict[Hashable, Slot] = {}
        self._waiting: deque[Future[Slot]] = deque()
        self._error: JournalError | None = None
        self._is_closed = False
        self.session_count = 0

    # -- workers ----------------------------------------------------------------------------------

    def add_worker(self, worker: "Worker") -> None:
        """Add the slots of a worker that is ready."""
        with self._lock:
            if not self._is_closed:
                self._error = None  # Of a pool that had no worker.
            self._free[worker] = {}
            self._used[worker] = set()
            self._order[worker] = 0
            for slot in worker.slots:
                self._give(slot)

    def remove_worker(self, worker: "Worker") -> set[Slot]:
        """Remove the slots of a worker that has died or that ends. Return those in use."""
        with self._lock:
            used = self._used.pop(worker, set())
            self._free.pop(worker, None)
            self._order.pop(worker, None)
            for slot in worker.slots:
                self._forget_key(slot)
            self._is_idle.notify_all()
            return used

    # -- checkouts --------------------------------------------------------------------------------

    def request(self, affinity: Hashable, *, can_wait: bool) -> "Slot | Future[Slot]":
        """Return a free slot, or a future that will have one.

        Raises PoolFull if nothing may wait, and the error of a pool that is closed.
        """
        with self._lock:
            if self._error is not None:
                raise copy.copy(self._error)  # One object would collect all tracebacks.
            slot = self._choose(affinity)
            if slot is not None:
                self._take(slot, affinity)
                return slot
            if not can_wait or len(self._waiting) >= self._waiting_max:
                raise PoolFull(self._describe_load())
            future: Future[Slot] = Future()
            self._waiting.append(future)
            return future

    def withdraw(self, future: "Future[Slot]") -> Slot | None:
        """End the wait of a checkout. Return the slot if it was granted in the meantime."""
        with self._lock:
            if future in self._waiting:
                self._waiting.remove(future)
                return None
        is_granted = future.done() and not future.cancelled() and future.exception() is None
        return future.result() if is_granted else None

    def make_timeout_error(self, seconds: float) -> PoolFull:
        """Return the error of a checkout that has waited for too long."""
        with self._lock:
            return PoolFull(f"no slot became free within {seconds:g} s: {self._describe_load()}")

    def _describe_load(self) -> str:
        slot_count = self._count_used() + sum(map(len, self._free.values()))
        waiting = f"{len(self._waiting)} checkouts wait, of at most {self._waiting_max}"
        return f"all {slot_count} slots of the pool are in use, and {waiting}"

    def _choose(self, affinity: Hashable) -> Slot | None:
        candidates = [worker for worker, slots in self._free.items() if slots]
        if not candidates:
            return None
        if self._selection is SlotSelection.RANDOM:
            return _RANDOM.choice([slot for each in candidates for slot in self._free[each]])
        if self._selection is SlotSelection.AFFINITY and affinity is not None:
            slot = self._slots_by_key.get(affinity)
            if slot is not None and slot in self._free.get(slot.worker, ()):
                return slot
        # The worker that got a session last comes last: it may still clean a slot.
        worker = min(candidates, key=lambda each: (len(self._used[each]), self._order[each]))
        return next(iter(self._free[worker]))

    def _take(self, slot: Slot, affinity: Hashable) -> None:
        worker = slot.worker
        del self._free[worker][slot]
        self._used[worker].add(slot)
        self.session_count += 1
        self._order[worker] = self.session_count
        if affinity is not None and slot.affinity != affinity:
            self._forget_key(slot)
            slot.affinity = affinity
        if affinity is not None:
            self._slots_by_key[affinity] = slot
        worker.session_count += 1
        if self._recycle_after is not None and worker.session_count >= self._recycle_after:
            worker.is_retiring = True
            self._free[worker].clear()

    def _forget_key(self, slot: Slot) -> None:
        if self._slots_by_key.get(slot.affinity) is slot:
            del self._slots_by_key[slot.affinity]

    # -- returns ----------------------------------------------------------------------------------

    def give_back(self, slot: Slot) -> bool:
        """Return a slot. Return whether its worker retires and has no session left."""
        with self._lock:
            worker = slot.worker
            if worker not in self._used:  # The worker has died.
                slot.channel.close()
                return False
            self._used[worker].discard(slot)
            if not self._count_used():
                self._is_idle.notify_all()
            if worker.is_retiring:
                return not self._used[worker]
            self._give(slot)
            return False

    def drop(self, slot: Slot) -> None:
        """Return a slot whose worker has died: nobody gets it any more."""
        with self._lock:
            if slot.worker in self._used:
                self._used[slot.worker].discard(slot)
            else:
                slot.channel.close()
            if not self._count_used():
                self._is_idle.notify_all()

    def _give(self, slot: Slot) -> None:
        """Give a slot to the first checkout that waits, or let it be free."""
        while self._waiting and not slot.worker.is_retiring:
            future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                self._free[slot.worker][slot] = None
                self._take(slot, None)
                future.set_result(slot)
                return
        if not slot.worker.is_retiring:
            self._free[slot.worker][slot] = None

    # -- the end ----------------------------------------------------------------------------------

    def fail(self, error: JournalError) -> None:
        """Refuse waiting and future checkouts with ``error`` until a worker is added."""
        if not self._is_closed:
            self._refuse(error)

    def close(self) -> None:
        """Refuse waiting and future checkouts for ever."""
        self._is_closed = True
        self._refuse(OptionError(CLOSED))

    def _refuse(self, error: JournalError) -> None:
        with self._lock:
            self._error = error
            waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(copy.copy(error))

    def wait_until_idle(self, timeout_seconds: float | None) -> bool:
        """Wait for the end of all sessions. Return whether they have ended."""
        with self._is_idle:
            return self._is_idle.wait_for(lambda: not self._count_used(), timeout_seconds)

    def count(self) -> tuple[int, int, int]:
        """Return the numbers of slots in use, of free slots, and of checkouts that wait."""
        with self._lock:
            free = sum(map(len, self._free.values()))
            return self._count_used(), free, len(self._waiting)

    def _count_used(self) -> int:
        return sum(map(len, self._used.values()))
