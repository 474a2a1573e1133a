"""Power cuts at every call of a writer on an in-memory disk, with and without disk failures.

The disk keeps any part of the data that was not synced.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rigs import api, workloads
from tests.rigs.campaign import NAME, Field, record, try_states
from tests.rigs.disk import ROOT, Disk, Reserve, State, Write, digest, lay_out
from tests.rigs.faults import Fault, Faults
from tests.rigs.promise import Promise, check
from tests.rigs.recorder import crash_points
from tests.support.budget import Budget
from tests.support.sealed_journals import process_key

Count = Callable[[int], None]

FILE = api.Plan()
DIRECTORY = api.Plan(roll_size=4096)
PLANS = [
    FILE,
    api.Plan("every"),
    api.Plan("none", compress=False),
    DIRECTORY,
    api.Plan("every", roll_size=4096, compress=False),
]
TOGETHER = [api.Plan("group"), api.Plan("interval", roll_size=4096), api.Plan("every")]
ALWAYS = 1 << 30
CALLS = ("open", "write", "sync", "reserve", "link", "sync_directory", "resize", "read")


@pytest.fixture
def field() -> Iterator[Field]:
    with Field() as field:
        yield field


def some_faults(rng: random.Random) -> list[Fault]:
    """Return one or two faults, some of which are permanent."""
    faults = []
    for _ in range(rng.randint(1, 2)):
        call = rng.choice((*CALLS, "write", "sync", "sync", "reserve"))
        error = rng.choice((errno.EIO, errno.ENOSPC))
        if call == "write":
            error = rng.choice((errno.EIO, errno.ENOSPC, 0))
        times = rng.choice((1, 1, 1, 2, ALWAYS))
        faults.append(Fault(call, rng.randint(1, 12), times, error, rng.choice((1, 20, 113, 500))))
    return faults


# -- checks of the rig ---------------------------------------------------------------------------


def test_a_disk_keeps_what_was_synced_and_any_part_of_the_rest() -> None:
    disk, rng = Disk(), random.Random(1)
    number = disk.create("a")
    disk.sync_directory(ROOT)
    disk.change(number, Write(0, b"synced"))
    disk.sync(number)
    disk.change(number, Reserve(4000))
    disk.change(number, Write(6, b"x" * 1000))
    disk.change(number, Write(1006, b"y" * 1000))
    left = [content.read(5000, 0) for _ in range(500) if (content := disk.crash(rng)["a"])]
    assert len(left) == 500
    assert all(content.startswith(b"synced") for content in left)
    assert {len(content) for content in left} >= {6, 1006, 2006, 4000}
    assert any(b"y" in content and b"x" not in content for content in left), "out of order"
    assert any(0 < content.count(b"x") < 1000 for content in left), "torn"


def test_a_disk_that_failed_a_sync_shows_what_it_has_lost() -> None:
    disk = Disk()
    number = disk.create("a")
    disk.change(number, Write(0, b"lost"))
    disk.lose(number)
    disk.sync(number)
    assert disk.nodes[number].seen.read(9, 0) == b"lost"
    disk.evict(number)
    assert disk.nodes[number].seen.read(9, 0) == bytes(4)


def test_names_that_were_not_synced_may_be_lost() -> None:
    disk, rng = Disk(), random.Random(1)
    disk.sync_directory(disk.mkdir("d"))
    disk.create("d/a")
    states = [disk.crash(rng) for _ in range(50)]
    assert {tuple(state) for state in states} == {(), ("d",), ("d", "d/a")}


def promise_too_much(path: Path, plan: api.Plan, promise: Promise, seed: int) -> None:
    """Promise everything appended, synced or not."""
    workloads.write(path, plan, promise, seed)
    promise.acknowledge(len(promise.rows) + 1)


def test_a_promise_that_is_not_kept_is_noticed(field: Field) -> None:
    with pytest.raises(AssertionError, match="were acknowledged and are lost"):
        try_states(field, FILE, 1, 1, work=promise_too_much)


def test_an_event_that_nobody_wrote_is_noticed(field: Field) -> None:
    recorder, promise = record(field, FILE, 1, Faults())
    *_, last = crash_points(recorder)
    root = field.fresh()
    lay_out(last.disk.crash(random.Random(1)), root)
    promise.rows[1] = (7, b"something else")
    with pytest.raises(AssertionError, match="event 1 was never written"):
        check(root / NAME, promise, FILE)


def test_a_state_is_what_its_files_hold(field: Field) -> None:
    disk = Disk()
    number = disk.create("a")
    disk.change(number, Write(3, b"b"))
    disk.change(number, Reserve(9))
    disk.sync(number)
    disk.sync_directory(ROOT)
    state: State = disk.crash(random.Random(1))
    root = field.fresh()
    lay_out(state, root)
    assert (root / "a").read_bytes() == b"\0\0\0b\0\0\0\0\0"
    disk.change(number, Write(0, b"a"))
    disk.sync(number)
    assert digest(disk.crash(random.Random(1))) != digest(state)


# -- checks of the journal -----------------------------------------------------------------------


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_power_cut_at_any_call_keeps_what_was_promised(
    field: Field, plan: api.Plan, count_states: Count
) -> None:
    count_states(sum(try_states(field, plan, seed, 3, chance=0.1) for seed in range(4)))


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_power_cut_after_a_failure_of_the_disk_keeps_what_was_promised(
    field: Field, plan: api.Plan, count_states: Count
) -> None:
    states = 0
    for seed in range(12):
        faults = some_faults(random.Random(seed))
        states += try_states(field, plan, seed, 2, *faults, chance=0.05)
    count_states(states)


@pytest.mark.parametrize("plan", TOGETHER, ids=str)
def test_a_power_cut_while_threads_wait_keeps_what_was_promised(
    field: Field, plan: api.Plan, count_states: Count
) -> None:
    work = workloads.write_together
    count_states(sum(try_states(field, plan, s, 3, work=work, chance=0.3) for s in range(3)))


@pytest.mark.deep
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_many_power_cuts_keep_what_was_promised(
    field: Field, plan: api.Plan, count_states: Count, budget: Budget
) -> None:
    seeds = budget.spend(range(100, 106), 1)
    chance = 0.2 if budget.seconds else 0.7
    count_states(sum(try_states(field, plan, seed, 10, chance=chance) for seed in seeds))


@pytest.mark.deep
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_many_power_cuts_after_failures_of_the_disk_keep_what_was_promised(
    field: Field, plan: api.Plan, count_states: Count, budget: Budget
) -> None:
    states = 0
    for seed in budget.spend(range(1000, 1050), 3):
        faults = some_faults(random.Random(seed))
        states += try_states(field, plan, seed, 4, *faults, chance=0.2)
    count_states(states)


@pytest.mark.deep
@pytest.mark.parametrize("plan", TOGETHER, ids=str)
def test_many_power_cuts_while_threads_wait_keep_what_was_promised(
    field: Field, plan: api.Plan, count_states: Count, budget: Budget
) -> None:
    states = 0
    for seed in budget.spend(range(100, 115), 2):
        faults = some_faults(random.Random(seed)) if seed % 3 == 0 else []
        work = workloads.write_together
        states += try_states(field, plan, seed, 4, *faults, work=work, chance=0.4)
    count_states(states)


@pytest.mark.parametrize("plan", [FILE, DIRECTORY], ids=str)
def test_a_power_cut_keeps_what_was_promised_by_a_sealed_journal(
    field: Field, plan: api.Plan, count_states: Count
) -> None:
    with process_key():
        states = try_states(field, plan, 1, 2, chance=0.1)
        faults = some_faults(random.Random(3))
        count_states(states + try_states(field, plan, 3, 1, *faults, chance=0.05))


@pytest.mark.deep
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_many_power_cuts_keep_what_was_promised_by_sealed_journals(
    field: Field, plan: api.Plan, count_states: Count, budget: Budget
) -> None:
    states = 0
    with process_key():
        for seed in budget.spend(range(2000, 2050), 2):
            faults = some_faults(random.Random(seed)) if seed % 2 else []
            states += try_states(field, plan, seed, 4, *faults, chance=0.2)
    count_states(states)
