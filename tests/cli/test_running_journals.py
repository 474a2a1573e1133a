"""The writer of a journal is named, and info and check-resume agree with resume."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.format.block import BLOCK_HEADER_SIZE
from journal.log import lock_holder
from tests.support.command_line import Done, run_inside, start_tool
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.guest_runs import record_output
from tests.support.numbered_journals import write_numbered
from tests.support.programs import guest
from tests.support.rewrites import keep_first, rewrite


def read_info(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_inside("info", "--json", path, at=path.parent).stdout)
    return found


@pytest.mark.parametrize("options", [(), ("--segments", "1MiB")], ids=["file", "directory"])
def test_info_and_check_resume_name_the_process_that_writes(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "j"
    with start_tool(tmp_path, "run", "-j", "j", *options, guest("cat")) as process:
        wait_until(path.exists)
        found = read_info(path)
        assert (found["running"], found["process"]) == (True, process.pid)
        assert (found["ended"], found["resumable"]) == (False, False)
        text = run_inside("info", "j", at=tmp_path).stdout.decode()
        assert f"no: running (process {process.pid})\n" in text
        done = run_inside("check-resume", "j", at=tmp_path)
        assert done.returncode == 7
        line = f"cannot be resumed: process {process.pid} writes the journal\n"
        assert done.stdout.decode().endswith(line)
        process.terminate()
        process.wait(DEADLINE_SECONDS)  # communicate() closes stdin, which must happen later.
    found = read_info(path)
    assert (found["running"], found["process"], found["resumable"]) == (False, None, True)
    assert (
        "no: the program was stopped or killed"
        in run_inside("info", path, at=tmp_path).stdout.decode()
    )


def test_a_writer_that_cannot_be_seen_is_another_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lock_holder, "find_lock_holders", lambda inode: iter(()))
    write_numbered(tmp_path / "a", 5)
    assert lock_holder.find_writer(tmp_path / "a") is None
    with journal.Writer(tmp_path / "a"):
        assert lock_holder.find_writer(tmp_path / "a") == lock_holder.UNKNOWN_PROCESS
        text = run_inside("info", "a", at=tmp_path).stdout.decode()
    assert "writer" in text
    assert "another process" in text


def test_a_look_for_the_writer_does_not_refuse_a_writer(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 5)
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    real, calls = fcntl.flock, list[int]()

    def flock(file: int, operation: int) -> None:
        calls.append(operation)
        try:
            real(file, operation)
        finally:
            if len(calls) == 1:
                real(descriptor, fcntl.LOCK_UN)  # The look is over.

    real(descriptor, fcntl.LOCK_SH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        journal.Writer(tmp_path / "a").close()
    os.close(descriptor)
    assert len(calls) > 1


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A journal of a program that was stopped, in many blocks."""
    folder = tmp_path_factory.mktemp("stopped")
    record_output("chatty", folder / "whole", cache_dir, "300")
    rewrite(folder / "whole", folder / "j", keep_first(250))
    with journal.Reader(folder / "j") as old, journal.Writer(folder / "many") as new:
        for frame in old.frames():
            new.append_frame(frame.tag, frame.payload)
            if frame.seq % 20 == 0:
                new.sync()
    return folder / "many"


def test_info_and_check_resume_agree_with_resume_about_each_flipped_block(
    stopped: Path, tmp_path: Path
) -> None:
    with journal.Reader(stopped) as reader:
        offsets = [block.offset + BLOCK_HEADER_SIZE + 2 for block in reader.blocks()]
    data, path = stopped.read_bytes(), tmp_path / "j"
    verdicts = set[bool]()
    for offset in [0, *offsets[:: max(1, len(offsets) // 8)], offsets[-1]]:
        flipped = bytearray(data)
        flipped[offset] ^= 0x10 * bool(offset)
        path.write_bytes(flipped)
        info = run_inside("info", "--json", path, at=tmp_path)
        check = run_inside("check-resume", path, at=tmp_path)
        assert path.read_bytes() == flipped
        done = run_inside("resume", "-q", path, at=tmp_path)
        assert is_refused(done) is (check.returncode != 0), (offset, check, done)
        if info.returncode == 0:
            assert json.loads(info.stdout)["resumable"] is not is_refused(done), (offset, done)
        else:
            assert is_refused(done)
        verdicts.add(is_refused(done))
    assert verdicts == {True, False}


def is_refused(done: Done) -> bool:
    assert done.returncode in (0, 125), done
    return done.returncode == 125


def test_info_of_a_large_journal_reads_only_headers(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_info(stopped)["checked"]
    monkeypatch.setattr("journaltool.output.journal_facts.CHECK_SIZE_MAX", 100)
    found = read_info(stopped)
    assert (found["resumable"], found["checked"]) == (True, False)
    text = run_inside("info", stopped, at=stopped.parent).stdout
    assert b"yes, by its headers: check-resume reads all of it" in text
