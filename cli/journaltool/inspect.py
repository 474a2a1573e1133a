"""``journaltool inspect``: the events of a journal, one a line."""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool import exits, lines, options, reading, render

if TYPE_CHECKING:
    from journal.errors import FormatError

HELP = """Print the events of a journal.

Each has a line: its number, the time since the start, its kind and its fields.

Bytes are cut, and values of environment variables left out, unless --bytes all asks for them.
Of memory it tells which pages there are, and never what is in them.
"""

EPILOG = """\b
Exit codes:
  0  all events are shown; a tail that a crash cut short is noted on stderr
  1  the journal cannot be read, or is none        2  wrong usage
  3  blocks or events are wrong                    5  blocks are missing
  6  what had been durable is lost; in all three, what can be read is shown

\b
Examples:
  journaltool inspect hello.journal
  journaltool inspect --group stdio --group inputs --from 100 --limit 20 work.journal
  journaltool inspect --json --kind StreamWrite work.journal | head -3
"""


def inspect(
    journal: options.JournalArgument,
    start: Annotated[
        int, typer.Option("--from", min=0, metavar="N", help="Begin with event number N.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Print N events at most.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only events of this kind, or tag. Repeatable."),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only kinds of this group. Repeatable."),
    ] = None,
    shown: Annotated[
        str, typer.Option("--bytes", metavar="N|all", help="How much of long values is shown.")
    ] = "48",
    as_json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object a line: all but memory exact, bytes base64."),
    ] = False,
) -> None:
    """Print events (the help text is HELP)."""
    errors: list[FormatError] = []
    with exits.told(about=journal):
        from journal import Reader

        tags, cut = _tags(kind or (), group or ()), lines.cut(shown)
        with Reader(journal) as reader:
            summary = reader.summary()
            line = (
                lines.of_json(errors) if as_json else lines.to_read(summary.first_time, cut, errors)
            )
            found = reading.blocks(reader, start, tags, errors.append)
            _print(lines.of_blocks(found, start, tags, line), limit)
        reading.tell_errors(journal, errors)
        if not errors and (note := reading.torn(summary, reading.last_file(journal))):
            render.say(f"{journal}: {note}")
    raise typer.Exit(exits.of_errors(errors))


def _print(chunks: Iterator[list[str]], limit: int | None) -> None:
    left = limit
    out = sys.stdout.buffer
    for chunk in chunks:
        found = chunk if left is None else chunk[:left]
        if found:
            out.write(("\n".join(found) + "\n").encode("utf-8", "backslashreplace"))
        if left is not None:
            left -= len(found)
            if left <= 0:
                break
    out.flush()


def _tags(kinds: Sequence[str], groups: Sequence[str]) -> frozenset[int] | None:
    """The tags that are asked for: of one of the kinds or groups; None for all."""
    if not kinds and not groups:
        return None
    from journal import Group
    from journal.events import BY_TAG

    by_name = {cls.__name__.lower(): tag for tag, cls in BY_TAG.items()}
    known = {group.value: group for group in Group}
    tags = {_tag(name, by_name) for name in kinds}
    for name in groups:
        if name.lower() not in known:
            raise typer.BadParameter(f"{name!r} is no group: there are {', '.join(known)}")
        tags |= {tag for tag, cls in BY_TAG.items() if cls.group is known[name.lower()]}
    return frozenset(tags)


def _tag(name: str, by_name: dict[str, int]) -> int:
    if name.isascii() and name.isdigit():
        return int(name)
    if name.lower() in by_name:
        return by_name[name.lower()]
    raise typer.BadParameter(
        f"{name!r} is no kind of event; the kinds are those that inspect prints"
    )
