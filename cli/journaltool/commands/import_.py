"""``journaltool import``: a journal made again of its export."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes as exits
from journaltool.options import common as options
from journaltool.options import output_path as replacing
from journaltool.output import lenient_reader as reading
from journaltool.output import text as render

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

_TABLE_MAGIC = b"PAR1"


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The export; - for stdin.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="JOURNAL", help="The new journal, a file.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace JOURNAL if it exists and is a journal.")
    ] = False,
    quiet: options.QuietOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Import a journal (the help text is HELP)."""
    exits.interruptible()
    with exits.told(about=file):
        with replacing.place(output, force) as target:
            found = _read(file, target)
        if as_json:
            typer.echo(json.dumps(_known(found, file, output), indent=2))
        elif not quiet:
            render.table(_rows(found, output))


def _read(file: Path, target: Path) -> "ImportResult":
    from journal.export import import_lines, import_parquet

    if file == Path("-"):
        return import_lines(sys.stdin.buffer, target)
    with file.open("rb") as opened:
        is_table = opened.peek(len(_TABLE_MAGIC)).startswith(_TABLE_MAGIC)
        return import_parquet(file, target) if is_table else import_lines(opened, target)


def _known(found: "ImportResult", source: Path, target: Path) -> dict[str, Any]:
    """Everything, in what JSON has."""
    return {
        "source": str(source),
        "target": str(target),
        "id": found.journal_id.hex(),
        "events": found.events,
        "next_seq": found.next_seq,
        "redacted": [secret.value for secret in found.redacted],
    }


def _rows(found: "ImportResult", target: Path) -> list[tuple[str, str]]:
    rows = [
        ("journal", f"{render.quoted(str(target))}, {reading.count(found.events, 'event')}"),
        ("id", found.journal_id.hex()),
    ]
    if found.redacted:
        hidden = ", ".join(secret.value for secret in found.redacted)
        rows.append(("redacted", f"{hidden}: it cannot be resumed"))
    return rows
