"""Checking in steps: wherever a check is stopped, going on comes to the same figures."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import OptionError, Reader
from journal.errors import JournalError
from journal.log.summary import Finding
from journal.operations.verify import Verifier, VerifyCounts, VerifyCursor
from tests.support.edited_journals import STORIES, apply_edits, edits, stories
from tests.support.journals import Story, written


def stepped(path: Path) -> tuple[VerifyCounts, list[Finding], int]:
    """Check a block at a time, with a cursor that was written down between."""
    cursor: VerifyCursor | None = None
    findings: list[Finding] = []
    steps = 0
    while True:
        check = Verifier(path, cursor=cursor, decode=False)
        findings += [one for one in check.run(lambda: True) if isinstance(one, Finding)]
        steps += 1
        if check.cursor is None:
            return check.counts, findings, steps
        cursor = VerifyCursor.parse(str(check.cursor))
        assert cursor == check.cursor


@given(st.lists(stories, min_size=1, max_size=3), edits)
def test_a_check_in_steps_finds_what_one_in_one_go_finds(
    journals: list[list[Story]], changes: list[tuple[str, float, int, random.Random]]
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        parts = [written(folder / f"{index}", *story) for index, story in enumerate(journals)]
        (folder / "a").write_bytes(apply_edits(b"".join(parts), changes))
        whole = Verifier(folder / "a", decode=False)
        try:
            expected = [str(one.error) for one in whole.run() if isinstance(one, Finding)]
        except JournalError:
            return
        figures, findings, steps = stepped(folder / "a")
        assert figures == whole.counts
        assert [str(one.error) for one in findings] == expected
        assert steps >= figures.blocks


def test_figures_count_what_the_summary_counts(tmp_path: Path) -> None:
    written(tmp_path / "a", *STORIES)
    check = Verifier(tmp_path / "a", decode=False)
    assert list(check.run()) == []
    with Reader(tmp_path / "a") as reader:
        summary = reader.summary()
    figures = check.counts
    assert (figures.blocks, figures.events) == (summary.blocks, summary.events)
    assert (figures.segments, check.size) == (summary.segments, summary.size)
    assert check.tail is not None
    assert check.tail.offset == summary.tail


@pytest.mark.parametrize("text", ["", "x", "1-2-3", "-".join(["1"] * 15), "1--2"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        VerifyCursor.parse(text)


def test_a_cursor_is_refused_where_the_journal_has_no_such_block(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path / name, *STORIES)
    check = Verifier(tmp_path / "a", decode=False)
    list(check.run(lambda: True))
    with pytest.raises(OptionError, match="the journal has changed"):
        list(Verifier(tmp_path / "b", cursor=check.cursor).run())
