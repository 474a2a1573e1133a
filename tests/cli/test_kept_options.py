"""A resume by the command line keeps the options of the run unless they are given again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from journaltool.options.compaction import CompactionArguments
from journaltool.options.snapshot import SafePointsChoice, SnapshotArguments, StacksChoice

from journal.compaction import CompactionSchedule, RetentionPolicy
from journal.engine import SafePoints, SnapshotOptions, Stacks
from journal.events.snapshots import Trigger
from journal.snapshots.triggers import DEFAULTS
from tests.support.command_line import run_tool
from tests.support.programs import guest
from tests.support.snapshot_runs import snapshots_in

SNAPSHOTS = SnapshotOptions(every_events=9, stacks=Stacks.NEVER, page_index=True)
SCHEDULE = CompactionSchedule(RetentionPolicy(3), factor=2.0, on_close=True)
SIGINT = frozenset({Trigger.SIGINT})


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        (SnapshotArguments(), {}),
        (SnapshotArguments(stop_after_snapshot=True), {"stop_after": True}),
        (SnapshotArguments(page_index=False), {"page_index": False}),
        (SnapshotArguments(stacks=StacksChoice.AUTO), {"stacks": Stacks.AUTO}),
        (SnapshotArguments(safe_points=SafePointsChoice.LOOPS), {"safe_points": SafePoints.LOOPS}),
        (SnapshotArguments(snapshot_on=["sigint"]), {"on": SIGINT, "every_events": None}),
        (SnapshotArguments(no_snapshots=True), {"every_events": None}),
        (SnapshotArguments(snapshot_bytes=7), {"every_events": None, "every_bytes": 7}),
    ],
)
def test_triggers_replace_the_recorded_ones_and_other_options_one_by_one(
    given: SnapshotArguments, changed: dict[str, object]
) -> None:
    assert given.build(SNAPSHOTS) == replace(SNAPSHOTS, **changed)  # type: ignore[arg-type]


def test_default_triggers_and_other_options_are_kept_apart() -> None:
    recorded = SnapshotOptions(by_default=True, stacks=Stacks.ALWAYS)
    built = SnapshotArguments().build(recorded)
    assert (built.on, built.stacks, built.by_default) == (DEFAULTS, Stacks.ALWAYS, True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (CompactionArguments(), SCHEDULE),
        (CompactionArguments(compact_keep=5), replace(SCHEDULE, policy=RetentionPolicy(5))),
        (CompactionArguments(no_compaction=True), CompactionSchedule()),
        (
            CompactionArguments(compact_events=4),
            CompactionSchedule(RetentionPolicy(3), every_events=4),
        ),
    ],
)
def test_limits_of_a_compaction_replace_the_recorded_ones(
    given: CompactionArguments, expected: CompactionSchedule
) -> None:
    assert given.build(SCHEDULE) == expected


def test_a_compaction_and_none_exclude_one_another() -> None:
    with pytest.raises(typer.BadParameter, match="--no-compaction excludes"):
        CompactionArguments(no_compaction=True, compact_keep=2, compact_bytes=9).build()


def test_a_resume_continues_the_snapshots_of_the_run(tmp_path: Path) -> None:
    options = ("--snapshot-events", "40", "--stacks", "never", "--stop-after-snapshot")
    done = run_tool("run", *options, "-j", "j", guest("chatty"), "300", at=tmp_path)
    assert (done.returncode, len(snapshots_in(tmp_path / "j"))) == (0, 1)
    shutil.copy(tmp_path / "j", tmp_path / "copy")
    done = run_tool("resume", "j", at=tmp_path)
    assert done.returncode == 0
    assert len(snapshots_in(tmp_path / "j")) > 3
    done = run_tool("resume", "--no-snapshots", "copy", at=tmp_path)
    assert done.returncode == 0
    assert len(snapshots_in(tmp_path / "copy")) == 1
