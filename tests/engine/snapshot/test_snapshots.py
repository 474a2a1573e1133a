"""Tests of snapshots of guests in unusual states: from each snapshot the guest reaches the same
end.

The state of a snapshot is equal to the state of an execution from the start, to the bit.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

import journal
from journal.engine import DirtyPageTracking, SnapshotOptions, Stacks
from journal.snapshots import Trigger
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.dirty_pages import why_not_by_kernel
from tests.support.guest_runs import wait_for_end
from tests.support.snapshot_guests import SNAPSHOT_GUESTS, SnapshotGuest
from tests.support.snapshot_runs import (
    RESUMED_MAX,
    pick_evenly,
    record_guest,
    record_often,
    resume_guest,
)
from tests.support.wat import module

#: It takes a function out of a table that is on the stack by that table.
ASTRAY = next(one for one in SNAPSHOT_GUESTS if one.title == "tables")
UNWOUND = [
    one
    for one in SNAPSHOT_GUESTS
    if one.stacks and one.elder and not one.host and one is not ASTRAY
]
NOT_UNWOUND = [one for one in SNAPSHOT_GUESTS if not one.stacks]


def snapshots_in(path: Path) -> list[journal.snapshots.SnapshotInfo]:
    with journal.Reader(path) as reader:
        return list(journal.list_snapshots(reader))


LARGE = ("deeper", "heap64", "growing", "high")
EACH = [
    pytest.param(one, id=one.title, marks=[pytest.mark.deep] if one.title in LARGE else [])
    for one in UNWOUND
]


@pytest.mark.parametrize("one", EACH)
def test_a_guest_goes_on_from_each_of_its_snapshots(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "run.journal"
    plain, run = record_often(one, path, cache_dir)
    assert run[1:] == plain[1:], "taking snapshots changes nothing"
    infos = snapshots_in(path)
    assert len(infos) > 1
    assert all(info.resumable for info in infos)
    assert all(info.has_stacks for info in infos[1:])
    for info in pick_evenly(infos, RESUMED_MAX):
        assert resume_guest(one, path, cache_dir, at=info.seq) == plain, f"from {info.seq}"


@pytest.mark.parametrize("one", EACH)
def test_executing_a_guest_again_leads_to_what_its_snapshots_hold(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "run.journal"
    record_often(one, path, cache_dir)
    infos = snapshots_in(path)
    whole = journal.verify_replay(path, cache=cache_dir)
    assert whole.matches
    assert [one.info.seq for one in whole.checks] == [info.seq for info in infos]
    assert all(one.matches for one in whole.checks)
    start = infos[len(infos) // 2].seq
    rest = journal.verify_replay(path, start=start, cache=cache_dir)
    assert rest.matches
    assert [one.info.seq for one in rest.checks] == [i.seq for i in infos if i.seq > start]
    assert rest.result == whole.result


@pytest.mark.parametrize("one", NOT_UNWOUND, ids=str)
def test_a_guest_that_cannot_be_unwound_is_executed_again(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path
) -> None:
    path, notes = tmp_path / "run.journal", list[str]()
    plain, run = record_often(one, path, cache_dir)
    assert run == plain
    infos = snapshots_in(path)
    assert infos
    assert not any(info.has_stacks for info in infos)
    assert journal.verify_replay(path, cache=cache_dir).matches
    last = infos[-1].seq
    assert resume_guest(one, path, cache_dir, at=last, notes=notes) == plain


TELLING = module("""(module
    (import "wasi_snapshot_preview1" "clock_time_get"
        (func $now (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\\40\\00\\00\\00\\08\\00\\00\\00")
    (func (export "_start")
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
        (drop (call $now (i32.const 1) (i64.const 0) (i32.const 64)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))""")


def test_the_monotonic_clock_goes_on_from_a_snapshot_and_counts_no_time_between(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "run.journal"
    wanted = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
    with journal.record(TELLING, path, cache=cache_dir, snapshots=wanted) as recorder:
        seq = recorder.snapshot(timeout_seconds=DEADLINE_SECONDS)
        assert seq is not None
    said = snapshots_in(path)[-1].monotonic
    time.sleep(1.5)  # This time must not count.
    began = time.monotonic_ns()
    with journal.resume(
        path, at=seq, into=tmp_path / "later.journal", reseed=False, cache=cache_dir
    ) as recorder:
        recorder.feed(b"x")
        wait_for_end(recorder)
        took = time.monotonic_ns() - began
        (told,) = struct.unpack("<Q", recorder.stdout)
    assert said <= told <= said + took


WRITERS = [one for one in UNWOUND if one.title in ("deep", "growing", "bulk", "memories", "prompt")]


@pytest.mark.skipif(bool(why_not_by_kernel()), reason=why_not_by_kernel())
@pytest.mark.parametrize("one", WRITERS, ids=str)
def test_however_written_pages_are_found_the_journal_is_the_same(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path
) -> None:
    found = []
    for way in (DirtyPageTracking.KERNEL, DirtyPageTracking.COMPARE, DirtyPageTracking.AUTO):
        path = tmp_path / way.value / "run.journal"
        path.parent.mkdir()
        record_often(one, path, cache_dir, dirty_page_tracking=way)
        found.append([(info.digest, info.pages, info.size) for info in snapshots_in(path)])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("one", WRITERS, ids=str)
def test_without_stacks_the_memory_is_there_and_the_guest_is_executed_again(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "run.journal"
    plain, run = record_often(one, path, cache_dir, stacks=Stacks.NEVER)
    assert run == plain
    infos = snapshots_in(path)
    assert [info.resumable for info in infos] == [True] + [False] * (len(infos) - 1)
    assert journal.verify_replay(path, cache=cache_dir).matches
    with journal.Reader(path) as reader:
        host = journal.replay.ModelHost()
        journal.play(reader.frames(), host, upto=infos[-1].seq + 1)
    assert host.machine.digest_matches


def test_a_guest_whose_stack_cannot_be_put_back_is_not_believed_and_is_executed_again(
    tmp_path: Path, cache_dir: Path
) -> None:
    plain = record_guest(ASTRAY, tmp_path / "plain.journal", cache_dir)
    path = tmp_path / "run.journal"
    with pytest.raises(journal.EngineError, match="a function on the stack was called has changed"):
        record_guest(ASTRAY, path, cache_dir, SnapshotOptions(every_events=1))
    infos = snapshots_in(path)
    assert infos, "those before were good"
    assert resume_guest(ASTRAY, path, cache_dir, at=infos[-1].seq) == plain
    with journal.resume(
        path, stdin=b"", cache=cache_dir, reexecute=True, snapshots=SnapshotOptions()
    ) as recorder:
        assert wait_for_end(recorder) == plain[0]
        assert recorder.stdout == plain[1]
