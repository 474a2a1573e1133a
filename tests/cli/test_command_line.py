"""Help, version and wrong usage of all commands, and options that mirror library enums."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from pathlib import Path

import journaltool.commands.resume
import journaltool.commands.run
import journaltool.options.common
import pytest
from journaltool.options import common, session

import journal
from tests.support.command_line import COMMANDS, run_inside, run_tool


def test_the_help_shows_every_command_and_examples(tmp_path: Path) -> None:
    done = run_tool("--help", at=tmp_path)
    assert done.returncode == 0
    text = done.stdout.decode()
    assert all(f"\n  {name}" in text for name in COMMANDS)
    assert "Examples:" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_examples_and_exit_codes(name: str, tmp_path: Path) -> None:
    done = run_inside(name, "--help", at=tmp_path)
    text = done.stdout.decode()
    examples = text.partition("Examples:\n")[2].strip().splitlines()
    assert done.returncode == 0
    assert 2 <= len(examples) <= 4
    assert all(line.strip().startswith(f"journaltool {name} ") for line in examples)
    assert "Exit codes:" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_version_is_that_of_the_library(tmp_path: Path) -> None:
    done = run_tool("--version", at=tmp_path)
    assert done.stdout.decode() == f"journaltool {journal.__version__}\n"
    assert done.returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "--max-memory", "12X", "a.wasm"),
        ("run", "--timeout", "0", "a.wasm"),
        ("run", "--env", "SURELY_NOT_SET_ANYWHERE", "a.wasm"),
        ("run", "--dir", "::/work", "a.wasm"),
        ("run", "--memory", "/a", "--dir", ".::/a", "a.wasm"),
        ("run", "--copy", "file", "a.wasm"),
        ("run", "--level", "most", "a.wasm"),
        ("snapshot",),
        ("snapshot", "--timeout", "0", "a.journal"),
        ("snapshots",),
        ("replay",),
        ("replay", "--from", "first", "a.journal"),
        ("replay", "--each", "--from", "7", "a.journal"),
        ("inspect", "--bytes", "some", "a.journal"),
        ("tail", "-n", "x", "a.journal"),
        ("tail", "--bytes", "some", "a.journal"),
        ("verify", "--max-seconds", "0", "a.journal"),
        ("verify", "--from", "nowhere", "a.journal"),
        ("verify", "--from", "1-2-3", "a.journal"),
        ("recover", "a.journal"),
        ("recover", "--max-search", "much", "a.journal", "b.journal"),
        ("concat", "a.journal", "b.journal"),
        ("concat", "-o", "b.journal"),
        ("filter", "a.journal"),
        ("filter", "a.journal", "--dry-run", "--where", "fd ="),
        ("stats",),
        ("index", "--check", "--drop", "a.journal"),
        ("completion",),
        ("frobnicate",),
    ],
)
def test_wrong_usage_exits_with_2_and_names_the_mistake(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = run_inside(*arguments, at=tmp_path)
    assert done.returncode == 2
    assert b"Error: " in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--kind", "--group"])
def test_a_kind_that_neither_the_library_nor_the_journal_has_is_wrong_usage(
    option: str, tmp_path: Path
) -> None:
    with journal.Writer(tmp_path / "a.journal"):
        pass
    done = run_inside("inspect", option, "NoSuchName", "a.journal", at=tmp_path)
    assert done.returncode == 2
    assert b"Error: " in done.stderr


@pytest.mark.parametrize(
    ("choices", "members"),
    [
        (session.DurabilityChoice, journal.engine.Durability),
        (journaltool.commands.resume.InFlightChoice, journal.engine.InFlightPolicy),
        (journaltool.commands.resume.LostConnectionChoice, journal.engine.LostConnections),
        (journaltool.commands.run.UnknownImportsChoice, journal.engine.UnknownImports),
    ],
)
def test_the_choices_of_an_option_are_those_of_the_library(
    choices: type[Enum], members: type[Enum]
) -> None:
    assert {each.name: each.value for each in choices} == {
        each.name: each.value for each in members
    }


def test_the_levels_are_those_of_the_library() -> None:
    assert {each.name for each in journaltool.commands.run.LevelChoice} == {
        each.name for each in journal.engine.RecordingLevel
    }


@pytest.mark.parametrize(
    ("text", "size"),
    [("65536", 65536), ("512KiB", 512 << 10), ("64MiB", 64 << 20), ("1gib", 1 << 30), ("7B", 7)],
)
def test_a_size_has_a_unit_or_none(text: str, size: int) -> None:
    assert common.parse_size(text) == size


def test_importing_the_command_line_imports_no_engine() -> None:
    code = (
        "import sys, journaltool.app\n"
        "print([name for name in ('wasmtime', 'rich', 'journal') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
