"""Phases that a new, a resumed and a verified run report before the guest continues."""

from __future__ import annotations

from itertools import groupby, pairwise
from pathlib import Path

import pytest

import journal
from journal.engine import SnapshotOptions, Stacks
from journal.engine.runtime import epoch_ticker
from journal.engine.session import process
from journal.events.snapshots import Trigger
from tests.support.guest_runs import record_output, wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import keep_first, rewrite

Report = tuple[str, int, int]
REPLAY = "executing again up to the end of the journal"


def names_of(reports: list[Report]) -> list[str]:
    """Return the names of the phases, after a check that each begins and ends.

    A replay ends its phase when it delivers output, and begins it again afterwards.
    """
    ends = [index for index, (_, done, size) in enumerate(reports, 1) if done == size]
    assert ends[-1] == len(reports)
    phases = [reports[start:end] for start, end in pairwise([0, *ends])]
    for phase in phases:
        assert len({name for name, _, _ in phase}) == 1
        assert all(0 <= done < size for _, done, size in phase[:-1])
    names = [phase[0][0] for phase in phases]
    assert all(name == REPLAY for name, after in pairwise(names) if name == after)
    return [name for name, _ in groupby(names)]


def test_a_new_run_reports_the_compilation_once(tmp_path: Path) -> None:
    module, reports = guest("exit7").read_bytes(), list[Report]()
    for name in ("a", "b"):
        with journal.record(
            module,
            tmp_path / name,
            cache=tmp_path / "cache",
            progress=lambda *report: reports.append(report),
        ) as recorder:
            wait_for_end(recorder)
    assert reports == [("compiling the module", done, len(module)) for done in (0, len(module))]


@pytest.mark.parametrize("tick_seconds", [epoch_ticker.INTERVAL_SECONDS, 0.0001])
def test_a_resume_reports_its_phases_until_the_guest_continues(
    tick_seconds: float, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "INTERVAL_SECONDS", tick_seconds)
    record_output("chatty", tmp_path / "whole", cache_dir, "300")
    rewrite(tmp_path / "whole", tmp_path / "j", keep_first(250))
    reports = list[Report]()
    lives = list[int]()
    with journal.resume(
        tmp_path / "j", cache=cache_dir, progress=lambda *report: reports.append(report)
    ) as recorder:
        wait_for_end(recorder)
        lives.append(len(recorder.stdout))
    assert lives[0] > 0
    assert names_of(reports) == [
        "opening the journal",
        "reading the journal",
        "comparing the host",
        "comparing the output",
        REPLAY,
    ]
    shares = [done for what, done, size in reports if what == REPLAY and done < size]
    assert shares == sorted(shares)


def test_a_resume_from_a_snapshot_reports_its_restoration(tmp_path: Path, cache_dir: Path) -> None:
    options = SnapshotOptions(on=frozenset({Trigger.BOOTSTRAP}), stacks=Stacks.NEVER)
    path, reports = tmp_path / "j", list[Report]()
    with journal.record(guest("cat"), path, cache=cache_dir, snapshots=options) as recorder:
        recorder.feed(b"one")
        recorder.snapshot()
    with journal.resume(
        path,
        cache=cache_dir,
        snapshots=options,
        progress=lambda *report: reports.append(report),
    ) as recorder:
        recorder.close_stdin()
        wait_for_end(recorder)
    assert {"restoring the snapshot", REPLAY} <= set(names_of(reports))


def test_a_verification_by_execution_reports_its_phases(tmp_path: Path, cache_dir: Path) -> None:
    record_output("exit7", tmp_path / "j", cache_dir, "42")
    reports = list[Report]()
    found = journal.verify_replay(
        tmp_path / "j", cache=cache_dir, progress=lambda *report: reports.append(report)
    )
    assert found.matches
    assert names_of(reports) == ["reading the journal", REPLAY]
