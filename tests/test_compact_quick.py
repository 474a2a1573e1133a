"""What a compaction plays in haste it judges as if it had taken its time."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.toolkit_journal import Size, make
from journal import Reader, codec
from journal.compaction import Policy, judging, quick
from journal.compaction.compacting import Planning
from journal.compaction.judging import Judgement
from journal.compaction.ledger import BASE, Ledger
from journal.compaction.spans import Spans
from journal.events.descriptors import FileDescriptorWrite
from journal.mending import nobody
from tests.compacted import History, histories, policies, write_story

Parts = list[tuple[int, int]]
PLACES = 40


def judged(path: Path, policy: Policy) -> Judgement:
    """What a compaction finds out when it looks at the journal for the first time."""
    with Reader(path) as reader:
        planning = Planning(reader, policy, nobody)
        return planning._judge(None)


@contextmanager
def taking_its_time() -> Iterator[None]:
    """Nothing is played in haste."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "QUICK", {})
        patch.setattr(judging, "writes_of", lambda payloads: None)
        yield


@given(histories, policies)
def test_haste_changes_nothing_that_is_judged(made: History, policy: Policy) -> None:
    with TemporaryDirectory() as name:
        path = write_story(Path(name) / "journal", made.story)
        hasty = judged(path, policy)
        with taking_its_time():
            assert judged(path, policy) == hasty


def test_all_but_few_events_of_a_service_are_played_in_haste(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Counter[bool] = Counter()

    def counted(play: Callable[..., bool]) -> Callable[..., bool]:
        def counting(*arguments: Any) -> bool:
            found = play(*arguments)
            done[found] += 1
            return found

        return counting

    make(tmp_path / "journal", Size(3000, 20, 2))
    with taking_its_time():
        slow = judged(tmp_path / "journal", Policy())
    monkeypatch.setattr(judging, "write", counted(quick.write))
    monkeypatch.setattr(judging, "QUICK", {tag: counted(f) for tag, f in quick.QUICK.items()})
    assert judged(tmp_path / "journal", Policy()) == slow
    assert done[True] > 20 * done[False]


@given(
    st.lists(
        st.binary(max_size=30)
        | st.builds(
            lambda fd, at, wide, data: codec.encode(
                FileDescriptorWrite(fd=fd, offset=at, is_64bit=wide, data=data)
            ),
            st.integers(0, 9),
            st.integers(0, 1 << 64 - 1) | st.integers(0, 99),
            st.booleans(),
            st.binary(max_size=5),
        ),
        max_size=5,
    )
)
def test_writes_in_columns_are_what_each_says(payloads: list[bytes]) -> None:
    found = quick.writes_of(payloads)
    if found is not None:
        events = [codec.decode(FileDescriptorWrite.tag, payload) for payload in payloads]
        rows = zip(found.fds, found.starts, found.stops, strict=True)
        for event, (fd, start, stop) in zip(events, rows, strict=True):
            assert isinstance(event, FileDescriptorWrite)
            assert (event.fd, event.offset, event.offset + len(event.data)) == (fd, start, stop)


writes = st.lists(
    st.tuples(st.integers(0, PLACES - 2), st.integers(1, 9)).map(lambda w: (w[0], w[0] + w[1])),
    min_size=1,
    max_size=6,
)


@given(st.lists(writes | st.integers(0, PLACES), max_size=8))
def test_writes_that_were_put_off_own_what_they_would_have(steps: list[Parts | int]) -> None:
    late, prompt, ledger, seq = Spans(), Spans(), Ledger(), 0
    for step in steps:
        if isinstance(step, int):
            late.cut(step, seq)
            prompt.cut(step, seq)
            seq += 1
            continue
        seqs = range(seq, seq + len(step))
        seq += len(step)
        starts, stops = (array("q", column) for column in zip(*step, strict=True))
        late.put_late((starts, stops, array("q", seqs), BASE, ledger))
        for (start, stop), owner in zip(step, seqs, strict=True):
            prompt.put(start, stop, owner)
    assert late.parts(2 * PLACES) == prompt.parts(2 * PLACES)
    assert late.last_cut == prompt.last_cut


def test_places_that_follow_each_other_stand_in_short_rows() -> None:
    from journal.compaction.spans import ROW_COUNT_MAX

    found, ledger, count = Spans(), Ledger(), 3 * ROW_COUNT_MAX
    starts = array("q", range(0, 2 * count, 2))
    stops = array("q", range(2, 2 * count + 2, 2))
    found.put_late((starts, stops, array("q", range(count)), BASE, ledger))
    assert found.parts(2 * count) == [(2 * n, n) for n in range(count)]
    assert max(map(len, found._starts)) <= ROW_COUNT_MAX
    assert ledger.late == count


def test_a_write_that_was_put_off_needs_who_opened_its_file() -> None:
    found, ledger = Spans(), Ledger()
    found.put_late((array("q", [0, 5]), array("q", [5, 9]), array("q", [7, 8]), 3, ledger))
    ledger.keep(7)
    assert 3 not in ledger.kept
    assert set(found.owners()) == {7, 8, BASE}
    assert 3 in ledger.kept
