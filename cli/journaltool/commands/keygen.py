"""``journaltool keygen``: make a key for sealed journals."""

from pathlib import Path
from typing import Annotated

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common
from journaltool.output import terminal

HELP = """Make a random key for sealed or signed journals.

The file can be read only by its owner. Whoever has it can read all journals that were sealed with
it, and can change them unnoticed. Without it, nobody can read them: keep a copy.

--sign makes a key for signatures instead, and prints its public key, which is no secret.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("keygen")}

\b
Examples:
  journaltool keygen ~/journal.key
  journaltool keygen --sign signing.key > signing.pub
"""


def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new key file.")],
    sign: Annotated[
        bool, typer.Option("--sign", help="Make a key for signatures, and print its public key.")
    ] = False,
    quiet: common.QuietOption = False,
) -> None:
    """Make a key (the help text is HELP)."""
    with error_report.reporting_errors():
        from journal import SealKey, SigningKey

        if sign:
            key = SigningKey.generate()
            key.write(file)
            typer.echo(str(key.public_key))
        else:
            SealKey.generate().write(file)
    if not quiet:
        terminal.print_status(f"wrote a new key to {terminal.quote(str(file))}")
