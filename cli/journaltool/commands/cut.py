"""``journaltool cut``: a journal as it was at an event."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool import exit_codes
from journaltool.options import common
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.operations.split import CutResult

HELP = """Write a journal as it was at an event, up to and with it, to a new file.

It is the same journal, with its id, numbers and times, and can be resumed, played and compared as
the whole one could then. Without --at, it ends with the newest snapshot that a resume can begin at.
What stands behind that is not even read: so a journal can be cut in front of damage.

To go on from there, resume --at NUMBER --into NEW makes a journal of its own instead.

SOURCE is only read. TARGET must not exist, and gets its name when it is whole and durable.
"""

EPILOG = """\b
Exit codes:
  0  cut                                           2  wrong usage
  1  SOURCE cannot be read, or is no journal, or has no such event or no such snapshot;
     TARGET exists, or cannot be written
  3  a block of SOURCE is wrong                    5  blocks of SOURCE are missing
  6  what is lost of SOURCE had been durable       8  TARGET could not be written whole

\b
Examples:
  journaltool cut work.journal --at 8 -o before.journal
  journaltool cut work.journal -o snapshot.journal
"""


def cut(
    source: common.JournalArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="TARGET", help="The new journal, a file.")
    ],
    at: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=0, help="The last event to keep.")
    ] = None,
    quiet: common.QuietOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Cut a journal (the help text is HELP)."""
    with exit_codes.reporting_errors(about=source, recoverable=source):
        exit_codes.raise_on_sigint()
        from journal.operations import split as splitting

        last = _find_newest_resumable(source) if at is None else at
        with progress.show_bar(not quiet) as on_progress:
            found = splitting.cut(source, output, at=last, progress=on_progress)
        if as_json:
            typer.echo(json.dumps(to_json(found, source, output), indent=2))
        elif not quiet:
            terminal.print_table(to_table(found, source, output))


def _find_newest_resumable(journal: Path) -> int:
    """The number of the newest snapshot that can be resumed from."""
    from journal import OptionError, Reader, list_snapshots

    newest: int | None = None
    with Reader(journal) as reader:
        for one in list_snapshots(reader, count_pages=False):
            newest = one.seq if one.resumable else newest
    if newest is None:
        raise OptionError(f"{journal} has no snapshot to resume from: say where to cut with --at")
    return newest


def to_json(found: "CutResult", source: Path, target: Path) -> dict[str, object]:
    """Everything, in what JSON has."""
    return {
        "source": str(source),
        "target": str(target),
        "id": found.journal_id.hex(),
        "events": found.events,
        "last_seq": found.last_seq,
        "size": found.size,
    }


def to_table(found: "CutResult", source: Path, target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    return [
        ("source", terminal.quote(str(source))),
        (
            "target",
            f"{terminal.quote(str(target))}, {format_count(found.size, 'byte')}",
        ),
        (
            "kept",
            f"{format_count(found.events, 'event')}, up to number {found.last_seq}",
        ),
    ]
