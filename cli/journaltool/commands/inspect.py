"""``journaltool inspect``: print the events of a journal, one per line."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool import error_report, exit_codes
from journaltool.commands import tail
from journaltool.options import common, groups, query, redaction
from journaltool.output import event_lines, lenient_reader
from journaltool.output.socket_notes import SocketNotes

if TYPE_CHECKING:
    from journal import Frame
    from journal.errors import FormatError
    from journal.log import Summary
    from journal.query.selection import QueryFilter

HELP = """Print the events of a journal.

Each line has the sequence number of an event, its time since the start, its kind and its fields. An
event is printed if it matches every option. For a repeated option, one match is enough, and --group
and --kind count as one option. The help of filter describes expressions.

An event of a socket also shows the addresses of both ends and the number of bytes that passed. A
call that was refused has the name of its error, such as ACCES.

Without --bytes all, long values are cut, and the values of environment variables are hidden. Events
of memory show the affected pages, but never their contents. --redact replaces contents by their
sizes and salted hashes, as the help of export describes; then the hashes of two calls differ.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("inspect")}

\b
Examples:
  journaltool inspect hello.journal
  journaltool inspect --group stdio --group inputs --from 100 --limit 20 work.journal
  journaltool inspect --where 'path glob "/tmp/**" and size > 4Ki' --since -5m work.journal
"""


_DEFAULT_COLUMNS = ",".join(event_lines.COLUMNS)

FromOption = Annotated[
    int,
    typer.Option(
        "--from", click_type=common.Number(min=0), metavar="N", help="Start at sequence number N."
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(click_type=common.Number(min=0), metavar="N", help="Print at most N events."),
]
FollowOption = Annotated[
    bool,
    typer.Option("--follow", "-f", help="Print new events as they are added, until Ctrl-C."),
]
ColumnsOption = Annotated[
    str,
    typer.Option(
        metavar="NAMES", help="The columns: seq, time, at, kind, group, tag, size and fields."
    ),
]


@groups.flatten
def inspect(  # long: it names each option
    journal: common.JournalArgument,
    start: FromOption = 0,
    limit: LimitOption = None,
    kind: query.KindOption = None,
    group: query.GroupOption = None,
    *,
    query_options: query.QueryArguments,
    follow: FollowOption = False,
    columns: ColumnsOption = _DEFAULT_COLUMNS,
    shown: common.ValueLimitOption = "48",
    redact: redaction.RedactOption = None,
    as_json: common.JsonLinesOption = False,
) -> None:
    """Print events (the help text is HELP)."""
    errors: list[FormatError] = []
    with error_report.reporting_errors(about=journal):
        if follow:
            error_report.raise_on_signals()
        from journal import Reader
        from journal.query.literals import JournalTimes
        from journal.query.selection import QueryFilter

        hidden = redaction.parse_redaction(redact)
        cut, names = event_lines.parse_value_limit(shown), event_lines.parse_columns(columns)
        with Reader(journal) as reader, SocketNotes(journal, hidden) as notes:
            summary, kinds = reader.summary(), reader.declarations().kinds
            selection = replace(query_options.build(group, kind, kinds=kinds), start=start)
            clock = JournalTimes(summary.first_time, summary.last_time)
            # In a journal of a process, a malformed event is printed and reported.
            is_process = reader.records_process()
            query_filter = QueryFilter(selection, clock, on_malformed=lambda error: is_process)
            malformed = errors if is_process else None
            if as_json:
                line = event_lines.json_line_formatter(malformed, kinds, hidden, notes)
            else:
                line = event_lines.text_line_formatter(
                    *(summary.first_time, cut, malformed, names, _has_colours(), kinds),
                    redaction=hidden,
                    notes=notes,
                )
            found = lenient_reader.read_blocks(
                reader, query_filter.start, query_filter.tags, errors.append
            )
            left = _print_lines(event_lines.format_blocks(found, query_filter, line), limit)
            if follow and left != 0:
                first = max(start, summary.last_seq + 1)
                _follow(journal, query_filter, line, notes, first, left, summary)
        lenient_reader.report_errors(journal, errors)
        if not errors:
            lenient_reader.report_torn_tail(journal, summary)
    raise typer.Exit(exit_codes.code_for_errors(errors))


def _has_colours() -> bool:
    """Return whether stdout is a terminal and NO_COLOR is not set (see no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _print_lines(chunks: Iterator[list[str]], limit: int | None) -> int | None:
    """Print lines up to the limit, and return the remaining limit."""
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
    query_filter: "QueryFilter",
    line: event_lines.LineFormatter,
    notes: SocketNotes,
    start: int,
    left: int | None,
    before: "Summary",
) -> None:
    """Print new selected events until Ctrl-C, or until ``left`` events were printed.

    ``before`` is the summary of the journal whose events have been printed.
    """
    from journal import JournalChanged, Reader
    from journal.log import RecoveryMode

    with Reader(journal, mode=RecoveryMode.SALVAGE) as reader:
        now = reader.summary()
        if now.journal_id != before.journal_id or now.last_seq < before.last_seq:
            raise JournalChanged(f"{journal} was cut or replaced", before.last_seq + 1)

        def frames() -> "Iterator[Frame]":
            for frame in reader.follow(start, stop=tail.flush_and_check_output):
                notes.describe(frame.seq, frame.tag, frame.payload)
                if query_filter.passes(frame):
                    yield frame
                else:
                    # A filter that lets nothing pass never writes, so it never fails to write.
                    tail.raise_if_output_closed()

        tail.print_frames(line, islice(frames(), left))
