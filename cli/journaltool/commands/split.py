"""``journaltool split``: the parts of a journal as journals."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes
from journaltool.options import common
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count, format_seq_range

if TYPE_CHECKING:
    from journal.operations.split import SplitResult

HELP = """Write the parts of a journal as journals to a new directory.

A part begins at each number that --at names, behind each snapshot with --snapshots, and where a
part would get larger than --size. Parts keep the numbers and times of their events, and the
journal's id; joined by concat, in the order of their names, they are the same events again.

What ran stands in the first part alone. With --self-contained each part repeats it in front: it can
be looked at by itself, and says that it cannot be resumed, as what is between is missing.

SOURCE is only read. DIRECTORY must not exist, and gets its name when all is whole and durable.
"""

EPILOG = """\b
Exit codes:
  0  split                                         2  wrong usage
  1  SOURCE cannot be read, or is no journal; there is nothing to split; DIRECTORY exists, or
     cannot be written
  3  a block of SOURCE is wrong                    5  blocks of SOURCE are missing
  6  what is lost of SOURCE had been durable       8  a part could not be written whole

\b
Examples:
  journaltool split day.journal --at 8 -o halves
  journaltool split day.journal --snapshots -o parts
  journaltool split day.journal --size 1GiB --self-contained -o parts
"""

_SHOWN_MAX = 40


def split(
    source: common.JournalArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIRECTORY", help="The new directory.")
    ],
    at: Annotated[
        list[int] | None,
        typer.Option(metavar="NUMBER", min=0, help="Begin a part at this event (repeatable)."),
    ] = None,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Begin a part behind each snapshot.")
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(
            parser=common.parse_size, metavar="SIZE", help="Begin a part before one is larger."
        ),
    ] = None,
    self_contained: Annotated[
        bool, typer.Option("--self-contained", help="Repeat in each part what ran, and on what.")
    ] = False,
    quiet: common.QuietOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Split a journal (the help text is HELP)."""
    if not (at or snapshots or size is not None):
        raise typer.BadParameter("say where to split: --at, --snapshots or --size")
    with exit_codes.reporting_errors(recoverable=source):
        exit_codes.raise_on_sigint()
        from journal.operations import split as splitting

        with progress.show_bar(not quiet) as on_progress:
            found = splitting.split(
                source,
                output,
                at=at or (),
                snapshots=snapshots,
                size=size,
                self_contained=self_contained,
                progress=on_progress,
            )
        if as_json:
            typer.echo(json.dumps(to_json(found, source, output), indent=2))
        elif not quiet:
            terminal.print_table(to_table(found, source, output))


def to_json(found: "SplitResult", source: Path, target: Path) -> dict[str, Any]:
    """Everything, in what JSON has."""
    return {
        "source": str(source),
        "target": str(target),
        "id": found.journal_id.hex(),
        "size": found.size,
        "events": found.events,
        "torn_size": found.torn_size,
        "debris_size": found.debris_size,
        "parts": [{**part._asdict(), "path": str(part.path)} for part in found.parts],
    }


def to_table(found: "SplitResult", source: Path, target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    rows = [
        (
            "source",
            f"{terminal.quote(str(source))}, {format_count(found.events, 'event')}",
        ),
        (
            "target",
            f"{terminal.quote(str(target))}, {format_count(len(found.parts), 'part')}",
        ),
    ]
    for part in found.parts[:_SHOWN_MAX]:
        events = format_seq_range(part.first_seq, part.last_seq)
        rows.append((part.path.name, f"{events}, {format_count(part.size, 'byte')}"))
    if found.parts[_SHOWN_MAX:]:
        rows.append(("…", f"{len(found.parts) - _SHOWN_MAX} more"))
    left = found.torn_size + found.debris_size
    if left:
        rows.append(("left out", f"{format_count(left, 'byte')} of crashes"))
    return rows
