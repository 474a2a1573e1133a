"""``journaltool snapshots``: list the snapshots of a journal."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_time

if TYPE_CHECKING:
    from journal.snapshots import SnapshotInfo

HELP = """List the snapshots of a journal.

The number of a snapshot is the sequence number of its event, which resume --at takes. The column
pages counts the pages of 4 KiB that the snapshot stores. Earlier snapshots store the other pages.
The last column says whether a resume can start at the snapshot.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("snapshots")}

\b
Examples:
  journaltool snapshots work.journal
  journaltool snapshots --json work.journal
"""

DIGEST_DIGITS = 12
_HEADINGS = ("number", "time", "trigger", "pages", "bytes", "digest", "resumable")
_NUMERIC = {"number", "pages", "bytes"}


def snapshots(
    journal: common.JournalArgument,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line, with complete digests.")
    ] = False,
) -> None:
    """List snapshots (the help text is HELP)."""
    with error_report.reporting_errors(about=journal):
        from journal import Reader, list_snapshots

        found: list[SnapshotInfo] = []
        try:
            with (
                progress.show_phase("reading the journal", quiet=False, to_stdout=as_json),
                Reader(journal) as reader,
            ):
                for one in list_snapshots(reader):
                    if as_json:
                        typer.echo(json.dumps(to_json(one)))
                    else:
                        found.append(one)
        finally:
            if found:
                _print_rows([_HEADINGS, *map(to_row, found)])
        if not found and not as_json:
            terminal.print_status(f"{journal} has no snapshots")


def to_json(one: "SnapshotInfo") -> dict[str, Any]:
    """Return the result as JSON values."""
    from journal.snapshots.triggers import format_trigger

    return {
        "seq": one.seq,
        "time": one.time,
        "trigger": format_trigger(one.trigger),
        "pages": one.pages,
        "size": one.size,
        "digest": one.digest.hex(),
        "whole": one.whole,
        "has_stacks": one.has_stacks,
        "function": one.function,
        "calls": one.calls,
        "resumable": one.resumable,
        "reason": one.reason,
    }


def to_row(one: "SnapshotInfo") -> tuple[str, ...]:
    """Return the table row of a snapshot."""
    from journal.snapshots.triggers import format_trigger

    return (
        str(one.seq),
        format_time(one.time),
        format_trigger(one.trigger),
        str(one.pages),
        str(one.size),
        one.digest.hex()[:DIGEST_DIGITS] or "-",
        "yes" if one.resumable else f"no: {one.reason}",
    )


def _print_rows(rows: list[tuple[str, ...]]) -> None:
    """Print rows as aligned columns, with numbers aligned to the right."""
    safe = [tuple(map(terminal.escape, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    for row in safe:
        cells = [
            cell.rjust(width) if heading in _NUMERIC else cell.ljust(width)
            for heading, cell, width in zip(_HEADINGS, row, widths, strict=True)
        ]
        typer.echo("  ".join(cells).rstrip())
