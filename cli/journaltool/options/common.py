"""Options that several commands share, and the values that they take."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


class DurabilityChoice(StrEnum):
    """When the guest's output may leave: ``journal.Durability``, which is slow to import."""

    NONE = "none"
    INTERVAL = "interval"
    OUTPUT = "output"


def parse_size(text: str) -> int:
    """Bytes: a number, or one with a unit, such as 64MiB."""
    digits = text.strip().rstrip("BKMGIbkmgi ")
    unit = text.strip()[len(digits) :].strip().upper()
    if not (digits.isascii() and digits.isdigit()) or unit not in _UNITS:
        raise typer.BadParameter(f"{text!r} is not a size: write 65536, 512KiB, 64MiB or 1GiB")
    return int(digits) * _UNITS[unit]


def parse_seconds(text: str) -> float:
    """Seconds: a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise typer.BadParameter(f"{text!r} is not a number of seconds above zero")
    return value


def module_cache() -> Path | None:
    """Where compiled modules are kept, if the environment says so."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base) / "wasm-journal" / "modules" if base.startswith("/") else None


DurabilityOption = Annotated[
    DurabilityChoice,
    typer.Option(
        help="When output may leave: after its events survive a power loss (output), or earlier, "
        "with a sync once a second (interval) or none before the end (none)."
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        parser=parse_seconds, metavar="SECONDS", help="Stop the guest after this time, exit 124."
    ),
]
NetOption = Annotated[bool, typer.Option("--net", help="Let the guest have sockets.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="End with one JSON object on stderr that tells how it went.")
]
JournalArgument = Annotated[
    Path, typer.Argument(metavar="JOURNAL", help="The journal: a file, or a directory.")
]
