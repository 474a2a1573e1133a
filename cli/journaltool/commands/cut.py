"""``journaltool cut``: copy a journal up to an event."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, moment
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.operations.split import CutResult

HELP = """Copy a journal up to and including an event to a new file.

The copy has the same id, sequence numbers and times, and can be resumed and replayed as the journal
could at that event. Without --at, the copy ends with the newest snapshot that a resume can start
from. Blocks after the last event are not read, so a journal can be cut before damage.

To resume at that event, use resume --at MOMENT --into NEW, which also makes a new journal. A fork
shares the bytes instead of a copy; a cut is one file.

JOURNAL is only read. TARGET must not exist, and gets its name when it is complete and durable.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("cut")}

\b
Examples:
  journaltool cut work.journal --at 8 -o before.journal
  journaltool cut work.journal -o snapshot.journal
"""


def cut(
    source: common.JournalArgument,
    output: common.NewJournalOption,
    at: Annotated[str | None, moment.moment_option("The last event to copy.")] = None,
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Cut a journal (the help text is HELP)."""
    with error_report.reporting_errors(about=source, recoverable=source):
        error_report.raise_on_signals()
        from journal.operations import split

        last = moment.find(source, at)
        if last is None:
            last = _find_newest_resumable(source)
        with progress.show_progress(quiet) as on_progress:
            result = split.cut(source, output, at=last, progress=on_progress)
        if as_json:
            typer.echo(json.dumps(to_json(result, source, output), indent=2))
        elif not quiet:
            terminal.print_table(to_table(result, source, output))


def _find_newest_resumable(journal: Path) -> int:
    """Return the sequence number of the newest resumable snapshot, or raise ``OptionError``."""
    from journal import OptionError, Reader, list_snapshots

    newest: int | None = None
    with Reader(journal) as reader:
        for one in list_snapshots(reader, count_pages=False):
            newest = one.seq if one.resumable else newest
    if newest is None:
        raise OptionError(
            f"{journal} has no resumable snapshot: set the last event to copy with --at"
        )
    return newest


def to_json(result: "CutResult", source: Path, target: Path) -> dict[str, object]:
    """Return the result as JSON values."""
    return {
        "source": str(source),
        "target": str(target),
        "id": result.journal_id.hex(),
        "events": result.events,
        "last_seq": result.last_seq,
        "size": result.size,
    }


def to_table(result: "CutResult", source: Path, target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    return [
        ("source", terminal.quote(str(source))),
        (
            "target",
            f"{terminal.quote(str(target))}, {format_count(result.size, 'byte')}",
        ),
        (
            "kept",
            f"{format_count(result.events, 'event')}, up to event {result.last_seq}",
        ),
    ]
