"""Events of applications on the command line: no command calls them damaged or fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from journal import Reader, Writer
from tests.support.command_line import run_inside

FRAMES = [(224, b"one"), (7, b"x"), (254, b"\xff\x1b"), (100, b"later")]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with events of an application, also under tags of this project."""
    with Writer(tmp_path / "log.journal") as writer:
        for tag, payload in FRAMES:
            writer.append_frame(tag, payload)
    return tmp_path / "log.journal"


def test_events_are_shown_as_bytes(log: Path) -> None:
    for command in ("inspect", "tail"):
        done = run_inside(command, log, at=log.parent)
        assert done.returncode == 0, done.stderr
        lines = [line.split(b"s  ", 1)[1] for line in done.stdout.splitlines()]
        assert lines == [
            b"application(224)  payload=b'one'",
            b"unknown(7)  payload=b'x'",
            b"application(254)  payload=b'\\xff\\x1b'",
            b"unknown(100)  payload=b'later'",
        ]


def test_verify_calls_them_whole(log: Path) -> None:
    done = run_inside("verify", "--json", log, at=log.parent)
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"], report["unknown_events"]) == (0, "whole", 2)


def test_statistics_count_them_in_their_group(log: Path) -> None:
    report = json.loads(run_inside("stats", "--json", log, at=log.parent).stdout)
    groups = {one["tag"]: one["group"] for one in report["kinds"]}
    assert groups == {224: "application", 254: "application", 7: "memory", 100: None}
    assert b"application(224)" in run_inside("stats", log, at=log.parent).stdout


def test_a_filter_selects_them(log: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept.journal"
    options = ("--group", "application", "--no-preamble")
    done = run_inside("filter", log, "-o", target, *options, at=log.parent)
    assert done.returncode == 0, done.stderr
    assert b"1 application(224), 1 application(254)" in done.stdout
    with Reader(target) as reader:
        assert [(tag, payload) for _, tag, payload in reader.rows()] == [FRAMES[0], FRAMES[2]]


def test_export_and_import_copy_them(log: Path, tmp_path: Path) -> None:
    run_inside("export", log, "-o", tmp_path / "log.jsonl", at=log.parent)
    done = run_inside(
        "import", tmp_path / "log.jsonl", "-o", tmp_path / "copy.journal", at=log.parent
    )
    assert done.returncode == 0, done.stderr
    with Reader(tmp_path / "copy.journal") as reader:
        assert [(tag, payload) for _, tag, payload in reader.rows()] == FRAMES
