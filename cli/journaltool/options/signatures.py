"""Options of signed journals."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool import error_report
from journaltool.exit_codes import ExitCode

if TYPE_CHECKING:
    from journal import PublicKey, SigningKey

SignKeyOption = Annotated[
    Path | None,
    typer.Option("--sign-key", metavar="FILE", help="Sign the journal with this key at the end."),
]


def read_signing_key(path: Path | None) -> "SigningKey | None":
    """Return the signing key in a file, or None without a path."""
    if path is None:
        return None
    from journal import SigningKey

    return SigningKey.read(path)


def sign_at_end(journal: Path, key: "SigningKey | None") -> None:
    """Sign a journal whose run has ended, if there is a key."""
    if key is not None:
        from journal.log import sign_journal

        sign_journal(journal, key)


def check(journal: Path, signed_by: str) -> None:
    """End the command unless a key has signed every event of the journal."""
    with error_report.reporting_errors(ExitCode.DAMAGED, about=journal):
        error_report.raise_on_signals()
        from journal.log import check_signature

        check_signature(journal, parse_public_key(signed_by))


def parse_public_key(text: str) -> "PublicKey":
    """Return the public key of a text, or in the file that a text names."""
    from journal import PublicKey

    path = Path(text)
    return PublicKey.read(path) if path.is_file() else PublicKey.parse(text)
