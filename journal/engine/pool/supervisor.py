"""Supervisor of a pool: starts its workers, and replaces dead ones."""

import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from journal.engine.pool.channel import ChannelClosed
from journal.engine.pool.messages import Kind, MalformedMessage, decode_error
from journal.engine.pool.pool_options import PoolOptions
from journal.engine.pool.slot_cleaner import SlotCleaner
from journal.engine.pool.slots import Slot, SlotQueue
from journal.engine.pool.worker import ProcessWorker, ThreadWorker, Worker
from journal.errors import WorkerDied
from journal.fs.open_resources import OwnThread

START_FAILURES_MAX = 3
"""Number of failed starts in a row after which a pool without workers refuses checkouts."""
_RESTART_DELAY_SECONDS = 0.1
"""Delay after the first failure of a start. It doubles with each."""
_RESTART_DOUBLINGS_MAX = 8
_EXIT_TIMEOUT_SECONDS = 5.0


class Supervisor:
    """Thread that owns the workers of a pool.

    All changes of the set of workers happen in this thread. The methods before ``_run`` may be
    called from other threads.
    """

    def __init__(
        self, options: PoolOptions, worker_count: int, grace_seconds: float, queue: SlotQueue
    ) -> None:
        self._options = options
        self._worker_count = max(1, worker_count)
        self._in_process = worker_count == 0
        self.grace_seconds = grace_seconds
        self._queue = queue
        self._workers: set[Worker] = set()
        self._start_times: list[float] = []
        """Times at which the next workers are started."""
        self._next_number = 0
        self._failure_count = 0
        self._started: Future[None] = Future()
        self._is_ending = False
        self._calls: list[Callable[[], None]] = []
        self._selector = selectors.DefaultSelector()
        self._cleaner = SlotCleaner(self._selector, grace_seconds, self.give_back, self._kill_for)
        self._wake_end, self._waker = socket.socketpair()
        self._wake_end.setblocking(False)
        self._selector.register(self._wake_end, selectors.EVENT_READ, self._hear_calls)
        self._thread = OwnThread(target=self._run, name="journal-pool", daemon=True)
        self.death_count = 0

    # -- calls from other threads -----------------------------------------------------------------

    def start(self) -> "Future[None]":
        """Start the thread and the workers, and return the future of their start."""
        # The first worker fills the caches for the others, or fails for all.
        self._start_times.append(0)
        self._thread.start()
        return self._started

    def give_back(self, slot: Slot) -> None:
        """Return a slot whose worker cleans it, and end a worker that retires."""
        if self._queue.give_back(slot):
            self._call(lambda: self._retire(slot.worker))

    def drop(self, slot: Slot) -> None:
        """Return a slot whose worker has died."""
        self._queue.drop(slot)

    def clean(self, slot: Slot) -> None:
        """Stop the guest of a slot whose session was left inside a call, and clean the slot."""
        self._call(lambda: self._clean(slot))

    def stop(self) -> None:
        """End all workers, and wait for their end."""
        self._call(self._set_ending)
        self._thread.join()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Return the numbers of the processes of the workers."""
        return tuple(sorted({each.process_id for each in self._workers.copy() if each.is_ready}))

    def abandon(self) -> None:
        """Close all descriptors in a forked child, to which the thread does not belong."""
        self._selector.close()
        self._wake_end.close()
        self._waker.close()
        for worker in self._workers:
            worker.abandon()

    def _call(self, function: Callable[[], None]) -> None:
        self._calls.append(function)
        with suppress(OSError):  # The pipe is full of wake-ups, or the supervisor has ended.
            self._waker.send(b"\0", socket.MSG_DONTWAIT)

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_ending:
            for key, _ in self._selector.select(self._get_delay()):
                key.data()
            self._cleaner.check()
            now = time.monotonic()
            while self._start_times and self._start_times[0] <= now and not self._is_ending:
                self._start_times.pop(0)
                self._start_worker()
        self._end_workers()

    def _get_delay(self) -> float | None:
        times = [*self._start_times[:1], self._cleaner.next_deadline]
        known = [each for each in times if each is not None]
        return max(0.0, min(known) - time.monotonic()) if known else None

    def _hear_calls(self) -> None:
        with suppress(BlockingIOError):
            self._wake_end.recv(1 << 12)
        while self._calls:
            self._calls.pop(0)()

    def _set_ending(self) -> None:
        self._is_ending = True

    # -- workers ----------------------------------------------------------------------------------

    def _start_worker(self) -> None:
        kind = ThreadWorker if self._in_process else ProcessWorker
        try:
            worker = kind(self._next_number, self._options.slot_count)
            worker.configure(self._options.to_values())
        except ChannelClosed:
            pass  # It has died. Its channel tells below.
        except Exception as error:
            self._count_failure(error)
            return
        self._next_number += 1
        self._workers.add(worker)
        self._selector.register(
            worker.control, selectors.EVENT_READ, lambda: self._hear_worker(worker)
        )

    def _hear_worker(self, worker: Worker) -> None:
        try:
            while (message := worker.control.receive_available()) is not None:
                if message.kind == Kind.READY:
                    self._admit(worker)
                elif message.kind == Kind.FAILURE:
                    self._lose(worker, decode_error(message.body))
                    return
                else:
                    raise MalformedMessage("a worker sent a message of an unknown kind")
        except ChannelClosed:
            self._lose(worker)
        except MalformedMessage as error:
            worker.kill(f"was killed: {error}")
            self._lose(worker)

    def _admit(self, worker: Worker) -> None:
        """Let a worker that is ready serve sessions."""
        worker.is_ready = True
        self._failure_count = 0
        self._queue.add_worker(worker)
        ready_count = sum(each.is_ready for each in self._workers)
        if not self._started.done():
            if ready_count == self._worker_count:
                self._started.set_result(None)
            elif ready_count == 1:
                self._start_times += [0] * (self._worker_count - 1)

    def _lose(self, worker: Worker, error: Exception | None = None) -> None:
        """Remove a worker that has died or that cannot start, and start another one."""
        if worker not in self._workers:
            return
        self._remove(worker)
        if worker.is_ready:
            self.death_count += 1
            self._schedule_start(0)
            return
        if error is None:
            error = WorkerDied(f"a worker of the pool {worker.describe_end()} before it was ready")
        self._count_failure(error)

    def _remove(self, worker: Worker) -> None:
        self._workers.discard(worker)
        self._selector.unregister(worker.control)
        for slot in worker.slots:
            if self._cleaner.forget(slot):
                self._queue.drop(slot)  # No session is left that would do it.
        used_slots = self._queue.remove_worker(worker)
        worker.kill()
        worker.wait(_EXIT_TIMEOUT_SECONDS)
        worker.close(used_slots)

    def _count_failure(self, error: Exception) -> None:
        """Try again later, unless the pool has just been opened or fails again and again."""
        if not self._started.done():
            self._started.set_exception(error)
            self._is_ending = True
            return
        self._failure_count += 1
        is_any_ready = any(each.is_ready for each in self._workers)
        if self._failure_count >= START_FAILURES_MAX and not is_any_ready:
            reason = f"the workers of the pool have died, and no other starts: {error}"
            self._queue.fail(WorkerDied(reason))
        doublings = min(self._failure_count, _RESTART_DOUBLINGS_MAX)
        self._schedule_start(_RESTART_DELAY_SECONDS * 2**doublings)

    def _schedule_start(self, delay_seconds: float) -> None:
        self._start_times.append(time.monotonic() + delay_seconds)
        self._start_times.sort()

    def _retire(self, worker: Worker) -> None:
        if worker in self._workers:
            self._remove(worker)
            self._schedule_start(0)

    def _clean(self, slot: Slot) -> None:
        if slot.worker in self._workers:
            self._cleaner.begin(slot)
        else:
            self._queue.drop(slot)

    def _kill_for(self, slot: Slot) -> None:
        slot.worker.kill(
            f"was killed: a guest did not stop within {self.grace_seconds:g} s after its session"
        )
        self._lose(slot.worker)

    def _end_workers(self) -> None:
        """End all workers: first by a request, then by force."""
        self._queue.close()
        workers = list(self._workers)
        for worker in workers:
            worker.request_end()
        deadline = time.monotonic() + _EXIT_TIMEOUT_SECONDS
        for worker in workers:
            worker.wait(max(0.0, deadline - time.monotonic()))
            worker.kill_reason = worker.kill_reason or "ended with its pool"
            self._remove(worker)
        self._selector.close()
        self._wake_end.close()
        self._waker.close()
