"""Verification in steps: a check that is stopped and resumed reports the same counts."""

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
from tests.support.journals import Story, write_stories


def verify_in_steps(path: Path) -> tuple[VerifyCounts, list[Finding], int]:
    """Verify one block at a time, with the cursor as text between steps."""
    cursor: VerifyCursor | None = None
    findings: list[Finding] = []
    steps = 0
    while True:
        verifier = Verifier(path, cursor=cursor, decode=False)
        findings += [one for one in verifier.run(lambda: True) if isinstance(one, Finding)]
        steps += 1
        if verifier.cursor is None:
            return verifier.counts, findings, steps
        cursor = VerifyCursor.parse(str(verifier.cursor))
        assert cursor == verifier.cursor


@given(st.lists(stories, min_size=1, max_size=3), edits)
def test_a_check_in_steps_has_the_findings_of_one_run(
    journals: list[list[Story]], changes: list[tuple[str, float, int, random.Random]]
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        parts = [write_stories(folder / f"{index}", *story) for index, story in enumerate(journals)]
        (folder / "a").write_bytes(apply_edits(b"".join(parts), changes))
        whole = Verifier(folder / "a", decode=False)
        try:
            expected = [str(one.error) for one in whole.run() if isinstance(one, Finding)]
        except JournalError:
            return
        counts, findings, steps = verify_in_steps(folder / "a")
        assert counts == whole.counts
        assert [str(one.error) for one in findings] == expected
        assert steps >= counts.blocks


def test_counts_agree_with_the_summary(tmp_path: Path) -> None:
    write_stories(tmp_path / "a", *STORIES)
    verifier = Verifier(tmp_path / "a", decode=False)
    assert list(verifier.run()) == []
    with Reader(tmp_path / "a") as reader:
        summary = reader.summary()
    counts = verifier.counts
    assert (counts.blocks, counts.events) == (summary.blocks, summary.events)
    assert (counts.segments, verifier.size) == (summary.segments, summary.size)
    assert verifier.tail is not None
    assert verifier.tail.offset == summary.tail


@pytest.mark.parametrize("text", ["", "x", "1-2-3", "-".join(["1"] * 15), "1--2"])
def test_a_malformed_cursor_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        VerifyCursor.parse(text)


def test_a_cursor_is_refused_if_the_journal_lacks_its_block(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_stories(tmp_path / name, *STORIES)
    verifier = Verifier(tmp_path / "a", decode=False)
    list(verifier.run(lambda: True))
    with pytest.raises(OptionError, match="the journal has changed"):
        list(Verifier(tmp_path / "b", cursor=verifier.cursor).run())
