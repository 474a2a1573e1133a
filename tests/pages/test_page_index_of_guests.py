"""Guests recorded with a page index resume from each snapshot as they do without an index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

import journal
from journal.events.memory import PageKind
from journal.pages.index_store import get_index_path
from tests.support.killed_runs import FunctionKill, Place, Plan, Trial
from tests.support.page_histories import pages_in
from tests.support.snapshot_guests import SNAPSHOT_GUESTS
from tests.support.snapshot_runs import (
    RESUMED_MAX,
    pick_evenly,
    record_often,
    resume_guest,
    snapshots_in,
)

TITLES = ["bulk", "memories", "heap64"]
GUESTS = {one.title: one for one in SNAPSHOT_GUESTS}


def count_references_by_memory(path: Path) -> Counter[int]:
    counts: Counter[int] = Counter()
    for _, event in pages_in(path):
        counts[event.memory] += event.kinds.count(PageKind.SAME)
    return counts


@pytest.mark.parametrize(
    "title",
    [pytest.param(name, marks=[] if name == "bulk" else [pytest.mark.deep]) for name in TITLES],
)
def test_a_guest_resumes_from_each_snapshot_with_references(
    title: str, tmp_path: Path, cache_dir: Path
) -> None:
    one, path = GUESTS[title], tmp_path / "run.journal"
    plain, run = record_often(one, path, cache_dir, page_index=True)
    assert run[1:] == plain[1:]
    infos = snapshots_in(path)
    assert sum(count_references_by_memory(path).values()) > 0
    assert get_index_path(path).exists()
    for info in pick_evenly(infos, RESUMED_MAX):
        assert resume_guest(one, path, cache_dir, at=info.seq) == plain, f"from {info.seq}"
    checked = journal.verify_replay(path, cache=cache_dir)
    assert checked.matches
    assert len(checked.checks) == len(infos)


def kill_and_resume(folder: Path, deeds: list[FunctionKill]) -> Trial:
    """Run a guest, and kill it and resume it at each deed."""
    options = ("--page-index", "--snapshot-events", "3")
    trial = Trial(Plan(GUESTS["bulk"].path, ("120",), b"", Place.MEMORY, options=options), folder)
    for deed in [*deeds, None]:
        trial.session(deed)
    return trial


@pytest.mark.parametrize(
    "counts",
    [[40], pytest.param(range(5, 53, 3), marks=[pytest.mark.deep])],
    ids=["once", "often"],
)
def test_a_killed_guest_resumes_with_its_index(tmp_path: Path, counts: Sequence[int]) -> None:
    whole = kill_and_resume(tmp_path / "whole", [])
    deeds = [FunctionKill("journal.log.writer:Writer.append_frame", count) for count in counts]
    trial = kill_and_resume(tmp_path / "killed", deeds)
    assert trial.ending().stdout == whole.ending().stdout
    assert trial.kills == len(counts)
    path = trial.journal
    assert sum(count_references_by_memory(path).values()) > 0
    assert journal.verify_replay(path).matches
    files = {one.name for one in trial.folder.iterdir() if not one.name.startswith(".")}
    assert files == {"run.journal", "run.journal.pages", "stdin", "stdout", "stderr", "work"}
