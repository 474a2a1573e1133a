"""Tests of snapshots of computing guests: at loop heads, or at the next host call."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import SafePoints, SnapshotOptions, Stacks
from journal.snapshots import Trigger
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.snapshot_runs import (
    FinishedRun,
    check_resumes,
    finish_run,
    resume_run,
    snapshots_in,
    triggers_in,
)
from tests.support.wat import module

PERIODIC = frozenset({Trigger.PERIODIC_INTERVAL})
COMPUTING = ("computing", "100")
NESTED = ("deep", "1500", "50")


def loops(**given: Any) -> SnapshotOptions:
    return SnapshotOptions(**{"on": PERIODIC, "safe_points": SafePoints.LOOPS, **given})


def start_recording(
    name: str | bytes | Path, path: Path, cache: Path, *args: str, snapshots: SnapshotOptions
) -> journal.Recorder:
    return journal.record(
        guest(name) if isinstance(name, str) else name,
        path,
        args=[name if isinstance(name, str) else "guest", *args],
        stdin=b"",
        cache=cache,
        durability=journal.engine.Durability.NONE,
        snapshots=snapshots,
    )


def run(
    name: str | bytes | Path, path: Path, cache: Path, *args: str, snapshots: SnapshotOptions
) -> FinishedRun:
    with start_recording(name, path, cache, *args, snapshots=snapshots) as recorder:
        return finish_run(recorder)


def in_loops(path: Path) -> list[journal.snapshots.SnapshotInfo]:
    """Return the snapshots that were taken between host calls."""
    return [info for info in snapshots_in(path) if info.entry and not info.function]


@pytest.mark.deep
def test_from_each_snapshot_in_its_loops_a_guest_goes_on_exactly(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    plain = run(
        *COMPUTING[:1], tmp_path / "plain", cache_dir, COMPUTING[1], snapshots=SnapshotOptions()
    )
    often = loops(period_seconds=0.02)
    found = run(*COMPUTING[:1], path, cache_dir, COMPUTING[1], snapshots=often)
    assert found == plain
    infos = in_loops(path)
    assert len(infos) > 2, "it computes for several periods on any machine"
    assert {info.trigger for info in infos} == PERIODIC
    assert len({info.digest for info in infos}) == len(infos), "it has computed on between them"
    check_resumes(path, plain, cache_dir)


@pytest.mark.deep
def test_the_same_places_of_a_loop_are_told_apart_by_what_was_computed(
    tmp_path: Path, cache_dir: Path
) -> None:
    """The guest's whole state is in local variables and on the wasm stack."""
    wat = module("""(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "\\00\\01\\00\\00\\08\\00\\00\\00")
        (func $inner (param i64 i32) (result i64)
            (loop $again (result i64)
                (local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 6364136223846793005))
                    (i64.const 1442695040888963407)))
                (local.set 1 (i32.sub (local.get 1) (i32.const 1)))
                (br_if $again (local.get 1)) (local.get 0)))
        (func $outer (param i32) (result i64)
            (i64.xor (if (result i64) (local.get 0)
                (then (call $outer (i32.sub (local.get 0) (i32.const 1))))
                (else (i64.const 1)))
                (call $inner (i64.extend_i32_u (local.get 0)) (i32.const 400000))))
        (func (export "_start")
            (i64.store (i32.const 256) (call $outer (i32.const 400)))
            (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 32)))))""")
    path = tmp_path / "j"
    plain = run(wat, tmp_path / "plain", cache_dir, snapshots=SnapshotOptions())
    assert run(wat, path, cache_dir, snapshots=loops(period_seconds=0.02)) == plain
    assert len(in_loops(path)) > 2
    check_resumes(path, plain, cache_dir)


def test_without_safe_points_in_loops_there_is_none_until_the_next_call(
    tmp_path: Path, cache_dir: Path
) -> None:
    often = SnapshotOptions(on=PERIODIC, period_seconds=0.05)
    for steps in (100, 1000, 10_000):  # The guest must not end before the request.
        path = tmp_path / f"{steps}"
        with start_recording("computing", path, cache_dir, str(steps), snapshots=often) as recorder:
            wait_until(lambda r=recorder: r.stdout.count(b"\n") == 1)  # type: ignore[misc]
            seq = recorder.snapshot(Trigger.EXPLICIT, DEADLINE_SECONDS)
            wanted = finish_run(recorder)
        if seq is not None:
            break
    assert in_loops(path) == []
    assert {info.function for info in snapshots_in(path)} == {"fd_write"}
    explicit = [info for info in snapshots_in(path) if info.trigger is Trigger.EXPLICIT]
    assert [info.seq for info in explicit] == [seq]
    assert len(snapshots_in(path)) <= 2, "it calls but twice"
    check_resumes(path, wanted, cache_dir)


@pytest.mark.parametrize("safe_points", list(SafePoints))
def test_a_guest_that_never_calls_has_snapshots_in_its_loops_alone(
    safe_points: SafePoints, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    often = loops(period_seconds=0.05, safe_points=safe_points)
    with start_recording("spin", path, cache_dir, snapshots=often) as recorder:
        wait_until(lambda: recorder.stdout == b"spinning\n")
        if safe_points is SafePoints.LOOPS:
            wait_until(lambda: len(in_loops(path)) >= 3)
            assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
        else:
            assert recorder.snapshot(timeout_seconds=0.4) is None
        recorder.stop()
        assert wait_for_end(recorder).kind is journal.engine.ExitKind.STOPPED
    taken = triggers_in(path)
    if safe_points is SafePoints.CALLS:
        assert taken == []
        return
    assert "explicit" in taken
    first, count = in_loops(path)[0].seq, len(in_loops(path))
    for at, there in ((None, count), (first, 1)):
        into = tmp_path / "again" if at is not None else None
        with journal.resume(path, at=at, into=into, snapshots=often, cache=cache_dir) as recorder:
            wait_until(lambda r=recorder, n=there: len(in_loops(r.path)) > n)  # type: ignore[misc]
            recorder.stop()
            assert wait_for_end(recorder).kind is journal.engine.ExitKind.STOPPED


def test_a_guest_that_computes_has_its_snapshot_soon(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    explicit = loops(on=frozenset({Trigger.EXPLICIT}))
    with start_recording("spin", path, cache_dir, snapshots=explicit) as recorder:
        wait_until(lambda: recorder.stdout == b"spinning\n")
        for _ in range(10):
            # The guest never calls its host again: only a loop can be the safe point.
            assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    assert len(in_loops(path)) == 10


def test_a_run_stops_with_a_snapshot_in_a_loop_and_goes_on(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    name, *args = COMPUTING
    plain = run(name, tmp_path / "plain", cache_dir, *args, snapshots=SnapshotOptions())
    stopping = loops(period_seconds=0.1, stop_after=True)
    found = run(name, path, cache_dir, *args, snapshots=stopping)
    sessions = 1
    while found.outcome.kind is journal.engine.ExitKind.STOPPED:
        assert len(snapshots_in(path)) == sessions
        with journal.resume(path, stdin=b"", snapshots=stopping, cache=cache_dir) as recorder:
            found = finish_run(recorder)
        sessions += 1
    assert sessions > 3
    assert len(in_loops(path)) > 2
    assert found == plain


@pytest.mark.deep
def test_a_guest_that_is_stopped_in_its_loops_goes_on_from_its_newest_snapshot(
    tmp_path: Path, cache_dir: Path
) -> None:
    name, *args = COMPUTING
    plain = run(name, tmp_path / "plain", cache_dir, *args, snapshots=SnapshotOptions())
    often = loops(period_seconds=0.02)
    stopped = 0
    for number in range(5):
        path = tmp_path / f"{number}"
        with start_recording(name, path, cache_dir, *args, snapshots=often) as recorder:
            wait_until(lambda r=recorder: len(r.stdout) > 0)  # type: ignore[misc]
            while len(in_loops(path)) < number and recorder.wait(0) is None:
                time.sleep(0.001)
            recorder.stop()
            outcome = wait_for_end(recorder)
        if outcome.kind is not journal.engine.ExitKind.STOPPED:
            continue
        stopped += 1
        infos = snapshots_in(path)
        notes: list[str] = []
        with journal.resume(path, stdin=b"", cache=cache_dir, note=notes.append) as recorder:
            assert finish_run(recorder) == plain
        assert notes == []
        if infos:
            assert resume_run(path, infos[-1].seq, cache_dir) == plain
    assert stopped > 1


def test_snapshots_at_calls_and_in_loops_go_together(tmp_path: Path, cache_dir: Path) -> None:
    name, *args = NESTED
    plain = run(name, tmp_path / "plain", cache_dir, *args, snapshots=SnapshotOptions())
    path = tmp_path / "j"
    both = loops(on=frozenset({Trigger.BOOTSTRAP, Trigger.EXPLICIT}), every_events=9)
    assert run(name, path, cache_dir, *args, snapshots=both) == plain
    assert {info.function for info in snapshots_in(path)} >= {"", "fd_write"}
    check_resumes(path, plain, cache_dir)
    assert journal.verify_replay(path, cache=cache_dir).matches


@pytest.mark.deep
def test_a_snapshot_in_a_loop_is_not_found_again_and_that_is_said(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    name, *args = COMPUTING
    run(name, path, cache_dir, *args, snapshots=loops(period_seconds=0.1))
    seqs = {info.seq for info in in_loops(path)}
    assert seqs
    for start in (None, min(seqs)):
        found = journal.verify_replay(path, start=start, cache=cache_dir)
        assert found.matches
        assert found.result is not None
        for checked in found.checks:
            if checked.info.seq in seqs:
                assert (checked.matches, "in a loop" in checked.reason) == (None, True)


def test_what_cannot_be_unwound_has_no_snapshots_in_its_loops_but_still_its_run(
    tmp_path: Path, cache_dir: Path
) -> None:
    path, notes = tmp_path / "j", list[str]()
    with journal.record(
        guest("jumps"),
        path,
        args=["jumps"],
        stdin=b"",
        cache=cache_dir,
        snapshots=loops(period_seconds=0.01),
        note=notes.append,
    ) as recorder:
        assert wait_for_end(recorder).code == 0
    assert len(notes) == 1
    assert in_loops(path) == []
    with pytest.raises(journal.ModuleRefused):
        start_recording("jumps", tmp_path / "k", cache_dir, snapshots=loops(stacks=Stacks.ALWAYS))


SCRIPT = """
let sum = 1;
const kept = [];
for (let i = 0; i < 300000; i++) {
    sum = (sum * 48271 + i) % 2147483647;
    if (i % 1000 == 0) kept.push({sum, text: "x".repeat(i % 17)});
}
const again = depth => depth ? again(depth - 1) + sum % depth : 0;
kept.sort((a, b) => a.sum - b.sum);
print(sum, again(100), JSON.stringify(kept).length, kept.map(one => one.text).join("").length);
print(/^(a+)+$/.test("a".repeat(18) + "b"));
"""


@pytest.mark.deep
def test_quickjs_goes_on_from_the_middle_of_what_it_computes(
    tmp_path: Path, cache_dir: Path, quickjs: Path
) -> None:
    path, args = tmp_path / "j", ("-e", SCRIPT)
    plain = run(quickjs, tmp_path / "plain", cache_dir, *args, snapshots=SnapshotOptions())
    assert plain.outcome.code == 0, plain.stderr
    assert run(quickjs, path, cache_dir, *args, snapshots=loops(period_seconds=0.03)) == plain
    assert len(in_loops(path)) > 4
    check_resumes(path, plain, cache_dir)
    assert (
        run(
            quickjs,
            tmp_path / "calls",
            cache_dir,
            *args,
            snapshots=SnapshotOptions(on=PERIODIC, period_seconds=0.03),
        )
        == plain
    )
    assert in_loops(tmp_path / "calls") == []
