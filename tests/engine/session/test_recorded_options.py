"""A resume keeps the options of the recording unless they are given again."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import pytest

import journal
from journal.compaction import CompactionSchedule, RetentionPolicy
from journal.engine import (
    DirtyPageTracking,
    Durability,
    RecordedOptions,
    RunConfig,
    SafePoints,
    SnapshotOptions,
    Stacks,
    read_recorded_options,
)
from journal.engine.session.recorded_options import keep_options, make_pairs, parse_options
from journal.events.snapshots import Snapshot, Trigger
from journal.log import RollPolicy
from tests.support.deadlines import wait_until
from tests.support.programs import guest

ALL = RecordedOptions(
    durability=Durability.NONE,
    snapshots=SnapshotOptions(
        on=frozenset({Trigger.IDLE, Trigger.PERIODIC_INTERVAL}),
        period_seconds=0.1,
        every_events=7,
        every_bytes=8,
        stacks=Stacks.ALWAYS,
        safe_points=SafePoints.LOOPS,
        page_index=True,
    ),
    compaction=CompactionSchedule(
        RetentionPolicy(2, keep_every=3, keep_within_seconds=4.5),
        every_events=5,
        every_size=6,
        factor=2.5,
        size_min=9,
        on_close=True,
    ),
    roll=RollPolicy(1000, 10.5),
)


def config_of(options: RecordedOptions) -> RunConfig:
    """Return the options of a run that are recorded as ``options``."""
    without_index = replace(options.snapshots, page_index=False)
    return RunConfig(
        durability=options.durability, snapshots=without_index, compaction=options.compaction
    )


def test_every_option_can_be_recorded() -> None:
    config = RunConfig(durability=ALL.durability, snapshots=ALL.snapshots)
    assert parse_options(make_pairs(config, ALL.roll)) == replace(ALL, compaction=None)
    config = config_of(ALL)
    assert parse_options(make_pairs(config, None)).compaction == ALL.compaction


def test_each_option_is_recorded_or_left_out_on_purpose() -> None:
    pairs = make_pairs(RunConfig(snapshots=ALL.snapshots), ALL.roll)
    pairs += make_pairs(config_of(ALL), None)
    recorded = {name.rpartition(".")[2] for name, _ in pairs}
    left_out = {"dirty_page_tracking", "stop_after", "by_default"}
    options = {each.name for kind in (SnapshotOptions, CompactionSchedule) for each in fields(kind)}
    assert options - recorded == left_out | {"policy"}
    assert {each.name for each in fields(RetentionPolicy)} | {*RollPolicy._fields} <= recorded


def test_default_options_are_not_recorded() -> None:
    assert make_pairs(RunConfig(), None) == ()
    assert make_pairs(RunConfig(durability=Durability.OUTPUT), RollPolicy()) == ()
    by_default = SnapshotOptions(on=frozenset({Trigger.IDLE}), by_default=True, stop_after=True)
    assert make_pairs(RunConfig(snapshots=by_default), None) == ()
    compare = SnapshotOptions(by_default=True, dirty_page_tracking=DirtyPageTracking.COMPARE)
    assert make_pairs(RunConfig(snapshots=compare, compaction=CompactionSchedule()), None) == ()
    assert parse_options(()) == RecordedOptions()


def test_no_snapshots_on_purpose_are_recorded() -> None:
    pairs = make_pairs(RunConfig(snapshots=SnapshotOptions()), None)
    assert pairs == (("session.snapshots.on", ""),)
    assert parse_options(pairs).snapshots == SnapshotOptions()


def test_an_option_that_is_given_replaces_the_recorded_one() -> None:
    kept = keep_options(
        RunConfig(), replace(ALL, snapshots=replace(ALL.snapshots, page_index=False))
    )
    assert (kept.durability, kept.compaction) == (ALL.durability, ALL.compaction)
    given = RunConfig(
        durability=Durability.INTERVAL, snapshots=SnapshotOptions(), compaction=CompactionSchedule()
    )
    kept = keep_options(given, ALL)
    assert (kept.durability, kept.snapshots) == (Durability.INTERVAL, SnapshotOptions())
    assert kept.compaction == CompactionSchedule()
    with pytest.raises(journal.OptionError, match="cannot be combined"):
        keep_options(RunConfig(), ALL)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("session.unknown", "1", "unknown to this version"),
        ("session.durability", "bogus", "unknown value"),
        ("session.snapshots.on", "IDLE,BOGUS", "unknown value"),
        ("session.snapshots.every_events", "0", "invalid"),
        ("session.snapshots.every_events", "9" * 5000, "unknown value"),
        ("session.snapshots.period_seconds", "nan", "invalid"),
        ("session.snapshots.page_index", "yes", "unknown value"),
        ("session.compaction.factor", "0.5", "invalid"),
        ("session.segments.size_bytes", "-1", "invalid"),
    ],
)
def test_an_option_that_a_forged_journal_makes_up_is_refused(
    name: str, text: str, reason: str
) -> None:
    with pytest.raises(journal.EngineMismatch, match=reason):
        parse_options(((name, text),))


def feed(recorder: journal.Recorder, count: int) -> None:
    """Feed lines to a guest that copies them, each after the output of the one before."""
    for _ in range(count):
        size = len(recorder.stdout)
        recorder.feed(b"some text\n")
        wait_until(lambda: len(recorder.stdout) > size)  # noqa: B023 (called at once)


@pytest.fixture
def stopped(tmp_path: Path, cache_dir: Path) -> Path:
    """The journal of a guest that was stopped, with options that are not the default ones."""
    path = tmp_path / "j"
    with journal.record(
        guest("cat"),
        path,
        args=["cat", "50"],
        durability=Durability.NONE,
        snapshots=SnapshotOptions(every_events=10, stacks=Stacks.NEVER),
        roll=RollPolicy(10_000),
        cache=cache_dir,
    ) as recorder:
        feed(recorder, 10)
    return path


def count_snapshots(path: Path) -> int:
    with journal.Reader(path) as reader:
        return sum(1 for _ in reader.frames(tags=(Snapshot.tag,)))


def test_a_resume_keeps_durability_snapshots_and_segment_size(
    stopped: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = read_recorded_options(stopped)
    assert recorded.durability is Durability.NONE
    assert (recorded.snapshots.every_events, recorded.roll) == (10, RollPolicy(10_000))
    snapshots, segments = count_snapshots(stopped), len(list(stopped.iterdir()))
    syncs: list[int] = []
    really_sync = os.fdatasync

    def sync(fd: int) -> None:
        syncs.append(fd)
        really_sync(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    with journal.resume(stopped, cache=cache_dir) as recorder:
        feed(recorder, 60)
        syncs_while_it_ran = len(syncs)
    assert syncs_while_it_ran < 60, "an output does not wait for a sync"
    assert count_snapshots(stopped) >= snapshots + 10
    assert len(list(stopped.iterdir())) > segments
    snapshots = count_snapshots(stopped)
    off = RunConfig(snapshots=SnapshotOptions(), durability=Durability.OUTPUT, cache=cache_dir)
    syncs.clear()
    with journal.resume(stopped, config=off) as recorder:
        feed(recorder, 60)
        assert len(syncs) >= 60
    assert count_snapshots(stopped) == snapshots
