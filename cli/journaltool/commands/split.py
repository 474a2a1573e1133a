"""``journaltool split``: write the parts of a journal as journals."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count, format_seq_range

if TYPE_CHECKING:
    from journal.operations.split import SplitResult

HELP = """Split a journal into several journals in a new directory.

A part starts at each sequence number of --at, after each snapshot with --snapshots, and before a
part would exceed --size. Parts keep the id of the journal and the sequence numbers and times of
their events. concat joins the parts, in the order of their names, to the same events.

Only the first part has the preamble, which describes the program. --self-contained repeats the
preamble at the start of each part. Such a part can be inspected on its own, and is marked as not
resumable, because the events before it are missing.

JOURNAL is only read. DIRECTORY must not exist, and gets its name when all parts are complete and
durable.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("split")}

\b
Examples:
  journaltool split day.journal --at 8 -o halves
  journaltool split day.journal --snapshots -o parts
  journaltool split day.journal --size 1GiB --self-contained -o parts
"""

_SHOWN_MAX = 40


def split(  # long: it names each option
    source: common.JournalArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIRECTORY", help="The new directory.")
    ],
    at: Annotated[
        list[int] | None,
        typer.Option(
            metavar="NUMBER",
            click_type=common.Number(min=0),
            help="Start a part at this sequence number. Repeatable.",
        ),
    ] = None,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Start a part after each snapshot.")
    ] = False,
    size: Annotated[
        int | None,
        common.size_option("Start a part before the current part would exceed this size."),
    ] = None,
    self_contained: Annotated[
        bool, typer.Option("--self-contained", help="Repeat the preamble in each part.")
    ] = False,
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Split a journal (the help text is HELP)."""
    if not (at or snapshots or size is not None):
        raise typer.BadParameter("at least one of --at, --snapshots and --size is required")
    with error_report.reporting_errors(recoverable=source):
        error_report.raise_on_signals()
        from journal.operations import split

        with progress.show_progress(quiet) as on_progress:
            result = split.split(
                source,
                output,
                at=at or (),
                snapshots=snapshots,
                size=size,
                self_contained=self_contained,
                progress=on_progress,
            )
        if as_json:
            typer.echo(json.dumps(to_json(result, source, output), indent=2))
        elif not quiet:
            terminal.print_table(to_table(result, source, output))


def to_json(result: "SplitResult", source: Path, target: Path) -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "source": str(source),
        "target": str(target),
        "id": result.journal_id.hex(),
        "size": result.size,
        "events": result.events,
        "torn_size": result.torn_size,
        "debris_size": result.debris_size,
        "parts": [{**part._asdict(), "path": str(part.path)} for part in result.parts],
    }


def to_table(result: "SplitResult", source: Path, target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    rows = [
        (
            "source",
            f"{terminal.quote(str(source))}, {format_count(result.events, 'event')}",
        ),
        (
            "target",
            f"{terminal.quote(str(target))}, {format_count(len(result.parts), 'part')}",
        ),
    ]
    for part in result.parts[:_SHOWN_MAX]:
        events = format_seq_range(part.first_seq, part.last_seq)
        rows.append((part.path.name, f"{events}, {format_count(part.size, 'byte')}"))
    if result.parts[_SHOWN_MAX:]:
        rows.append(("…", f"{len(result.parts) - _SHOWN_MAX} more"))
    left = result.torn_size + result.debris_size
    if left:
        rows.append(("left out", f"{format_count(left, 'byte')} of crash debris"))
    return rows
