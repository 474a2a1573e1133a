"""The guest's clock and waits across sessions: a sleep keeps its deadline, and no step shifts."""

from __future__ import annotations

import signal
import struct
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import SleepPolicy, SnapshotOptions
from journal.engine.session import guest_time
from journal.engine.session.guest_time import (
    GuestTime,
    InterruptedWait,
    find_interrupted_wait,
)
from journal.engine.session.journal_writer import NullWriter
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.tape import Tape
from journal.engine.wasi import call_context
from journal.engine.wasi.call_context import CallContext
from journal.errors import NotResumable, OptionError
from journal.events.inputs import PollResult
from journal.events.process import ClockPoint, RecordingLevel, SessionStart
from journal.format.frame import Frame
from journal.log.reader import Reader
from journal.snapshots import SnapshotInfo, Trigger
from tests.support.command_line import run_tool, start_tool
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import events_of, frames_of, rewrite
from tests.support.virtual_time import VirtualTime
from tests.support.wat import module

SECOND = 1_000_000_000
SLEEP = 600 * SECOND
EXPLICIT = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))


def sleeper(
    clock: int = 1,
    *,
    absolute: bool = False,
    with_input: bool = False,
    reads: bool = False,
    sleep: int = SLEEP,
) -> bytes:
    """Return a guest that sleeps, and prints its monotonic clock before and after.

    With ``with_input`` it waits for its input too. With ``reads`` it then reads its input.
    """
    read = "(drop (call $read (i32.const 0) (i32.const 328) (i32.const 1) (i32.const 300)))"
    until = "(i64.load (i32.const 64))" if absolute else "(i64.const 0)"
    wasi = '(import "wasi_snapshot_preview1"'
    return module(f"""(module
        {wasi} "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
        {wasi} "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        {wasi} "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        {wasi} "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 320) "\\40\\00\\00\\00\\10\\00\\00\\00\\00\\02\\00\\00\\01\\00\\00\\00")
        (func (export "_start")
            (drop (call $now (i32.const 1) (i64.const 0) (i32.const 64)))
            (i32.store (i32.const 144) (i32.const {clock}))
            (i64.store (i32.const 152) (i64.add {until} (i64.const {sleep})))
            (i32.store16 (i32.const 168) (i32.const {int(absolute)}))
            (i32.store8 (i32.const 184) (i32.const 1))
            (drop (call $poll
                (i32.const 128) (i32.const 256) (i32.const {1 + with_input}) (i32.const 300)))
            (drop (call $now (i32.const 1) (i64.const 0) (i32.const 72)))
            (drop (call $write (i32.const 1) (i32.const 320) (i32.const 1) (i32.const 300)))
            {read if reads else ""}))""")


def points_in(path: Path) -> list[ClockPoint]:
    return [event for event in events_of(path) if isinstance(event, ClockPoint)]


def record_asleep(
    wasm: bytes, path: Path, cache: Path, snapshots: SnapshotOptions | None = None
) -> None:
    """Record a guest that is stopped in its sleep; with ``snapshots``, after one in the sleep."""
    with journal.record(wasm, path, cache=cache, snapshots=snapshots) as recorder:
        wait_until(lambda: path.exists() and points_in(path) != [])
        if snapshots is not None:
            assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    assert not any(isinstance(event, PollResult) for event in events_of(path))


def age(path: Path, seconds: int) -> Path:
    """Return a copy of a journal whose events happened some seconds earlier."""

    def shift(frames: list[Frame]) -> list[Frame]:
        return [frame._replace(time=frame.time - seconds * 1_000_000) for frame in frames]

    return rewrite(path, path.with_name(f"{path.name}-{seconds}"), shift)


def wait_start(path: Path) -> int:
    """Return the time in ns at which the guest began its first recorded wait."""
    (frame, *_) = (frame for frame in frames_of(path) if frame.tag == ClockPoint.tag)
    return frame.time * 1000


def resume_asleep(path: Path, cache: Path, sleep: SleepPolicy = SleepPolicy.KEEP) -> list[int]:
    """Resume a sleeping guest to its end, and return the two times that it prints."""
    with journal.resume(path, cache=cache, sleep=sleep) as recorder:
        assert wait_for_end(recorder).code == 0
        return list(struct.unpack("<2Q", recorder.stdout))


WAYS: list[dict[str, Any]] = [
    {"clock": 0},
    {"clock": 1},
    {"clock": 1, "absolute": True},
    {"with_input": True},
]


@pytest.mark.parametrize("way", WAYS, ids=["realtime", "monotonic", "absolute", "with input"])
def test_an_interrupted_sleep_keeps_its_deadline(
    way: dict[str, Any], tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_asleep(sleeper(**way), tmp_path / "j", cache_dir)
    path = age(tmp_path / "j", 590)
    (point,) = points_in(path)
    virtual = VirtualTime(monkeypatch)
    began = virtual.now
    before, after = resume_asleep(path, cache_dir)
    spent = point.monotonic - before  # Between the reading of the clock and the wait.
    assert spent >= 0
    expected = wait_start(path) + SLEEP - (spent if way.get("absolute") else 0)
    assert virtual.now == max(began, expected)
    assert virtual.now - began <= 10 * SECOND
    if virtual.now > began:  # Else this machine was too slow by ten seconds.
        assert after - before == SLEEP + (0 if way.get("absolute") else spent)
    assert after - before >= SLEEP


def resume_an_hour_late(
    folder: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    sleep: SleepPolicy = SleepPolicy.KEEP,
) -> tuple[Path, int, list[int]]:
    """Record a sleeping guest, and resume it an hour later.

    Return the journal, the time in ns that the resume waited, and the times that the guest prints.
    """
    record_asleep(sleeper(), folder / "j", cache)
    path = age(folder / "j", 3600)
    virtual = VirtualTime(monkeypatch)
    began = virtual.now
    printed = resume_asleep(path, cache, sleep)
    return path, virtual.now - began, printed


def test_a_sleep_whose_deadline_has_passed_ends_at_once(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, waited, (before, after) = resume_an_hour_late(tmp_path, cache_dir, monkeypatch)
    assert waited == 0
    assert after - before >= 3600 * SECOND, "the monotonic clock has counted the wait"


def test_a_sleep_can_begin_again(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restart = SleepPolicy.RESTART
    path, waited, (before, after) = resume_an_hour_late(tmp_path, cache_dir, monkeypatch, restart)
    assert waited == SLEEP
    assert SLEEP <= after - before < 3600 * SECOND
    assert [point.waits for point in points_in(path)] == [True, True]


def test_a_sleep_that_is_interrupted_twice_keeps_its_first_deadline(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_asleep(sleeper(), tmp_path / "j", cache_dir)
    path = age(tmp_path / "j", 20)
    with journal.resume(path, cache=cache_dir) as recorder:
        wait_until(lambda: sum(isinstance(e, SessionStart) for e in events_of(path)) == 2)
        assert recorder.stdout == b""
    assert len(points_in(path)) == 1, "the resumed wait has no start of its own"
    virtual = VirtualTime(monkeypatch)
    began = virtual.now
    resume_asleep(path, cache_dir)
    assert virtual.now == max(began, wait_start(path) + SLEEP)


def test_a_sleep_keeps_its_deadline_from_a_snapshot(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_asleep(sleeper(), tmp_path / "j", cache_dir, EXPLICIT)
    path = age(tmp_path / "j", 30)
    (point,) = points_in(path)
    (info,) = [info for info in snapshots_of(path) if info.function == "poll_oneoff"]
    assert point.calls == info.calls
    virtual = VirtualTime(monkeypatch)
    began = virtual.now
    resume_asleep(path, cache_dir)
    assert virtual.now == max(began, wait_start(path) + SLEEP)


def snapshots_of(path: Path) -> list[SnapshotInfo]:
    with Reader(path) as reader:
        return list(journal.list_snapshots(reader))


def find_wait(path: Path) -> InterruptedWait | None:
    with RecordedRun(path) as recording:
        return find_interrupted_wait(recording)


def test_a_wait_is_over_when_its_result_is_recorded_or_was_compacted(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    wasm = sleeper(sleep=SECOND, reads=True)
    with journal.record(wasm, path, cache=cache_dir, snapshots=EXPLICIT) as recorder:
        wait_until(
            lambda: (
                path.exists() and any(isinstance(event, PollResult) for event in events_of(path))
            )
        )
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    assert find_wait(path) is None
    compacted = tmp_path / "compacted"
    journal.compact(path, compacted)
    events = events_of(compacted)
    assert not any(isinstance(event, PollResult) for event in events)
    assert [point.waits for point in points_in(compacted)] == [True]
    assert find_wait(compacted) is None


def test_a_compaction_keeps_the_start_of_a_wait(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    record_asleep(sleeper(), path, cache_dir, EXPLICIT)
    assert find_wait(path) == InterruptedWait(wait_start(path), points_in(path)[0].monotonic)
    journal.compact(path, tmp_path / "compacted")
    assert find_wait(tmp_path / "compacted") == find_wait(path)


@pytest.mark.parametrize("level", [RecordingLevel.FULL, RecordingLevel.STATE])
def test_only_long_waits_are_recorded_and_only_with_inputs(
    level: RecordingLevel, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    VirtualTime(monkeypatch)
    for sleep in (SECOND - 1, SECOND):
        path = tmp_path / str(sleep)
        with journal.record(
            sleeper(sleep=sleep), path, level=level, cache=cache_dir, stdin=b""
        ) as recorder:
            assert wait_for_end(recorder).code == 0
        has_point = level is RecordingLevel.FULL and sleep >= SECOND
        assert len(points_in(path)) == has_point


@pytest.mark.parametrize("sleep", ["wake", 1, None])
def test_another_policy_is_refused(sleep: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="sleep must be"):
        journal.resume(tmp_path / "j", sleep=sleep)


# -- a process that is killed ---------------------------------------------------------------------


def test_a_killed_guest_sleeps_on_or_again_as_the_user_says(tmp_path: Path) -> None:
    (tmp_path / "sleeper.wasm").write_bytes(sleeper(sleep=24 * 3600 * SECOND))
    path = tmp_path / "j"

    def kill_asleep(count: int, *arguments: str | Path) -> None:
        """Kill a command when its journal has ``count`` starts of waits."""
        with start_tool(tmp_path, *arguments) as process:
            wait_until(lambda: path.exists() and len(points_in(path)) == count)
            process.send_signal(signal.SIGKILL)
            assert process.wait(DEADLINE_SECONDS) == -signal.SIGKILL

    kill_asleep(1, "run", "--journal", path, "--no-snapshots", tmp_path / "sleeper.wasm")
    age(path, 24 * 3600).replace(path)
    kill_asleep(2, "resume", "--sleep", "restart", path)
    age(path, 24 * 3600).replace(path)
    done = run_tool("resume", "--sleep", "keep", path, at=tmp_path)
    assert done.returncode == 0, done.stderr
    before, after = struct.unpack("<2Q", done.stdout)
    assert after - before >= 24 * 3600 * SECOND


# -- the clock ------------------------------------------------------------------------------------


class HostClocks:
    """Clocks of a host whose real-time clock can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real, self.steady = 1_800_000_000 * SECOND, 7 * SECOND
        monkeypatch.setattr(guest_time, "time", self)
        monkeypatch.setattr(call_context, "monotonic_ns", self.monotonic_ns)

    def time_ns(self) -> int:
        return self.real

    def monotonic_ns(self) -> int:
        return self.steady

    def pass_time(self, seconds: float) -> None:
        self.real += int(seconds * SECOND)
        self.steady += int(seconds * SECOND)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostClocks:
    return HostClocks(monkeypatch)


def make_time(appended: list[Any]) -> tuple[GuestTime, CallContext]:
    nothing: Any = None
    context = CallContext(Tape(NullWriter()), nothing, nothing, [], [])

    def append(event: Any) -> int:
        appended.append(event)
        return 0

    return GuestTime(context, append), context


@pytest.mark.parametrize("step", [-3600.0, 3600.0, 0.1, -0.1])
def test_a_step_of_the_clock_is_recorded_once(host: HostClocks, step: float) -> None:
    appended: list[Any] = []
    time, _ = make_time(appended)
    host.pass_time(5)
    time.record_step()
    assert appended == []
    host.real += int(step * SECOND)
    time.record_step()
    time.record_step()
    assert appended == [ClockPoint(monotonic=5 * SECOND, waits=False, calls=0)]


def test_no_step_is_recorded_that_is_small_or_in_a_wait(host: HostClocks) -> None:
    appended: list[Any] = []
    time, context = make_time(appended)
    host.real += SECOND // 20
    time.record_step()
    context.wait_started = host.steady
    host.real += 3600 * SECOND
    time.record_step()
    assert appended == []
    time.record_wait(9)
    context.wait_started = None
    time.record_step()
    assert appended == [ClockPoint(monotonic=0, waits=True, calls=9)]


def test_the_monotonic_clock_counts_from_the_reading_after_the_last_step(host: HostClocks) -> None:
    time, context = make_time([])
    start = host.real // 1000
    time.note_reading(start, 3 * SECOND)
    assert time.continue_after(start + 2_000_000, 0, None) == 5 * SECOND
    time.note_reading(start + 3_600_000_000, 4 * SECOND)
    assert time.continue_after(start + 3_602_000_000, 0, None) == 6 * SECOND
    assert time.continue_after(start, 0, None) == 4 * SECOND, "the clock was set back since"
    assert time.continue_after(start, 9 * SECOND, None) == 9 * SECOND
    assert context.clocks.monotonic() == 9 * SECOND
    assert context.wait_started is None


def test_the_time_since_the_start_of_a_wait_counts_as_waited(host: HostClocks) -> None:
    time, context = make_time([])
    wait = InterruptedWait(host.real - 50 * SECOND, 4 * SECOND)
    assert time.continue_after(0, 0, wait) == 54 * SECOND
    assert context.wait_started == host.steady - 50 * SECOND
    future = InterruptedWait(host.real + 50 * SECOND, 4 * SECOND)
    assert time.continue_after(0, 0, future) == 4 * SECOND
    assert context.wait_started == host.steady
    with pytest.raises(NotResumable, match="monotonic clock is impossible"):
        time.continue_after(0, 0, InterruptedWait(0, 1 << 63))


def test_a_running_guest_has_its_clock_recorded_after_a_step(
    host: HostClocks, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with journal.record(guest("stdin"), path, args=["stdin"], cache=cache_dir) as recorder:
        wait_until(lambda: recorder.stdout.count(b"\n") == 1)
        host.real += 3600 * SECOND
        recorder.feed(b"a line\n")
        wait_until(lambda: points_in(path) != [])
    (point,) = points_in(path)
    assert not point.waits
