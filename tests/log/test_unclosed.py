"""Writers and readers that nobody closed: nothing is lost in silence."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from journal.fs.open_resources import OwnThread
from journal.log import CommitPolicy, Reader, RollPolicy, Writer
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.journals import read_rows

EVENTS = [(200, b"event %d" % number) for number in range(10)]
OPEN = """
import os, sys, threading
from journal import Reader, Writer
from journal.log import CommitPolicy, RollPolicy

path = sys.argv[1]
"""
APPEND = """
for number in range(10):
    writer.append_frame(200, b"event %d" % number)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def run_program(path: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", OPEN + program, path],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    "options",
    [
        "",
        ", roll=RollPolicy()",
        ", commit=CommitPolicy.NONE",
        ", commit=CommitPolicy.interval(3600)",
        ", commit=CommitPolicy.group(1000, 3.6e6)",
    ],
)
@pytest.mark.parametrize("end", ["", "sys.exit(0)", "raise SystemExit(0)", "del writer"])
def test_the_end_of_a_program_writes_its_events_and_warns(
    path: Path, options: str, end: str
) -> None:
    done = run_program(path, f"writer = Writer(path{options})" + APPEND + end)
    assert done.returncode == 0
    assert f"ResourceWarning: the writer of {path} was not closed" in done.stderr
    assert done.stderr.count("was not closed") == 1
    assert read_rows(path) == EVENTS


def test_a_program_that_fails_loses_no_events(path: Path) -> None:
    done = run_program(path, "writer = Writer(path)" + APPEND + "raise KeyError('bug')")
    assert done.returncode == 1
    assert "KeyError" in done.stderr
    assert read_rows(path) == EVENTS


def test_a_function_that_drops_its_writer_loses_no_events(path: Path) -> None:
    def append() -> None:
        writer = Writer(path)
        writer.append_many(EVENTS)

    with pytest.warns(ResourceWarning, match=r"the writer of .*a\.journal was not closed"):
        append()
    assert read_rows(path) == EVENTS
    Writer(path).close()  # It holds no lock any more.


def test_events_that_threads_append_until_the_exit_are_written(path: Path) -> None:
    """A thread that is not a daemon ends before the exit, a daemon may lose only its last event."""
    done = run_program(
        path,
        """
writer = Writer(path, commit=CommitPolicy.group(1000, 3.6e6))
begun = threading.Event()

def append_for_ever():
    while True:
        writer.append_frame(201, b"daemon")
        begun.set()

def append_late():
    threading.main_thread().join()
    begun.wait()
    for number in range(10):
        writer.append_frame(200, b"event %d" % number)

threading.Thread(target=append_for_ever, daemon=True).start()
threading.Thread(target=append_late).start()
""",
    )
    assert done.returncode == 0
    assert "was not closed" in done.stderr
    rows = read_rows(path)
    assert [row for row in rows if row[0] == 200] == EVENTS
    assert (201, b"daemon") in rows


def test_a_writer_that_only_a_daemon_thread_knows_is_closed_at_the_exit(path: Path) -> None:
    done = run_program(
        path,
        """
ready = threading.Event()

def append():
    writer = Writer(path)
    for number in range(10):
        writer.append_frame(200, b"event %d" % number)
    ready.set()
    threading.Event().wait()

threading.Thread(target=append, daemon=True).start()
ready.wait()
""",
    )
    assert f"ResourceWarning: the writer of {path} was not closed" in done.stderr
    assert read_rows(path) == EVENTS


def test_a_closed_writer_is_not_warned_about(path: Path) -> None:
    done = run_program(path, "writer = Writer(path)" + APPEND + "writer.close()")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_rows(path) == EVENTS


def test_an_unpublished_journal_leaves_no_file(path: Path) -> None:
    done = run_program(path, "writer = Writer(path, publish=False)" + APPEND)
    assert "was not closed" in done.stderr
    assert list(path.parent.iterdir()) == []


def test_one_failing_writer_does_not_keep_another_from_its_events(path: Path) -> None:
    done = run_program(
        path,
        """
writers = [Writer(path), Writer(path + "-bad"), Writer(path + "-good")]
for writer in writers:
    writer.append_frame(200, b"x")
bad = writers[1]._pending.appender._file.descriptor
real = os.pwritev
def write(descriptor, *rest):
    if descriptor == bad:
        raise OSError(5, "broken")
    return real(descriptor, *rest)
os.pwritev = write
del writer
writers[1]._pending.appender.keeps_unsynced = False
""",
    )
    assert "StorageError" in done.stderr
    assert "broken" in done.stderr
    for name in (path, path.with_name(path.name + "-good")):
        assert read_rows(name) == [(200, b"x")]


@pytest.mark.parametrize(
    "end", ["sys.exit(0)", "os._exit(0)", "del writer", "import gc; gc.collect()"]
)
def test_a_child_neither_writes_nor_warns(path: Path, end: str) -> None:
    program = "writer = Writer(path)" + APPEND + "if not os.fork():\n    " + end
    done = run_program(
        path, program + "\n    os._exit(0)\nos.wait()\nwriter.sync()\nwriter.close()"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert read_rows(path) == EVENTS


def test_the_exit_of_a_child_closes_only_what_the_child_opened(path: Path) -> None:
    done = run_program(
        path,
        "writer = Writer(path)"
        + APPEND
        + """
if not os.fork():
    own = Writer(path + "-own")
    own.append_frame(200, b"child")
    sys.exit(0)
os.wait()
writer.close()
""",
    )
    own = path.with_name(path.name + "-own")
    assert done.stderr.count("was not closed") == 1
    assert f"the writer of {own} was not closed" in done.stderr
    assert read_rows(own) == [(200, b"child")]
    assert read_rows(path) == EVENTS


def test_a_writer_that_its_own_thread_collects_is_closed_by_another(path: Path) -> None:
    """The thread may hold the writer's locks at that moment."""
    writers = [Writer(path, commit=CommitPolicy.interval(3600))]
    writers[0].append_many(EVENTS)
    locked = writers[0]._sync.exclusive()

    def collect() -> None:
        with locked:
            writers.clear()
            gc.collect()

    def collect_in_own_thread() -> None:
        before = set(threading.enumerate())
        collecting = OwnThread(target=collect)
        collecting.start()
        collecting.join(DEADLINE_SECONDS)
        assert not collecting.is_alive(), "it waits for its own lock"
        for closing in set(threading.enumerate()) - before:
            closing.join(DEADLINE_SECONDS)

    with pytest.warns(ResourceWarning, match="was not closed"):
        collect_in_own_thread()
    assert read_rows(path) == EVENTS


def test_a_reader_is_closed_with_a_warning(path: Path) -> None:
    Writer(path).close()
    with pytest.warns(ResourceWarning, match=r"the reader of .*a\.journal was not closed"):
        assert list(Reader(path).frames()) == []
    done = run_program(path, "reader = Reader(path)")
    assert f"ResourceWarning: the reader of {path} was not closed" in done.stderr
    done = run_program(
        path, "reader = Reader(path)\nif not os.fork(): sys.exit(0)\nos.wait(); reader.close()"
    )
    assert done.stderr == ""


def test_a_refused_writer_or_reader_does_not_warn(path: Path) -> None:
    done = run_program(
        path,
        """
from journal import JournalError
def refuse(*calls):
    for call in calls:
        try:
            call()
        except (JournalError, OSError):
            continue
        raise AssertionError

refuse(lambda: Writer(path, first_seq=-1), lambda: Writer(path + "/x/y"), lambda: Reader(path))
with open(path, "w") as file:
    file.write("no journal at all, but long enough to be refused" * 10)
refuse(lambda: Writer(path), lambda: Reader(path))
""",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_rolled_segments_are_complete_at_the_exit(path: Path) -> None:
    roll = RollPolicy(size_bytes=1 << 12)
    with pytest.warns(ResourceWarning):
        Writer(path, roll=roll).append_many([(200, bytes(1 << 11))] * 8)
    assert len(read_rows(path)) == 8
    with Reader(path) as reader:
        assert list(reader.verify(decode=False)) == []
