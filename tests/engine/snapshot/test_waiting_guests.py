"""Tests of snapshots of waiting guests: they are taken at once, and do not prolong the wait."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import SnapshotOptions, Stacks
from journal.engine.runtime.asyncify_stack import AsyncifyStack
from journal.engine.runtime.bindings import Instance
from journal.engine.snapshot.capture import SnapshotCapture
from journal.engine.wasi.stdio.stdin import IDLE_NS, Interrupter, StdinSource
from journal.snapshots import Trigger
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.snapshot_runs import (
    check_resumes,
    finish_run,
    resume_run,
    snapshots_in,
    triggers_in,
)
from tests.support.virtual_time import VirtualTime
from tests.support.wat import module, program

EXPLICIT = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
BARE = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}), stacks=Stacks.NEVER)
IDLE = SnapshotOptions(on=frozenset({Trigger.IDLE}))
LINES = b"".join(b"line %d of what it is told\n" % number for number in range(40))


def start_recording(
    name: str | bytes,
    path: Path,
    cache: Path,
    *args: str,
    snapshots: SnapshotOptions = EXPLICIT,
    stdin: journal.engine.FedSource | bytes | int | None = None,
) -> journal.Recorder:
    return journal.record(
        guest(name) if isinstance(name, str) else name,
        path,
        args=[name if isinstance(name, str) else "guest", *args],
        stdin=stdin,
        cache=cache,
        durability=journal.engine.Durability.NONE,
        snapshots=snapshots,
    )


def printed_of(name: str, folder: Path, cache: Path, *args: str, stdin: bytes) -> bytes:
    """Return the output of an undisturbed guest."""
    path = folder / "plain.journal"
    with start_recording(
        name, path, cache, *args, stdin=stdin, snapshots=SnapshotOptions()
    ) as recorder:
        wait_for_end(recorder)
        return recorder.stdout


@contextmanager
def repeat_meanwhile(work: Callable[[], object]) -> Iterator[list[object]]:
    """Repeat an action in another thread, and collect the results."""
    over, results, errors = threading.Event(), list[object](), list[BaseException]()

    def again() -> None:
        try:
            while not over.is_set():
                results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield results
    finally:
        over.set()
        thread.join(DEADLINE_SECONDS)
        assert not thread.is_alive(), "whoever asks for snapshots waits for ever"
        assert not errors, errors


def request_later(recorder: journal.Recorder, later_seconds: float) -> int | None:
    """Request a snapshot after a short delay."""
    time.sleep(later_seconds)
    return recorder.snapshot()


# -- at once -------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshots", [EXPLICIT, BARE], ids=["stacks", "no stacks"])
def test_a_guest_that_reads_its_input_has_its_snapshot_at_once(
    snapshots: SnapshotOptions, tmp_path: Path, cache_dir: Path
) -> None:
    path, seqs = tmp_path / "j", []
    with start_recording("stdin", path, cache_dir, snapshots=snapshots) as recorder:
        for count in (1, 2, 3):
            wait_until(lambda count=count: recorder.stdout.count(b"\n") == count)  # type: ignore[misc]
            # There is no input: a snapshot that waited for the end of the read would never come.
            seqs.append(recorder.snapshot(timeout_seconds=DEADLINE_SECONDS))
            recorder.feed(b"something\n")
        recorder.close_stdin()
        wanted = finish_run(recorder)
    infos = snapshots_in(path)
    assert [info.seq for info in infos] == seqs
    assert {info.function for info in infos} == {"fd_read"}
    if snapshots is EXPLICIT:
        check_resumes(path, wanted, cache_dir, stdin=b"something\n" * 3)


@pytest.mark.deep
def test_a_guest_that_sleeps_has_its_snapshot_at_once(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    step = 1_000_000_000
    VirtualTime(monkeypatch, step)
    waiting, on_wait = threading.Event(), Interrupter.wait

    def wait(*given: Any) -> bool:
        waiting.set()
        return on_wait(*given)

    monkeypatch.setattr(Interrupter, "wait", wait)
    with start_recording("sleeper", path, cache_dir, "1", "8000") as recorder:
        assert waiting.wait(DEADLINE_SECONDS)
        seq = recorder.snapshot(timeout_seconds=DEADLINE_SECONDS)
        assert recorder.stdout == b"", "its time stands still until it is woken"
        with repeat_meanwhile(partial(request_later, recorder, 0)):
            wanted = finish_run(recorder)
    info = snapshots_in(path)[0]
    assert (info.seq, info.function) == (seq, "poll_oneoff")
    monkeypatch.undo()
    VirtualTime(monkeypatch)
    assert resume_run(path, info.seq, cache_dir) == wanted


def test_who_asks_without_patience_gets_no_number_and_the_snapshot_comes_later(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    given_up, write_state = threading.Event(), SnapshotCapture.write_state

    def write_late(*given: Any) -> Any:
        assert given_up.wait(DEADLINE_SECONDS)
        return write_state(*given)

    monkeypatch.setattr(SnapshotCapture, "write_state", write_late)
    with start_recording("stdin", path, cache_dir) as recorder:
        assert recorder.snapshot(timeout_seconds=0.01) is None
        given_up.set()
        recorder.feed(LINES)
        recorder.close_stdin()
        wanted = finish_run(recorder)
    (info,) = snapshots_in(path)
    assert resume_run(path, info.seq, cache_dir, stdin=LINES) == wanted


# -- idle ----------------------------------------------------------------------------------------


@pytest.mark.deep
@pytest.mark.parametrize("stacks", [Stacks.AUTO, Stacks.NEVER])
def test_a_guest_is_idle_once_in_each_of_its_waits(
    stacks: Stacks, tmp_path: Path, cache_dir: Path
) -> None:
    path, idle = tmp_path / "j", SnapshotOptions(on=frozenset({Trigger.IDLE}), stacks=stacks)
    with start_recording("prompt", path, cache_dir, snapshots=idle) as recorder:
        for count in (1, 2, 3):
            wait_until(lambda count=count: len(triggers_in(path)) == count)  # type: ignore[misc]
            time.sleep(4 * IDLE_NS / 1e9)
            assert triggers_in(path) == ["idle"] * count
            recorder.feed(b"all\n")
        recorder.close_stdin()
        wait_for_end(recorder)


def test_a_snapshot_in_a_wait_does_not_keep_it_from_being_idle(
    tmp_path: Path, cache_dir: Path
) -> None:
    path, idle = tmp_path / "j", SnapshotOptions(on=frozenset({Trigger.IDLE}))
    with start_recording("prompt", path, cache_dir, snapshots=idle) as recorder:
        wait_until(lambda: recorder.stdout == b"1> ")
        recorder.snapshot()
        wait_until(lambda: len(triggers_in(path)) == 2)
        assert triggers_in(path) in (["explicit", "idle"], ["idle", "explicit"])


@pytest.mark.deep
def test_a_guest_is_idle_after_a_tenth_of_a_second_and_not_before(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    VirtualTime(monkeypatch)
    path = tmp_path / "short"
    with start_recording("sleeper", path, cache_dir, "3", "100", snapshots=IDLE) as recorder:
        wait_for_end(recorder)
    assert triggers_in(path) == []
    path = tmp_path / "long"
    with start_recording("sleeper", path, cache_dir, "3", "101", snapshots=IDLE) as recorder:
        wanted = finish_run(recorder)
    assert triggers_in(path) == ["idle"] * 3
    check_resumes(path, wanted, cache_dir)


@pytest.mark.parametrize(("milliseconds", "count"), [(99, 0), (250, 3)])
def test_a_guest_is_idle_by_the_length_of_its_wait_though_it_wakes_up_late(
    milliseconds: int,
    count: int,
    tmp_path: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait_once = Interrupter._wait_once

    def wake_late(interrupter: Interrupter, source: StdinSource | None, until: int | None) -> None:
        wait_once(interrupter, source, until)
        time.sleep(0.3)

    monkeypatch.setattr(Interrupter, "_wait_once", wake_late)
    path = tmp_path / "j"
    with start_recording(
        "sleeper", path, cache_dir, "3", str(milliseconds), snapshots=IDLE
    ) as recorder:
        wait_for_end(recorder)
    assert triggers_in(path) == ["idle"] * count


def test_a_guest_that_computes_is_not_idle(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with start_recording("computing", path, cache_dir, "60", snapshots=IDLE) as recorder:
        wait_for_end(recorder)
    assert triggers_in(path) == []


# -- sleeping ------------------------------------------------------------------------------------

SLEEP_NS = 1_200_000_000
STEP_NS = 100_000_000


def sleeping_guest(clock: int, absolute: bool) -> bytes:
    """Return a guest that sleeps by one of its clocks and prints the result."""
    now = "(i64.load (i32.const 64))" if absolute else "(i64.const 0)"
    time_get = "(param i32 i64 i32) (result i32)"
    return module(f"""(module
        (import "wasi_snapshot_preview1" "clock_time_get" (func $now {time_get}))
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 320) "\\00\\01\\00\\00\\20\\00\\00\\00")
        (func (export "_start")
            (drop (call $now (i32.const {clock}) (i64.const 0) (i32.const 64)))
            (i32.store (i32.const 144) (i32.const {clock}))
            (i64.store (i32.const 152)
                (i64.add {now} (i64.const {SLEEP_NS})))
            (i32.store16 (i32.const 168) (i32.const {int(absolute)}))
            (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 300)))
            (drop (call $write
                (i32.const 1) (i32.const 320) (i32.const 1) (i32.const 300)))))""")


@pytest.mark.deep
@pytest.mark.parametrize("stacks", [Stacks.ALWAYS, Stacks.NEVER])
@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
@pytest.mark.parametrize("clock", [0, 1], ids=["realtime", "monotonic"])
def test_a_sleep_gets_no_longer_by_snapshots(
    clock: int,
    absolute: bool,
    stacks: Stacks,
    tmp_path: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    virtual = VirtualTime(monkeypatch, STEP_NS)
    path, wat = tmp_path / "j", sleeping_guest(clock, absolute)
    snapshots = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}), stacks=stacks)
    with start_recording(wat, path, cache_dir, snapshots=snapshots) as recorder:
        began = virtual.now
        with repeat_meanwhile(partial(request_later, recorder, 0)) as seqs:
            wanted = finish_run(recorder)
    assert wanted.stdout == bytes(32), "its clock has come, without an error"
    # A sleep that began again after each snapshot would never end: there is always a next one.
    assert virtual.now - began == SLEEP_NS
    taken = [seq for seq in seqs if seq is not None]
    assert len(taken) >= SLEEP_NS // STEP_NS // 2
    assert {info.function for info in snapshots_in(path)[1:-1]} == {"poll_oneoff"}
    if stacks is Stacks.ALWAYS:
        last = snapshots_in(path)[-1]
        monkeypatch.undo()
        assert resume_run(path, last.seq, cache_dir) == wanted


@pytest.mark.deep
def test_several_sleeps_take_their_time_and_no_more(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, virtual = tmp_path / "j", VirtualTime(monkeypatch, STEP_NS // 2)
    with start_recording("sleeper", path, cache_dir, "4", "300", snapshots=IDLE) as recorder:
        began = virtual.now
        with repeat_meanwhile(partial(request_later, recorder, 0)):
            wait_for_end(recorder)
    assert virtual.now - began == 4 * 300_000_000
    assert {"idle", "explicit"} >= set(triggers_in(path))
    assert len(triggers_in(path)) >= 4


# -- input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["feeding", "a pipe"])
def test_input_that_comes_during_a_snapshot_is_not_lost(
    by: str, tmp_path: Path, cache_dir: Path
) -> None:
    wanted = printed_of("stdin", tmp_path, cache_dir, stdin=LINES)
    path = tmp_path / "j"
    reads, writes = os.pipe()
    stdin = None if by == "feeding" else reads
    with (
        start_recording("stdin", path, cache_dir, stdin=stdin) as recorder,
        repeat_meanwhile(partial(request_later, recorder, 0)) as seqs,
    ):
        for start in range(0, len(LINES), 7):
            part = LINES[start : start + 7]
            before = len(seqs)
            wait_until(lambda before=before: len(seqs) > before)  # type: ignore[misc]
            recorder.feed(part) if by == "feeding" else os.write(writes, part)
        os.close(writes)
        if by == "feeding":
            recorder.close_stdin()
        assert finish_run(recorder).stdout == wanted
    os.close(reads)
    infos = snapshots_in(path)
    assert {info.seq for info in infos} == {seq for seq in seqs if seq is not None}
    assert len(infos) > 20
    for info in infos[:: len(infos) // 6]:
        assert resume_run(path, info.seq, cache_dir, stdin=LINES).stdout == wanted


# -- stopping ------------------------------------------------------------------------------------

MOMENTS = (
    (AsyncifyStack, "unwind"),
    (AsyncifyStack, "finish_unwind"),
    (SnapshotCapture, "write_state"),
    (AsyncifyStack, "rewind"),
    (AsyncifyStack, "finish_rewind"),
    (SnapshotCapture, "commit"),
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("kind", "name"), MOMENTS, ids=lambda part: getattr(part, "__name__", part)
)
@pytest.mark.parametrize("number", [1, 6])
def test_a_guest_that_is_stopped_during_its_snapshot_is_resumed(
    kind: type,
    name: str,
    after: bool,
    number: int,
    tmp_path: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    args = ("1500", "50")
    wanted = printed_of("deep", tmp_path, cache_dir, *args, stdin=b"")
    path, done, count = tmp_path / "j", getattr(kind, name), 0

    def interrupted(*given: object) -> object:
        nonlocal count
        count += 1
        if count == number and not after:
            recorder.stop()
        result = done(*given)
        if count == number and after:
            recorder.stop()
        return result

    often = SnapshotOptions(every_events=4)
    with (
        monkeypatch.context() as patched,
        start_recording("deep", path, cache_dir, *args, snapshots=often) as recorder,
    ):
        patched.setattr(kind, name, interrupted)
        assert wait_for_end(recorder).kind is journal.engine.ExitKind.STOPPED
    infos = snapshots_in(path)
    assert len(infos) in (number - 1, number)
    for into, at in ((path.with_name("again"), infos[-1].seq), (None, None)) if infos else ():
        with journal.resume(path, at=at, into=into, stdin=b"", cache=cache_dir) as recorder:
            assert wait_for_end(recorder).code == 0
            assert recorder.stdout == wanted
    with journal.resume(path, stdin=b"", cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == 0
        assert recorder.stdout == wanted
    assert journal.verify_replay(path, cache=cache_dir).matches


def test_a_guest_is_stopped_in_the_middle_of_taking_its_stack_away(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop the guest while its functions return one after the other, not only between the steps."""
    path, ticks = tmp_path / "j", 0
    begun = AsyncifyStack.unwind

    def unwind(stack: AsyncifyStack) -> None:
        nonlocal ticks
        begun(stack)
        ticks += 1
        if ticks == 3:
            Interrupter.request_stop(recorder._interrupter)
            Instance.increment_epoch(recorder._process._instance)  # type: ignore[union-attr]

    args = ("3000", "500")
    wanted = printed_of("deep", tmp_path, cache_dir, *args, stdin=b"")
    monkeypatch.setattr(AsyncifyStack, "unwind", unwind)
    often = SnapshotOptions(every_events=3)
    with start_recording("deep", path, cache_dir, *args, snapshots=often) as recorder:
        assert wait_for_end(recorder).kind is journal.engine.ExitKind.STOPPED
    assert len(snapshots_in(path)) == 2
    with journal.resume(path, stdin=b"", cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == 0
        assert recorder.stdout == wanted


# -- asking --------------------------------------------------------------------------------------


def looping_guest(rounds: int) -> bytes:
    """Return a guest that prints "!", then computes, and ends without another host call."""
    return program(f"""(i32.store (i32.const 64) (i32.const 72))
        (i32.store (i32.const 68) (i32.const 1)) (i32.store8 (i32.const 72) (i32.const 33))
        (drop (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 80)))
        (loop $again (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const {rounds}))))""")


def test_who_asks_is_told_that_the_guest_has_ended_meanwhile(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with start_recording(looping_guest(1_500_000_000), path, cache_dir) as recorder:
        wait_until(lambda: recorder.stdout == b"!")
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is None
        assert wait_for_end(recorder).code == 0
        assert recorder.snapshot() is None
        assert not recorder.notify(Trigger.EXPLICIT)
    assert recorder.snapshot() is None
    assert triggers_in(path) == []
    with journal.resume(path, cache=cache_dir, snapshots=EXPLICIT) as again:
        assert again.ended_before
        assert again.snapshot() is None
        with again.transaction():
            pass


def test_who_asks_is_told_that_the_guest_was_stopped_meanwhile(
    tmp_path: Path, cache_dir: Path
) -> None:
    with start_recording("spin", tmp_path / "j", cache_dir) as recorder:
        wait_until(lambda: recorder.stdout == b"spinning\n")
        threading.Timer(0.1, recorder.stop).start()
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is None


def test_a_run_without_snapshots_is_not_asked_for_one(tmp_path: Path, cache_dir: Path) -> None:
    with start_recording(
        "spin", tmp_path / "j", cache_dir, snapshots=SnapshotOptions()
    ) as recorder:
        assert not recorder.takes_snapshots
        assert not recorder.notify(Trigger.EXPLICIT)
        with pytest.raises(journal.OptionError, match="started without snapshots"):
            recorder.snapshot()
        with (
            pytest.raises(journal.OptionError, match="started without snapshots"),
            recorder.transaction(),
        ):
            raise AssertionError("it is refused before the work begins")


def test_requests_for_one_trigger_share_a_snapshot_while_they_wait(
    tmp_path: Path, cache_dir: Path
) -> None:
    path, times = tmp_path / "j", 6
    triggers = [Trigger.EXPLICIT, Trigger.TRANSACTION, Trigger.SIGINT, Trigger.SIGALRM] * 2
    results: list[list[int | None]] = [[] for _ in triggers]

    def ask(index: int) -> None:
        for _ in range(times):
            results[index].append(recorder.snapshot(triggers[index], DEADLINE_SECONDS))

    with start_recording("stdin", path, cache_dir) as recorder:
        threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(triggers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        recorder.feed(LINES)
        recorder.close_stdin()
        wanted = finish_run(recorder)
    infos = snapshots_in(path)
    pairs = {(triggers[index], seq) for index, seqs in enumerate(results) for seq in seqs}
    assert pairs == {(info.trigger, info.seq) for info in infos}
    for seqs in results:  # a request never gets a snapshot from before the request
        assert None not in seqs
        assert len(set(seqs)) == times
    for info in infos[::12]:
        assert resume_run(path, info.seq, cache_dir, stdin=LINES) == wanted


def test_a_storm_of_one_trigger_does_not_delay_the_others(tmp_path: Path, cache_dir: Path) -> None:
    path, over = tmp_path / "j", threading.Event()
    on = SnapshotOptions(on=frozenset({Trigger.EXPLICIT, Trigger.SIGALRM}))

    def storm() -> None:
        while not over.is_set():
            recorder.notify(Trigger.SIGALRM)

    with start_recording("stdin", path, cache_dir, snapshots=on) as recorder:
        wait_until(lambda: recorder.stdout.startswith(b"ready"))
        thread = threading.Thread(target=storm)
        thread.start()
        asked = [recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) for _ in range(10)]
        over.set()
        thread.join()
        recorder.feed(LINES)
        recorder.close_stdin()
        finish_run(recorder)
    taken = [info.trigger for info in snapshots_in(path)]
    assert None not in asked
    assert taken.count(Trigger.EXPLICIT) == len(asked)


def test_a_signal_handler_notifies_whatever_the_main_thread_does(
    tmp_path: Path, cache_dir: Path
) -> None:
    path, results = tmp_path / "j", []
    on = SnapshotOptions(on=frozenset({Trigger.EXPLICIT, Trigger.SIGALRM}))
    with start_recording("stdin", path, cache_dir, snapshots=on) as recorder:
        wait_until(lambda: recorder.stdout.startswith(b"ready"))
        before = signal.signal(
            signal.SIGALRM, lambda *_: results.append(recorder.notify(Trigger.SIGALRM))
        )
        asked: list[int | None] = []
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.004, 0.004)
            while len(asked) < 100 or not results:
                asked.append(recorder.snapshot(timeout_seconds=DEADLINE_SECONDS))
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        asked.append(recorder.snapshot(timeout_seconds=DEADLINE_SECONDS))  # after all notices
        recorder.feed(LINES)
        recorder.close_stdin()
        wanted = finish_run(recorder)
    assert all(results)
    assert None not in asked
    taken = triggers_in(path)
    assert taken.count("explicit") == len(set(asked)) == len(asked)
    assert 1 <= taken.count("sigalrm") <= len(results)
    last = snapshots_in(path)[-1]
    assert resume_run(path, last.seq, cache_dir, stdin=LINES) == wanted


def test_a_request_after_the_end_writes_to_no_descriptor_of_others(
    tmp_path: Path, cache_dir: Path
) -> None:
    with start_recording("stdin", tmp_path / "j", cache_dir, stdin=LINES) as recorder:
        wait_for_end(recorder)
        numbers = {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208
    files: list[int] = []
    while not files or max(files) < max(numbers):
        files.append(os.open(tmp_path / f"file-{len(files)}", os.O_RDWR | os.O_CREAT))
    try:
        recorder.stop()
        assert recorder.snapshot() is None
        assert not recorder.notify(Trigger.EXPLICIT)
        recorder.close()
        assert all(os.fstat(file).st_size == 0 for file in files)
    finally:
        for file in files:
            os.close(file)
