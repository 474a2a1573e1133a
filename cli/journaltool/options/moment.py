"""The option ``--at``, which names a moment of a journal."""

from pathlib import Path
from typing import Any

import typer


def moment_option(help_text: str) -> Any:
    """Return the declaration of ``--at`` with its help."""
    return typer.Option(
        "--at",
        metavar="MOMENT",
        help=f"{help_text} An event's number, a time as for --since, or snapshot:N, which counts "
        "from 1 for the first or from -1 for the newest.",
        callback=_check,
    )


def _check(text: str | None) -> str | None:
    """Return the text if it is a moment, and None if there is no option."""
    if text is not None:
        from journal.errors import OptionError
        from journal.operations import moments

        try:
            moments.parse(text)
        except OptionError as error:
            raise typer.BadParameter(str(error)) from None
    return text


def find(journal: Path, text: str | None) -> int | None:
    """Return the number of the last event at a moment; None if there is no option."""
    if text is None:
        return None
    from journal.operations import moments

    return moments.find_event(journal, moments.parse(text))
