"""Completion in real bash, zsh and fish shells."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pytest

from tests.rigs import needs, shells
from tests.support.command_line import build_environment, run_inside

Asked = Callable[[str, Path, Mapping[str, str]], set[str]]

COMPLETE_BY_SHELL: dict[str, Asked] = {
    "bash": shells.told_by_bash,
    "fish": shells.told_by_fish,
    "zsh": shells.told_by_zsh,
}
COMPLETED = {
    "journaltool fil": {"filter"},
    "journaltool comp": {"compact", "completion"},
    "journaltool filter --gro": {"--group"},
    "journaltool filter --drop a --ki": {"--kind"},
    "journaltool inspect --group s": {"stdio", "sockets", "snapshots"},
    "journaltool filter --kind StreamW": {"StreamWrite"},
    "journaltool filter --kind streamw": {"streamwrite"},
    "journaltool export --format ": {"jsonl", "parquet", "pcapng"},
}
#: Bash completes the text after the equals sign. The other shells complete the whole word.
JOINED = {
    "journaltool filter --kind=StreamW": {"StreamWrite"},
    "journaltool inspect --group=s": {"stdio", "sockets", "snapshots"},
    "journaltool export --format=": {"jsonl", "parquet", "pcapng"},
}
UNIQUE = {
    "journaltool fil": ["filter"],
    "journaltool filter --kind StreamW": ["filter", "--kind", "StreamWrite"],
    "journaltool filter --kind=StreamW": ["filter", "--kind=StreamWrite"],
    "journaltool info wo": ["info", "work.journal"],
    "journaltool info my": ["info", "my journal"],
    "journaltool filter a -o wo": ["filter", "a", "-o", "work.journal"],
    "journaltool filter a --output=wo": ["filter", "a", "--output=work.journal"],
}


def each(lines: Collection[str], *names: str) -> pytest.MarkDecorator:
    """Parametrize lines by shell: the first line in bash, the other ones in deep tests."""
    params = []
    for shell in names:
        for place, line in enumerate(lines):
            marks = [needs.mark(needs.why_no_shell(shell))]
            marks += [pytest.mark.deep] * bool(shell != "bash" or place)
            params.append(pytest.param(shell, line, marks=marks))
    return pytest.mark.parametrize(("shell", "line"), params)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a directory with the start-up file of each shell and two files, one with a space."""
    for name in ("work.journal", "my journal"):
        (tmp_path / name).touch()
    for shell in COMPLETE_BY_SHELL:
        script = run_inside("completion", shell, at=tmp_path).stdout
        (tmp_path / f".script.{shell}").write_bytes(script)
    return tmp_path


@pytest.fixture
def env() -> dict[str, str]:
    """Return an environment with the tool on PATH."""
    folder = Path(sys.executable).parent
    return build_environment(PATH=f"{folder}:{os.environ['PATH']}")


@each(COMPLETED, *COMPLETE_BY_SHELL)
def test_commands_options_groups_and_kinds_are_completed(
    shell: str, line: str, folder: Path, env: dict[str, str]
) -> None:
    words = COMPLETE_BY_SHELL[shell](line, folder, env)
    files = {one.name for one in folder.iterdir()} if shell == "fish" else set()
    assert words - files == COMPLETED[line]


@each(JOINED, *COMPLETE_BY_SHELL)
def test_a_value_joined_to_its_option_is_completed(
    shell: str, line: str, folder: Path, env: dict[str, str]
) -> None:
    option = "" if shell == "bash" else line.split()[-1].partition("=")[0] + "="
    files = {f"{option}{one.name}" for one in folder.iterdir()} if shell == "fish" else set()
    words = COMPLETE_BY_SHELL[shell](line, folder, env)
    assert words - files == {option + value for value in JOINED[line]}


@each(UNIQUE, "bash", "zsh")
def test_a_key_completes_the_only_matching_word(
    shell: str, line: str, folder: Path, env: dict[str, str]
) -> None:
    assert shells.words_typed(shell, line, folder, env) == UNIQUE[line]


@pytest.mark.deep
@needs.mark(needs.why_no_shell("fish"))
def test_fish_lists_files_if_it_has_no_other_candidates(folder: Path, env: dict[str, str]) -> None:
    assert shells.told_by_fish("journaltool info wo", folder, env) == {"work.journal"}
    assert shells.told_by_fish("journaltool info m", folder, env) == {"my journal"}


HELP_PARTS = {
    "--path": ("journaltool filter --p", "* matches within a name, ** across names."),
    "--drop": ("journaltool filter --dr", "Drop or keep the selected events."),
    "--where": ("journaltool inspect --", "such as 'size > 4Ki and not fd in (1, 2)'."),
}


@pytest.mark.deep
@needs.mark(needs.why_no_shell("fish"))
@pytest.mark.parametrize("option", HELP_PARTS)
def test_fish_describes_an_option_with_its_help(
    option: str, folder: Path, env: dict[str, str]
) -> None:
    line, help_part = HELP_PARTS[option]
    assert help_part in shells.said_by_fish(line, folder, env)[option]


@pytest.mark.deep
@needs.mark(needs.why_no_shell("zsh"))
@pytest.mark.parametrize("option", HELP_PARTS)
def test_zsh_describes_an_option_with_its_help(
    option: str, folder: Path, env: dict[str, str]
) -> None:
    shells.shows_in_zsh(*HELP_PARTS[option], folder, env)


def test_each_shell_has_a_script_and_others_have_none(tmp_path: Path) -> None:
    for shell in COMPLETE_BY_SHELL:
        done = run_inside("completion", shell, at=tmp_path)
        assert done.returncode == 0
        assert f"complete_{shell}".encode() in done.stdout
    assert run_inside("completion", "cmd", at=tmp_path).returncode == 2
