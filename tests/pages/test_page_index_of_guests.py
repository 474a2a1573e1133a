"""Guests recorded with a page index resume from each snapshot as they do without an index."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import journal
from journal.events.memory import PageKind
from journal.pages.index_store import get_index_path
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


def kill_and_resume(folder: Path, delays: list[float]) -> tuple[bytes, int]:
    """Run a guest, kill and resume it after each delay; return its whole output and the kills."""
    path, out = folder / "run.journal", folder / "out"
    tool = [sys.executable, "-m", "journaltool"]
    options = ["-q", "--page-index", "--snapshot-events", "3"]
    first = [*tool, "run", *options, "-j", str(path), str(GUESTS["bulk"].path), "120"]
    kills = 0
    for delay in [*delays, None]:
        command = [*tool, "resume", *options, str(path)] if path.exists() else first
        with out.open("ab") as file, subprocess.Popen(command, stdout=file) as process:
            try:
                code = process.wait(delay)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
            else:
                assert code == 0
    return out.read_bytes(), kills


@pytest.mark.parametrize(
    "delays",
    [[0.45], pytest.param([0.3 + step / 40 for step in range(16)], marks=[pytest.mark.deep])],
    ids=["once", "often"],
)
def test_a_killed_guest_resumes_with_its_index(tmp_path: Path, delays: list[float]) -> None:
    output, _ = kill_and_resume(tmp_path / ".", [])
    for name in ("run.journal", "run.journal.pages", "out"):
        (tmp_path / name).unlink()
    killed_output, kills = kill_and_resume(tmp_path, delays)
    assert killed_output == output
    assert kills or len(delays) == 1, "the guest ended before it was killed"
    path = tmp_path / "run.journal"
    assert sum(count_references_by_memory(path).values()) > 0
    assert journal.verify_replay(path).matches
    files = {one.name for one in tmp_path.iterdir() if not one.name.startswith(".")}
    assert files == {"run.journal", "run.journal.pages", "out"}
