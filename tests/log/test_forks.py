"""Forked children of a process with an open journal: they change nothing, and are told so."""

from __future__ import annotations

import copy
import ctypes
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from journal import OptionError, Reader, WrongProcess, events
from journal.format.block import Block
from journal.format.frame import Frame
from journal.log import CommitPolicy, RollPolicy, Writer
from journal.log.in_place_replacement import InPlaceReplacement
from journal.log.pending_block import WriterState
from journal.log.segment_files import is_same_file
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.forks import error_of, idle_child, run_in_child
from tests.support.journals import read_rows

DAEMON = """
import os, sys
from journal import Writer, WrongProcess

with Writer(sys.argv[1]) as writer:
    writer.append_frame(200, b"before")
    writer.sync()
    writer.append_frame(200, b"not durable")
    if os.fork():
        {leave}
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        writer.append_frame(200, b"of the daemon")
    except WrongProcess:
        print("refused", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def first_block(path: Path) -> Block:
    with Reader(path) as reader:
        return next(reader.blocks())


def calls_of(writer: Writer, path: Path) -> dict[str, Callable[[], object]]:
    return {
        "append": lambda: writer.append(events.core.ProcessExit(exit_code=0)),
        "append_frame": lambda: writer.append_frame(200, b"child"),
        "append_many": lambda: writer.append_many([(200, b"child")]),
        "append_payloads": lambda: writer.append_payloads(200, [b"child"]),
        "append_columns": lambda: writer.append_columns([200], [b"child"]),
        "append_rows": lambda: writer.append_rows(events.core.ProcessExit, [(0,)]),
        "append_block": lambda: writer.append_block(first_block(path)),
        "flush": writer.flush,
        "sync": writer.sync,
        "wait": lambda: writer.wait(0),
        "publish": writer.publish,
        "switch_to": lambda: writer.switch_to(path),
        "set_path": lambda: writer.set_path(path),
    }


@pytest.mark.parametrize(
    "commit", [CommitPolicy.EXPLICIT, CommitPolicy.EVERY, CommitPolicy.group()]
)
def test_each_call_in_a_forked_child_raises_and_names_both_processes(
    path: Path, commit: CommitPolicy
) -> None:
    with Writer(path, commit=commit) as writer:
        writer.append_frame(200, b"parent")
        writer.sync()

        def call_all() -> tuple[int, dict[str, BaseException | None]]:
            return os.getpid(), {
                name: error_of(call) for name, call in calls_of(writer, path).items()
            }

        child, errors = run_in_child(call_all)
        for name, error in errors.items():
            assert isinstance(error, WrongProcess), name
            assert (error.path, error.owner, error.process) == (str(path), os.getpid(), child)
            for part in (str(path), f"process {os.getpid()} ", f"process {child},"):
                assert part in str(error)
    assert read_rows(path) == [(200, b"parent")]


def test_each_call_in_the_table_above_works_in_the_parent_or_fails_otherwise(path: Path) -> None:
    with Writer(path) as writer:
        writer.append_frame(200, b"parent")
        writer.sync()
        for call in calls_of(writer, path).values():
            assert not isinstance(error_of(call), WrongProcess)


@pytest.mark.parametrize("roll", [None, RollPolicy(size_bytes=1 << 16)])
def test_a_child_that_closes_late_changes_no_byte(path: Path, roll: RollPolicy | None) -> None:
    with Writer(path, roll=roll) as writer:
        writer.append_frame(200, b"not durable at the fork")
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(told, 1)
            writer.close()
            with writer:
                pass
            os._exit(0)
        for number in range(5000):
            writer.append_frame(200, b"durable %d" % number)
        writer.sync()
        before = contents(path)
        os.write(tell, b"!")
        assert os.waitpid(child, 0)[1] == 0
        assert contents(path) == before
        for descriptor in (told, tell):
            os.close(descriptor)
    assert len(read_rows(path)) == 5001


def contents(path: Path) -> dict[str, bytes]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


def test_a_child_closes_an_unpublished_journal_without_removing_it(path: Path) -> None:
    with Writer(path, publish=False) as writer:
        writer.append_frame(200, b"x")
        run_in_child(writer.close)
        writer.publish()
    assert read_rows(path) == [(200, b"x")]


@pytest.mark.parametrize("roll", [None, RollPolicy()])
def test_a_closed_journal_opens_again_while_a_child_lives(
    path: Path, roll: RollPolicy | None
) -> None:
    writer = Writer(path, roll=roll)
    with idle_child():
        writer.close()
        for _ in range(3):  # Each writer after the first is opened beside a child, too.
            with Writer(path) as later, idle_child():
                later.append_frame(200, b"x")
                later.close()
    assert len(read_rows(path)) == 3


def test_a_child_that_ran_no_python_yet_holds_no_lock_either(path: Path) -> None:
    """So is a child between the fork and the start of its program."""
    writer = Writer(path)
    child = ctypes.PyDLL(None).fork()  # Calls no handler of a fork.
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        writer.close()
        Writer(path).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_killed_owner_leaves_no_lock_to_its_children(path: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = (
        "import os, signal, sys, time; from journal import Writer; writer = Writer(sys.argv[1])\n"
        "ready, tell = os.pipe()\n"
        "if not (child := os.fork()): os.write(tell, b'!'); signal.pause()\n"
        "os.read(ready, 1); open(sys.argv[2], 'w').write(str(child)); os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-c", program, path, pid], timeout=DEADLINE_SECONDS, check=False
    )
    try:
        Writer(path).close()
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_child_holds_no_descriptor_of_the_journal(path: Path) -> None:
    def count_descriptors() -> int:
        links = list(Path("/proc/self/fd").iterdir())
        return sum(is_same_file(link, path.stat()) for link in links)

    with Writer(path):
        assert count_descriptors() > 0
        assert run_in_child(count_descriptors) == 0


def test_a_child_opens_the_journal_itself_when_its_parent_has_closed_it(path: Path) -> None:
    writer = Writer(path)
    writer.append_frame(200, b"parent")
    read, write = os.pipe()

    def append() -> Frame:
        os.read(read, 1)
        writer.close()
        with Writer(path) as own:
            own.append_frame(200, b"child")
        with Reader(path) as reader:
            return reader.frame(1)

    child = os.fork()
    if child == 0:
        os._exit(append().payload != b"child")
    writer.close()
    os.write(write, b"!")
    assert os.waitpid(child, 0)[1] == 0
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)", "writer.close(); os._exit(0)"])
def test_a_daemon_is_refused_and_its_parent_loses_nothing(path: Path, leave: str) -> None:
    program = DAEMON.format(leave=leave)
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        capture_output=True,  # Returns when the daemon has closed its output.
        text=True,
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")
    expected = [(200, b"before"), (200, b"not durable")]
    assert read_rows(path) == expected[: 1 if leave == "os._exit(0)" else 2]
    Writer(path).close()


def test_a_child_forked_by_a_signal_handler_during_an_append_is_refused(path: Path) -> None:
    children: list[int] = []

    def clock() -> int:  # Called inside an append, as a signal handler may be.
        if not children and armed:
            children.append(os.fork())
        return 1

    armed = False
    with Writer(path, clock=clock) as writer:
        armed = True
        errors = [error_of(lambda: writer.append_frame(200, b"x")) for _ in range(3)]
        if children == [0]:
            os._exit(not all(isinstance(error, WrongProcess) for error in errors))
        assert errors == [None] * 3
        assert os.waitpid(children[0], 0)[1] == 0
    assert len(read_rows(path)) == 3


def test_a_child_waits_for_no_lock_that_a_thread_of_its_parent_holds(path: Path) -> None:
    with Writer(path) as writer:
        pending = writer._pending
        with pending.lock, writer._sync.exclusive():
            error = run_in_child(lambda: error_of(writer.sync) or error_of(writer.flush))
        assert isinstance(error, WrongProcess)


def test_a_closed_writer_stays_closed_in_a_child(path: Path) -> None:
    writer = Writer(path)
    writer.close()
    error = run_in_child(lambda: error_of(writer.sync))
    assert type(error) is OptionError
    assert run_in_child(lambda: writer._pending.state) is WriterState.CLOSED


def test_a_grandchild_is_told_of_the_first_process(path: Path) -> None:
    with Writer(path) as writer:
        error = run_in_child(lambda: run_in_child(lambda: error_of(writer.sync)))
        assert isinstance(error, WrongProcess)
        assert error.owner == os.getpid()


def append_own(path: Path, name: str) -> int:
    with Writer(path.with_name(name)) as writer:
        return writer.append_frame(200, name.encode())


def test_pools_subprocesses_and_spawns_leave_the_writer_alone(path: Path) -> None:
    with Writer(path) as writer:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            writer.append_frame(200, b"one")
            assert pool.starmap(append_own, [(path, "x"), (path, "y")]) == [0, 0]
        subprocess.run(["true"], check=True)
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        writer.append_frame(200, b"two")
        writer.sync()
    assert [payload for _, payload in read_rows(path)] == [b"one", b"two"]


def test_a_reader_works_in_a_child(path: Path) -> None:
    with Writer(path, roll=RollPolicy(size_bytes=1 << 12)) as writer:
        for number in range(20):
            writer.append_frame(200, os.urandom(1 << 10) + b"%d" % number)
            writer.sync()
    with Reader(path) as reader:
        assert run_in_child(lambda: len(list(reader.frames()))) == 20
        assert len(list(reader.frames())) == 20


def test_listing_the_segments_has_no_position_in_common_with_another_process(path: Path) -> None:
    Writer(path, roll=RollPolicy()).close()
    with Reader(path) as reader, os.scandir(reader._files._descriptor) as other:
        next(other)  # Another process, or thread, is in the middle of the directory.
        assert reader._files.names() == ["0000000000.journal"]


def test_a_child_does_not_remove_what_a_replacement_has_written(path: Path) -> None:
    Writer(path).close()
    with InPlaceReplacement(path) as replacement:
        replacement.make_output_path().write_bytes(b"new")

        def fail() -> None:
            replacement.__exit__(OSError, OSError())

        run_in_child(fail)
        assert replacement.sibling.exists()
        replacement.sibling.unlink()


def test_the_error_can_be_copied_and_pickled_with_its_data() -> None:
    error = WrongProcess("a.journal", 7, 8)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(twin), twin.path, twin.owner, twin.process) == (str(error), "a.journal", 7, 8)
