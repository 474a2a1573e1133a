"""Data structures of compaction: interval map, bitset, dependency graph, and retention policy."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import OptionError
from journal.compaction import RetentionPolicy
from journal.compaction.liveness import interval_map
from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL, DependencyGraph
from journal.compaction.liveness.interval_map import IntervalMap
from journal.compaction.liveness.seq_bitset import SeqBitset

PLACES = 60
changes = st.lists(
    st.tuples(st.booleans(), st.integers(0, PLACES - 20), st.integers(0, 19)), max_size=60
)


@pytest.mark.parametrize("row_count_max", [2, 3, 8, 1 << 10])
@given(changes)
def test_each_place_is_owned_by_who_set_it_last(
    row_count_max: int, told: list[tuple[bool, int, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interval_map, "ROW_COUNT_MAX", row_count_max)
        found, plain, last_truncation = IntervalMap(), [BEFORE_JOURNAL] * PLACES, BEFORE_JOURNAL
        owners = {BEFORE_JOURNAL}
        for owner, (is_truncation, start, size) in enumerate(told):
            if is_truncation:
                found.truncate(start, owner)
                plain[start:] = [-3 - owner] * (PLACES - start)
                last_truncation = owner
            else:
                found.put(start, start + size, owner)
                plain[start : start + size] = [owner] * size
            for stop in (0, 7, PLACES):
                assert flat(found.intervals(stop), stop) == [
                    max(one, BEFORE_JOURNAL) for one in plain[:stop]
                ]
            assert found.last_truncation == last_truncation
        owners = {one if one >= BEFORE_JOURNAL else -3 - one for one in plain}
        assert set(found.owners()) == owners


def test_ranges_that_follow_each_other_are_stored_in_short_rows() -> None:
    found, count = IntervalMap(), 3 * interval_map.ROW_COUNT_MAX
    for owner in range(count):
        found.put(2 * owner, 2 * owner + 2, owner)
    assert found.intervals(2 * count) == [(2 * owner, owner) for owner in range(count)]
    assert max(map(len, found._starts)) <= interval_map.ROW_COUNT_MAX


def flat(parts: list[tuple[int, int]], stop: int) -> list[int]:
    found: list[int] = []
    ends = [start for start, _ in parts[1:]] + [stop] * bool(parts)
    for (start, owner), behind in zip(parts, ends, strict=True):
        assert start == len(found)
        found += [owner] * (behind - start)
    return found


@given(st.sets(st.integers(0, 1 << 18) | st.integers(0, 300)), st.lists(st.integers(0, 1 << 18)))
def test_numbers_are_a_set(some: set[int], requested: list[int]) -> None:
    numbers = SeqBitset()
    for one in [*some, *some]:
        numbers.add(one)
    assert numbers.count == len(some)
    assert list(numbers) == sorted(some)
    for one in [*requested, *some]:
        assert (one in numbers) == (one in some)
        assert numbers.last_below(one) == max((n for n in some if n < one), default=-1)
        for count in (0, 1, 7, 8, 9, 300, 70_000):
            there = [n in some for n in range(one, one + min(count, 300))]
            assert list(map(bool, numbers.flags(one, count)[:300])) == there
            assert len(numbers.flags(one, count)) == count
            assert numbers.has_any(one, one + count) == any(one <= n < one + count for n in some)
    again = SeqBitset()
    for one in random.sample(sorted(some), len(some)):
        again.add(one)
    assert numbers == again
    again.add(1 << 20)
    assert numbers != again


def test_events_on_which_kept_events_depend_are_kept() -> None:
    graph = DependencyGraph()
    for seq, needs in {3: [1, 2], 5: [3], 7: [4], 9: [7]}.items():
        graph.begin_event(seq)
        for need in needs:
            graph.add_dependency(need)
        graph.finish_event()
    graph.sweep([5])
    graph.mark_live(5)
    graph.mark_live(9)
    assert list(graph.live) == [1, 2, 3, 5, 9], "what 9 needed was not reached by the sweep"
    graph.begin_event(10)
    graph.add_reverse_dependency(3)
    graph.finish_event()
    assert 10 in graph.live, "it ends what is kept"


def test_a_policy_that_keeps_nothing_is_none() -> None:
    for wrong in ({"keep_last": 0}, {"keep_every": 0}, {"keep_within_seconds": -1.0}):
        with pytest.raises(OptionError):
            RetentionPolicy(**wrong)
    with pytest.raises(OptionError):
        RetentionPolicy(keep_within_seconds=float("nan"))
