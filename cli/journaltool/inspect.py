"""``journaltool inspect``: the events of a journal, one a line."""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool import exits, options, reading, render

if TYPE_CHECKING:
    from journal.block import Block
    from journal.errors import FormatError

HELP = """Print the events of a journal.

Each has a line: its number, the time since the start, its kind and its fields.

Bytes are cut, and values of environment variables left out, unless --bytes all asks for them.
"""

EPILOG = """\b
Exit codes:
  0  all events are shown; a tail that a crash cut short is noted on stderr
  1  the journal cannot be read, or is none        2  wrong usage
  3  events are lost or malformed: what can be read is shown

\b
Examples:
  journaltool inspect hello.journal
  journaltool inspect --group stdio --group inputs --from 100 --limit 20 work.journal
  journaltool inspect --json --kind StreamWrite work.journal | head -3
"""

_EVERYTHING = "all"

Line = Callable[[int, int, int, bytes, int], str]
"""The line of an event: its number, time, tag, payload, and the offset of its block."""


def _shown(text: str) -> int | None:
    """How many bytes of a value are shown; None for all."""
    if text == _EVERYTHING:
        return None
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"{text!r} is neither a number nor {_EVERYTHING}")
    return int(text)


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
        typer.Option(
            "--json", help="One JSON object a line, with every value exact; bytes base64."
        ),
    ] = False,
) -> None:
    """Print events (the help text is HELP)."""
    errors: list[FormatError] = []
    with exits.told(exits.Code.ERROR, about=journal):
        from journal import MalformedEvent, Reader

        tags, cut = _tags(kind or (), group or ()), _shown(shown)
        with Reader(journal) as reader:
            summary = reader.summary()
            line = _json_line(errors) if as_json else _line(summary.first_time, cut, errors)
            lines = _lines(reading.blocks(reader, start, tags, errors.append), start, tags, line)
            _print(lines, limit)
        if errors:
            # events that are lost come before events that are wrong
            first = min(errors, key=lambda error: isinstance(error, MalformedEvent))
            more = f", and {reading.count(len(errors) - 1, 'error')} more" if errors[1:] else ""
            render.say(f"error: {journal}: {first}{more}")
        if not errors and (note := reading.torn(summary)):
            render.say(f"{journal}: {note}")
    raise typer.Exit(exits.Code.DAMAGED if errors else exits.Code.FINE)


def _print(lines: Iterator[list[str]], limit: int | None) -> None:
    left = limit
    out = sys.stdout.buffer
    for chunk in lines:
        found = chunk if left is None else chunk[:left]
        if found:
            out.write(("\n".join(found) + "\n").encode("utf-8", "backslashreplace"))
        if left is not None:
            left -= len(found)
            if left <= 0:
                break
    out.flush()


def _lines(
    blocks: "Iterator[Block]", start: int, tags: frozenset[int] | None, line: Line
) -> Iterator[list[str]]:
    """The lines of a block at a time."""
    for block in blocks:
        offset = block.offset
        rows = zip(block.seqs, block.times, block.tags, block.payloads(), strict=True)
        skipped = max(0, start - block.first_seq) if isinstance(block.seqs, range) else 0
        yield [
            line(seq, time, tag, payload, offset)
            for seq, time, tag, payload in islice(rows, skipped, None)
            if (tags is None or tag in tags) and seq >= start
        ]


def _line(first_time: int, cut: int | None, errors: "list[FormatError]") -> Line:
    from journal.errors import MalformedEvent
    from journaltool import fields

    plans = fields.lines_to_read(cut)
    of_bytes = fields.readable_bytes(cut)

    def line(seq: int, time: int, tag: int, payload: bytes, offset: int) -> str:
        plan = plans.get(tag)
        if plan is None:
            text = f"unknown({tag})  payload={of_bytes(payload)}"
        else:
            try:
                text = plan.text(payload, offset)
            except MalformedEvent as error:
                errors.append(error)
                text = f"malformed({tag})  payload={of_bytes(payload)}"
        return f"{seq:>10}  {(time - first_time) / 1e6:>+14.6f}s  {text}"

    return line


def _json_line(errors: "list[FormatError]") -> Line:
    from journal.errors import MalformedEvent
    from journaltool import fields

    plans = fields.lines_of_json()
    of_bytes = fields.json_bytes

    def line(seq: int, time: int, tag: int, payload: bytes, offset: int) -> str:
        plan = plans.get(tag)
        if plan is None:
            text = f'"tag": {tag}, "kind": null, "payload": {of_bytes(payload)}'
        else:
            try:
                text = plan.text(payload, offset)
            except MalformedEvent as error:
                errors.append(error)
                text = f'"tag": {tag}, "kind": null, "payload": {of_bytes(payload)}'
        return f'{{"seq": {seq}, "time": {time}, {text}}}'

    return line


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
