"""Pools under load: hostile and normal sessions side by side, while workers are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

import journal
from journal.engine import Ending, SessionLimits
from journal.errors import WorkerDied
from tests.engine.pool.conftest import OpenPool
from tests.support.budget import Budget
from tests.support.deadlines import DEADLINE_SECONDS

HOSTILE_SESSIONS = 10_000
SOAK_SECONDS = 600
SESSIONS_MIN = 60
GROWTH_MAX = 48 << 20
"""Growth of a process in bytes that the caches of Python and of the C library explain."""
LIMITS = SessionLimits(seconds_max=DEADLINE_SECONDS, output_size_max=1 << 16)
IMPATIENT = SessionLimits(seconds_max=0.02, output_size_max=1 << 16)
"""Limits of guests that loop for ever. A slow machine may end any call of theirs."""

ENDS = {
    b"x": {Ending.EXITED},
    b"t": {Ending.TRAPPED},
    b"l": {Ending.TIMED_OUT},
    b"g": {Ending.EXITED},
    b"o": {Ending.OUTPUT_LIMIT},
}
"""What each hostile command may lead to."""


def make_counts(start: int, count: int) -> bytes:
    """Return what the guest prints for ``count`` commands after ``start`` others."""
    return b"".join(b"%c\n" % (ord("0") + start + number + 1) for number in range(count))


def run_session(pool: journal.Pool, number: int) -> str:
    """Run one session, check each answer, and return how it ended."""
    random = Random(number)
    first, second = random.randint(1, 9), random.randint(1, 9)
    command = random.choice(sorted(ENDS))
    is_impatient = command == b"l" and number % 3 > 0
    limits = IMPATIENT if is_impatient else LIMITS
    try:
        with pool.checkout(affinity=number % 5, limits=limits) as session:
            if not is_impatient:
                assert session.run(b"c" * first).stdout == make_counts(0, first)
                assert session.run(b"mf" + b"c" * second).stdout[4:] == make_counts(first, second)
                assert session.files == {"/mark": b""}
            if number % 3 == 0:
                return "left"
            ending = session.run(b"m" + command).ending
            assert ending in ENDS[command], (command, ending)
            return ending.value
    except WorkerDied:
        return "worker died"


async def leave_session(pool: journal.Pool) -> str:
    """Leave a session inside a call."""
    try:
        async with pool.checkout_async(limits=SessionLimits()) as session:
            await session.run(b"cm")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.005):
                    await session.run(b"l")
    except WorkerDied:
        return "worker died"
    return "abandoned"


def read_size(process: int | str = "self") -> int:
    """Return the resident size of a process in bytes."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.deep
def test_no_hostile_session_is_seen_by_the_next(open_pool: OpenPool, budget: Budget) -> None:
    with open_pool(workers=1, slots=2, limits=LIMITS, paranoid=True) as pool:
        (process,) = pool.status.process_ids
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda number: run_session(pool, number), range(SESSIONS_MIN)))
            size = read_size(process)
            numbers = list(budget.spend(range(HOSTILE_SESSIONS), SESSIONS_MIN))
            endings = Counter(threads.map(lambda number: run_session(pool, number), numbers))
        assert pool.status.process_ids == (process,)
        assert endings["worker died"] == 0
        assert read_size(process) - size < GROWTH_MAX


def spend_time(budget: Budget) -> Iterator[int]:
    """Yield numbers until the budget is spent, for ten minutes if it has no limit."""
    end = time.monotonic() + (budget.seconds or SOAK_SECONDS)
    number = 0
    while number < SESSIONS_MIN or time.monotonic() < end:
        yield number
        number += 1


@pytest.mark.deep
def test_a_pool_whose_workers_are_killed_loses_and_mixes_no_answer(
    open_pool: OpenPool, budget: Budget
) -> None:
    endings: Counter[str] = Counter()
    lock, numbers = threading.Lock(), spend_time(budget)

    def run_sessions() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            if number % 40 == 39:
                with suppress(IndexError, ProcessLookupError):
                    os.kill(Random(number).choice(pool.status.process_ids), signal.SIGKILL)
            is_left = number % 11 == 10
            ending = asyncio.run(leave_session(pool)) if is_left else run_session(pool, number)
            with lock:
                endings[ending] += 1
                budget.tried += 1

    with open_pool(workers=2, slots=2, limits=LIMITS, grace_seconds=DEADLINE_SECONDS) as pool:
        run_session(pool, 0)
        size, descriptors = read_size(), count_descriptors()
        with ThreadPoolExecutor(4) as threads:
            for each in [threads.submit(run_sessions) for _ in range(4)]:
                each.result()
        with pool.checkout(timeout_seconds=DEADLINE_SECONDS) as session:
            assert session.run(b"c").stdout == b"1\n"
        assert pool.status.death_count > 0
        assert endings["left"] > 0
        assert endings["abandoned"] > 0
        assert read_size() - size < GROWTH_MAX
        assert count_descriptors() <= descriptors + 8  # A worker may be missing or starting.
    assert pool.status.used_slots == 0
