"""What a compaction plays in haste it judges as if it had write_index its time."""

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


def judged(path: Path, policy: RetentionPolicy) -> LivenessResult:
    """What a compaction finds out when it looks at the journal for the first time."""
    with Reader(path) as reader:
        plan = CompactionPlan(reader, policy, ignore_progress)
        return plan._analyse(None)


class Unhurried:
    """Plays nothing in haste."""

    def __init__(self, table: ProvenanceTable, graph: DependencyGraph) -> None:
        pass

    def play(self, rows: EventRows, play_slowly: Callable[[int, bool], ProvenanceTable]) -> bool:
        for at in range(len(rows.tags)):
            play_slowly(at, False)
        return False


class Counted:
    """Counts what is played in haste, and what is not."""

    events: ClassVar[Counter[bool]] = Counter()

    def __init__(self, table: ProvenanceTable, graph: DependencyGraph) -> None:
        self._quick = FastPath(table, graph)

    def play(self, rows: EventRows, play_slowly: Callable[[int, bool], ProvenanceTable]) -> bool:
        def counting(at: int, was_fast: bool) -> ProvenanceTable:
            self.events[False] += 1
            return play_slowly(at, was_fast)

        self.events[True] += len(rows.tags)
        return self._quick.play(rows, counting)


@contextmanager
def playing_by(quick: type[Unhurried | Counted]) -> Iterator[None]:
    """Events are played by another player."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "FastPath", quick)
        yield


@given(histories, policies)
def test_haste_changes_nothing_that_is_judged(made: History, policy: RetentionPolicy) -> None:
    with TemporaryDirectory() as name:
        path = write_story(Path(name) / "journal", made.story)
        hasty = judged(path, policy)
        with playing_by(Unhurried):
            assert judged(path, policy) == hasty


def test_all_but_few_events_of_a_service_are_played_in_haste(tmp_path: Path) -> None:
    make(tmp_path / "journal", Size(3000, 20, 2))
    with playing_by(Unhurried):
        slow = judged(tmp_path / "journal", RetentionPolicy())
    Counted.events.clear()
    with playing_by(Counted):
        assert judged(tmp_path / "journal", RetentionPolicy()) == slow
    assert Counted.events[True] > 20 * Counted.events[False]


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
    """Columns of payloads that stand one behind the other, in front of something else."""
    ends = list(accumulate(map(len, payloads)))
    return decode_writes(b"".join(payloads) + bytes(20), [0, *ends[:-1]] if ends else [], ends)


def writes_of(payloads: list[bytes]) -> list[tuple[int, int, int]] | None:
    """Descriptor, first and last place of each; None where one is empty, or no write to a file."""
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
    """WriteBatch through one descriptor."""
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
