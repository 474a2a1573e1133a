"""``journaltool keygen``: make a key for sealed journals."""

from pathlib import Path
from typing import Annotated

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common
from journaltool.output import terminal

HELP = """Make a random key for sealed journals.

The file can be read only by its owner. Whoever has it can read all journals that were sealed with
it, and can change them unnoticed. Without it, nobody can read them: keep a copy.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("keygen")}

\b
Examples:
  journaltool keygen ~/journal.key
  journaltool keygen --quiet /run/keys/backup.key
"""


def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new key file.")],
    quiet: common.QuietOption = False,
) -> None:
    """Make a key (the help text is HELP)."""
    with error_report.reporting_errors():
        from journal import SealKey

        SealKey.generate().write(file)
    if not quiet:
        terminal.print_status(f"wrote a new key to {terminal.quote(str(file))}")
