"""Files, output and exit codes of split and cut."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

import journal
from tests.support.command_line import run_inside, run_tool
from tests.support.numbered_journals import damage_block, parse_numbers, write_numbered
from tests.support.worker_journal import recorded, snapshot_seqs

__all__ = ["recorded"]


def test_split_writes_parts_that_concat_joins_again(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a.journal", 40)
    done = run_tool("split", "a.journal", "--at", "7", "--at", "25", "-o", "parts", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert "parts, 3 parts" in text
    assert "a.000001.journal  events 7 to 24, " in text
    parts = sorted((tmp_path / "parts").iterdir())
    assert parse_numbers(run_inside("inspect", parts[1], at=tmp_path).stdout) == list(range(7, 25))
    assert run_inside("verify", parts[2], at=tmp_path).returncode == 0
    assert run_inside("concat", *parts, "-o", "b", at=tmp_path).returncode == 0
    assert parse_numbers(run_inside("inspect", "b", at=tmp_path).stdout) == list(range(40))


def test_split_by_size_reports_each_part_in_json(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 4000)
    done = run_inside("split", "--json", "a", "--size", "16KiB", "-o", "parts", at=tmp_path)
    report = json.loads(done.stdout)
    assert (report["events"], report["source"]) == (4000, "a")
    parts = report["parts"]
    assert len(parts) > 2
    assert all(part["size"] == (tmp_path / part["path"]).stat().st_size for part in parts)
    assert all(part["size"] <= 16 << 10 for part in parts)
    ends = [(part["first_seq"], part["last_seq"] + 1) for part in parts]
    assert [first for first, _ in ends] == [0, *(end for _, end in ends[:-1])]


def test_cut_ends_with_the_newest_snapshot_by_default(recorded: Path, tmp_path: Path) -> None:
    done = run_inside("cut", recorded, "-o", "newest", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    newest = snapshot_seqs(recorded)[-1]
    assert f"up to event {newest}" in done.stdout.decode()
    assert snapshot_seqs(tmp_path / "newest")[-1] == newest
    done = run_inside("cut", "--json", recorded, "--at", "5", "-o", "five", at=tmp_path)
    assert (json.loads(done.stdout)["last_seq"], json.loads(done.stdout)["events"]) == (5, 6)
    with journal.Reader(tmp_path / "five") as reader:
        assert reader.last(1)[0].seq == 5


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("split", "a", "-o", "b"), 2, b"at least one of --at, --snapshots and --size is required"),
        (
            ("split", "a", "--size", "0", "-o", "b"),
            1,
            b"size must be an integer of at least 1, got 0",
        ),
        (("split", "a", "--at", "99", "-o", "b"), 1, b"99"),
        (("split", "a", "--at", "3", "-o", "there"), 1, b"there already exists"),
        (("split", "a", "--at", "3", "-o", "a/b"), 1, b"a is not a directory"),
        (("split", "nothing", "--at", "3", "-o", "b"), 1, b"nothing: No such file"),
        (("split", "there", "--at", "3", "-o", "b"), 1, b" of there"),
        (
            ("split", "--self-contained", "a", "--at", "3", "-o", "b"),
            1,
            b"has no ProcessStart event",
        ),
        (("cut", "a", "-o", "b"), 1, b"has no resumable snapshot"),
        (("cut", "a", "--at", "99", "-o", "b"), 1, b"a has no event 99"),
        (("cut", "a", "--at", "3", "-o", "there"), 1, b"there already exists"),
        (("cut", "a", "--at", "3", "-o", "a"), 1, b"a is also a source"),
    ],
)
def test_a_refused_command_prints_one_sentence_and_leaves_nothing(
    arguments: tuple[str, ...], code: int, sentence: bytes, tmp_path: Path
) -> None:
    write_numbered(tmp_path / "a", 10)
    (tmp_path / "there").write_bytes(b"GIF89a" * 90)
    done = run_inside(*arguments, at=tmp_path)
    assert (done.returncode, done.stdout) == (code, b"")
    assert sentence in done.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "there"]


REFUSING_COMMANDS = [
    ("split", "--at", "30", "-o", "b"),
    ("cut", "--at", "39", "-o", "b"),
    ("export", "-o", "b"),
    ("extract", "--files", "b"),
    ("filter", "--group", "inputs", "-o", "b"),
    ("filter", "--group", "inputs", "--in-place"),
]


@pytest.mark.parametrize("arguments", REFUSING_COMMANDS, ids=" ".join)
def test_a_command_that_refuses_damage_prints_its_offset_and_a_remedy(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    path, (name, *options) = tmp_path / "my journal", arguments
    write_numbered(path, 40)
    block = damage_block(path, 1, 6)
    done = run_inside(name, path.name, *options, at=tmp_path)
    assert done.returncode == 6, done.stderr
    (sentence,) = done.stderr.decode().splitlines()
    problem, _, remedy = sentence.partition("; recover the readable events with: journaltool ")
    assert f"at offset {block.offset}" in problem
    assert "my journal" in problem
    assert shlex.split(remedy) == ["recover", "my journal", "TARGET"]
    assert run_inside(*shlex.split(remedy), at=tmp_path).returncode == 3
    with journal.Reader(tmp_path / "TARGET") as reader:
        assert len(list(reader.frames())) == 30
    assert run_inside(name, "TARGET", *options, at=tmp_path).returncode == 0
