"""Commands keep links, refuse special files and journals as targets, and never wait for a FIFO."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command_line import run_inside
from tests.support.file_kinds import SPECIAL, make_special
from tests.support.numbered_journals import parse_numbers, write_numbered
from tests.support.programs import guest

TARGETS = {
    "run": ("run", "--force", "-q", "-j", "target", guest("exit7")),
    "compact": ("compact", "--force", "a", "-o", "target"),
    "filter": ("filter", "--force", "a", "-o", "target"),
    "export": ("export", "--force", "a", "-o", "target"),
    "stats": ("stats", "a", "--svg", "target"),
    "recover": ("recover", "a", "target"),
    "cut": ("cut", "a", "--at", "3", "-o", "target"),
    "fork": ("fork", "a", "--at", "3", "--into", "target"),
    "split": ("split", "a", "--at", "3", "-o", "target"),
    "extract": ("extract", "a", "--files", "target"),
}
SOURCES = {
    "journal": ("info", "source"),
    "module": ("run", "-j", "new", "source"),
    "export": ("import", "source", "-o", "new"),
    "copy": ("run", "-j", "new", "--copy", "source::/x", guest("exit7")),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("command", TARGETS)
def test_a_special_file_stays_what_it_is(command: str, kind: str, tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 10)
    before = make_special(tmp_path / "target", kind)
    done = run_inside(*TARGETS[command], at=tmp_path)
    assert done.returncode in (1, 125)
    assert f"target is a {kind}" in done.stderr.decode() or (
        f"target already exists: it is a {kind}" in done.stderr.decode()
    )
    assert done.stderr.count(b"\n") == 1
    assert os.path.samestat((tmp_path / "target").lstat(), before)
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", "target"}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("command", SOURCES)
def test_a_special_file_is_no_source(command: str, kind: str, tmp_path: Path) -> None:
    make_special(tmp_path / "source", kind)
    done = run_inside(*SOURCES[command], at=tmp_path)
    assert done.returncode in (1, 125)
    assert b"source is " in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("command", ["run", "compact", "filter"])
def test_force_replaces_the_journal_that_a_link_leads_to(command: str, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    write_numbered(tmp_path / "a", 10)
    write_numbered(tmp_path / "far" / "real", 5)
    old = (tmp_path / "far" / "real").read_bytes()
    (tmp_path / "target").symlink_to("far/real")
    run_inside(*TARGETS[command], at=tmp_path)
    assert (tmp_path / "target").readlink() == Path("far/real")
    assert (tmp_path / "far" / "real").read_bytes() != old
    assert run_inside("verify", "far/real", at=tmp_path).returncode == 0
    assert [entry.name for entry in (tmp_path / "far").iterdir()] == ["real"]


@pytest.mark.parametrize("command", ["run", "compact", "filter", "export", "stats"])
def test_force_creates_what_a_link_to_nothing_names(command: str, tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 10)
    (tmp_path / "target").symlink_to("real")
    run_inside(*TARGETS[command], at=tmp_path)
    assert (tmp_path / "target").is_symlink()
    assert (tmp_path / "real").stat().st_size


@pytest.mark.parametrize("command", ["export", "stats"])
@pytest.mark.parametrize("name", ["a", "b", "link"])
def test_other_data_never_replaces_a_journal(command: str, name: str, tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 10)
    write_numbered(tmp_path / "b", 5)
    (tmp_path / "link").symlink_to("b")
    arguments = [name if each == "target" else each for each in TARGETS[command]]
    done = run_inside(*arguments, at=tmp_path)
    assert done.returncode == 1
    assert f"{name} is a journal, which this command does not replace" in done.stderr.decode()
    for journal, count in (("a", 10), ("b", 5)):
        lines = run_inside("inspect", journal, at=tmp_path).stdout
        assert parse_numbers(lines) == list(range(count))


@pytest.mark.parametrize("command", TARGETS)
def test_a_name_that_cannot_exist_gets_one_sentence(command: str, tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 10)
    for name in ("n" * 300, "loop", "a/below"):
        if name == "loop":
            (tmp_path / "loop").symlink_to("loop")
        arguments = [name if each == "target" else each for each in TARGETS[command]]
        done = run_inside(*arguments, at=tmp_path)
        assert done.returncode in (1, 125)
        assert done.stderr.startswith(b"journaltool: error: ")
        assert done.stderr.count(b"\n") == 1
