"""Selection by time in journals whose times go back, compared with a look at each event."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.events.core import ProcessExit
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.operations.filter import filter as filter_journal
from journal.operations.statistics import collect_statistics
from journal.query.literals import JournalTimes
from journal.query.selection import Query, QueryFilter

Blocks = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=8)
Moments = st.integers(0, 60)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    numbers: Iterator[int] = iter(range(1 << 30))
    folder = tmp_path_factory.mktemp("times")
    return lambda: folder / str(next(numbers))


def write_blocks(path: Path, blocks: list[list[int]]) -> list[int]:
    """Write a block for each list, or several where its times decrease. Return all times."""
    times = [time for block in blocks for time in block]
    with Writer(path, clock=iter([0, *times]).__next__) as writer:
        for block in blocks:
            for _ in block:
                writer.append(ProcessExit(exit_code=0))
            writer.flush()
    return times


@given(Blocks, Moments)
def test_a_reader_finds_the_frames_from_a_time_on(
    paths: Callable[[], Path], blocks: list[list[int]], since: int
) -> None:
    path = paths()
    times = write_blocks(path, blocks)
    late = [seq for seq, time in enumerate(times) if time >= since]
    with Reader(path) as reader:
        assert [frame.seq for frame in reader.frames(since=since)] == late
        assert [frame.time for frame in reader.frames(since=since)] == [times[at] for at in late]
        assert {seq for block in reader.blocks(since=since) for seq in block.seqs} >= set(late)


def pass_blocks(path: Path, query_filter: QueryFilter) -> list[int]:
    """Return the sequence numbers of the events that pass, block by block."""
    passed = []
    with Reader(path) as reader:
        for block in reader.blocks():
            if query_filter.needs_block(block.header, block.first_seq):
                mask = query_filter.compute_mask(block)
                passed += [seq for seq, passes in zip(block.seqs, mask, strict=True) if passes]
    return passed


@given(Blocks, Moments, Moments, st.booleans(), st.booleans())
def test_a_filter_decides_by_the_time_of_each_event(
    paths: Callable[[], Path],
    blocks: list[list[int]],
    since: int,
    until: int,
    keep: bool,
    as_expression: bool,
) -> None:
    path = paths()
    times = write_blocks(path, blocks)
    if as_expression:
        query = Query(where=f"time >= +{since}us and time < -{until}us")
        since, until = times[0] + since, times[-1] - until
    else:
        query = Query(since=since, until=until)
    expected = [seq for seq, time in enumerate(times) if (since <= time < until) is keep]

    def make_filter() -> QueryFilter:
        return QueryFilter(query, JournalTimes(times[0], times[-1]), keep=keep)

    assert pass_blocks(path, make_filter()) == expected
    with Reader(path) as reader:
        assert list(filter(make_filter().passes, reader.frames())) == [
            frame for frame in reader.frames() if frame.seq in expected
        ]
    target = paths()
    filter_journal(path, target, query, keep=keep, keep_preamble=False)
    with Reader(target) as reader:
        found = [(frame.seq, frame.time) for frame in reader.frames()]
    assert found == [(seq, times[seq]) for seq in expected]


@given(Blocks)
def test_a_timeline_counts_each_event_once(
    paths: Callable[[], Path], blocks: list[list[int]]
) -> None:
    path = paths()
    times = write_blocks(path, blocks)
    result = collect_statistics(path)
    assert sum(result.timeline) == len(times)
    assert result.seconds >= 0
