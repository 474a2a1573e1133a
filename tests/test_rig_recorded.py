"""Power cuts at every call that a writer makes, on a disk in memory that keeps any part of what
was not synced; and the same where the disk fails on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.rigs import api
from tests.rigs.campaign import Field, try_states

Count = Callable[[int], None]

FILE = api.Plan()
PLANS = [FILE, api.Plan(compress=False)]


@pytest.fixture
def field() -> Iterator[Field]:
    with Field() as field:
        yield field


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_power_cut_at_any_call_keeps_what_was_promised(
    field: Field, plan: api.Plan, count_states: Count
) -> None:
    count_states(sum(try_states(field, plan, seed, 3, chance=0.5) for seed in range(4)))
