"""``journaltool inspect``: the events of a journal, one a line."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool import exit_codes
from journaltool.commands import tail
from journaltool.options import common, query
from journaltool.output import event_lines, lenient_reader, terminal

if TYPE_CHECKING:
    from journal import Frame
    from journal.errors import FormatError
    from journal.query.selection import QueryFilter

HELP = """Print the events of a journal.

Each has a line: its number, the time since the start, its kind and its fields. An event is shown
if all options hold for it; of several groups and kinds, descriptors, or paths, any one. What an
expression can say is told by filter --help.

Bytes are cut, and values of environment variables left out, unless --bytes all asks for them.
Of memory it tells which pages there are, and never what is in them.
"""

EPILOG = """\b
Exit codes:
  0  all events are shown; a tail that a crash cut short is noted on stderr
  1  the journal cannot be read, or is none        2  wrong usage
  3  blocks or events are wrong                    5  blocks are missing
  6  what had been durable is lost; in all three, what can be read is shown
  130  with --follow: Ctrl-C ended it

\b
Examples:
  journaltool inspect hello.journal
  journaltool inspect --group stdio --group inputs --from 100 --limit 20 work.journal
  journaltool inspect --where 'path glob "/tmp/**" and size > 4Ki' --since -5m work.journal
"""


def inspect(
    journal: common.JournalArgument,
    start: Annotated[
        int, typer.Option("--from", min=0, metavar="N", help="Begin with event number N.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Print N events at most.")
    ] = None,
    kind: query.KindOption = None,
    group: query.GroupOption = None,
    since: query.SinceOption = None,
    until: query.UntilOption = None,
    fd: query.FdOption = None,
    path: query.PathOption = None,
    where_: query.WhereOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with events that are added, until Ctrl-C.")
    ] = False,
    columns: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Of seq, time, at, kind, group, tag, size and fields."),
    ] = ",".join(event_lines.COLUMNS),
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
    with exit_codes.reporting_errors(about=journal):
        if follow:
            exit_codes.raise_on_sigint()
        from journal import Reader
        from journal.query.literals import JournalTimes
        from journal.query.selection import QueryFilter

        cut, names = event_lines.parse_value_limit(shown), event_lines.parse_columns(columns)
        which = query.build_query(
            groups=group or (),
            kinds=kind or (),
            since=since,
            until=until,
            descriptors=fd or (),
            paths=path or (),
            where=where_,
        )
        with Reader(journal) as reader:
            summary = reader.summary()
            clock = JournalTimes(summary.first_time, summary.last_time)
            # what cannot be looked into is shown, and told of
            sieve = QueryFilter(replace(which, start=start), clock, on_malformed=lambda error: True)
            if as_json:
                line = event_lines.json_line_formatter(errors)
            else:
                line = event_lines.text_line_formatter(
                    summary.first_time, cut, errors, names, _has_colours()
                )
            found = lenient_reader.read_blocks(reader, sieve.start, sieve.tags, errors.append)
            left = _print_lines(event_lines.format_blocks(found, sieve, line), limit)
            if follow and left != 0:
                _follow(journal, sieve, line, max(start, summary.last_seq + 1), left)
        lenient_reader.report_errors(journal, errors)
        if not errors and (
            note := lenient_reader.describe_torn_tail(
                summary, lenient_reader.last_segment_name(journal)
            )
        ):
            terminal.print_status(f"{journal}: {note}")
    raise typer.Exit(exit_codes.code_for_errors(errors))


def _has_colours() -> bool:
    """Whether lines may have colours; see no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _print_lines(chunks: Iterator[list[str]], limit: int | None) -> int | None:
    """Print lines; give how many more may be printed."""
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
    return left


def _follow(
    journal: Path,
    sieve: "QueryFilter",
    line: event_lines.LineFormatter,
    start: int,
    left: int | None,
) -> None:
    """Print what comes and is let through, until Ctrl-C or so many have come."""
    from journal import Reader, RecoveryMode

    with Reader(journal, mode=RecoveryMode.SALVAGE) as reader:

        def frames() -> "Iterator[Frame]":
            for frame in reader.follow(start, stop=tail.flush_and_wait):
                if sieve.passes(frame):
                    yield frame

        tail.print_new_events(line, islice(frames(), left))
