"""The info command reads only headers of a log, and imports no unneeded module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from journaltool.output import journal_facts

import journal
from journal.events.process import ProcessStart
from journal.format.block import BLOCK_HEADER_SIZE
from tests.support.command_line import build_environment, run_inside
from tests.support.numbered_journals import write_numbered

SLOW = ("construct", "rich", "journal.events", "journal.engine", "wasmtime")


def test_info_of_a_log_imports_nothing_slow(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append_frame(200, b"x")
    code = (
        "import sys\n"
        "from journaltool.app import app\n"
        "app(['info', *sys.argv[1:]], standalone_mode=False)\n"
        f"print([name for name in {SLOW!r} if name in sys.modules])\n"
    )
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "a", *options],
            cwd=tmp_path,
            capture_output=True,
            env=build_environment(),
            check=True,
        )
        assert done.stdout.splitlines()[-1] == b"[]"


def test_info_recognizes_a_process_by_the_tag_of_process_start() -> None:
    assert ProcessStart.tag == journal_facts.PROCESS_START


def test_info_of_a_log_reads_only_the_first_body(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 100)
    data = bytearray((tmp_path / "a").read_bytes())
    with journal.Reader(tmp_path / "a") as reader:
        blocks = list(reader.blocks())
    for block in blocks[1:-1]:
        data[block.offset + BLOCK_HEADER_SIZE] ^= 0xFF
    (tmp_path / "a").write_bytes(data)
    done = run_inside("info", "--json", "a", at=tmp_path)
    found = json.loads(done.stdout)
    assert (done.returncode, found["events"], found["damage"]) == (0, 100, [])
    assert run_inside("verify", "a", at=tmp_path).returncode == 3


def test_info_of_a_directory_counts_all_its_segments(tmp_path: Path) -> None:
    write_numbered(
        tmp_path / "d", 6000, roll=journal.log.RollPolicy(size_bytes=1 << 16), compress=False
    )
    files = sorted((tmp_path / "d").iterdir())
    found = json.loads(run_inside("info", "--json", "d", at=tmp_path).stdout)
    assert (found["events"], found["segments"]) == (6000, len(files))
    assert found["size"] == sum(file.stat().st_size for file in files)
    assert not found["resumable"]
    text = run_inside("info", "d", at=tmp_path).stdout.decode()
    assert f"and {len(files)} segments" in text
    assert f"of {files[-1].name}\n" in text


def test_info_reports_a_torn_tail_and_damage(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 30)
    with journal.Reader(tmp_path / "a") as reader:
        blocks = list(reader.blocks())
    os.truncate(tmp_path / "a", blocks[2].offset + 130)
    with (tmp_path / "a").open("r+b") as file:
        file.seek(blocks[1].offset + 40)
        file.write(b"\xff\xff")
    done = run_inside("info", "a", at=tmp_path)
    assert done.returncode == 0
    text = done.stdout.decode()
    assert f"the last 130 bytes, at offset {blocks[2].offset}" in text
    assert f"at offset {blocks[1].offset}\n" in text
    assert "\ndamage " in text


def test_a_process_does_not_replace_a_directory_by_force(tmp_path: Path) -> None:
    write_numbered(tmp_path / "d", 10, roll=journal.log.RollPolicy())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("precious")
    for name in ("d", "other"):
        done = run_inside("run", "--force", "-j", name, "a.wasm", at=tmp_path)
        assert done.returncode == 125
        assert b"is a directory, which is not replaced: choose another path" in done.stderr
    assert (tmp_path / "other" / "mine").read_text() == "precious"
    assert run_inside("verify", "d", at=tmp_path).returncode == 0
