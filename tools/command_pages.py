"""Pages about the commands of journaltool, from typer's own data: Markdown for the site, and roff.

``python tools/command_pages.py FOLDER`` writes the man pages to a folder. The site includes the
Markdown when it is built (``tools/mkdocs_hooks.py``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "cli")]

PROGRAM = "journaltool"
VERBATIM = "\b"


class Row(NamedTuple):
    """An argument or an option: its names with its metavariable, and its help."""

    names: str
    help: str


class Block(NamedTuple):
    """A paragraph, or lines that keep their layout, with their title if they have one."""

    text: str
    is_verbatim: bool = False
    title: str = ""


class CommandPage(NamedTuple):
    """The data of one command."""

    name: str
    usage: str
    summary: str
    description: tuple[Block, ...]
    arguments: tuple[Row, ...]
    options: tuple[Row, ...]
    notes: tuple[Block, ...]


def load_pages() -> list[CommandPage]:
    """Return the page of journaltool itself, and then the page of each command, in help order."""
    import typer.main
    from journaltool.app import app

    group: Any = typer.main.get_command(app)
    context = group.context_class(group, info_name=PROGRAM, **group.context_settings)
    pages = [_make_page(group, context)]
    for name in group.list_commands(context):
        command = group.commands[name]
        settings = command.context_settings
        command_context = command.context_class(command, info_name=name, parent=context, **settings)
        pages.append(_make_page(command, command_context))
    return pages


def _make_page(command: Any, context: Any) -> CommandPage:
    summary, *description = parse_blocks(command.help)
    arguments: list[Row] = []
    options: list[Row] = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            rows = options if parameter.param_type_name == "option" else arguments
            rows.append(Row(*(" ".join(part.split()) for part in record)))
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return CommandPage(
        name=context.command_path,
        usage=re.sub(r"\{(\S+)\}", r"\1", usage),
        summary=summary.text,
        description=tuple(description),
        arguments=tuple(arguments),
        options=tuple(options),
        notes=parse_blocks(command.epilog or ""),
    )


def parse_blocks(text: str) -> tuple[Block, ...]:
    """Return the blocks of a help text or an epilog, which blank lines separate."""
    return tuple(map(_parse_block, re.split(r"\n\s*\n", _dedent(text).strip("\n"))))


def _dedent(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.replace(VERBATIM, "").splitlines())


def _parse_block(text: str) -> Block:
    first, *rest = text.strip("\n").splitlines()
    if rest and all(line.startswith("  ") for line in rest) and first.endswith(":"):
        return Block(_unindent(rest), is_verbatim=True, title=first[:-1])
    if first.startswith("  "):
        return Block(_unindent([first, *rest]), is_verbatim=True)
    return Block(" ".join(text.split()))


def _unindent(lines: list[str]) -> str:
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return "\n".join(line[margin:] for line in lines)


# -- Markdown ------------------------------------------------------------------------------------


def summary_markdown(pages: list[CommandPage]) -> str:
    """Return the table of all commands."""
    rows = (f"| [`{page.name}`](#{_anchor(page)}) | {escape(page.summary)} |" for page in pages[1:])
    return "\n".join(["| command | task |", "|---|---|", *rows])


def page_markdown(page: CommandPage) -> str:
    """Return the section of one command."""
    parts = [f"## {page.name}", escape(page.summary), f"```console\n$ {page.usage}\n```"]
    parts += map(_block_markdown, page.description)
    for title, rows in (("Argument", page.arguments), ("Option", page.options)):
        if rows:
            lines = [f"| `{row.names}` | {escape(row.help)} |" for row in rows]
            parts.append("\n".join([f"| {title} | |", "|---|---|", *lines]))
    parts += map(_block_markdown, page.notes)
    return "\n\n".join(parts)


def run_codes_markdown() -> str:
    """Return the table of the exit codes of run and resume, besides those of the guest."""
    from journaltool.exit_codes import CODES_OF_COMMANDS, ExitCode

    codes = [code for code in ExitCode if code in CODES_OF_COMMANDS["run"]]
    rows = [f"| {code.value} | {code.meaning} |" for code in codes]
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows])


def codes_markdown() -> str:
    """Return the table of the exit codes of the other commands, with their errors."""
    from journaltool.exit_codes import CODE_OF_ERROR, CODES_OF_COMMANDS, ExitCode

    others = {name: codes for name, codes in CODES_OF_COMMANDS.items() if name != "run"}
    rows = ["| exit code | meaning | error class | commands |", "|---|---|---|---|"]
    for code in ExitCode:
        users = [name for name, codes in others.items() if code in codes]
        if not users:
            continue
        errors = [f"`{name}`" for name, other in CODE_OF_ERROR.items() if other is code]
        if code is ExitCode.ERROR:
            errors.append("any other")
        named = "all" if code is ExitCode.INTERRUPTED else _name_users(users, list(others))
        rows.append(f"| {code.value} | {code.meaning} | {', '.join(errors)} | {named} |")
    return "\n".join(rows)


def _name_users(users: list[str], commands: list[str]) -> str:
    """Return the names of the commands with a code, or the few exceptions without it."""
    missing = [f"`{name}`" for name in commands if name not in users]
    if len(missing) <= 2:
        return f"all except {' '.join(missing)}" if missing else "all"
    return " ".join(f"`{name}`" for name in users)


def _anchor(page: CommandPage) -> str:
    return page.name.replace(" ", "-")


def escape(text: str) -> str:
    """Return plain text as Markdown that shows it."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def _block_markdown(block: Block) -> str:
    if not block.is_verbatim:
        return escape(block.text)
    title = f"**{block.title}**\n\n" if block.title else ""
    return f"{title}```text\n{block.text}\n```"


# -- man pages -----------------------------------------------------------------------------------


def man_page(page: CommandPage, pages: list[CommandPage], version: str) -> str:
    """Return one page in roff with the macros of man(7)."""
    name = _file_name(page)
    lines = [
        f'.TH "{name.upper()}" "1" "" "{PROGRAM} {version}" "User Commands"',
        ".nh",
        ".SH NAME",
        f"{roff(name)} \\- {roff(page.summary.rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {roff(page.usage)}",
    ]
    if page.description:
        lines += [".SH DESCRIPTION", *_blocks_roff(page.description)]
    for title, rows in (("ARGUMENTS", page.arguments), ("OPTIONS", page.options)):
        if rows:
            lines.append(f".SH {title}")
            for row in rows:
                lines += [".TP", f".B {roff(row.names)}", roff(row.help)]
    if page is pages[0]:
        lines.append(".SH COMMANDS")
        for command in pages[1:]:
            lines += [".TP", f".B {roff(_file_name(command))}(1)", roff(command.summary)]
    for block in page.notes:
        if block.title:
            lines.append(f'.SH "{roff(block.title.upper())}"')
        elif block.is_verbatim or block is page.notes[0]:
            lines.append(".SH NOTES")
        lines += _blocks_roff([block])
    lines.append(".SH SEE ALSO")
    others = pages[1:] if page is pages[0] else pages[:1]
    lines.append(",\n".join(f".BR {roff(_file_name(other))} (1)" for other in others))
    return "\n".join(lines).replace(" (1),", " (1),") + "\n"


def _file_name(page: CommandPage) -> str:
    return page.name.replace(" ", "-")


def _blocks_roff(blocks: Iterator[Block] | tuple[Block, ...] | list[Block]) -> Iterator[str]:
    for block in blocks:
        if block.is_verbatim:
            yield from (".PP", ".nf", ".RS 4", *map(roff, block.text.splitlines()), ".RE", ".fi")
        else:
            yield from (".PP", roff(block.text))


def roff(text: str) -> str:
    """Return plain text as roff that prints it."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = re.sub(r"[^\x00-\x7f]", lambda match: f"\\[u{ord(match[0]):04X}]", text)
    return re.sub(r"^(?=\.)", r"\\&", text)


def write_man_pages(folder: Path) -> list[Path]:
    """Write all man pages to ``folder`` and return their paths."""
    from journal._version import VERSION

    folder.mkdir(parents=True, exist_ok=True)
    pages, paths = load_pages(), []
    for page in pages:
        path = folder / f"{_file_name(page)}.1"
        path.write_text(man_page(page, pages, VERSION))
        paths.append(path)
    return paths


if __name__ == "__main__":
    paths = write_man_pages(Path(sys.argv[1]))
    print(f"{len(paths)} man pages in {sys.argv[1]}")
