"""Fast path: its results equal those of the host's slow path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.toolkit_journal import Size, make
from journal import Reader
from journal.compaction import RetentionPolicy
from journal.compaction.compactor import CompactionPlan
from journal.compaction.liveness import analysis
from journal.compaction.liveness.analysis import LivenessResult
from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL, DependencyGraph
from journal.compaction.liveness.descriptor_provenance import ProvenanceTable
from journal.compaction.liveness.fast_path import EventRows, FastPath
from journal.compaction.liveness.interval_map import IntervalMap
from journal.compaction.liveness.write_batch import Columns, WriteBatch, decode_writes
from journal.errors import MalformedEvent
from journal.events import codec
from journal.events.descriptors import FileDescriptorWrite
from journal.replay.effects.descriptors import POSITION_MAX
from journal.rewrite.progress import ignore_progress
from tests.support.compaction_histories import History, histories, policies, write_story

Parts = list[tuple[int, int]]
PLACES = 40


def analyse(path: Path, policy: RetentionPolicy) -> LivenessResult:
    """Return the result of the first liveness analysis of a journal."""
    with Reader(path) as reader:
        plan = CompactionPlan(reader, policy, ignore_progress)
        return plan._analyse(None)


class SlowPath:
    """Replacement for FastPath that replays every event slowly."""

    def __init__(self, table: ProvenanceTable, graph: DependencyGraph) -> None:
        pass

    def play(self, rows: EventRows, play_slowly: Callable[[int, bool], ProvenanceTable]) -> bool:
        for at in range(len(rows.tags)):
            play_slowly(at, False)
        return False


class CountingFastPath:
    """FastPath that counts the events replayed fast and slowly."""

    events: ClassVar[Counter[bool]] = Counter()

    def __init__(self, table: ProvenanceTable, graph: DependencyGraph) -> None:
        self._fast_path = FastPath(table, graph)

    def play(self, rows: EventRows, play_slowly: Callable[[int, bool], ProvenanceTable]) -> bool:
        def counting(at: int, was_fast: bool) -> ProvenanceTable:
            self.events[False] += 1
            return play_slowly(at, was_fast)

        self.events[True] += len(rows.tags)
        return self._fast_path.play(rows, counting)


@contextmanager
def use_path(path_class: type[SlowPath | CountingFastPath]) -> Iterator[None]:
    """Replace FastPath in the analysis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "FastPath", path_class)
        yield


@given(histories, policies)
def test_the_fast_path_changes_no_result(made: History, policy: RetentionPolicy) -> None:
    with TemporaryDirectory() as name:
        path = write_story(Path(name) / "journal", made.story)
        fast = analyse(path, policy)
        with use_path(SlowPath):
            assert analyse(path, policy) == fast


def test_all_but_few_events_of_a_service_take_the_fast_path(tmp_path: Path) -> None:
    make(tmp_path / "journal", Size(3000, 20, 2))
    with use_path(SlowPath):
        slow = analyse(tmp_path / "journal", RetentionPolicy())
    CountingFastPath.events.clear()
    with use_path(CountingFastPath):
        assert analyse(tmp_path / "journal", RetentionPolicy()) == slow
    assert CountingFastPath.events[True] > 20 * CountingFastPath.events[False]


@given(
    st.lists(
        st.binary(max_size=30)
        | st.builds(
            lambda fd, at, wide, data: codec.encode(
                FileDescriptorWrite(fd=fd, offset=at, is_64bit=wide, data=data)
            ),
            st.integers(0, 9) | st.integers(0, (1 << 32) - 1),
            st.integers(0, (1 << 64) - 1) | st.integers(0, 99),
            st.booleans(),
            st.binary(max_size=5),
        ),
        max_size=5,
    )
)
def test_writes_in_columns_are_what_each_says(payloads: list[bytes]) -> None:
    found = columns_of(payloads)
    plain = writes_of(payloads)
    assert (found is None) == (plain is None)
    if found is not None:
        fds, starts, stops, gaps = found
        assert list(zip(fds, starts, stops, strict=True)) == plain
        assert list(gaps) == [stop != start for stop, start in zip(stops, starts[1:], strict=False)]


def columns_of(payloads: list[bytes]) -> Columns | None:
    """Return the columns of consecutive payloads that other bytes follow."""
    ends = list(accumulate(map(len, payloads)))
    return decode_writes(b"".join(payloads) + bytes(20), [0, *ends[:-1]] if ends else [], ends)


def writes_of(payloads: list[bytes]) -> list[tuple[int, int, int]] | None:
    """Return descriptor, start and stop of each write; None if one is empty or no file write."""
    found = []
    for payload in payloads:
        try:
            event = codec.decode(FileDescriptorWrite.tag, payload)
        except MalformedEvent:
            return None
        assert isinstance(event, FileDescriptorWrite)
        stop = event.offset + len(event.data)
        if not event.data or stop > POSITION_MAX:
            return None
        found.append((event.fd, event.offset, stop))
    return found or None


def writes(parts: Parts, seqs: Iterable[int], graph: DependencyGraph) -> WriteBatch:
    """Return a batch of writes through one descriptor."""
    data = [
        FileDescriptorWrite(fd=3, offset=a, is_64bit=False, data=bytes(b - a)) for a, b in parts
    ]
    found = columns_of([codec.encode(event) for event in data])
    assert found is not None
    return WriteBatch(found, seqs, graph)


some_writes = st.lists(
    st.tuples(st.integers(0, PLACES - 2), st.integers(1, 9)).map(lambda w: (w[0], w[0] + w[1])),
    min_size=1,
    max_size=6,
)


@given(st.lists(some_writes | st.integers(0, PLACES), max_size=8))
def test_writes_that_were_put_off_own_what_they_would_have(steps: list[Parts | int]) -> None:
    late, prompt, graph, seq = IntervalMap(), IntervalMap(), DependencyGraph(), 0
    for step in steps:
        if isinstance(step, int):
            late.truncate(step, seq)
            prompt.truncate(step, seq)
            seq += 1
            continue
        seqs = range(seq, seq + len(step))
        seq += len(step)
        late.defer((writes(step, seqs, graph), 0, len(step), BEFORE_JOURNAL))
        for (start, stop), owner in zip(step, seqs, strict=True):
            prompt.put(start, stop, owner)
    assert late.intervals(2 * PLACES) == prompt.intervals(2 * PLACES)
    assert late.last_truncation == prompt.last_truncation


def test_places_that_follow_each_other_stand_in_short_rows() -> None:
    from journal.compaction.liveness.interval_map import ROW_COUNT_MAX

    found, graph, count = IntervalMap(), DependencyGraph(), 3 * ROW_COUNT_MAX
    parts = [(start, start + 2) for start in range(0, 2 * count, 2)]
    found.defer((writes(parts, range(count), graph), 0, count, BEFORE_JOURNAL))
    assert found.intervals(2 * count) == [(2 * n, n) for n in range(count)]
    assert max(map(len, found._starts)) <= ROW_COUNT_MAX


def test_a_write_that_was_put_off_needs_who_opened_its_file() -> None:
    found, graph = IntervalMap(), DependencyGraph()
    found.defer((writes([(0, 5), (5, 9)], [7, 8], graph), 0, 2, 3))
    graph.mark_live(7)
    assert 3 not in graph.live
    assert set(found.owners()) == {7, 8, BEFORE_JOURNAL}
    assert 3 in graph.live
