"""Options that several commands share, and parsers of their values."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


class DurabilityChoice(StrEnum):
    """Values of ``journal.engine.Durability``, which is slow to import."""

    NONE = "none"
    INTERVAL = "interval"
    OUTPUT = "output"


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``65536`` or ``64MiB``."""
    digits = text.strip().rstrip("BKMGIbkmgi ")
    unit = text.strip()[len(digits) :].strip().upper()
    if not (digits.isascii() and digits.isdigit()) or unit not in _UNITS:
        raise typer.BadParameter(
            f"{text!r} is not a size: write for example 65536, 512KiB, 64MiB or 1GiB"
        )
    return int(digits) * _UNITS[unit]


def parse_seconds(text: str) -> float:
    """Return a number of seconds between 0 and 1e9, exclusive."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise typer.BadParameter(
            f"{text!r} is not a number of seconds: write a number greater than 0 and less than 1e9"
        )
    return value


def module_cache() -> Path | None:
    """Return the module cache below XDG_CACHE_HOME, or None if this is not an absolute path."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base) / "wasm-journal" / "modules" if base.startswith("/") else None


DurabilityOption = Annotated[
    DurabilityChoice,
    typer.Option(
        help="Deliver output after its events are durable (output), or at once, with a sync every "
        "second (interval) or only at the end (none)."
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        parser=parse_seconds,
        metavar="SECONDS",
        help="Stop the guest after this time with exit code 124.",
    ),
]
NetOption = Annotated[bool, typer.Option("--net", help="Let the guest use sockets.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stderr at the end.")
]
JournalArgument = Annotated[
    Path, typer.Argument(metavar="JOURNAL", help="The journal: a file or a directory.")
]
