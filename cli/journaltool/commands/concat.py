"""``journaltool concat``: join several journals."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.commands import recover
from journaltool.options import common
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.operations.concat import ConcatResult

HELP = """Join journals in a new file, with continuous sequence numbers.

The new journal has the id and the sequence numbers of the first journal, and the events of the
other journals get the following numbers. Crash debris is not copied. A damaged journal is an error,
unless --salvage joins its readable blocks.

SOURCES are only read. TARGET must not exist, and gets its name when it is complete and durable.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("concat")}

\b
Examples:
  journaltool concat monday.journal tuesday.journal -o week.journal
  journaltool concat --salvage --json broken.journal good.journal -o both.journal
"""


def concat(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCES...", help="The journals: files or directories.")
    ],
    output: common.NewJournalOption,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Join the readable blocks of damaged journals.")
    ] = False,
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Join journals (the help text is HELP)."""
    with error_report.reporting_errors():
        error_report.raise_on_signals()
        from journal.operations import concat

        with progress.show_progress(quiet) as on_progress:
            result = concat.concat(sources, output, salvage=salvage, progress=on_progress)
        if as_json:
            typer.echo(json.dumps(to_json(result, sources, output), indent=2))
        elif not quiet:
            terminal.print_table(to_table(result, sources, output))
    raise typer.Exit(exit_codes.ExitCode.FINE if result.is_whole else exit_codes.ExitCode.DAMAGED)


def to_json(result: "ConcatResult", sources: list[Path], target: Path) -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "sources": [
            {"journal": str(source), "first_seq": first}
            for source, first in zip(sources, result.first_seqs, strict=True)
        ],
        "target": str(target),
        "id": result.journal_id.hex(),
        "whole": result.is_whole,
        "size": result.size,
        "blocks": result.blocks,
        "events": result.events,
        "next_seq": result.next_seq,
        "torn_size": result.torn_size,
        "debris_size": result.debris_size,
        "lost_events": result.lost_events,
        "losses": [{**one._asdict(), "events": one.events} for one in result.losses],
    }


def to_table(result: "ConcatResult", sources: list[Path], target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    rows = [
        ("source" if not index else "", f"{terminal.quote(str(source))}, with first event {first}")
        for index, (source, first) in enumerate(zip(sources, result.first_seqs, strict=True))
    ]
    kept = f"{format_count(result.events, 'event')} in {format_count(result.blocks, 'block')}"
    rows += [("target", terminal.quote(str(target))), ("kept", kept)]
    left = result.torn_size + result.debris_size
    if left:
        rows.append(("left out", f"{format_count(left, 'byte')} of crash debris"))
    return rows + (recover.losses_to_table(result.losses) if result.losses else [])
