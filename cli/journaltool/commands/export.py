"""``journaltool export``: write a journal as JSON lines or as a Parquet table."""

import json
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, output_path, redaction
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.export import ExportResult, Secret

HELP = """Write a journal as JSON lines or as a Parquet table.

The import command reads both. In JSON lines, the first line describes the journal, the last line
has the number of events, and each line between them is an event. Integers that JavaScript cannot
represent exactly are strings of digits. Bytes are {"text": …}, {"base64": …} or {"hex": …}. Events
of unknown kinds are exported with their tag and bytes.

--redact replaces contents by their sizes and salted hashes. The values are memory (with stacks and
globals), files (contents, not names), environment (with arguments), input, output, and all. Repeat
the option, or separate the values with commas. A journal imported from a redacted export cannot be
resumed, and is marked as such.

Parquet needs the package pyarrow.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("export")}

\b
Examples:
  journaltool export work.journal -o work.jsonl
  journaltool export --redact memory,input,environment work.journal | gzip > report.jsonl.gz
  journaltool export --format parquet work.journal -o work.parquet
"""

_STDOUT = Path("-")


class ExportFormat(StrEnum):
    """Export formats."""

    JSONL = "jsonl"
    PARQUET = "parquet"


def export(
    journal: common.JournalArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The new file, or - for stdout.")
    ] = _STDOUT,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="JSON lines or a Parquet table.")
    ] = ExportFormat.JSONL,
    redact: redaction.RedactOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    quiet: common.QuietOption = False,
    as_json: common.JsonBesideDataOption = False,
) -> None:
    """Export a journal (the help text is HELP)."""
    to_stdout = output == _STDOUT
    if form is ExportFormat.PARQUET and to_stdout and sys.stdout.isatty():
        raise typer.BadParameter(
            "a Parquet table cannot be written to a terminal: name a file with -o, or use a pipe"
        )
    with error_report.reporting_errors(about=journal, recoverable=journal):
        error_report.raise_on_signals()
        secrets = redaction.parse_secrets(redact)
        with progress.show_progress(quiet, to_stdout=to_stdout) as on_progress:
            write = partial(_write, form, journal, secrets, on_progress)
            out = sys.stdout.buffer if to_stdout else None
            result = (
                write(out) if out else output_path.write_file(journal, output, write, force=force)
            )
        if as_json and to_stdout:
            terminal.print_status_json(to_json(result, journal, output))
        elif as_json:
            typer.echo(json.dumps(to_json(result, journal, output), indent=2))
        elif not (quiet or to_stdout):
            terminal.print_table(to_table(result, journal, output))


def _write(
    form: ExportFormat,
    journal: Path,
    secrets: "list[Secret]",
    on_progress: progress.ProgressCallback,
    out: BinaryIO,
) -> "ExportResult":
    from journal.export import export_lines, export_parquet

    write = export_parquet if form is ExportFormat.PARQUET else export_lines
    return write(journal, out, redact=secrets, progress=on_progress)


def to_json(result: "ExportResult", journal: Path, target: Path) -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "journal": str(journal),
        "target": str(target),
        "id": result.journal_id.hex(),
        "events": result.events,
        "next_seq": result.next_seq,
        "size": result.size,
        "torn_size": result.torn_size,
        "redacted": [secret.value for secret in result.redacted],
    }


def to_table(result: "ExportResult", journal: Path, target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    rows = [
        (
            "journal",
            f"{terminal.quote(str(journal))}, {format_count(result.events, 'event')}",
        ),
        (
            "target",
            f"{terminal.quote(str(target))}, {format_count(_file_size(target), 'byte')}",
        ),
    ]
    if result.redacted:
        rows.append(("redacted", ", ".join(secret.value for secret in result.redacted)))
    return rows


def _file_size(path: Path) -> int:
    return path.stat().st_size
