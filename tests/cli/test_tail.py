"""The tail command: last events, and new events of a live writer."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import journal
from journal.events.inputs import ClockRead
from journal.format.block import BLOCK_HEADER_SIZE
from tests.support.command_line import build_command, build_environment, run_inside, run_tool
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.numbered_journals import parse_numbers, write_numbered
from tests.support.sample_events import process_start
from tests.support.writer_process import LiveWriter


@contextmanager
def run_following(path: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process of tail --follow."""
    with subprocess.Popen(
        build_command("tail", "-f", *arguments, path.name),
        cwd=path.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=build_environment(),
    ) as process:
        killer = signal.SIGALRM
        before = signal.signal(killer, lambda *_: process.kill())
        signal.setitimer(signal.ITIMER_REAL, DEADLINE_SECONDS)
        try:
            yield process
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(killer, before)
            process.kill()


def read_lines(process: subprocess.Popen[bytes], count: int) -> bytes:
    """Return this number of lines of the output as soon as they are printed."""
    assert process.stdout is not None
    return b"".join(process.stdout.readline() for _ in range(count))


def interrupt(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, out, error


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), range(25, 35)),
        (("-n", "3"), range(32, 35)),
        (("-n", "0"), range(0)),
        (("--lines", "1000"), range(35)),
    ],
)
def test_tail_prints_the_last_events(
    options: tuple[str, ...], expected: range, tmp_path: Path
) -> None:
    write_numbered(tmp_path / "a", 35)
    done = run_inside("tail", *options, "a", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert parse_numbers(done.stdout) == list(expected)


def test_tail_prints_what_inspect_prints(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 35)
    for options in ((), ("--json",)):
        every = run_inside("inspect", *options, "a", at=tmp_path).stdout
        assert run_inside("tail", *options, "-n", "100", "a", at=tmp_path).stdout == every
    found = json.loads(run_inside("tail", "-n1", "--json", "a", at=tmp_path).stdout)
    assert (found["seq"], found["kind"], found["fields"]["time"]) == (34, "ClockRead", 34)


def test_tail_of_a_directory_crosses_its_segments(tmp_path: Path) -> None:
    write_numbered(
        tmp_path / "d", 12_000, roll=journal.log.RollPolicy(size_bytes=1 << 16), compress=False
    )
    assert len(list((tmp_path / "d").iterdir())) > 3
    done = run_inside("tail", "-n", "9000", "d", at=tmp_path)
    assert parse_numbers(done.stdout) == list(range(3000, 12_000))


def test_tail_of_an_empty_journal_prints_nothing(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 0)
    done = run_inside("tail", "a", at=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("roll_size", [None, 1 << 16])
def test_tail_follows_a_live_writer(roll_size: int | None, tmp_path: Path) -> None:
    path = tmp_path / "a"
    with LiveWriter(path, roll_size) as writer:
        writer.write(30)
        with run_following(path, "-n", "5") as process:
            assert parse_numbers(read_lines(process, 5)) == list(range(25, 30))
            writer.write(1)
            assert parse_numbers(read_lines(process, 1)) == [30]
            writer.write(20_000)
            assert parse_numbers(read_lines(process, 20_000)) == list(range(31, 20_031))
            if roll_size is not None:
                assert len(list(path.iterdir())) > 3
            assert interrupt(process) == (130, b"", b"")


def test_tail_follows_from_the_end_if_no_past_event_is_requested(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with LiveWriter(path) as writer:
        writer.write(30)
        with run_following(path, "-n", "0", "--json") as process:
            assert process.stdout is not None
            # Nothing shows that tail waits. Its first line is an event appended after its start.
            while not select.select([process.stdout], [], [], 0.05)[0]:
                written = writer.write(1)
            first = json.loads(read_lines(process, 1))["seq"]
            assert 30 <= first < written
            assert interrupt(process)[0] == 130


def test_tail_follows_past_a_killed_writer_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with LiveWriter(path) as writer:
        writer.write(10)
        writer.kill()
    with run_following(path) as process:
        assert parse_numbers(read_lines(process, 10)) == list(range(10))
        with LiveWriter(path) as writer:
            writer.write(5)
            assert parse_numbers(read_lines(process, 5)) == list(range(10, 15))
        assert interrupt(process) == (130, b"", b"")


def test_ctrl_c_ends_a_waiting_tail_at_once_and_silently(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 3)
    with run_following(tmp_path / "a") as process:
        read_lines(process, 3)
        assert interrupt(process) == (130, b"", b"")


def test_a_waiting_tail_ends_when_its_reader_closes_the_pipe(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 3)
    with run_following(tmp_path / "a") as process:
        read_lines(process, 3)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(DEADLINE_SECONDS) == 0
        assert process.stderr.read() == b""


def test_tail_of_a_torn_journal_reports_no_damage(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 20)
    with journal.Reader(tmp_path / "a") as reader:
        *_, last = reader.blocks()
    os.truncate(tmp_path / "a", last.offset + 150)
    done = run_inside("tail", "-n", "3", "a", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert parse_numbers(done.stdout) == [7, 8, 9]


def test_tail_shows_events_after_damage_and_reports_it(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 40)
    with journal.Reader(tmp_path / "a") as reader:
        block = list(reader.blocks())[2]
    data = bytearray((tmp_path / "a").read_bytes())
    data[block.offset + BLOCK_HEADER_SIZE] ^= 0xFF
    (tmp_path / "a").write_bytes(data)
    done = run_inside("tail", "-n", "15", "a", at=tmp_path)
    assert parse_numbers(done.stdout) == [*range(15, 20), *range(30, 40)]
    assert done.returncode == 6
    assert done.stderr.startswith(b"journaltool: error: a: ")
    assert done.stderr.endswith(b"at offset %d\n" % block.offset)
    assert done.stderr.count(b"\n") == 1
    # Damage before the requested events is not reported.
    done = run_inside("tail", "-n", "5", "a", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_malformed_event_at_the_end_is_shown_and_counts(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append(process_start())
        writer.append_frame(ClockRead.tag, b"short")
    done = run_tool("tail", "a", at=tmp_path)
    assert done.returncode == 3
    assert b"malformed(170)" in done.stdout
