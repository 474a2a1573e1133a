"""The verify command: whole, torn and damaged journals, stopped and continued checks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.events.inputs import ClockRead
from journal.format.block import BLOCK_HEADER_SIZE
from tests.support.command_line import run_inside
from tests.support.numbered_journals import write_numbered
from tests.support.sample_events import process_start
from tests.support.writer_process import LiveWriter

FIGURES = (
    "segments",
    "blocks",
    "events",
    "gaps",
    "lost_events",
    "lost_size",
    "findings_count",
    "debris_size",
    "unknown_events",
    "torn_size",
    "tail",
    "tail_file",
    "size",
)


def run_verify(path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON values."""
    done = run_inside("verify", "--json", *options, path.name, at=path.parent)
    assert done.stderr == b""
    return done.returncode, json.loads(done.stdout)


def blocks_of(path: Path) -> list[journal.format.block.Block]:
    with journal.Reader(path) as reader:
        return list(reader.blocks())


def flip_byte(path: Path, offset: int) -> None:
    """Invert a byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


@pytest.fixture(params=["file", "directory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Write a journal of 6000 events, as a file or as a directory."""
    roll = journal.log.RollPolicy(size_bytes=1 << 16) if request.param == "directory" else None
    write_numbered(tmp_path / "a", 6000, roll=roll, compress=False)
    return tmp_path / "a"


def files_of(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


def test_a_sound_journal_exits_with_0_and_has_its_counts(path: Path) -> None:
    code, report = run_verify(path)
    assert (code, report["verdict"], report["finished"], report["cursor"]) == (
        0,
        "whole",
        True,
        None,
    )
    assert report["segments"] == len(files_of(path))
    assert report["events"] == 6000
    assert report["size"] == sum(file.stat().st_size for file in files_of(path))
    assert (report["gaps"], report["lost_events"], report["lost_size"]) == (0, 0, 0)
    assert report["tail_file"] == (files_of(path)[-1].name if path.is_dir() else "")


def test_the_journal_of_a_killed_writer_is_whole_or_torn(tmp_path: Path) -> None:
    with LiveWriter(tmp_path / "a") as writer:
        writer.write(100)
        writer.kill()
    code, report = run_verify(tmp_path / "a")
    assert (code, report["events"]) == (0, 100)


def test_a_torn_tail_alone_exits_with_4(path: Path) -> None:
    file = files_of(path)[-1]
    with journal.Reader(path) as reader:
        *_, last = reader.blocks()
    os.truncate(file, last.offset + 140)
    code, report = run_verify(path)
    assert (code, report["verdict"]) == (4, "torn")
    assert (report["tail"], report["torn_size"]) == (last.offset, 140)
    assert report["lost_events"] == 0
    assert b"torn" in run_inside("verify", path.name, at=path.parent).stdout


def test_damage_exits_with_3_and_is_counted_in_events_and_bytes(path: Path) -> None:
    file = files_of(path)[-1]
    block = blocks_of(file)[0]
    shift = next(one.first_seq for one in blocks_of(path)[::-1] if one.offset == block.offset)
    flip_byte(file, block.offset + BLOCK_HEADER_SIZE)
    code, report = run_verify(path)
    assert (code, report["verdict"]) == (3, "damaged")
    (finding,) = report["findings"]
    assert (report["gaps"], report["lost_events"], report["lost_size"]) == (1, 10, block.size)
    assert (finding["first_seq"], finding["last_seq"]) == (shift, shift + 9)
    assert (finding["offset"], finding["size"]) == (block.offset, block.size)
    assert finding["file"] == (file.name if path.is_dir() else "")
    text = run_inside("verify", path.name, at=path.parent).stdout.decode()
    assert "damaged, 10 events lost" in text
    assert f"10 events in {block.size} bytes, at 1 place" in text


def test_a_missing_segment_file_is_damage(tmp_path: Path) -> None:
    write_numbered(
        tmp_path / "a", 6000, roll=journal.log.RollPolicy(size_bytes=1 << 16), compress=False
    )
    files_of(tmp_path / "a")[1].unlink()
    code, report = run_verify(tmp_path / "a")
    assert code == 3
    assert report["events"] + report["lost_events"] == 6000
    assert report["lost_events"] > 0


@pytest.mark.parametrize("name", ["nothing", "empty", "folder", "picture"])
def test_a_file_that_is_no_journal_exits_with_1(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0000000000.txt").write_text("no segment")
    (tmp_path / "picture").write_bytes(b"GIF89a" + bytes(500))
    done = run_inside("verify", name, at=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"journaltool: error: " + name.encode())
    assert done.stderr.count(b"\n") == 1


def test_a_malformed_event_in_a_directory_is_reported_with_its_file(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "d", roll=journal.log.RollPolicy()) as writer:
        writer.append(process_start())
        writer.append_frame(ClockRead.tag, b"short")
    _, report = run_verify(tmp_path / "d")
    (finding,) = report["findings"]
    assert finding["file"] == "0000000000.journal"
    assert finding["message"].endswith(f"at offset {finding['offset']} of 0000000000.journal")


def verify_in_steps(path: Path, *options: str) -> tuple[int, dict[str, Any], int]:
    """Verify one block at a time, by repeated checks without any time."""
    code, report = run_verify(path, "--max-seconds", "1e-9", *options)
    steps = 1
    while not report["finished"]:
        assert report["cursor"]
        code, report = run_verify(
            path, "--max-seconds", "1e-9", "--from", report["cursor"], *options
        )
        steps += 1
    return code, report, steps


@pytest.mark.parametrize("damaged", [False, True])
def test_a_verification_in_steps_has_the_same_result(damaged: bool, tmp_path: Path) -> None:
    path = tmp_path / "a"
    roll = journal.log.RollPolicy(size_bytes=1 << 16)
    with journal.Writer(path, roll=roll) as writer:
        writer.append(process_start())
    write_numbered(path, 90, roll=roll)
    with journal.Writer(path) as writer:
        writer.append_frame(222, b"of a later version")
        for _ in range(40):
            writer.append_frame(
                ClockRead.tag, os.urandom(1) * 5000
            )  # The payload is malformed and long.
    if damaged:
        flip_byte(files_of(path)[0], blocks_of(path)[3].offset + BLOCK_HEADER_SIZE)
    code, report = run_verify(path)
    step_code, step_found, steps = verify_in_steps(path)
    assert code == step_code == 3
    assert steps > 10
    assert {name: report[name] for name in FIGURES} == {name: step_found[name] for name in FIGURES}


def test_an_unfinished_verification_without_findings_exits_with_9(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 40)
    done = run_inside("verify", "--max-seconds", "1e-9", "a", at=tmp_path)
    assert done.returncode == 9
    assert b"nothing wrong so far; the check is not finished" in done.stdout
    cursor = done.stdout.decode().split("--from ")[1].split()[0]
    done = run_inside("verify", "--from", cursor, "a", at=tmp_path)
    assert done.returncode == 0
    assert b"40 events" in done.stdout


def test_damage_found_before_counts_in_a_continued_verification(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 60)
    flip_byte(tmp_path / "a", blocks_of(tmp_path / "a")[0].offset + BLOCK_HEADER_SIZE)
    code, report = run_verify(tmp_path / "a", "--max-seconds", "1e-9")
    assert (code, report["verdict"], report["finished"]) == (3, "damaged", False)
    code, report = run_verify(tmp_path / "a", "--from", report["cursor"])
    assert (code, report["lost_events"], report["findings"]) == (3, 10, [])


def test_a_cursor_of_another_journal_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_numbered(tmp_path / name, 40)
    _, report = run_verify(tmp_path / "a", "--max-seconds", "1e-9")
    done = run_inside("verify", "--from", report["cursor"], "b", at=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"b has no block at the cursor" in done.stderr


def test_the_hashes_option_finds_changed_bytes_but_no_malformed_event(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append(process_start())
        writer.append_frame(ClockRead.tag, b"short")
    assert run_verify(tmp_path / "a")[0] == 3
    assert run_verify(tmp_path / "a", "--hashes")[0] == 0
    flip_byte(tmp_path / "a", blocks_of(tmp_path / "a")[0].offset + BLOCK_HEADER_SIZE)
    assert run_verify(tmp_path / "a", "--hashes")[0] == 3
