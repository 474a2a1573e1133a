"""Hooks of mkdocs: pages that are included from elsewhere in the repository, and generated pages.

``<!-- include PATH -->`` is replaced by a file of the repository, ``<!-- commands: … -->`` and
``<!-- exit codes: … -->`` by text from the commands of journaltool, and ``<!-- api -->`` by the
public names of the library. The notes in spec/decisions become pages.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import command_pages  # noqa: E402

INCLUDE = re.compile(r"<!-- include (\S+) -->")
DECISIONS = "spec/decisions"
PACKAGES = (
    *("journal", "journal.log", "journal.engine", "journal.snapshots", "journal.compaction"),
    *("journal.operations", "journal.query", "journal.replay", "journal.export"),
    *("journal.events", "journal.adapters"),
)
"""Packages of public names. The site documents the last two on pages of their own."""
UNDOCUMENTED = {"__version__", "is_compiled"}


def decision_notes() -> list[Path]:
    """Return the decision notes, without the template."""
    return [path for path in sorted((ROOT / DECISIONS).glob("*.md")) if "template" not in path.name]


def on_config(config: Any) -> Any:
    """Add the decision notes to the end of the navigation."""
    notes = [f"decisions/{path.name}" for path in decision_notes()]
    config["nav"][-1]["Inside"].append({"Decisions": notes})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each decision note."""
    from mkdocs.structure.files import File

    for path in decision_notes():
        name = f"decisions/{path.name}"
        files.append(File.generated(config, name, content=path.read_text()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put included and generated text into a page."""
    markdown = markdown.replace(
        "<!-- api -->", api_markdown() if "<!-- api -->" in markdown else ""
    )
    markdown = INCLUDE.sub(lambda match: read_included(match[1]), markdown)
    if "<!-- commands:" in markdown:
        pages = command_pages.load_pages()
        summary = command_pages.summary_markdown(pages)
        sections = "\n\n".join(map(command_pages.page_markdown, pages[1:]))
        markdown = markdown.replace("<!-- commands: summary -->", summary)
        markdown = markdown.replace("<!-- commands: all -->", sections)
        codes = command_pages.run_codes_markdown()
        markdown = markdown.replace("<!-- exit codes: run -->", codes)
        codes = command_pages.codes_markdown()
        markdown = markdown.replace("<!-- exit codes: others -->", codes)
    return markdown


def read_included(path: str) -> str:
    """Return a file of the repository, with links as from a page at the top of the site."""
    text = (ROOT / path).read_text()
    # The page of a file in a folder is in a folder of the site, too.
    decisions = (("spec/decisions/", "decisions/"), ("../spec/decisions/", "../decisions/"))
    for folder, target in (("docs/", ""), ("../docs/", "../"), *decisions):
        text = text.replace(f"]({folder}", f"]({target}")
    return text.replace("](spec/format.md", "](reference/format.md")


def api_markdown() -> str:
    """Return a section for each public package, with each public name once."""
    lines: list[str] = []
    documented: set[str] = set(import_module("journal.errors").__dict__)
    for package in PACKAGES[:-2]:
        names = import_module(package).__all__
        own = [
            name for name in names if name not in documented and f"journal.{name}" not in PACKAGES
        ]
        documented.update(own)
        lines.append(f"## {package}\n")
        lines += [f"::: {package}.{name}\n" for name in own if name not in UNDOCUMENTED]
    return "\n".join(lines)


def on_page_content(html: str, **_: Any) -> str:
    """Show a cross-reference of a docstring, such as a ``:meth:`` role, as the name alone."""
    return re.sub(r":(?:class|func|meth|mod|attr):(?=<code>)", "", html)
