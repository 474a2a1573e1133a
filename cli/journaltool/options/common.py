"""Options that several commands share, and parsers of their values."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer._click.core import Context, Parameter
from typer._click.types import IntRange

NUMBER_MAX = (1 << 63) - 1
"""Largest number of an option. No file has more bytes, and no journal has more events."""

_DIGITS_MAX = len(str(NUMBER_MAX))
_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``65536`` or ``64MiB``."""
    digits = text.strip().rstrip("BKMGIbkmgi ")
    unit = text.strip()[len(digits) :].strip().upper()
    if not (digits.isascii() and digits.isdigit()) or unit not in _UNITS:
        raise typer.BadParameter(
            f"{text!r} is not a size: write for example 65536, 512KiB, 64MiB or 1GiB"
        )
    size = int(digits) * _UNITS[unit] if len(digits) <= _DIGITS_MAX else NUMBER_MAX + 1
    if size > NUMBER_MAX:
        raise typer.BadParameter(
            f"the size {text[:40]!r} is too large: the limit is {NUMBER_MAX} bytes"
        )
    return size


def size_option(help_text: str) -> Any:
    """Return the declaration of an option whose value is a size."""
    return typer.Option(parser=parse_size, metavar="SIZE", help=help_text)


class Number(IntRange):
    """Type of an option that is a whole number from ``min`` to ``NUMBER_MAX``."""

    name = "whole number"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Any:
        """Return the number. The upper limit is not part of the help text."""
        number = super().convert(value, param, ctx)
        if number > NUMBER_MAX:
            self.fail(f"{str(number)[:40]} is too large: the limit is {NUMBER_MAX}", param, ctx)
        return number


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


def approvals_directory() -> Path | None:
    """Return the directory of the approvals below XDG_STATE_HOME or HOME, or None without both."""
    state, home = (os.environ.get(name, "") for name in ("XDG_STATE_HOME", "HOME"))
    if state.startswith("/"):
        return Path(state) / "wasm-journal" / "approvals"
    return Path(home) / ".local/state/wasm-journal/approvals" if home.startswith("/") else None


QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]
SilentOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing. The exit code has the result.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
JsonBesideDataOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object on stdout, or on stderr if stdout has the data."
    ),
]
JsonLinesOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object per line. Bytes are base64. Memory contents are omitted.",
    ),
]
ValueLimitOption = Annotated[
    str,
    typer.Option("--bytes", metavar="N|all", help="The number of bytes to show of a long value."),
]
ModuleOption = Annotated[
    Path | None, typer.Option(metavar="PATH", help="The module, if the journal does not store it.")
]
JournalArgument = Annotated[
    Path, typer.Argument(metavar="JOURNAL", help="The journal: a file or a directory.")
]
NewJournalOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="TARGET", help="The new journal file.")
]
