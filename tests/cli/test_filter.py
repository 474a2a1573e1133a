"""The filter command, and the selection options of inspect."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import journal
from journal.events.core import ProcessExit
from journal.events.definition import Event
from journal.events.descriptors import FileDescriptorWrite
from journal.events.inputs import ClockRead
from journal.events.paths import CreateDirectory, PathRename
from journal.events.process import Mount, MountKind
from journal.events.streams import StreamWrite
from tests.support.command_line import (
    build_command,
    build_environment,
    run_inside,
    run_on_terminal,
    run_tool,
    wait_for_watch,
)
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.journals import make_clock
from tests.support.programs import guest
from tests.support.sample_events import process_start

STORY: list[Event] = [
    Mount(fd=3, kind=MountKind.MEMORY, guest="/", host=""),
    CreateDirectory(fd=3, path="tmp"),
    ClockRead(clock=1, time=5),
    StreamWrite(stream=1, offset=0, data=b"hello"),
    PathRename(old_fd=3, new_fd=3, old_path="a", new_path="tmp/b"),
    PathRename(old_fd=3, new_fd=3, old_path="a", new_path="b"),
    FileDescriptorWrite(fd=4, offset=0, data=bytes(9000)),
    ProcessExit(exit_code=0),
]
SECOND = 1_000_000
EXAMPLE = 'kind == "PathRename" and path glob "/tmp/*"'


def write_story(path: Path, *, blocks: int = 2) -> None:
    """Write the story as a journal with one event per minute from the start of 2026."""
    start = (1_767_225_600 - 60) * SECOND  # The segment header takes the first tick.
    with journal.Writer(path, clock=make_clock(start, 60 * SECOND)) as writer:
        for index, event in enumerate(STORY):
            writer.append(event)
            if index % (len(STORY) // blocks) == 0:
                writer.sync()


def seqs(path: Path) -> list[int]:
    with journal.Reader(path) as reader:
        return [frame.seq for frame in reader.frames()]


FILTERS: list[tuple[tuple[str, ...], list[int]]] = [
    (("--group", "files"), [1, 4, 5, 6]),
    (("--group", "fs", "--group", "stdio"), [1, 3, 4, 5, 6]),
    (("--tag", "StreamWrite", "--tag", "170"), [2, 3]),
    (("--fd", "4"), [6]),
    (("--path", "/tmp/*"), [4]),
    (("--where", EXAMPLE), [4]),
    (("--where", "size > 8Ki or exit_code == 0"), [6, 7]),
    (("--since", "-2m"), [5, 6, 7]),
    (("--until", "+3m"), [0, 1, 2]),
    (("--since", "2026-01-01T00:01Z", "--until", "2026-01-01T00:02:30"), [1, 2]),
    (("--group", "files", "--since", "-2m", "--where", "fd == 4"), [6]),
]


@pytest.mark.parametrize(("options", "expected"), FILTERS)
def test_filter_keeps_or_drops_the_selected_events(
    options: tuple[str, ...], expected: list[int], tmp_path: Path
) -> None:
    write_story(tmp_path / "a")
    done = run_inside("filter", "a", "-o", "b", "--no-preamble", *options, at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert seqs(tmp_path / "b") == expected
    done = run_inside("filter", "a", "-o", "c", "--no-preamble", "--drop", *options, at=tmp_path)
    assert done.returncode == 0
    assert seqs(tmp_path / "c") == [seq for seq in range(len(STORY)) if seq not in expected]
    done = run_inside("inspect", "a", *options, at=tmp_path)
    assert [int(line.split()[0]) for line in done.stdout.splitlines()] == expected


@pytest.mark.parametrize(
    ("numbers", "expected"), [("2-4", [2, 3, 4]), ("5-", [5, 6, 7]), ("-1", [0, 1]), ("3", [3])]
)
def test_a_range_of_numbers_includes_both_ends(
    numbers: str, expected: list[int], tmp_path: Path
) -> None:
    write_story(tmp_path / "a")
    run_inside("filter", "a", "-o", "b", "--no-preamble", "--numbers", numbers, at=tmp_path)
    assert seqs(tmp_path / "b") == expected


def test_filter_reports_its_counts_and_the_resumability(tmp_path: Path) -> None:
    assert run_tool("run", guest("exit7"), at=tmp_path).returncode == 7
    done = run_inside("filter", "exit7.journal", "-o", "b", "--drop", "--group", "stdio", "--json",
                  at=tmp_path)  # fmt: skip
    report = json.loads(done.stdout)
    assert not report["resumable"]
    assert report["dropped"].keys() == {"StreamOpened", "StreamDelivered", "StreamWrite"}
    assert report["events"] == sum(report["kept"].values()) == len(seqs(tmp_path / "b"))
    refused = run_tool("resume", "b", at=tmp_path)
    assert refused.returncode == 125
    assert report["reason"].encode() in refused.stderr
    dry_run = ("--dry-run", "--json")
    dry_report = run_inside(
        "filter", "exit7.journal", "--drop", "--group", "stdio", *dry_run, at=tmp_path
    )
    assert json.loads(dry_report.stdout) == report | {"target": None}
    # Nothing is written to a pipe in a dry run, so the report has standard output, as in compact.
    for command in ("filter", "compact"):
        dry_report = run_inside(command, "exit7.journal", "-o", "-", *dry_run, at=tmp_path)
        assert json.loads(dry_report.stdout)["target"] is None
        assert dry_report.stderr == b""
    text = run_inside("filter", "exit7.journal", "--dry-run", at=tmp_path).stdout.decode()
    assert "the program has exited" in text
    assert "not written (--dry-run)" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "exit7.journal"]


def test_filter_in_place_replaces_the_journal_only_with_a_complete_one(tmp_path: Path) -> None:
    write_story(tmp_path / "a")
    inode = (tmp_path / "a").stat().st_ino
    assert run_inside("filter", "a", "--in-place", "--group", "core", at=tmp_path).returncode == 0
    assert seqs(tmp_path / "a") == [0, 7]
    assert (tmp_path / "a").stat().st_ino != inode
    invalid = run_inside("filter", "a", "--in-place", "--where", "fd =", at=tmp_path)
    assert invalid.returncode == 2
    assert seqs(tmp_path / "a") == [0, 7]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with journal.Writer(tmp_path / "a"):
        assert run_tool("filter", "a", "--in-place", at=tmp_path).returncode == 7


def write_segments(path: Path) -> None:
    """Write the story to a directory with a few events in each segment."""
    with journal.Writer(path, roll=journal.log.RollPolicy(1 << 10)) as writer:
        for event in STORY:
            writer.append(event)
            writer.flush()


@pytest.mark.parametrize("write", [write_story, write_segments])
def test_filter_in_place_keeps_identity_owner_and_mode(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "a"
    write(path)
    path.chmod(0o750)
    if not os.geteuid():
        os.chown(path, 12345, 54321)
    old = path.stat()
    with journal.Reader(path) as reader:
        journal_id = reader.journal_id
    (tmp_path / "link").symlink_to("a")
    assert (
        run_inside("filter", "link", "--in-place", "--group", "core", at=tmp_path).returncode == 0
    )
    new = path.stat()
    assert (new.st_mode, new.st_uid, new.st_gid) == (old.st_mode, old.st_uid, old.st_gid)
    assert (tmp_path / "link").is_symlink()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "link"]
    assert seqs(path) == [0, 7]
    with journal.Writer(path) as writer:
        assert writer.journal_id == journal_id
        writer.append(ProcessExit(exit_code=1))
    assert seqs(path) == [0, 7, 8]


def refuse_in_place(folder: Path) -> tuple[int, str]:
    """Return the exit code and the message of a command that must change nothing."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run_inside("filter", "a", "--in-place", "--group", "core", at=folder)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before
    (sentence,) = done.stderr.decode().splitlines()
    return done.returncode, sentence


@pytest.mark.parametrize("write", [write_story, write_segments])
def test_filter_in_place_leaves_a_journal_in_use_or_damaged_unchanged(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "a"
    write(path)
    with journal.Writer(path):
        code, sentence = refuse_in_place(tmp_path)
    assert (code, "is being written by" in sentence) == (7, True)
    last = max(path.iterdir()) if path.is_dir() else path
    data = bytearray(last.read_bytes())
    data[100:300] = bytes(200)
    last.write_bytes(data)
    code, sentence = refuse_in_place(tmp_path)
    assert code in (3, 5, 6)
    assert "at offset" in sentence


def test_filter_in_place_leaves_a_directory_with_other_files_unchanged(tmp_path: Path) -> None:
    write_segments(tmp_path / "a")
    (tmp_path / "a" / "notes").touch()
    code, sentence = refuse_in_place(tmp_path)
    assert code == 1
    assert "contains 'notes', which is not a segment" in sentence


def test_filter_overwrites_only_with_force(tmp_path: Path) -> None:
    write_story(tmp_path / "a")
    write_story(tmp_path / "b")
    (tmp_path / "c").write_bytes(b"no journal")
    refused = run_inside("filter", "a", "-o", "b", "--group", "core", at=tmp_path)
    assert refused.returncode == 1
    assert b"already exists" in refused.stderr
    assert len(seqs(tmp_path / "b")) == len(STORY)
    assert (
        run_inside("filter", "a", "-o", "b", "--force", "--group", "core", at=tmp_path).returncode
        == 0
    )
    assert seqs(tmp_path / "b") == [0, 7]
    assert run_inside("filter", "a", "-o", "c", "--force", at=tmp_path).returncode == 1
    assert run_inside("filter", "a", "-o", "a", "--force", at=tmp_path).returncode == 2
    assert (tmp_path / "c").read_bytes() == b"no journal"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_filter_reads_and_writes_pipes(tmp_path: Path) -> None:
    write_story(tmp_path / "a")
    first = run_tool("filter", "a", "-o", "-", "--group", "files", at=tmp_path)
    assert first.returncode == 0
    assert b"kept" in first.stderr
    second = run_tool("filter", "-", "-o", "-", "--drop", "--fd", "4", "--json", at=tmp_path,
                  stdin=first.stdout)  # fmt: skip
    (tmp_path / "b").write_bytes(second.stdout)
    assert seqs(tmp_path / "b") == [0, 1, 4, 5]
    assert json.loads(second.stderr)["events"] == 4
    assert run_tool("filter", "-", "--dry-run", at=tmp_path, stdin=b"GIF89a").returncode == 1


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ((), b"one of -o TARGET, --in-place and --dry-run is required"),
        (("-o", "b", "--in-place"), b"--in-place and --output exclude each other"),
        (("-o", "b", "--group", "nobody"), b"is not a group: choose from core"),
        (("-o", "b", "--tag", "StreamWrit"), b"did you mean StreamWrite?"),
        (("-o", "b", "--tag", "0"), b"is not a kind"),
        (("-o", "b", "--numbers", "7-3"), b"is greater than the last"),
        (("-o", "b", "--numbers", "x"), b"5-20"),
        (("-o", "b", "--since", "yesterday"), b"is not a time"),
        (("-o", "b", "--path", "[a"), b"set is not closed"),
    ],
)
def test_wrong_usage_of_filter_prints_the_remedy(
    options: tuple[str, ...], part: bytes, tmp_path: Path
) -> None:
    write_story(tmp_path / "a")
    done = run_inside("filter", "a", *options, at=tmp_path)
    assert done.returncode == 2
    assert part in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["filter", "inspect"])
@pytest.mark.parametrize("padding", ["", "fd == 1 or " * 30])
def test_a_caret_marks_the_mistake(name: str, padding: str, tmp_path: Path) -> None:
    write_story(tmp_path / "a")
    expression = f'{padding}kind == "PathRenam" and fd == 3'
    rest = ("--dry-run",) if name == "filter" else ()
    done = run_inside(name, "a", "--where", expression, *rest, at=tmp_path)
    assert done.returncode == 2
    message, excerpt, caret = done.stderr.decode().splitlines()[-3:]
    assert "PathRename?" in message
    assert excerpt[caret.index("^") :].startswith('"PathRenam"')
    assert len(excerpt) < 80


def test_a_binary_journal_is_not_written_to_a_terminal(tmp_path: Path) -> None:
    write_story(tmp_path / "a")
    code, output = run_on_terminal(build_command("filter", "a", "-o", "-"), tmp_path)
    assert code == 2
    assert b"terminal" in output
    assert b"JNL" not in output


def test_inspect_has_colours_only_on_terminals(tmp_path: Path) -> None:
    write_story(tmp_path / "a")
    _, output = run_on_terminal(build_command("inspect", "a"), tmp_path)
    assert b"\x1b[1;32mPathRename" in output
    _, uncoloured = run_on_terminal(build_command("inspect", "a"), tmp_path, NO_COLOR="1")
    assert b"\x1b" not in uncoloured
    assert b"\x1b" not in run_tool("inspect", "a", at=tmp_path).stdout


def test_inspect_shows_the_requested_columns(tmp_path: Path) -> None:
    write_story(tmp_path / "a")
    done = run_inside(
        "inspect", "--columns", "tag,size,group,kind", "--limit", "2", "a", at=tmp_path
    )
    assert [line.split() for line in done.stdout.decode().splitlines()] == [
        ["130", "14", "core", "Mount"],
        ["14", "11", "files", "CreateDirectory"],
    ]
    done = run_inside("inspect", "--columns", "at,seq", "--limit", "1", "a", at=tmp_path)
    assert done.stdout.split() == [b"2026-01-01T00:00:00.000+00:00", b"0"]
    assert run_inside("inspect", "--columns", "kid", "a", at=tmp_path).returncode == 2


def test_inspect_shows_malformed_events(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append(process_start())
        writer.append_frame(ClockRead.tag, b"short")
        writer.append(ClockRead(clock=1, time=5))
        writer.append(ClockRead(clock=2, time=5))
    done = run_inside("inspect", "--where", "clock == 2", "a", at=tmp_path)
    assert [line.split()[2] for line in done.stdout.decode().splitlines()] == [
        "malformed(170)",
        "ClockRead",
    ]
    assert done.returncode == 3


def test_inspect_follows_only_selected_events(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append(Mount(fd=3, kind=MountKind.MEMORY, guest="/", host=""))
        writer.append(ClockRead(clock=1, time=5))
        writer.sync()
        expression = ("--where", 'clock == 1 or path glob "/tmp/*"')
        with subprocess.Popen(
            build_command("inspect", "-f", "--columns", "seq", *expression, "a"),
            cwd=tmp_path, env=build_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline().split() == [b"1"]
            wait_for_watch(process)
            for event in (ClockRead(clock=2, time=6), CreateDirectory(fd=3, path="tmp/x")):
                writer.append(event)
                writer.flush()
            assert process.stdout.readline().split() == [b"3"]
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_SECONDS) == 130


def test_a_following_inspect_that_prints_nothing_ends_when_its_reader_goes(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append(ClockRead(clock=1, time=5))
        writer.sync()
        with subprocess.Popen(
            build_command("inspect", "-f", "--kind", "Mount", "a"),
            cwd=tmp_path, env=build_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            wait_for_watch(process)
            process.stdout.close()
            writer.append(ClockRead(clock=2, time=6))
            writer.flush()
            assert process.wait(DEADLINE_SECONDS) == 0
            assert process.stderr.read() == b""


def test_inspect_follows_up_to_the_limit(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append(ClockRead(clock=1, time=5))
        writer.sync()
        with subprocess.Popen(
            build_command("inspect", "-f", "--limit", "2", "a"),
            cwd=tmp_path, env=build_environment(), stdout=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline()
            for _ in range(3):
                writer.append(ClockRead(clock=2, time=6))
            writer.flush()
            assert len(process.stdout.read().splitlines()) == 1
            assert process.wait(DEADLINE_SECONDS) == 0
