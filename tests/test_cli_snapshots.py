"""Snapshots by the command line: asked for from outside, by signals, and listed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from journaltool import running

import journal
from tests.test_cli import WAIT_SECONDS, command, environment, inside

#: A process that writes a journal, and takes a snapshot of nothing when it is asked for one.
_WRITES = """
import os, signal, sys, time
import journal
from journal.events.inputs import ClockRead
from journal.events.snapshots import Snapshot, Trigger

how, *paths = sys.argv[1:]
roll = journal.Roll() if how == "rolls" else None
writers = [journal.Writer(path, roll=roll) for path in paths]

def take(*_):
    if how == "ends":
        sys.exit()
    for writer in writers if how != "ignores" else []:
        writer.append(Snapshot(when=7, trigger=Trigger.EXPLICIT, digest=b"abc"))
        writer.sync()

if how == "late":
    print("ready", flush=True)
    time.sleep(0.5)
if how != "deaf":
    signal.signal(signal.SIGUSR1, take)
for writer in writers:
    writer.append(Snapshot(when=7, trigger=Trigger.IDLE))
    writer.append(ClockRead(clock=0, time=7))
    writer.sync()
if how == "changes":
    os.setuid(65534)
print("ready", flush=True)
for line in sys.stdin:
    pass
"""


@contextmanager
def writing(at: Path, *names: str, how: str = "takes") -> Iterator[subprocess.Popen[str]]:
    """A process that writes journals with these names; it is killed in the end."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES, how, *names],
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


@pytest.mark.parametrize("how", ["takes", "rolls"])
@pytest.mark.parametrize("by", ["journal", "number"])
def test_a_process_is_asked_for_a_snapshot(by: str, how: str, tmp_path: Path) -> None:
    with writing(tmp_path, "a.journal", how=how) as process:
        target = "a.journal" if by == "journal" else str(process.pid)
        for seq in (2, 3):
            done = inside("snapshot", "--json", target, at=tmp_path)
            assert (done.returncode, done.stderr) == (0, b"")
            told = json.loads(done.stdout)
            path = Path(told.pop("journal"))
            assert path.is_absolute() == (by == "number")
            assert (tmp_path / path).samefile(tmp_path / "a.journal")
            assert told == {
                "process": process.pid,
                "seq": seq,
                "trigger": "explicit",
                "when": 7,
                "digest": b"abc".hex(),
            }
        lines = inside("snapshot", target, at=tmp_path).stdout.decode().split()
        assert lines[2:] == ["process", str(process.pid), "seq", "4", "trigger", "explicit"]
        done = inside("snapshot", "--quiet", target, at=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert process.poll() is None


def test_a_process_that_does_not_expect_it_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "READY_SECONDS", 0.1)
    with writing(tmp_path, "a.journal", how="deaf") as process:
        for target in ("a.journal", str(process.pid)):
            done = inside("snapshot", target, at=tmp_path)
            assert done.returncode == 1
            assert done.stderr.decode() == (
                f"journaltool: error: process {process.pid} takes no snapshots when it is asked "
                "for one\n"
            )
        assert process.poll() is None
        done = inside("snapshot", "--json", "a.journal", at=tmp_path)
        assert json.loads(done.stderr.splitlines()[-1])["error"] == "OptionError"


def test_a_process_that_has_just_begun_is_waited_for(tmp_path: Path) -> None:
    with writing(tmp_path, "a.journal", how="late"):
        done = inside("snapshot", "--json", "a.journal", at=tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_process_of_another_user_is_not_asked(tmp_path: Path) -> None:
    with writing(tmp_path, "a.journal", how="changes") as process:
        for target in ("a.journal", str(process.pid)):
            done = inside("snapshot", target, at=tmp_path)
            assert done.returncode == 1
            assert done.stderr.decode() == (
                f"journaltool: error: process {process.pid} belongs to another user\n"
            )
        assert process.poll() is None


def test_only_who_writes_a_journal_is_asked(tmp_path: Path) -> None:
    with writing(tmp_path, "a.journal") as process:
        process.communicate()
        for target, reason in (
            ("a.journal", "no process writes a.journal, so there is none to be asked"),
            ("b.journal", "b.journal does not exist"),
            (str(process.pid), f"there is no process {process.pid}"),
            ("9" * 30, f"there is no process {'9' * 30}"),
            (str(os.getpid()), f"process {os.getpid()} writes no journal"),
        ):
            done = inside("snapshot", target, at=tmp_path)
            assert (done.returncode, done.stderr.decode()) == (
                1,
                f"journaltool: error: {reason}\n",
            )


def test_which_of_several_journals_has_to_be_said(tmp_path: Path) -> None:
    with writing(tmp_path, "a.journal", "b.journal") as process:
        done = inside("snapshot", str(process.pid), at=tmp_path)
        assert done.returncode == 1
        names = f"{tmp_path / 'a.journal'}, {tmp_path / 'b.journal'}"
        assert done.stderr.decode().endswith(f"writes several journals, name one: {names}\n")
        assert inside("snapshot", "b.journal", at=tmp_path).returncode == 0


def test_a_snapshot_that_does_not_come_exits_with_9(tmp_path: Path) -> None:
    with writing(tmp_path, "a.journal", how="ignores") as process:
        done = inside("snapshot", "--timeout", "0.3", "a.journal", at=tmp_path)
        assert (done.returncode, done.stdout) == (9, b"")
        assert done.stderr.decode() == (
            f"journaltool: no snapshot in 0.3 s: process {process.pid} takes it when it can\n"
        )


def test_a_process_that_ends_instead_is_told_of(tmp_path: Path) -> None:
    with writing(tmp_path, "a.journal", how="ends") as process:
        done = inside("snapshot", "a.journal", at=tmp_path)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode() == (
            f"journaltool: error: process {process.pid} ended before it took a snapshot\n"
        )


def test_the_examples_of_asking_work(tmp_path: Path) -> None:
    text = inside("snapshot", "--help", at=tmp_path).stdout.decode()
    with writing(tmp_path, "work.journal"):
        for line in text.partition("Examples:\n")[2].strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "journaltool"
            assert inside(*arguments, at=tmp_path).returncode == 0, line


def test_ctrl_c_ends_the_waiting(tmp_path: Path) -> None:
    with (
        writing(tmp_path, "a.journal", how="ignores") as asked,
        subprocess.Popen(
            command("snapshot", "a.journal"), cwd=tmp_path, env=environment(), stderr=-1
        ) as process,
    ):
        with journal.Reader(tmp_path / "a.journal") as reader:
            assert reader.summary().events == 2
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECONDS) == 130
        assert asked.poll() is None
