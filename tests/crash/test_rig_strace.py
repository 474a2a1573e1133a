"""Writers killed at each of their system calls, and writers with a failure at each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.rigs import api, needs
from tests.rigs.campaign import Field
from tests.rigs.stracing import Forks, Inject
from tests.support.budget import Budget

pytestmark = needs.mark(needs.why_no_strace())
Count = Callable[[int], None]
EXPLICIT = api.Plan()
EVERY = api.Plan("every")
ROLLING = api.Plan(roll_size=4096)
PLANS = [EXPLICIT, EVERY, ROLLING, api.Plan("group", roll_size=4096)]
WRITING = ("pwrite64", "fdatasync", "fsync", "fallocate", "ftruncate", "openat", "link", "linkat")
FAILURES = ("error=EIO", "error=ENOSPC")
FAILED_SYNC = Inject("fdatasync", 4, "error=EIO")


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Field() as field, Forks(field.root, PLANS) as forks:
        yield forks


def moments(forks: Forks, plan: api.Plan, step: int, *others: Inject) -> list[Inject]:
    """Yield a kill at each ``step``-th call of an undisturbed writer."""
    calls = forks.try_one(plan).calls
    busy = {other.call for other in others}
    names = sorted(set(calls) - busy)
    kills = [Inject(name, nth) for name in names for nth in range(1, calls[name] + 1)]
    return kills[::step]


def kill_at_each(
    forks: Forks, plan: api.Plan, step: int, *others: Inject, budget: Budget | None = None
) -> int:
    """Kill a writer at each ``step``-th call; return the number of kills."""
    kills: Iterable[Inject] = moments(forks, plan, step, *others)
    if budget is not None:
        kills = budget.spend(list(kills), 8)
    codes = [forks.try_one(plan, kill, *others).code for kill in kills]
    killed = sum(code < 0 for code in codes)
    assert killed > len(codes) * 0.7, f"{killed} of {len(codes)} kills came true"
    return killed


def fail_at_each(forks: Forks, plan: api.Plan, step: int, budget: Budget | None = None) -> int:
    """Let each ``step``-th write call fail, once and permanently; return the number of failures."""
    calls = forks.try_one(plan).calls
    asked = [(name, nth) for name in WRITING for nth in range(1, calls[name] + 1)]
    failures = [Inject(*call, failure) for call in asked for failure in FAILURES]
    failures += [Inject("pwrite64", nth, "retval=0") for nth in range(1, calls["pwrite64"] + 1)]
    chosen: Iterable[Inject] = failures[::step]
    if budget is not None:
        chosen = budget.spend(failures[::step], 8)
    count = 0
    for failure in chosen:
        forks.try_one(plan, failure)
        forks.try_one(plan, failure._replace(forever=True))
        count += 2
    return count


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_writer_killed_at_any_system_call_keeps_its_promise(
    forks: Forks, plan: api.Plan, count_states: Count
) -> None:
    count_states(kill_at_each(forks, plan, 12))


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_writer_that_a_system_call_fails_keeps_its_promise(
    forks: Forks, plan: api.Plan, count_states: Count
) -> None:
    count_states(fail_at_each(forks, plan, 25))


def test_a_writer_killed_while_it_fails_over_keeps_its_promise(
    forks: Forks, count_states: Count
) -> None:
    count_states(sum(kill_at_each(forks, plan, 20, FAILED_SYNC) for plan in PLANS[:3]))


@pytest.mark.deep
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_writer_killed_at_each_system_call_keeps_its_promise(
    forks: Forks, plan: api.Plan, count_states: Count, budget: Budget
) -> None:
    count_states(kill_at_each(forks, plan, 1, budget=budget))


@pytest.mark.deep
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_writer_that_each_system_call_fails_keeps_its_promise(
    forks: Forks, plan: api.Plan, count_states: Count, budget: Budget
) -> None:
    count_states(fail_at_each(forks, plan, 1, budget))


@pytest.mark.deep
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_writer_killed_at_each_call_while_it_fails_over_keeps_its_promise(
    forks: Forks, plan: api.Plan, count_states: Count, budget: Budget
) -> None:
    count_states(kill_at_each(forks, plan, 1, FAILED_SYNC, budget=budget))
