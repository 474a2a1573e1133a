"""Files, output and exit codes of export, import and extract."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import tarfile
from pathlib import Path

import pytest

import journal
from tests.support.command_line import build_command, build_environment, run_inside, run_tool
from tests.support.compaction_histories import preamble, write_events
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.file_journals import write_small_tree
from tests.support.numbered_journals import parse_numbers, write_numbered
from tests.support.plain_pcapng import follow_streams, read_packets
from tests.support.rewrites import frames_without_offsets
from tests.support.server_events import ANSWER, REQUEST, accept, close, listen, receive, send
from tests.support.worker_journal import recorded, snapshot_seqs

__all__ = ["recorded"]


def test_an_export_through_a_pipe_is_imported_as_the_same_journal(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 40)
    done = run_tool("export", "a", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 42
    imported = run_tool("import", "-", "-o", "b", at=tmp_path, stdin=done.stdout)
    assert (imported.returncode, imported.stderr) == (0, b"")
    assert "b, 40 events" in imported.stdout.decode()
    assert frames_without_offsets(tmp_path / "b") == frames_without_offsets(tmp_path / "a")


def test_an_export_to_a_file_prints_a_report_and_overwrites_only_with_force(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 10)
    done = run_inside(
        "export", "--json", "a", "-o", "a.jsonl", "--redact", "memory,input", at=tmp_path
    )
    report = json.loads(done.stdout)
    assert (report["events"], report["redacted"]) == (10, ["input", "memory"])
    before = (tmp_path / "a.jsonl").read_bytes()
    assert (tmp_path / "a.jsonl").stat().st_mode & 0o777 == 0o600
    done = run_inside("export", "a", "-o", "a.jsonl", at=tmp_path)
    assert (done.returncode, (tmp_path / "a.jsonl").read_bytes()) == (1, before)
    done = run_inside("export", "--force", "a", "-o", "a.jsonl", "--redact", "all", at=tmp_path)
    assert "redacted  addresses, environment, files, input, memory, output" in done.stdout.decode()
    done = run_inside("export", "--force", "a", "-o", "a", at=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert parse_numbers(run_inside("inspect", "a", at=tmp_path).stdout) == list(range(10))
    done = run_inside("import", "a.jsonl", "-o", "b", at=tmp_path)
    assert "the journal cannot be resumed" in done.stdout.decode()
    assert run_inside("import", "-q", "--force", "a.jsonl", "-o", "b", at=tmp_path).returncode == 0


def test_packets_are_written_with_a_report(tmp_path: Path) -> None:
    events = [*listen(), *accept(), receive(REQUEST), *send(ANSWER), close(6)]
    write_events(tmp_path / "a", [*preamble(), *events])
    done = run_inside("export", "--pcap", "a.pcapng", "a", at=tmp_path)
    assert "a, 7 packets of 1 connection" in done.stdout.decode()
    (stream,) = follow_streams(read_packets((tmp_path / "a.pcapng").read_bytes()))
    assert (stream.sent, stream.received) == (REQUEST, ANSWER)
    done = run_inside("export", "--format", "pcapng", "--redact", "output", "a", at=tmp_path)
    (stream,) = follow_streams(read_packets(done.stdout))
    assert stream.sent == REQUEST
    assert stream.received != ANSWER
    arguments = ("--json", "--force", "--pcap", "a.pcapng", "a")
    report = json.loads(run_inside("export", *arguments, at=tmp_path).stdout)
    assert (report["packets"], report["connections"]) == (7, 1)
    done = run_inside("export", "--pcap", "b", "-o", "c", "a", at=tmp_path)
    assert (done.returncode, b"omit -o and --format" in done.stderr) == (2, True)


def test_a_redacted_journal_is_not_resumed_and_info_has_the_reason(
    recorded: Path, tmp_path: Path
) -> None:
    run_inside(
        "export", recorded, "-o", "x", "--redact", "memory", "--redact", "files", at=tmp_path
    )
    assert run_inside("import", "x", "-o", "b", at=tmp_path).returncode == 0
    text = run_inside("info", "b", at=tmp_path).stdout.decode()
    reason = (
        "no: the journal cannot be resumed: it was imported from an export with redacted conten"
    )
    assert reason in text
    done = run_tool("resume", "b", at=tmp_path)
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"export with redacted contents: files, memory" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("export", "nothing"), 1, b"nothing: No such file"),
        (("export", "there"), 1, b"there: "),
        (("export", "a", "-o", "there"), 1, b"there already exists"),
        (("export", "a", "-o", "no/b"), 1, b"no is not a directory"),
        (("export", "a", "--redact", "memory,names"), 2, b"'names' cannot be redacted"),
        (("export", "a", "--format", "csv"), 2, b"csv"),
        (("import", "there", "-o", "b"), 3, b"there: "),
        (("import", "a", "-o", "b"), 3, b"a: "),
        (("import", "nothing", "-o", "b"), 1, b"nothing: No such file"),
        (("import", "x", "-o", "there"), 1, b"there already exists: "),
        (("import", "--force", "x", "-o", "there"), 1, b"there is not a journal"),
        (("extract", "a"), 2, b"choose exactly one of"),
        (("extract", "a", "--environment", "--files", "b"), 2, b"choose exactly one of"),
        (("extract", "a", "--files", "there"), 1, b"there already exists"),
        (("extract", "a", "--tar", "there"), 1, b"there already exists"),
        (("extract", "a", "--memory", "b"), 1, b"a has no snapshot"),
        (("extract", "a", "--memory", "b", "--pages", "7-3"), 2, b"'7-3' is not a page range"),
        (
            ("extract", "a", "--environment"),
            1,
            b"has no ProcessStart event: it does not record a process",
        ),
        (("extract", "a", "--files", "b", "--at", "77"), 1, b"a has no event 77"),
        (("extract", "there", "--files", "b"), 1, b"there: "),
    ],
)
def test_a_refused_command_prints_one_sentence_and_leaves_nothing(
    arguments: tuple[str, ...], code: int, sentence: bytes, tmp_path: Path
) -> None:
    write_numbered(tmp_path / "a", 10)
    run_inside("export", "-q", "a", "-o", "x", at=tmp_path)
    (tmp_path / "there").write_bytes(b"GIF89a" * 90)
    done = run_inside(*arguments, at=tmp_path)
    assert done.returncode == code
    assert sentence in done.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "there", "x"]


def test_files_are_extracted_to_a_directory_and_through_a_pipe(tmp_path: Path) -> None:
    write_small_tree(tmp_path / "a")
    done = run_tool("extract", "a", "--files", "out", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "3 files, 1 directory, 2 symbolic links, 12 bytes" in done.stdout.decode()
    assert (tmp_path / "out" / "placed").read_bytes() == b"before"
    done = run_tool("extract", "a", "--at", "1", "--tar", "-", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert archive.getnames() == ["placed"]
    done = run_tool("extract", "--json", "a", "--tar", "a.tar", at=tmp_path)
    assert json.loads(done.stdout)["files"] == 3
    assert tarfile.is_tarfile(tmp_path / "a.tar")


def test_memory_is_the_same_in_a_file_and_through_a_pipe(recorded: Path, tmp_path: Path) -> None:
    seq = snapshot_seqs(recorded)[2]
    done = run_tool("extract", recorded, "--at", str(seq), "--memory", "m", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"snapshot  {seq}" in done.stdout.decode()
    memory = (tmp_path / "m").read_bytes()
    assert len(memory) % 65536 == 0
    assert (tmp_path / "m").stat().st_blocks * 512 < len(memory)
    done = run_tool("extract", recorded, "--at", str(seq), "--memory", "-", at=tmp_path)
    assert done.stdout == memory
    done = run_tool(
        "extract", recorded, "--at", str(seq), "--memory", "-", "--pages", "16-31", at=tmp_path
    )
    assert done.stdout == memory[16 * 4096 : 32 * 4096]


def test_memory_is_appended_after_existing_bytes(recorded: Path, tmp_path: Path) -> None:
    with (tmp_path / "all").open("ab") as out:
        out.write(b"before")
        out.flush()
        subprocess.run(
            build_command("extract", recorded, "--memory", "-", "--pages", "0-3"),
            stdout=out,
            env=build_environment(),
            timeout=DEADLINE_SECONDS,
            check=True,
        )
    data = (tmp_path / "all").read_bytes()
    assert data.startswith(b"before")
    assert len(data) == 6 + 4 * 4096


def test_the_environment_is_printed_as_lines_as_json_and_with_nuls(
    tmp_path: Path, cache_dir: Path
) -> None:
    from tests.support.programs import guest

    with journal.record(
        guest("environ"),
        tmp_path / "a",
        args=["environ"],
        env={"NAME": "value", "LINES": "a\nb"},
        cache=cache_dir,
        durability=journal.engine.Durability.NONE,
    ) as recorder:
        recorder.wait()
    done = run_inside("extract", "a", "--environment", at=tmp_path)
    assert done.stdout == b"NAME=value\nLINES=a\\nb\n"
    done = run_tool("extract", "a", "--environment", "-0", at=tmp_path)
    assert done.stdout == b"NAME=value\0LINES=a\nb\0"
    done = run_inside("extract", "--json", "a", "--environment", at=tmp_path)
    assert json.loads(done.stdout)["environment"] == ["NAME=value", "LINES=a\nb"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "a", "--format", "parquet"),
        ("extract", "a", "--tar", "-"),
        ("extract", "a", "--memory", "-"),
    ],
)
def test_binary_output_is_refused_on_a_terminal(arguments: tuple[str, ...], tmp_path: Path) -> None:
    write_small_tree(tmp_path / "a")
    parent_end, child_end = pty.openpty()
    try:
        done = subprocess.run(
            build_command(*arguments),
            cwd=tmp_path,
            stdout=child_end,
            stderr=subprocess.PIPE,
            env=build_environment(),
            timeout=DEADLINE_SECONDS,
            check=False,
        )
    finally:
        os.close(child_end)
        os.close(parent_end)
    assert done.returncode == 2
    assert b"terminal" in done.stderr
