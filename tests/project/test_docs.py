"""Every snippet of the documentation runs as a reader runs it, and prints the output shown.

A page is README.md or a page below docs/. Its blocks of bash and Python run in order, each in a
process of its own, in one new directory per page that holds the clone's ``fixtures``. A block of
``text`` directly after a snippet is the output of that snippet; ``...`` stands for any text. Other
blocks (``console``, ``toml``) are not run. A page that has the comment ``<!-- deep -->`` needs
large programs: it runs in ``make deep``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from _pytest.mark import ParameterSet

from tests.support.programs import ROOT, program
from tools import rooms

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
DEEP = "<!-- deep -->"
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
SNIPPET_SECONDS_MAX = 1200
PRELUDE = """\
set -eu -o pipefail
"""


class Snippet(NamedTuple):
    """A program in a page: its language, its text, and the output that the page shows, if any."""

    line: int
    language: str
    text: str
    output: str | None


def snippets(text: str) -> Iterator[Snippet]:
    """Yield the programs of a page in order."""
    blocks = list(BLOCK.finditer(text))
    for index, block in enumerate(blocks):
        language, program_text = block.groups()
        if language not in ("bash", "python"):
            continue
        output = None
        if index + 1 < len(blocks):
            after = blocks[index + 1]
            if after[1] == "text" and not text[block.end() : after.start()].strip():
                output = after[2]
        yield Snippet(text.count("\n", 0, block.start()) + 1, language, program_text, output)


def matches(shown: str, printed: str) -> bool:
    """Return whether ``printed`` is the text ``shown``, in which ``...`` stands for any text."""
    pattern = ".*".join(map(re.escape, shown.rstrip().split("...")))
    return re.fullmatch(pattern, printed.rstrip(), re.DOTALL) is not None


def environment() -> dict[str, str]:
    """Return variables with ``journaltool`` and ``python`` on PATH and the tests' own cache."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {
        **inherited,
        "PATH": path,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}",
        "XDG_CACHE_HOME": str(ROOT / ".cache"),
        "COLUMNS": "100",
    }


def run(snippet: Snippet, folder: Path) -> str:
    """Run one snippet and return its standard output; fail if the snippet fails."""
    command = (
        ["bash", "-c", PRELUDE + snippet.text]
        if snippet.language == "bash"
        else [sys.executable, "-W", "error", "-c", snippet.text]
    )
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SNIPPET_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"line {snippet.line}: {done.stderr}\n{snippet.text}"
    if snippet.language == "python":
        assert done.stderr == "", f"line {snippet.line}: {done.stderr}"
    return done.stdout


def run_page(page: Path, folder: Path) -> None:
    """Run the snippets of a page in ``folder`` and compare the output of each."""
    (folder / "fixtures").symlink_to(ROOT / "fixtures")
    for snippet in snippets(page.read_text()):
        printed = run(snippet, folder)
        if snippet.output is not None:
            assert matches(snippet.output, printed), f"line {snippet.line} printed:\n{printed}"


def _page_parameter(page: Path) -> ParameterSet:
    marks = [pytest.mark.deep] if DEEP in page.read_text() else []
    return pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks)


@pytest.mark.parametrize("page", [_page_parameter(page) for page in PAGES if page != README])
def test_the_snippets_of_a_page_run_and_print_the_output_shown(
    page: Path, tmp_path: Path, cache_dir: Path
) -> None:
    if DEEP in page.read_text():
        (tmp_path / "cache").symlink_to(cache_dir)
        for name in ("quickjs", "cpython"):
            (tmp_path / f"{name}.wasm").symlink_to(program(name))
    run_page(page, tmp_path)


def test_the_readme_s_program_prints_each_day_once_and_keeps_its_ticket(tmp_path: Path) -> None:
    run_page(README, tmp_path)
    *days, end = (tmp_path / "output").read_text().splitlines()
    ticket = end.split()[-1]
    assert days == [f"day {day}, ticket {ticket}" for day in range(1, 41)]
    assert (tmp_path / "files" / "diary").read_text().splitlines() == [
        f"day {day}" for day in range(1, 41)
    ]


@pytest.mark.deep
def test_the_readme_works_in_a_fresh_clone(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not in a checkout")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    text = README.read_text()
    (console,) = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    commands = [line.removeprefix("$ ") for line in console.splitlines()]
    assert any(command.startswith("pip install") for command in commands)
    for snippet in snippets(text):
        is_python = snippet.language == "python"
        commands.append(f"python - <<'END'\n{snippet.text}END" if is_python else snippet.text)
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        ["bash", "-c", PRELUDE + "\n".join(commands)],
        cwd=clone,
        env={**inherited, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=SNIPPET_SECONDS_MAX,
        check=False,
    )
    if "NewConnectionError" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    assert "40 files/diary" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_to_files(page: Path) -> None:
    for target in LINK.findall(BLOCK.sub("", page.read_text())):
        path = (page.parent / target).resolve()
        if path.parent == ROOT / "docs" / "decisions":  # The site has pages for the notes.
            path = ROOT / "spec" / "decisions" / path.name
        assert path.exists(), f"{target} does not exist"


CODE = re.compile(r"`([^`\n]+)`")
ROOMS = sorted(path.parent.name for path in (ROOT / "journal").glob("*/__init__.py"))


def test_the_modules_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    names = set(re.findall(rf"`((?:{'|'.join(ROOMS)}|journaltool)(?:\.[a-z_]+)+)`", text))
    assert len(names) > 30
    for name in names:
        base = (
            ROOT / ("cli" if name.startswith("journaltool") else "journal") / name.replace(".", "/")
        )
        assert base.with_suffix(".py").exists() or base.is_dir(), name


def test_the_files_that_the_page_about_tests_names_exist() -> None:
    named = CODE.findall((ROOT / "docs" / "testing.md").read_text())
    paths = [name for name in named if re.fullmatch(r"(tests|fixtures|tools)/[\w/.]+", name)]
    assert len(paths) > 50
    for path in paths:
        assert (ROOT / path).exists(), path


def test_the_glossary_is_in_order_and_defines_each_word_once() -> None:
    words = re.findall(r"^\*\*(.+)\*\*$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert len(words) > 60
    assert words == sorted(set(words))


def test_the_pictures_of_the_rooms_fit_the_import_contracts() -> None:
    assert rooms.find_stale() == []
    layers = rooms.read_layers("The house")
    assert layers[0] == ["journaltool"]
    assert ["journal.format"] in layers


def test_output_shown_is_compared_with_output_printed() -> None:
    assert matches("a ...\nc\n", "a b\nc\n")
    assert not matches("a\n", "a\nb\n")
    assert not matches("a.c", "abc")


def test_the_package_s_description_has_no_link_that_an_index_cannot_serve() -> None:
    source = (ROOT / "setup.py").read_text()
    start = source.index("def long_description()")
    function = source[start : source.index("\n\n\n", start)]
    names: dict[str, object] = {"re": re, "Path": Path, "__file__": str(ROOT / "setup.py")}
    exec(function, names)  # setup.py itself cannot be imported: it builds.
    description = eval("long_description()", names)
    assert LINK.findall(description) == []
    assert "![" not in description
    assert "Tutorial (`docs/tutorial.md`)" in description
