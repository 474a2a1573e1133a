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

from journaltool import exit_codes as exits
from journaltool.options import common as options
from journaltool.output import lenient_reader as reading
from journaltool.output import progress
from journaltool.output import text as render

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


class Format(StrEnum):
    """What a journal is exported as."""

    JSONL = "jsonl"
    PARQUET = "parquet"


def export(
    journal: options.JournalArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file; - for stdout.")
    ] = _STDOUT,
    form: Annotated[
        Format, typer.Option("--format", help="JSON lines, or a Parquet table.")
    ] = Format.JSONL,
    redact: Annotated[
        list[str] | None,
        typer.Option(metavar="KINDS", help="What not to tell, such as memory,input; or all."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    quiet: options.QuietOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout; on stderr if that is taken.")
    ] = False,
) -> None:
    """Export a journal (the help text is HELP)."""
    to_stdout = output == _STDOUT
    if form is Format.PARQUET and to_stdout and sys.stdout.isatty():
        raise typer.BadParameter("a table is not for a terminal: name a file with -o, or pipe it")
    exits.interruptible()
    with exits.told(about=journal, recoverable=journal):
        secrets = _secrets(redact or [])
        with progress.bar(not quiet) as report:
            write = partial(_write, form, journal, secrets, report)
            out = sys.stdout.buffer if to_stdout else None
            found = write(out) if out else _put(journal, output, force, write)
        if as_json and to_stdout:
            render.say_json(_known(found, journal, output))
        elif as_json:
            typer.echo(json.dumps(_known(found, journal, output), indent=2))
        elif not (quiet or to_stdout):
            render.table(_rows(found, journal, output))


def _secrets(texts: list[str]) -> "list[Secret]":
    """What is not to be told, by its names."""
    from journal.export import Secret

    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    known = {secret.value: [secret] for secret in Secret} | {"all": list(Secret)}
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r} cannot be redacted: {', '.join(known)} can")
    return [secret for name in names for secret in known[name]]


def _write(
    form: Format,
    journal: Path,
    secrets: "list[Secret]",
    report: progress.Report | None,
    out: BinaryIO,
) -> "ExportResult":
    from journal.export import export_lines, export_parquet

    write = export_parquet if form is Format.PARQUET else export_lines
    return write(journal, out, redact=secrets, progress=report)


def _put(
    journal: Path, target: Path, force: bool, write: "Callable[[BinaryIO], ExportResult]"
) -> "ExportResult":
    """Write a file that gets its name when it is whole and durable."""
    from journal import OptionError
    from journal.fs import atomic_file as durable
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

    durable.replace(target, fill)
    return found[0]


def _known(found: "ExportResult", journal: Path, target: Path) -> dict[str, Any]:
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


def _rows(found: "ExportResult", journal: Path, target: Path) -> list[tuple[str, str]]:
    rows = [
        ("journal", f"{render.quoted(str(journal))}, {reading.count(found.events, 'event')}"),
        ("target", f"{render.quoted(str(target))}, {reading.count(_size(target), 'byte')}"),
    ]
    if found.redacted:
        rows.append(("redacted", ", ".join(secret.value for secret in found.redacted)))
    return rows


def _size(path: Path) -> int:
    return path.stat().st_size
