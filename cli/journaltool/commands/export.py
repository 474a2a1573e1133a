"""``journaltool export``: a journal as text or a table that other programs read."""

import json
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from journaltool import exit_codes
from journaltool.options import common
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.export import ExportResult, Secret

HELP = """Write a journal as JSON lines, or as a Parquet table, from which import makes it again.

The first line says whose journal it is, each further one is an event, the last one says how many
they were. Whole numbers that JavaScript would not have exactly are strings of digits; bytes are
{"text": …}, {"base64": …} or {"hex": …}. What is of no known kind is told as it stands.

--redact replaces contents by their sizes and salted hashes: memory (stacks and globals too), files
(what is in them, not their names), environment (and arguments), input, output; or all. Repeat it,
or separate with commas. What is imported of such an export cannot be resumed, and says so.

Parquet needs pyarrow.
"""

EPILOG = """\b
Exit codes:
  0  exported                                      2  wrong usage
  1  JOURNAL cannot be read, or is none; the target exists, or cannot be written
  3  a block of JOURNAL is wrong                   5  blocks of JOURNAL are missing
  6  what is lost of JOURNAL had been durable

\b
Examples:
  journaltool export work.journal -o work.jsonl
  journaltool export --redact memory,input,environment work.journal | gzip > report.jsonl.gz
  journaltool export --format parquet work.journal -o work.parquet
"""

_STDOUT = Path("-")


class ExportFormat(StrEnum):
    """What a journal is exported as."""

    JSONL = "jsonl"
    PARQUET = "parquet"


def export(
    journal: common.JournalArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file; - for stdout.")
    ] = _STDOUT,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="JSON lines, or a Parquet table.")
    ] = ExportFormat.JSONL,
    redact: Annotated[
        list[str] | None,
        typer.Option(metavar="KINDS", help="What not to tell, such as memory,input; or all."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    quiet: common.QuietOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout; on stderr if that is taken.")
    ] = False,
) -> None:
    """Export a journal (the help text is HELP)."""
    to_stdout = output == _STDOUT
    if form is ExportFormat.PARQUET and to_stdout and sys.stdout.isatty():
        raise typer.BadParameter("a table is not for a terminal: name a file with -o, or pipe it")
    with exit_codes.reporting_errors(about=journal, recoverable=journal):
        exit_codes.raise_on_sigint()
        secrets = _parse_secrets(redact or [])
        with progress.show_bar(not quiet) as on_progress:
            write = partial(_write, form, journal, secrets, on_progress)
            out = sys.stdout.buffer if to_stdout else None
            found = write(out) if out else _write_atomically(journal, output, force, write)
        if as_json and to_stdout:
            terminal.print_status_json(to_json(found, journal, output))
        elif as_json:
            typer.echo(json.dumps(to_json(found, journal, output), indent=2))
        elif not (quiet or to_stdout):
            terminal.print_table(to_table(found, journal, output))


def _parse_secrets(texts: list[str]) -> "list[Secret]":
    """What is not to be told, by its names."""
    from journal.export import Secret

    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    known = {secret.value: [secret] for secret in Secret} | {"all": list(Secret)}
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r} cannot be redacted: {', '.join(known)} can")
    return [secret for name in names for secret in known[name]]


def _write(
    form: ExportFormat,
    journal: Path,
    secrets: "list[Secret]",
    on_progress: progress.ProgressCallback | None,
    out: BinaryIO,
) -> "ExportResult":
    from journal.export import export_lines, export_parquet

    write = export_parquet if form is ExportFormat.PARQUET else export_lines
    return write(journal, out, redact=secrets, progress=on_progress)


def _write_atomically(
    journal: Path, target: Path, force: bool, write: "Callable[[BinaryIO], ExportResult]"
) -> "ExportResult":
    """Write a file that gets its name when it is whole and durable."""
    from journal import OptionError
    from journal.fs import atomic_file
    from journal.rewrite.block_copier import check_output_path

    if not (force and target.is_file() and not target.is_symlink()):
        check_output_path(target, [journal])
    elif target.samefile(journal):
        raise OptionError(f"{target} is the journal, which is only read")
    found: list[ExportResult] = []

    def fill(file: BinaryIO) -> None:
        found.append(write(file))
        if not force and os.path.lexists(target):
            raise OptionError(f"{target} exists already")

    atomic_file.replace(target, fill)
    return found[0]


def to_json(found: "ExportResult", journal: Path, target: Path) -> dict[str, Any]:
    """Everything, in what JSON has."""
    return {
        "journal": str(journal),
        "target": str(target),
        "id": found.journal_id.hex(),
        "events": found.events,
        "next_seq": found.next_seq,
        "size": found.size,
        "torn_size": found.torn_size,
        "redacted": [secret.value for secret in found.redacted],
    }


def to_table(found: "ExportResult", journal: Path, target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    rows = [
        (
            "journal",
            f"{terminal.quote(str(journal))}, {format_count(found.events, 'event')}",
        ),
        (
            "target",
            f"{terminal.quote(str(target))}, {format_count(_file_size(target), 'byte')}",
        ),
    ]
    if found.redacted:
        rows.append(("redacted", ", ".join(secret.value for secret in found.redacted)))
    return rows


def _file_size(path: Path) -> int:
    return path.stat().st_size
