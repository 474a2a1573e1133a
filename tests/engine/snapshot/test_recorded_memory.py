"""Memories as a journal stores them, compared with a guest's at chosen snapshots."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import journal
from journal.engine.snapshot.recorded_memory import RecordedMemory
from journal.errors import NotResumable
from journal.pages.encoding import ZERO_PAGE
from tests.support.page_histories import (
    PAGES,
    SIZE,
    History,
    Memories,
    content,
    events,
    histories,
    states,
    write,
)
from tests.support.rewrites import rewrite
from tests.support.snapshot_runs import snapshots_in


def as_guest(state: Memories, size: int = SIZE) -> list[Any]:
    """Return memories with this state, as a capture has them."""
    return [
        SimpleNamespace(
            index=memory,
            memory=SimpleNamespace(size=size),
            mirror=SimpleNamespace(read=lambda number, pages=pages: pages.get(number, ZERO_PAGE)),
        )
        for memory, pages in state.items()
    ]


def differences(before: Memories, now: Memories) -> set[tuple[int, int]]:
    """Return the pages that differ."""
    return {
        (memory, number)
        for memory in (0, 1)
        for number in range(PAGES)
        if before[memory].get(number, ZERO_PAGE) != now[memory].get(number, ZERO_PAGE)
    }


@settings(max_examples=40)
@given(
    st.lists(histories(3), min_size=1, max_size=3),
    st.sets(st.integers(0, 8)),
    st.tuples(st.integers(0, 1), st.integers(0, PAGES - 1)),
)
def test_the_right_state_is_equal_at_any_snapshots_and_a_wrong_page_is_not(
    parts: list[History], skipped: set[int], wrong: tuple[int, int]
) -> None:
    """Each part begins with a whole snapshot, after which other pages are zeros."""
    guest: Memories = {0: {}, 1: {}}
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.journal")
        write(path, [group for part in parts for group in events(part)])
        infos = list(snapshots_in(path))
        expected = [state for part in parts for state in states(part)]
        assert len(infos) == len(expected)
        with journal.Reader(path) as reader, RecordedMemory(reader, infos) as memory:
            for position, (info, state) in enumerate(zip(infos, expected, strict=True)):
                if position in skipped:
                    continue
                memory.advance_to(info)
                changed = differences(guest, state)
                assert memory.find_difference(as_guest(state), changed) == ""
                guest = state
                index, number = wrong
                spoilt = {each: dict(pages) for each, pages in state.items()}
                spoilt[index][number] = content(9)
                assert memory.find_difference(as_guest(spoilt), {wrong}) == "its memory differs"
                assert memory.find_difference(as_guest(spoilt), set()) == "its memory differs"
                assert memory.find_difference(as_guest(state, SIZE * 2), set())
                assert memory.find_difference(as_guest(state), set()) == ""


def test_a_snapshot_without_its_base_cannot_be_rebuilt(tmp_path: Path) -> None:
    history: History = [[(0, 1, 2, -1)], [(0, 2, 3, -1)]]
    write(tmp_path / "whole", events(history))
    count = len(events(history)[0])
    path = rewrite(tmp_path / "whole", tmp_path / "cut", lambda frames: frames[count:])
    (info,) = snapshots_in(path)
    with (
        journal.Reader(path) as reader,
        RecordedMemory(reader, [info]) as memory,
        pytest.raises(NotResumable, match="the base of snapshot"),
    ):
        memory.advance_to(info)
