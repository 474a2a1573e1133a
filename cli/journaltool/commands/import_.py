"""``journaltool import``: rebuild a journal from an export."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, output_path
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.export import ImportResult

HELP = """Rebuild a journal from a JSON lines or Parquet export.

The events keep their sequence numbers, times and bytes, and the journal keeps its id. Redacted
contents are replaced by placeholder bytes of the same size, and a journal with redacted contents
cannot be resumed.

FILE may be - for JSON lines from standard input. JOURNAL must not exist, and gets its name when it
is complete and durable.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("import")}

\b
Examples:
  journaltool import work.jsonl -o work.journal
  journaltool import - -o report.journal < report.jsonl
"""

_PARQUET_MAGIC = b"PAR1"


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The export, or - for stdin.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="JOURNAL", help="The new journal file.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace JOURNAL if it is an existing journal.")
    ] = False,
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Import a journal (the help text is HELP)."""
    with error_report.reporting_errors(about=file):
        error_report.raise_on_signals()
        with (
            progress.show_phase("importing", quiet),
            output_path.prepare_output(output, force) as target,
        ):
            result = _import_file(file, target)
        if as_json:
            typer.echo(json.dumps(to_json(result, file, output), indent=2))
        elif not quiet:
            terminal.print_table(to_table(result, output))


def _import_file(file: Path, target: Path) -> "ImportResult":
    from journal import OptionError
    from journal.export import import_lines, import_parquet
    from journal.fs import file_kind

    if file == Path("-"):
        return import_lines(sys.stdin.buffer, target)
    try:
        descriptor, _ = file_kind.open_source(file, OptionError)
    except OptionError as error:
        raise OptionError(f"{error}; a stream is read as - from standard input") from None
    with open(descriptor, "rb") as opened:  # noqa: PTH123 (this is a descriptor)
        is_table = opened.peek(len(_PARQUET_MAGIC)).startswith(_PARQUET_MAGIC)
        return import_parquet(file, target) if is_table else import_lines(opened, target)


def to_json(result: "ImportResult", source: Path, target: Path) -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "source": str(source),
        "target": str(target),
        "id": result.journal_id.hex(),
        "events": result.events,
        "next_seq": result.next_seq,
        "redacted": [secret.value for secret in result.redacted],
    }


def to_table(result: "ImportResult", target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    rows = [
        (
            "journal",
            f"{terminal.quote(str(target))}, {format_count(result.events, 'event')}",
        ),
        ("id", result.journal_id.hex()),
    ]
    if result.redacted:
        hidden = ", ".join(secret.value for secret in result.redacted)
        rows.append(("redacted", f"{hidden}; the journal cannot be resumed"))
    return rows
