"""``journaltool import``: a journal made again of its export."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes
from journaltool.options import common, output_path
from journaltool.output import terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.export import ImportResult

HELP = """Make a journal again of what export wrote: JSON lines, or a Parquet table.

Its events have the same numbers, times and bytes, and the journal has the same id. Where contents
were redacted, something as long stands in their place, and nobody can resume it.

FILE is - for JSON lines from standard input. The journal must not exist, and gets its name when it
is whole and durable.
"""

EPILOG = """\b
Exit codes:
  0  imported                                      2  wrong usage
  1  FILE cannot be read; the journal exists, or cannot be written
  3  FILE is no export, or is not whole            8  the journal could not be written whole

\b
Examples:
  journaltool import work.jsonl -o work.journal
  journaltool import - -o report.journal < report.jsonl
"""

_PARQUET_MAGIC = b"PAR1"


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The export; - for stdin.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="JOURNAL", help="The new journal, a file.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace JOURNAL if it exists and is a journal.")
    ] = False,
    quiet: common.QuietOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Import a journal (the help text is HELP)."""
    with exit_codes.reporting_errors(about=file):
        exit_codes.raise_on_sigint()
        with output_path.prepare_output(output, force) as target:
            found = _import_file(file, target)
        if as_json:
            typer.echo(json.dumps(to_json(found, file, output), indent=2))
        elif not quiet:
            terminal.print_table(to_table(found, output))


def _import_file(file: Path, target: Path) -> "ImportResult":
    from journal.export import import_lines, import_parquet

    if file == Path("-"):
        return import_lines(sys.stdin.buffer, target)
    with file.open("rb") as opened:
        is_table = opened.peek(len(_PARQUET_MAGIC)).startswith(_PARQUET_MAGIC)
        return import_parquet(file, target) if is_table else import_lines(opened, target)


def to_json(found: "ImportResult", source: Path, target: Path) -> dict[str, Any]:
    """Everything, in what JSON has."""
    return {
        "source": str(source),
        "target": str(target),
        "id": found.journal_id.hex(),
        "events": found.events,
        "next_seq": found.next_seq,
        "redacted": [secret.value for secret in found.redacted],
    }


def to_table(found: "ImportResult", target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    rows = [
        (
            "journal",
            f"{terminal.quote(str(target))}, {format_count(found.events, 'event')}",
        ),
        ("id", found.journal_id.hex()),
    ]
    if found.redacted:
        hidden = ", ".join(secret.value for secret in found.redacted)
        rows.append(("redacted", f"{hidden}: it cannot be resumed"))
    return rows
