"""Traffic of sockets by peer, as a table or as JSON."""

import json
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from journaltool.output import terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.export.redaction import Redaction
    from journal.rewrite.progress import ProgressCallback

_HEADINGS = ("peer", "connections", "refused", "lost", "sent", "received", "sends", "receipts")


def collect(
    journal: Path, hidden: "Redaction | None", on_progress: "ProgressCallback"
) -> dict[str, Any]:
    """Return the traffic of a journal as JSON values, the peers with most bytes first."""
    from journal.operations import collect_peers

    result = collect_peers(journal, progress=on_progress)
    peers = [{**asdict(one), "connections": one.connections} for one in result.peers.values()]
    for peer in peers:
        peer["peer"] = _redact(peer["peer"], hidden)
    peers.sort(key=lambda one: (-one["sent_size"] - one["received_size"], one["peer"]))
    return {"journal": str(journal), "peers": peers, "damaged": result.damaged}


def _redact(peer: str, hidden: "Redaction | None") -> str:
    from journal.export import Secret

    if hidden is None or Secret.ADDRESSES not in hidden.secrets:
        return peer
    try:
        return str(hidden.redact_address(ip_address(peer)))
    except ValueError:
        return peer  # Not an address, but a word such as unknown.


def show(values: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    """Print the traffic."""
    if as_json:
        typer.echo(json.dumps(values, indent=2))
    elif not quiet:
        _print_table(values)


def _print_table(values: dict[str, Any]) -> None:
    from journaltool.output.memory_format import format_size

    peers = values["peers"]
    rows = [
        ("journal", terminal.quote(values["journal"])),
        ("peers", f"{len(peers):,}"),
        ("connections", f"{sum(one['connections'] for one in peers):,}"),
    ]
    if values["damaged"]:
        rows.append(("damage", f"{format_count(values['damaged'], 'damaged place')} skipped"))
    terminal.print_table(rows)
    if not peers:
        return
    typer.echo("")
    rows_of_peers = [
        (
            one["peer"],
            f"{one['connections']:,}",
            f"{one['refused']:,}",
            f"{one['lost']:,}",
            format_size(one["sent_size"]),
            format_size(one["received_size"]),
            f"{one['sends']:,}",
            f"{one['receipts']:,}",
        )
        for one in peers
    ]
    terminal.print_grid([_HEADINGS, *rows_of_peers], names=1)
