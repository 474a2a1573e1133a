"""The table of exit codes agrees with the errors, the commands, their help and the reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from journaltool import exit_codes
from journaltool.app import app
from journaltool.exit_codes import CODES_OF_COMMANDS, GUEST_CODES, ExitCode

import journal
from tests.support.programs import ROOT
from tools import command_pages, mkdocs_hooks

COMMANDS = ROOT / "cli/journaltool/commands"


def test_each_kind_of_error_has_its_own_exit_code() -> None:
    kinds = {
        journal.NotAJournal: 1,
        journal.UnsupportedVersion: 1,
        journal.OptionError: 1,
        journal.CorruptBlock: 3,
        journal.MalformedEvent: 3,
        journal.TornBlock: 4,
        journal.MissingEvents: 5,
        journal.LostAcknowledged: 6,
        journal.JournalLocked: 7,
        journal.StorageError: 8,
    }
    for kind, code in kinds.items():
        error = kind("no reason", 0) if kind is journal.StorageError else kind("no reason")
        assert exit_codes.code_for_error(error) == code, kind
    error_names = {kind.__name__ for kind in kinds}
    assert set(exit_codes.CODE_OF_ERROR) <= error_names
    assert exit_codes.code_for_errors([]) == 0
    lost, gap = journal.LostAcknowledged("", 0), journal.MissingEvents("", 0)
    assert exit_codes.code_for_errors([journal.CorruptBlock("", 0), gap]) == 5
    assert exit_codes.code_for_errors([gap, lost, journal.CorruptBlock("", 0)]) == 6


def test_each_command_has_a_row_and_each_code_a_command() -> None:
    names = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert names == CODES_OF_COMMANDS.keys() | {"resume"}
    used = {code for codes in CODES_OF_COMMANDS.values() for code in codes}
    assert used == {*ExitCode, GUEST_CODES}


@pytest.mark.parametrize("path", sorted(COMMANDS.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_a_command_exits_only_with_codes_of_its_row(path: Path) -> None:
    named = {ExitCode[name] for name in re.findall(r"ExitCode\.(\w+)", path.read_text())}
    row = CODES_OF_COMMANDS[
        "run" if path.stem == "resume" else path.stem.rstrip("_").replace("_", "-")
    ]
    assert named - {ExitCode.FINE} <= set(row)


@pytest.mark.parametrize("command", CODES_OF_COMMANDS)
def test_the_help_lists_the_row_of_the_command(command: str) -> None:
    (page,) = (page for page in command_pages.load_pages() if page.name.endswith(f" {command}"))
    (block,) = (block for block in page.notes if block.title == "Exit codes")
    listed = [text for text in CODES_OF_COMMANDS[command].values() if text]
    labels = re.findall(r"^(\S+)  ", block.text, re.MULTILINE)
    assert len(labels) == len(listed)
    assert " ".join(re.sub(r"^\S+  ", "", block.text, flags=re.MULTILINE).split()) == " ".join(
        " ".join(listed).split()
    )


def test_the_command_reference_has_both_tables() -> None:
    text = mkdocs_hooks.on_page_markdown((ROOT / "docs/reference/commands.md").read_text())
    assert "<!--" not in text
    for code in ExitCode:
        assert f"| {code.value} | {code.meaning} |" in text
    (row,) = re.findall(r"\| 8 \| .*", text)
    assert row.endswith(
        "| `StorageError` | `concat` `split` `cut` `fork` `filter` `compact` `import` `sign` |"
    )
    (row,) = re.findall(r"\| 1 \| .*", text)
    assert row.endswith("| any other | all except `completion` |")
