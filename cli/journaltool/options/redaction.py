"""The option ``--redact``, which export, inspect, tail, info and stats share."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from journal.export import Secret
    from journal.export.redaction import Redaction

RedactOption = Annotated[
    list[str] | None,
    typer.Option(
        "--redact",
        metavar="KINDS",
        help="Contents to redact, such as memory,input, or all.",
    ),
]


def parse_secrets(texts: list[str] | None) -> "list[Secret]":
    """Return the named redactions."""
    from journal.export import Secret

    names = [name.strip() for text in texts or () for name in text.split(",") if name.strip()]
    choices = {secret.value: [secret] for secret in Secret} | {"all": list(Secret)}
    for name in names:
        if name not in choices:
            raise typer.BadParameter(
                f"{name!r} cannot be redacted: choose from {', '.join(choices)}"
            )
    return [secret for name in names for secret in choices[name]]


def parse_redaction(texts: list[str] | None) -> "Redaction | None":
    """Return the redaction of the named contents, or None without names."""
    if not texts:
        return None
    from journal.export.redaction import Redaction

    return Redaction(parse_secrets(texts)) or None
