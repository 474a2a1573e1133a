"""Recorders in forked children, and recorders that nobody closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import journal
from journal import Recorder, WrongProcess
from journal.engine.configuration import SnapshotOptions
from journal.events.snapshots import Trigger
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.forks import error_of, run_in_child
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest

UNCLOSED = """
import sys
from pathlib import Path
import journal

guest = journal.record(sys.argv[1], sys.argv[2], args=["cat"], cache=Path(sys.argv[3]))
guest.start()
guest.feed(b"hello\\n")
{end}
"""


def use(recorder: Recorder) -> list[BaseException | None]:
    calls = (
        recorder.start,
        recorder.wait,
        recorder.stop,
        lambda: recorder.notify(Trigger.EXPLICIT),
        recorder.snapshot,
        lambda: recorder.transaction().__enter__(),
        lambda: recorder.feed(b"child"),
        recorder.close_stdin,
        lambda: recorder.stdout,
        lambda: recorder.stderr,
        lambda: recorder.read_file("/x"),
        lambda: recorder.files,
        lambda: recorder.set_path("elsewhere"),
    )
    return [error_of(call) for call in (*calls, recorder.close, lambda: recorder.__exit__())]


def test_a_child_cannot_use_a_recorder_and_its_parent_loses_nothing(
    tmp_path: Path, cache_dir: Path
) -> None:
    path, mount = tmp_path / "a.journal", journal.MemoryMount("/")
    snapshots = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}), page_index=True)
    with journal.record(
        guest("cat"), path, args=["cat"], cache=cache_dir, mounts=[mount], snapshots=snapshots
    ) as recorder:
        recorder.feed(b"one\n")
        wait_until(lambda: recorder.stdout == b"one\n")
        *refused, close, leave = run_in_child(lambda: use(recorder))
        assert [type(error) for error in refused] == [WrongProcess] * len(refused)
        assert (close, leave) == (None, None)
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
        recorder.feed(b"two\n")
        recorder.close_stdin()
        assert wait_for_end(recorder).code == 0
        assert recorder.stdout == b"one\ntwo\n"
    with journal.Reader(path) as reader:
        assert list(reader.verify()) == []


def test_a_child_cannot_feed_a_source_of_its_parent(tmp_path: Path, cache_dir: Path) -> None:
    source = journal.engine.FedSource()
    errors = run_in_child(lambda: [error_of(lambda: source.feed(b"child")), error_of(source.close)])
    assert [type(error) for error in errors] == [WrongProcess, WrongProcess]
    assert str(errors[0]).startswith("standard input was opened by process ")
    path = tmp_path / "a.journal"
    with journal.record(guest("cat"), path, stdin=source, cache=cache_dir) as recorder:
        source.feed(b"parent")
        source.close()
        wait_for_end(recorder)
        assert recorder.stdout == b"parent"


def test_a_child_cannot_start_a_recorder_that_did_not_run(tmp_path: Path, cache_dir: Path) -> None:
    recorder = journal.record(guest("cat"), tmp_path / "a.journal", stdin=b"x", cache=cache_dir)
    errors = run_in_child(lambda: use(recorder))
    assert isinstance(errors[0], WrongProcess)
    with recorder:
        wait_for_end(recorder)
        assert recorder.stdout == b"x"


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "del guest"])
def test_a_recorder_that_nobody_closed_leaves_a_journal_that_resumes(
    tmp_path: Path, cache_dir: Path, end: str
) -> None:
    path = tmp_path / "a.journal"
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-c",
            UNCLOSED.format(end=end),
            guest("cat"),
            path,
            cache_dir,
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.count("was not closed") == 1
    assert f"ResourceWarning: the recorder of {path} was not closed" in done.stderr
    with journal.resume(path, cache=cache_dir) as recorder:
        recorder.close_stdin()
        assert wait_for_end(recorder).code == 0


def test_a_recorder_that_was_never_started_is_closed_when_it_is_dropped(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "a.journal"
    with pytest.warns(ResourceWarning, match="the recorder of .* was not closed"):
        journal.record(guest("cat"), path, cache=cache_dir, stdin=b"x")
    with journal.resume(path, cache=cache_dir, stdin=b"x") as recorder:
        wait_for_end(recorder)
        assert recorder.stdout == b"x"
