"""A stop request ends what takes long in the engine, and the journal can be resumed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.compaction import CompactionSchedule
from journal.engine import ExitKind, SnapshotOptions
from journal.engine.session import recorder
from journal.engine.session.journal_writer import NullWriter
from journal.engine.tape import Batch, Tape, check_between
from journal.engine.wasi.filesystem.host_files import HostTree
from journal.engine.wasi.filesystem.host_fs import HostDirectory
from journal.engine.wasi.stdio.stdin import GuestStopped
from journal.events.inputs import HostResult
from journal.events.memory import MemoryPages
from journal.events.snapshots import SafePoint, Snapshot, Trigger
from journal.pages import encoding
from journal.wasi_abi import Errno, WasiError
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.guest_runs import wait_for_end
from tests.support.programs import ROOT, guest
from tests.support.rewrites import frames_of

NATIVE_CALL = """
import ctypes, os, signal, sys, threading
from journal.engine.program.abandonable import call_abandonable

def work():
    print("begun", flush=True)
    ctypes.CDLL(None).sleep(100000)

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    call_abandonable(work)
except KeyboardInterrupt:
    print("ended", flush=True)
"""


def test_a_signal_ends_the_wait_for_native_code() -> None:
    """Without a thread of its own, the call would end in a day."""
    with subprocess.Popen(
        [sys.executable, "-c", NATIVE_CALL], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=DEADLINE_SECONDS)
        finally:
            process.kill()
    assert said == "ended\n"
    assert process.returncode == 0


class Sink(NullWriter):
    """A writer that keeps the tags of its events."""

    def __init__(self) -> None:
        self.tags: list[int] = []

    def append_frame(self, tag: int, payload: bytes) -> int:
        self.tags.append(tag)
        return 0


def test_a_listing_of_a_large_directory_ends_at_a_stop_without_an_event(tmp_path: Path) -> None:
    for number in range(1100):
        (tmp_path / str(number)).touch()
    sink, checks = Sink(), list[int]()
    tree = HostTree(Tape(sink), str(tmp_path), writable=True, is_moved=False)

    def stop() -> None:
        checks.append(1)
        if len(checks) == 2:
            raise GuestStopped

    tree.check = stop
    with pytest.raises(GuestStopped):
        HostDirectory(tree).entries(3)
    assert sink.tags == []
    assert len(HostDirectory(tree).entries(3)) == 1100
    assert sink.tags == [HostResult.tag]


def test_a_listing_that_fits_no_event_is_an_error_of_the_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journal.engine.wasi.filesystem.host_paths._LISTING_SIZE_MAX", 40)
    for number in range(3):
        (tmp_path / f"{number}-{'x' * 9}").touch()
    directory = HostDirectory(HostTree(Tape(Sink()), str(tmp_path), writable=True, is_moved=False))
    with pytest.raises(WasiError) as caught:
        directory.entries(3)
    assert caught.value.errno == Errno.OVERFLOW


def test_a_stop_ends_the_reading_of_a_journal_between_its_blocks() -> None:
    reads = list[int]()

    def batches() -> Any:
        for number in range(9):
            reads.append(number)
            yield Batch([number], [1], [b""], [0])

    def stop() -> None:
        if len(reads) == 3:
            raise GuestStopped

    with pytest.raises(GuestStopped):
        list(check_between(batches(), stop))
    assert reads == [0, 1, 2]


def test_a_stop_during_a_snapshot_leaves_it_incomplete_and_the_run_can_be_resumed(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.journal"
    runs: list[journal.Recorder] = []
    encode = encoding.encode_pages

    def stop_first(*values: Any) -> Any:
        runs[0].stop()
        return encode(*values)

    options = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
    run = journal.record(guest("cat"), path, cache=cache_dir, snapshots=options)
    runs.append(run)
    with run, monkeypatch.context() as patch:
        patch.setattr(encoding, "encode_pages", stop_first)
        run.snapshot()  # The guest waits for input.
        outcome = wait_for_end(run)
    tags = [frame.tag for frame in frames_of(path)]
    assert SafePoint.tag in tags
    assert outcome.kind is ExitKind.STOPPED
    assert MemoryPages.tag in tags
    assert Snapshot.tag not in tags
    with journal.resume(path, stdin=b"", cache=cache_dir) as run:
        assert wait_for_end(run).kind is ExitKind.EXITED


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_a_compaction_at_the_end_does_not_delay_a_stop_in_haste(
    moment: str, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, notes = tmp_path / "a.journal", list[str]()
    begun = list[int]()
    run = journal.record(
        guest("cat"),
        path,
        cache=cache_dir,
        compaction=CompactionSchedule(on_close=True),
        note=notes.append,
    )

    def compact_in_place(*_: object, progress: Any, **__: object) -> None:
        begun.append(1)
        run.stop(compact=False)
        progress("compacting", 0, 1)
        raise AssertionError("the compaction goes on")

    monkeypatch.setattr("journal.compaction.compact_in_place", compact_in_place)
    with run:
        run.feed(b"text")
        if moment == "before":
            run.stop(compact=False)
    assert notes == ["the journal was not compacted, because the run was stopped"]
    assert len(begun) == (moment == "meanwhile")
    with journal.resume(path, stdin=b"text", cache=cache_dir, strict=False) as run:
        assert wait_for_end(run).code == 0


def test_a_replay_that_a_signal_interrupts_stops_its_guest(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread of the guest must not go on with a closed journal."""
    path = tmp_path / "a.journal"
    with journal.record(guest("cat"), path, stdin=b"text", cache=cache_dir) as run:
        wait_for_end(run)
    threads: list[Any] = []

    class InterruptedThread:
        def __init__(self, thread: Any) -> None:
            self.thread = thread
            threads.append(thread)

        def join(self) -> None:
            if not hasattr(self, "is_interrupted"):
                self.is_interrupted = True
                raise KeyboardInterrupt
            self.thread.join()

    start = recorder.start_guest_thread
    monkeypatch.setattr(
        "journal.engine.session.verify.start_guest_thread",
        lambda work, size: InterruptedThread(start(work, size)),
    )
    with pytest.raises(KeyboardInterrupt):
        journal.verify_replay(path, cache=cache_dir)
    assert not threads[0].is_alive()
