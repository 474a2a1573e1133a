"""``journaltool head``: print the fingerprint of a journal's state."""

import json

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common

HELP = """Print the head of a journal.

The head names the state of the journal: it depends on every stored byte up to the end. Keep it in
another place than the journal. --expect-head HEAD of other commands then refuses a journal that was
cut, set back to an earlier state, or replaced, and accepts one that has grown. Without such a head,
nothing shows that the last blocks are missing.

The head of a sealed journal can be printed without its key; with the key, every block is
authenticated first. A compaction changes the head.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("head")}

\b
Examples:
  journaltool head work.journal > work.head
  journaltool head --key-file journal.key --json work.journal
"""


def head(journal: common.JournalArgument, as_json: common.JsonOption = False) -> None:
    """Print the head (the help text is HELP)."""
    with error_report.reporting_errors(about=journal):
        error_report.raise_on_signals()
        from journal.log.head import read_head

        found = read_head(journal)
        if as_json:
            values = {"journal": str(journal), "head": str(found), "next_seq": found.next_seq}
            typer.echo(json.dumps(values, indent=2))
        else:
            typer.echo(str(found))
