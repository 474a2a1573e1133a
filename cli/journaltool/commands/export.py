"""``journaltool export``: write a journal as JSON lines, as a Parquet table or as packets."""

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
    from journal.export import ExportPcapngResult, ExportResult, Secret

    AnyResult = ExportResult | ExportPcapngResult

HELP = """Write a journal as JSON lines or as a Parquet table, or its traffic as packets.

The import command reads the first two. In JSON lines, the first line describes the journal, the
last line has the number of events, and each line between them is an event. Integers that JavaScript
cannot represent exactly are strings of digits. Bytes are {"text": …}, {"base64": …} or {"hex": …}.
Events of unknown kinds are exported with their tag and bytes.

--redact replaces contents by their sizes and salted hashes. The values are memory (with stacks and
globals), files (contents, not names), environment (with arguments), input and output (also of
sockets and pipes), addresses (with resolved names; other addresses stand in their place), and all.
Repeat the option, or separate the values with commas. A journal imported from a redacted export
cannot be resumed, and is marked as such.

--pcap FILE writes the traffic of the sockets as a pcapng file for Wireshark and tshark. The packets
are made from the events: connections, the bytes that passed, and ends. Their times are those of the
events, and their comments have the sequence numbers. The bytes of files that sock_send_file sent
are not in it.

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
  journaltool export --pcap server.pcapng server.journal
"""

_STDOUT = Path("-")


class ExportFormat(StrEnum):
    """Export formats."""

    JSONL = "jsonl"
    PARQUET = "parquet"
    PCAPNG = "pcapng"


def export(
    journal: common.JournalArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The new file, or - for stdout.")
    ] = _STDOUT,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="JSON lines, a Parquet table or packets.")
    ] = ExportFormat.JSONL,
    pcap: Annotated[
        Path | None,
        typer.Option(
            "--pcap", metavar="FILE", help="Write packets to FILE: as --format pcapng -o FILE."
        ),
    ] = None,
    redact: redaction.RedactOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    quiet: common.QuietOption = False,
    as_json: common.JsonBesideDataOption = False,
) -> None:
    """Export a journal (the help text is HELP)."""
    if pcap is not None:
        if output != _STDOUT or form is not ExportFormat.JSONL:
            raise typer.BadParameter("--pcap names its own file and format: omit -o and --format")
        form, output = ExportFormat.PCAPNG, pcap
    to_stdout = output == _STDOUT
    if form is not ExportFormat.JSONL and to_stdout and sys.stdout.isatty():
        what = "a Parquet table" if form is ExportFormat.PARQUET else "a file of packets"
        raise typer.BadParameter(
            f"{what} cannot be written to a terminal: name a file with -o, or use a pipe"
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
) -> "AnyResult":
    from journal.export import export_lines, export_parquet, export_pcapng

    if form is ExportFormat.PCAPNG:
        return export_pcapng(journal, out, redact=secrets, progress=on_progress)
    write = export_parquet if form is ExportFormat.PARQUET else export_lines
    return write(journal, out, redact=secrets, progress=on_progress)


def to_json(result: "AnyResult", journal: Path, target: Path) -> dict[str, Any]:
    """Return the result as JSON values."""
    counts = {"events", "next_seq", "packets", "connections"}
    return {
        "journal": str(journal),
        "target": str(target),
        "id": result.journal_id.hex(),
        **{name: value for name, value in result._asdict().items() if name in counts},
        "size": result.size,
        "torn_size": result.torn_size,
        "redacted": [secret.value for secret in result.redacted],
    }


def to_table(result: "AnyResult", journal: Path, target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    values = result._asdict()
    if "packets" in values:
        packets = format_count(values["packets"], "packet")
        counted = f"{packets} of {format_count(values['connections'], 'connection')}"
    else:
        counted = format_count(values["events"], "event")
    rows = [
        ("journal", f"{terminal.quote(str(journal))}, {counted}"),
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
