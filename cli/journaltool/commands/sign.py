"""``journaltool sign``: sign what a journal contains."""

import json
from pathlib import Path
from typing import Annotated

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common
from journaltool.output import terminal
from journaltool.output.phrases import format_count

HELP = """Sign what a journal contains.

The signature (Ed25519) is a block at the end of the journal, and covers every byte before it.
Whoever has the public key can check with verify --signed-by that all events are genuine. Events
that are appended later are unsigned until the journal is signed again. run and resume sign at their
end with --sign-key.

A signature is refused if the key has signed an earlier state and that part has changed since then.
Commands that write a new journal, such as compact, leave signatures out.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("sign")}

\b
Examples:
  journaltool sign --sign-key signing.key work.journal
  journaltool sign --sign-key signing.key --json work.journal
"""


def sign(
    journal: common.JournalArgument,
    sign_key: Annotated[
        Path,
        typer.Option("--sign-key", metavar="FILE", help="The key of journaltool keygen --sign."),
    ],
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Sign a journal (the help text is HELP)."""
    with error_report.reporting_errors(about=journal):
        error_report.raise_on_signals()
        from journal import SigningKey
        from journal.log import sign_journal

        key = SigningKey.read(sign_key)
        state = sign_journal(journal, key)
        if as_json:
            values = {
                "journal": str(journal),
                "public_key": str(key.public_key),
                "head": str(state.head),
                "next_seq": state.next_seq,
            }
            typer.echo(json.dumps(values, indent=2))
        elif not quiet:
            count = format_count(state.next_seq, "event")
            terminal.print_status(f"signed {terminal.quote(str(journal))} with {count}")
