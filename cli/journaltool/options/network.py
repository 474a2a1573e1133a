"""Options of the network of a guest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from journal.engine import NetworkPolicy

_RULES = (
    "listen=HOST:PORT, connect=HOST:PORT, resolve[=NAME], loopback (sockets inside the guest), "
    "all, or none"
)

NetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--net",
        metavar="RULE",
        help=f"Grant a part of the network: {_RULES}. Repeatable. The default is none.",
    ),
]
KeptNetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--net",
        metavar="RULE",
        help=f"Grant a part of the network: {_RULES}. Repeatable. The default is as recorded, for "
        "a journal that was recorded or approved here.",
    ),
]
ListenOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tcp-listen",
        metavar="HOST:PORT",
        help="Give the guest a socket that listens at this address, numbered after the "
        "directories. Repeatable.",
    ),
]
GrantListenOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tcp-listen",
        metavar="HOST:PORT",
        help="Let the guest listen again at this address, where it did from its start. Not needed "
        "for a journal that was recorded or approved here. Repeatable.",
    ),
]


def parse_rules(texts: Sequence[str]) -> "NetworkPolicy | None":
    """Return the policy of the rules of ``--net``, or None without a rule."""
    if not texts:
        return None
    from journal.engine import NetworkPolicy

    return NetworkPolicy.parse(texts)
