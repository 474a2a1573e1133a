"""The man pages and the command reference have every command, option and argument, and render."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tools import command_pages


def commands() -> dict[str, Any]:
    """Return the commands of journaltool by the names of their man pages, itself included."""
    from journaltool.app import app

    group: Any = typer.main.get_command(app)
    named = {f"journaltool-{name}": command for name, command in group.commands.items()}
    return {"journaltool": group, **named}


def plain(roff: str) -> str:
    """Return the text of a man page as a reader sees it, without its layout."""
    text = roff.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\").replace("\\&", "")
    return re.sub(r"\\\[u([0-9A-F]+)\]", lambda found: chr(int(found[1], 16)), text)


def parameter_names(command: Any) -> set[str]:
    """Return the names of all options and the metavariables of all arguments."""
    names: set[str] = set()
    for parameter in command.params:
        if parameter.param_type_name == "option":
            names |= {*parameter.opts, *parameter.secondary_opts}
        else:
            names.add(parameter.metavar or parameter.name)
    return names


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The man pages, written as ``make man`` writes them."""
    target = tmp_path_factory.mktemp("man")
    command_pages.write_man_pages(target)
    return target


def test_each_command_has_a_man_page_with_all_its_options(folder: Path) -> None:
    assert {path.stem for path in folder.glob("*.1")} == commands().keys()
    for name, command in commands().items():
        text = plain((folder / f"{name}.1").read_text())
        missing = {option for option in parameter_names(command) if option not in text}
        assert not missing, f"{name}: {missing}"
        assert "-h, --help" in text


def test_the_command_reference_has_each_command_with_all_its_options() -> None:
    pages = command_pages.load_pages()
    for page in pages[1:]:
        text = command_pages.page_markdown(page)
        command = commands()[page.name.replace(" ", "-")]
        assert text.startswith(f"## {page.name}\n")
        assert all(name in text for name in parameter_names(command))
    summary = command_pages.summary_markdown(pages)
    assert summary.count("\n| [") == len(pages) - 1


def test_man_pages_render_without_a_warning(folder: Path) -> None:
    if not (groff := shutil.which("groff")):
        pytest.skip("there is no groff")
    for path in sorted(folder.glob("*.1")):
        done = subprocess.run(
            [groff, "-man", "-ww", "-Tutf8", str(path)], capture_output=True, text=True, check=True
        )
        assert done.stderr == "", path.name
        unformatted = re.sub(r".\x08|\x1b\[\d+m", "", done.stdout)  # Bold is an overstrike.
        assert "SYNOPSIS" in unformatted


def test_text_that_roff_or_markdown_would_interpret_is_shown() -> None:
    assert command_pages.roff(".starts with -a 'dot' \\") == (
        "\\&.starts with \\-a \\(aqdot\\(aq \\e"
    )
    assert command_pages.escape("*.txt | <name> a_b") == "\\*.txt \\| \\<name\\> a\\_b"
