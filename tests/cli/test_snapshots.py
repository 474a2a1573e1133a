"""The commands snapshot and snapshots."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from journaltool.processes import writer_process

import journal
from journal import Frame
from journal.events.snapshots import SafePoint, Snapshot, Trigger
from journal.events.threads import SetThread
from journal.format.block import BLOCK_HEADER_SIZE
from journal.pages import encoding
from journal.snapshots import SnapshotInfo
from journal.snapshots.triggers import parse_trigger
from tests.support.command_line import build_command, build_environment, run_inside
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.programs import guest
from tests.support.rewrites import rewrite

#: Process that writes a journal, and appends a Snapshot event at each request.
_WRITER_PROGRAM = """
import os, select, signal, sys, time
import journal
from journal.events.inputs import ClockRead
from journal.events.snapshots import Snapshot, Trigger

how, *paths = sys.argv[1:]
roll = journal.log.RollPolicy() if how == "rolls" else None
writers = [journal.Writer(path, roll=roll) for path in paths]

def take():
    if how == "ends":
        sys.exit()
    for writer in writers if how != "ignores" else []:
        writer.append(Snapshot(when=7, trigger=Trigger.EXPLICIT, digest=b"abc"))
        writer.sync()

for writer in writers:
    writer.append(Snapshot(when=7, trigger=Trigger.IDLE))
    writer.append(ClockRead(clock=0, time=7))
    writer.sync()
if how == "late":
    print("ready", flush=True)
    while not os.path.exists("begun"):
        time.sleep(0.001)
asked, sink = os.pipe()
os.set_blocking(sink, False)
signal.set_wakeup_fd(sink)
if how != "deaf":
    signal.signal(signal.SIGUSR1, lambda *_: None)
if how == "changes":
    os.setuid(65534)
print("ready", flush=True)
while True:
    ready, _, _ = select.select([0, asked], [], [])
    if 0 in ready and not os.read(0, 1):
        break
    if asked in ready:
        os.read(asked, 1)
        print("asked", flush=True)
        take()
"""


@contextmanager
def run_writer(at: Path, *names: str, mode: str = "takes") -> Iterator[subprocess.Popen[str]]:
    """Yield a process that writes journals with these names. It is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER_PROGRAM, mode, *names],
        cwd=at,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("mode", ["takes", "rolls"])
@pytest.mark.parametrize("by", ["journal", "number"])
def test_a_process_takes_a_requested_snapshot(by: str, mode: str, tmp_path: Path) -> None:
    with run_writer(tmp_path, "a.journal", mode=mode) as process:
        target = "a.journal" if by == "journal" else str(process.pid)
        for seq in (2, 3):
            done = run_inside("snapshot", "--json", target, at=tmp_path)
            assert (done.returncode, done.stderr) == (0, b"")
            report = json.loads(done.stdout)
            path = Path(report.pop("journal"))
            assert path.is_absolute() == (by == "number")
            assert (tmp_path / path).samefile(tmp_path / "a.journal")
            assert report == {
                "process": process.pid,
                "seq": seq,
                "trigger": "explicit",
                "when": 7,
                "digest": b"abc".hex(),
            }
        lines = run_inside("snapshot", target, at=tmp_path).stdout.decode().split()
        assert lines[2:] == ["process", str(process.pid), "seq", "4", "trigger", "explicit"]
        done = run_inside("snapshot", "--quiet", target, at=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert process.poll() is None


def test_a_process_without_a_handler_receives_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_process, "READY_SECONDS", 0.1)
    with run_writer(tmp_path, "a.journal", mode="deaf") as process:
        for target in ("a.journal", str(process.pid)):
            done = run_inside("snapshot", target, at=tmp_path)
            assert done.returncode == 1
            assert done.stderr.decode() == (
                f"journaltool: error: process {process.pid} does not handle "
                "requests for snapshots\n"
            )
        assert process.poll() is None
        done = run_inside("snapshot", "--json", "a.journal", at=tmp_path)
        assert json.loads(done.stderr.splitlines()[-1])["error"] == "OptionError"


def test_a_request_waits_for_a_process_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float, real: Callable[[float], None] = time.sleep) -> None:
        (tmp_path / "begun").touch()  # The command has found that the process is not ready.
        real(seconds)

    monkeypatch.setattr(writer_process, "READY_SECONDS", DEADLINE_SECONDS)
    monkeypatch.setattr("journaltool.processes.writer_process.time.sleep", sleep)
    with run_writer(tmp_path, "a.journal", mode="late"):
        done = run_inside("snapshot", "--json", "a.journal", at=tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_process_of_another_user_receives_no_request(tmp_path: Path) -> None:
    with run_writer(tmp_path, "a.journal", mode="changes") as process:
        for target in ("a.journal", str(process.pid)):
            done = run_inside("snapshot", target, at=tmp_path)
            assert done.returncode == 1
            assert done.stderr.decode() == (
                f"journaltool: error: process {process.pid} belongs to another user\n"
            )
        assert process.poll() is None


def test_only_the_writer_of_a_journal_receives_a_request(tmp_path: Path) -> None:
    with run_writer(tmp_path, "a.journal") as process:
        process.communicate()
        for target, reason in (
            ("a.journal", "no process writes a.journal, so it cannot take a snapshot"),
            ("b.journal", "b.journal does not exist"),
            (str(process.pid), f"no process has the id {process.pid}"),
            ("9" * 30, f"no process has the id {'9' * 30}"),
            (str(os.getpid()), f"process {os.getpid()} does not write a journal"),
        ):
            done = run_inside("snapshot", target, at=tmp_path)
            assert (done.returncode, done.stderr.decode()) == (
                1,
                f"journaltool: error: {reason}\n",
            )


def test_a_process_with_several_journals_needs_a_journal_name(tmp_path: Path) -> None:
    with run_writer(tmp_path, "a.journal", "b.journal") as process:
        done = run_inside("snapshot", str(process.pid), at=tmp_path)
        assert done.returncode == 1
        names = f"{tmp_path / 'a.journal'}, {tmp_path / 'b.journal'}"
        assert done.stderr.decode().endswith(f"writes several journals: choose one of {names}\n")
        assert run_inside("snapshot", "b.journal", at=tmp_path).returncode == 0


def test_a_request_without_a_snapshot_exits_with_9(tmp_path: Path) -> None:
    with run_writer(tmp_path, "a.journal", mode="ignores") as process:
        done = run_inside("snapshot", "--timeout", "0.3", "a.journal", at=tmp_path)
        assert (done.returncode, done.stdout) == (9, b"")
        assert done.stderr.decode() == (
            f"journaltool: no snapshot within 0.3 s: "
            f"process {process.pid} may still take it later\n"
        )


def test_a_process_that_ends_without_a_snapshot_is_reported(tmp_path: Path) -> None:
    with run_writer(tmp_path, "a.journal", mode="ends") as process:
        done = run_inside("snapshot", "a.journal", at=tmp_path)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode() == (
            f"journaltool: error: process {process.pid} ended before it took a snapshot\n"
        )


def test_the_examples_of_snapshot_work(tmp_path: Path) -> None:
    text = run_inside("snapshot", "--help", at=tmp_path).stdout.decode()
    with run_writer(tmp_path, "work.journal"):
        for line in text.partition("Examples:\n")[2].strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "journaltool"
            assert run_inside(*arguments, at=tmp_path).returncode == 0, line


def add_snapshots(frames: list[Frame]) -> list[Frame]:
    """Return the frames of a run with three snapshots before its end."""
    thread = SetThread(
        id=0,
        start_pointer=None,
        stack_upper=0,
        stack_lower=0,
        guard_size=0,
        stack_size=0,
        call_stack=b"stack",
        memory_stack=b"",
        store_data=b"",
    )
    pages = [encoding.ChangedPage(number, b"p" * 4096, bytes(4096)) for number in (0, 5, 9)]
    events = [
        safe_point(b"c" * 32, whole=True),
        *encoding.encode_pages(0, 2 << 16, pages),
        thread,
        Snapshot(when=7, trigger=Trigger.FIRST_STDIN, digest=bytes(range(32))),
        safe_point(bytes(32), whole=False),
        Snapshot(when=7, trigger=Trigger.EVENT_COUNT),
        Snapshot(when=7, trigger=Trigger.IDLE, digest=b"\xff" * 32),
    ]
    end = frames[-1]
    added = [end._replace(tag=event.tag, payload=journal.encode(event)) for event in events]
    return [*frames[:-1], *added, end]


def safe_point(code: bytes, *, whole: bool) -> SafePoint:
    return SafePoint(
        calls=9, monotonic=8, code=code, whole=whole, entry="_start", function="fd_read"
    )


@pytest.fixture
def snapshots(tmp_path: Path) -> list[SnapshotInfo]:
    """Write a.journal with three snapshots, and return their descriptions."""
    assert run_inside("run", guest("exit7"), at=tmp_path).returncode == 7
    path = rewrite(tmp_path / "exit7.journal", tmp_path / "a.journal", add_snapshots)
    with journal.Reader(path) as reader:
        return list(journal.list_snapshots(reader))


def test_snapshots_are_listed_in_columns(snapshots: list[SnapshotInfo], tmp_path: Path) -> None:
    done = run_inside("snapshots", "a.journal", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    heading, *rows = done.stdout.decode().splitlines()
    columns = ["number", "time", "trigger", "pages", "bytes", "digest", "resumable"]
    assert heading.split() == columns
    starts = [heading.index(name) for name in ("time", "trigger", "digest", "resumable")]
    ends = [heading.index(name) + len(name) for name in ("number", "pages", "bytes")]
    for row in rows:
        assert all(row[start - 1] == " " != row[start] for start in starts)
        assert all(row[end] == " " != row[end - 1] for end in ends)
    columns_of_rows = [row.split(maxsplit=6) for row in rows]
    assert [row[0] for row in columns_of_rows] == [str(one.seq) for one in snapshots]
    assert [row[2] for row in columns_of_rows] == ["first-stdin", "event-count", "idle"]
    assert [row[3] for row in columns_of_rows] == ["3", "0", "0"]
    assert [row[4] for row in columns_of_rows] == [str(one.size) for one in snapshots]
    assert [row[5] for row in columns_of_rows] == [bytes(range(6)).hex(), "-", "ff" * 6]
    assert [row[6] for row in columns_of_rows] == [
        "yes",
        *(f"no: {one.reason}" for one in snapshots[1:]),
    ]
    assert all(one.reason for one in snapshots[1:])


def test_snapshots_are_listed_as_json(snapshots: list[SnapshotInfo], tmp_path: Path) -> None:
    done = run_inside("snapshots", "--json", "a.journal", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    names = ("seq", "time", "pages", "size", "whole", "has_stacks", "function", "calls")
    for line, one in zip(done.stdout.splitlines(), snapshots, strict=True):
        report = json.loads(line)
        assert parse_trigger(report.pop("trigger")) is one.trigger
        assert bytes.fromhex(report.pop("digest")) == one.digest
        assert (report.pop("resumable"), report.pop("reason")) == (one.resumable, one.reason)
        assert report == {name: getattr(one, name) for name in names}


def test_a_journal_without_snapshots_has_none(tmp_path: Path) -> None:
    assert run_inside("run", guest("exit7"), at=tmp_path).returncode == 7
    done = run_inside("snapshots", "exit7.journal", at=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"journaltool: exit7.journal has no snapshots\n"
    done = run_inside("snapshots", "--json", "exit7.journal", at=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_snapshots_before_damage_are_listed(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a.journal") as writer:
        for _ in range(3):
            writer.append(Snapshot(when=7, trigger=Trigger.EXPLICIT))
            writer.sync()
    with journal.Reader(tmp_path / "a.journal") as reader:
        offset = [block.offset for block in reader.blocks()][1]
    data = bytearray((tmp_path / "a.journal").read_bytes())
    data[offset + BLOCK_HEADER_SIZE] ^= 0xFF
    (tmp_path / "a.journal").write_bytes(data)
    done = run_inside("snapshots", "a.journal", at=tmp_path)
    assert done.returncode == 6
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.endswith(b"at offset %d\n" % offset)


def test_ctrl_c_ends_a_waiting_request(tmp_path: Path) -> None:
    with (
        run_writer(tmp_path, "a.journal", mode="ignores") as writer,
        subprocess.Popen(
            build_command("snapshot", "a.journal"), cwd=tmp_path, env=build_environment(), stderr=-1
        ) as process,
    ):
        with journal.Reader(tmp_path / "a.journal") as reader:
            assert reader.summary().events == 2
        assert writer.stdout is not None
        assert writer.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 130
        assert writer.poll() is None
