"""Commands on a program that starts others: --command, and what info says of each journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import run_inside, run_tool
from tests.support.programs import guest

SHELL = guest("shell")
COMMANDS = [option for name in ("emit", "sum") for option in ("--command", f"{name}={SHELL}")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the journals of a run of two processes besides the first one."""
    folder = tmp_path_factory.mktemp("run")
    done = run_tool("run", "-j", "a.journal", *COMMANDS, SHELL, "emit 3 | sum", at=folder)
    assert done.stdout == b"3 lines, sum 6\nexit codes: 0 0\n", done.stderr
    return folder


def read_info(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_inside("info", "--json", path, at=path.parent).stdout)
    return found


def test_info_says_what_a_process_started_and_what_started_it(folder: Path) -> None:
    first, second = folder / "a.journal", folder / "a.children" / "2.journal"
    found = read_info(first)
    assert found["processes"] == [{"pid": n, "image": 0, "kind": "child"} for n in (2, 3)]
    assert "started_by" not in found
    started_by = {"id": found["id"], "pid": 2, "parent": 1, "image": 0}
    assert read_info(second)["started_by"] == started_by
    rows = run_inside("info", first, at=folder).stdout.decode()
    assert "2 processes: 2, 3\n" in rows
    rows = run_inside("info", second, at=folder).stdout.decode()
    assert "2 of a run, started by process 1\n" in rows


def test_each_journal_of_a_run_is_replayed_alone(folder: Path) -> None:
    for path in (folder / "a.journal", *sorted((folder / "a.children").iterdir())):
        done = run_inside("replay", "--verify", path, at=folder)
        assert done.returncode == 0, done.stdout
    shown = run_inside("inspect", folder / "a.children" / "3.journal", at=folder).stdout.decode()
    assert "ChildStart" in shown
    assert "PipeRead" in shown


def test_a_resume_needs_the_commands_again(folder: Path, tmp_path: Path) -> None:
    done = run_inside("resume", folder / "a.journal", at=tmp_path)
    assert done.returncode == 0  # The program had ended.


@pytest.mark.parametrize("option", ["emit", "=x.wasm", "emit=", f"a/b={SHELL}"])
def test_a_command_that_is_no_name_and_module_is_refused(option: str, tmp_path: Path) -> None:
    done = run_inside("run", "-j", "a.journal", "--command", option, SHELL, at=tmp_path)
    assert done.returncode in (2, 125)
    assert not list(tmp_path.iterdir())


def test_a_command_whose_module_is_missing_is_refused_at_the_start(tmp_path: Path) -> None:
    done = run_inside("run", "-j", "j", "--command", "emit=no.wasm", SHELL, at=tmp_path)
    assert done.returncode != 0
    assert b"cannot read module no.wasm" in done.stderr
    assert not list(tmp_path.iterdir())
