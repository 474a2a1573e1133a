"""``journaltool fork``: create journals that continue another one at an earlier moment."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, moment
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.operations import Fork

HELP = """Create a journal that continues another one at an earlier moment.

The new journal NEW is a directory that shares the files of JOURNAL by hard links. Shared bytes take
no space, and neither journal needs the other one afterwards: each can be resumed, compacted or
removed. With --count, several journals are made, and NEW gets -1, -2 and so on before its suffix.
Without --at, they begin after the newest snapshot that a resume can start from.

JOURNAL is only read, and can be in use. Where hard links are not possible, as on another file
system, the bytes are copied. NEW gets its name when it is complete and durable.

To fork and resume in one step, use resume --into.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("fork")}

\b
Examples:
  journaltool fork work.journal --into try
  journaltool fork work.journal --at snapshot:2 --into try --count 10
  journaltool fork work.journal --at 2026-11-21T10:00 --into morning
"""


def fork(
    journal: common.JournalArgument,
    into: Annotated[
        Path, typer.Option("--into", metavar="NEW", help="The new journal, a directory.")
    ],
    at: Annotated[
        str | None, moment.moment_option("The last event that NEW shares with JOURNAL.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            click_type=common.Number(min=1), metavar="N", help="The number of new journals."
        ),
    ] = None,
    reseed: Annotated[
        bool,
        typer.Option(
            "--reseed/--no-reseed",
            help="Tell the program that it is one of several with this history: its generation "
            "file gets a new content, and its monotonic clock counts the time since the fork.",
        ),
    ] = True,
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Fork a journal (the help text is HELP)."""
    with error_report.reporting_errors(about=journal, recoverable=journal):
        error_report.raise_on_signals()
        import journal as library

        with progress.show_phase("forking the journal", quiet=quiet):
            seq = moment.find(journal, at)
            if count is None:
                forks = [library.fork(journal, into, at=seq, reseed=reseed)]
            else:
                forks = library.fork(journal, into, at=seq, count=count, reseed=reseed)
        if as_json:
            typer.echo(json.dumps(to_json(forks, journal), indent=2))
        elif not quiet:
            terminal.print_table(to_table(forks, journal))


def to_json(forks: "Sequence[Fork]", journal: Path) -> dict[str, object]:
    """Return the result as JSON values."""
    first = forks[0]
    return {
        "journal": str(journal),
        "id": first.parent.hex(),
        "seq": first.seq,
        "forks": [
            {"path": str(one.path), "shared_files": one.shared_files, "copied": one.is_copied}
            for one in forks
        ],
    }


def to_table(forks: "Sequence[Fork]", journal: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    rows = [
        ("journal", terminal.quote(str(journal))),
        ("moment", f"after event {forks[0].seq}"),
    ]
    return rows + [("fork", f"{terminal.quote(str(one.path))}, {_describe(one)}") for one in forks]


def _describe(one: "Fork") -> str:
    shared = f"shares {format_count(one.shared_files, 'file')}"
    if not one.is_copied:
        return shared
    if not one.shared_files:
        return "a copy: it shares no file"
    return f"{shared}, and the others are copies"
