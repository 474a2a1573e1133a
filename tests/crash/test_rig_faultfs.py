"""A writer on a real mount with power cuts, failing syncs and a full disk."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rigs import api, needs, workloads
from tests.rigs.faults import Fault
from tests.rigs.fused import Served
from tests.rigs.promise import Promise, check
from tests.support.budget import Budget

pytestmark = needs.mark(needs.why_no_fuse())
Count = Callable[[int], None]
NAME = "a.journal"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served("tests.rigs.faultfs", tmp_path_factory.mktemp("faultfs") / "mount") as served:
        yield served


def begin(served: Served, *faults: Fault, size_max: int = 0, calls: int = 0) -> Path:
    served.ask("begin", faults=faults, size_max=size_max, calls=calls)
    return served.mount_point / NAME


def test_what_was_not_synced_is_lost_with_the_power(served: Served) -> None:
    path = begin(served)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    directory = os.open(served.mount_point, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    os.write(descriptor, b"kept")
    os.fdatasync(descriptor)
    os.write(descriptor, b"waits")
    served.ask("cut")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        os.pwrite(descriptor, b"late", 0)
    os.close(descriptor)
    left = set()
    for seed in range(60):
        served.ask("crash", seed=seed)
        left.add(path.read_bytes())
    assert {b"kept", b"keptwaits"} < left
    assert all(content.startswith(b"kept") for content in left)


def test_a_failed_sync_is_forgotten_by_all_but_the_disk(served: Served) -> None:
    path = begin(served, Fault("sync", 2))
    with path.open("w+b", buffering=0) as file:
        file.write(b"A" * 4096)
        os.fdatasync(file.fileno())
        file.write(b"B" * 4096)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.fdatasync(file.fileno())
        os.fdatasync(file.fileno())  # The next sync succeeds.
        assert os.pread(file.fileno(), 1, 4096) == b"B"
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(file.fileno(), 1, 4096) == b"\0"


def test_writes_are_short_and_room_ends_where_asked(served: Served) -> None:
    path = begin(served, Fault("write", 1, error=0, kept=3), size_max=10)
    with path.open("w+b", buffering=0) as file:
        assert file.write(b"12345678") == 3
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            os.pwrite(file.fileno(), b"12345678", 3)


def crash_often(
    served: Served, plan: api.Plan, seed: int, states: int, *faults: Fault, size_max: int = 0
) -> int:
    """Run a workload, cut the power at one of its calls, and try some possible states.

    A promise made after the cut is wrong, but must be kept all the same.
    """
    promise = Promise()
    calls = random.Random(seed).randrange(250)
    path = begin(served, *faults, size_max=size_max, calls=calls)
    workloads.write(path, plan, promise, seed)
    served.ask("cut")
    for number in range(states):
        served.ask("crash", seed=seed * 1000 + number)
        kept = Promise(promise.rows, promise.tried, promise.acknowledged, promise.created)
        try:
            check(path, kept, plan)
        except Exception as error:
            error.add_note(f"{plan}, seed {seed}, faults {list(map(str, faults))}, state {number}")
            raise
    return states


FILE, DIRECTORY = api.Plan(), api.Plan(roll_size=4096)
PLANS = [FILE, api.Plan("every"), DIRECTORY]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_writer_without_power_loses_nothing_promised(
    served: Served, plan: api.Plan, count_states: Count
) -> None:
    count_states(sum(crash_often(served, plan, seed, 4) for seed in range(5)))


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_writer_whose_sync_failed_loses_nothing_promised(
    served: Served, plan: api.Plan, count_states: Count
) -> None:
    faults = [Fault("sync", nth) for nth in range(2, 7)]
    count_states(sum(crash_often(served, plan, fault.nth, 3, fault) for fault in faults))


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_writer_on_a_full_disk_loses_nothing_promised(
    served: Served, plan: api.Plan, count_states: Count
) -> None:
    sizes = (4096, 150_000, 220_000, 300_000)
    count_states(sum(crash_often(served, plan, size, 3, size_max=size) for size in sizes))


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_short_writes_are_completed(served: Served, plan: api.Plan, count_states: Count) -> None:
    faults = [Fault("write", nth, 3, 0, 20) for nth in range(1, 9, 2)]
    count_states(sum(crash_often(served, plan, fault.nth, 2, fault) for fault in faults))


CALLS = ("open", "write", "sync", "sync", "reserve", "link", "sync_directory", "read")


def some_faults(rng: random.Random) -> list[Fault]:
    """Return one or two faults, some of which are permanent."""
    faults = []
    for _ in range(rng.choice((0, 1, 1, 2))):
        call = rng.choice(
            ("open", "write", "sync", "sync", "reserve", "link", "sync_directory", "read")
        )
        error = rng.choice((errno.EIO, errno.ENOSPC, *((0,) if call == "write" else ())))
        times = rng.choice((1, 1, 1, 2, 1 << 30))
        faults.append(Fault(call, rng.randint(1, 12), times, error, rng.choice((1, 20, 113, 500))))
    return faults


@pytest.mark.deep
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_writer_that_everything_happens_to_loses_nothing_promised(
    served: Served, plan: api.Plan, count_states: Count, budget: Budget
) -> None:
    states = 0
    for seed in budget.spend(range(1000, 1200), 4):
        rng = random.Random(seed)
        size_max = rng.choice((0, 0, 0, rng.randrange(1, 400_000)))
        states += crash_often(served, plan, seed, 6, *some_faults(rng), size_max=size_max)
    count_states(states)
