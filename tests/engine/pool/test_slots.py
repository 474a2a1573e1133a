"""Slots of a pool: which one a session gets, who waits, and what happens to those who wait."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any, cast

import pytest

from journal.engine.pool.channel import Channel
from journal.engine.pool.slots import Slot, SlotQueue, SlotSelection
from journal.engine.pool.worker import Worker
from journal.errors import EngineError, OptionError, PoolFull


class ClosedChannel:
    """A channel that counts how often it is closed."""

    closed_count = 0

    def close(self) -> None:
        self.closed_count += 1


class FakeWorker:
    """What the queue knows of a worker."""

    def __init__(self, slot_count: int) -> None:
        self.session_count, self.is_retiring = 0, False
        channels = [cast(Channel, ClosedChannel()) for _ in range(slot_count)]
        self.slots = [Slot(cast(Worker, self), *each) for each in enumerate(channels)]


def make_queue(*sizes: int, **options: Any) -> tuple[SlotQueue, list[Any]]:
    values: dict[str, Any] = {
        "selection": SlotSelection.NEXT_AVAILABLE,
        "waiting_max": 10,
        "recycle_after": None,
    } | options
    queue = SlotQueue(**values)
    workers = [FakeWorker(size) for size in sizes]
    for worker in workers:
        queue.add_worker(cast(Worker, worker))
    return queue, workers


def take(queue: SlotQueue, key: object = None) -> Slot:
    slot = queue.request(key, can_wait=False)
    assert isinstance(slot, Slot)
    return slot


def ask(queue: SlotQueue) -> Future[Slot]:
    future = queue.request(None, can_wait=True)
    assert isinstance(future, Future)
    return future


def test_sessions_spread_over_the_workers() -> None:
    queue, workers = make_queue(2, 2)
    owners = [take(queue).worker for _ in range(4)]
    assert owners == [workers[0], workers[1]] * 2


def test_one_session_after_another_uses_another_worker_and_slot() -> None:
    queue, workers = make_queue(2, 2)
    seen = []
    for _ in range(4):
        seen.append(take(queue))
        queue.give_back(seen[-1])
    assert set(seen) == {slot for worker in workers for slot in worker.slots}


def test_a_key_leads_to_the_same_slot_while_it_is_free() -> None:
    queue, _ = make_queue(4, 4, selection=SlotSelection.AFFINITY)
    first = take(queue, "ada")
    queue.give_back(first)
    queue.give_back(take(queue, "bob"))
    assert take(queue, "ada") is first
    second = take(queue, "ada")  # The slot is in use.
    assert second is not first
    queue.give_back(first)
    queue.give_back(second)
    assert take(queue, "ada") is second


def test_a_slot_remembers_one_key() -> None:
    queue, _ = make_queue(1, selection=SlotSelection.AFFINITY)
    for key in range(100):
        queue.give_back(take(queue, key))
    assert len(queue._slots_by_key) == 1


def test_a_random_slot_can_be_any() -> None:
    queue, workers = make_queue(3, 3, selection=SlotSelection.RANDOM)
    seen = set()
    for _ in range(1000):
        slot = take(queue)
        seen.add(slot)
        queue.give_back(slot)
    assert seen == {slot for worker in workers for slot in worker.slots}


def test_those_who_wait_are_served_in_order() -> None:
    queue, _ = make_queue(1)
    slot = take(queue)
    first, second = ask(queue), ask(queue)
    queue.give_back(slot)
    assert first.result(0) is slot
    assert not second.done()
    queue.give_back(slot)
    assert second.result(0) is slot


def test_no_more_than_the_limit_wait() -> None:
    queue, _ = make_queue(1, waiting_max=1)
    take(queue)
    with pytest.raises(PoolFull, match="all 1 slots of the pool are in use, and 0 checkouts wait"):
        queue.request(None, can_wait=False)
    ask(queue)
    with pytest.raises(PoolFull, match="1 checkouts wait, of at most 1"):
        queue.request(None, can_wait=True)


def test_a_checkout_that_gives_up_leaves_its_place() -> None:
    queue, _ = make_queue(1, waiting_max=1)
    slot = take(queue)
    future = ask(queue)
    assert queue.withdraw(future) is None
    assert "no slot became free within 2 s: all 1 slots" in str(queue.make_timeout_error(2.0))
    queue.give_back(slot)
    assert take(queue) is slot


def test_a_slot_that_is_granted_to_a_cancelled_checkout_is_not_lost() -> None:
    queue, _ = make_queue(1)
    slot = take(queue)
    cancelled, next_one = ask(queue), ask(queue)
    assert cancelled.cancel()
    queue.give_back(slot)
    assert next_one.result(0) is slot
    assert queue.withdraw(next_one) is slot  # It was granted before its owner gave up.


def test_a_dead_worker_takes_its_slots_with_it() -> None:
    queue, workers = make_queue(2, 1)
    used = take(queue)
    assert used.worker is workers[0]
    assert queue.remove_worker(workers[0]) == {used}
    assert take(queue).worker is workers[1]
    future = ask(queue)
    queue.give_back(used)
    assert used.channel.closed_count == 1  # type: ignore[attr-defined]
    assert not future.done()


def test_a_slot_is_dropped_before_the_death_of_its_worker_is_known() -> None:
    queue, workers = make_queue(1)
    slot = take(queue)
    queue.drop(slot)
    assert queue.wait_until_idle(0)
    with pytest.raises(PoolFull):
        take(queue)
    assert queue.remove_worker(workers[0]) == set()


def test_a_worker_gets_no_more_sessions_than_it_may() -> None:
    queue, workers = make_queue(2, recycle_after=2)
    first, second = take(queue), take(queue)
    assert not queue.give_back(first)
    assert queue.give_back(second)  # Now the worker can end.
    assert workers[0].is_retiring
    with pytest.raises(PoolFull):
        take(queue)


@pytest.fixture
def waiting() -> tuple[SlotQueue, Future[Slot]]:
    queue, _ = make_queue(1)
    take(queue)
    return queue, ask(queue)


def test_a_closed_queue_refuses_all(waiting: tuple[SlotQueue, Future[Slot]]) -> None:
    queue, future = waiting
    queue.close()
    queue.fail(EngineError("too late"))
    with pytest.raises(OptionError, match="the pool is closed"):
        future.result(0)
    with pytest.raises(OptionError, match="the pool is closed"):
        queue.request(None, can_wait=True)


def test_a_queue_without_workers_refuses_until_there_is_one(
    waiting: tuple[SlotQueue, Future[Slot]],
) -> None:
    queue, future = waiting
    queue.fail(EngineError("no worker starts"))
    with pytest.raises(EngineError, match="no worker starts"):
        future.result(0)
    with pytest.raises(EngineError, match="no worker starts"):
        take(queue)
    worker = FakeWorker(1)
    queue.add_worker(cast(Worker, worker))
    assert take(queue) is worker.slots[0]


def test_a_drain_waits_for_the_last_session() -> None:
    queue, _ = make_queue(2)
    slots = take(queue), take(queue)
    assert not queue.wait_until_idle(0)
    ender = threading.Thread(target=lambda: [queue.give_back(slot) for slot in slots])
    ender.start()
    assert queue.wait_until_idle(60)
    ender.join()
