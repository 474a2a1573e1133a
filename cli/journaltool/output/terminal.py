"""What goes to a terminal: text that cannot control it, sentences on stderr, and tables."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import TextIOWrapper

PROGRAM = "journaltool"


def escape(text: str) -> str:
    """``text`` with everything escaped that is not printable: a newline could fake a line."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def quote(text: str) -> str:
    """``text`` as it is if that is plain to see, else in quotes, with escapes."""
    return text if text and text.isprintable() and " " not in text else repr(text)


def print_status(*lines: str) -> None:
    """One thing to know, on stderr."""
    sys.stderr.write(f"{PROGRAM}: " + "\n".join(map(escape, lines)) + "\n")
    sys.stderr.flush()


def print_status_json(values: Mapping[str, object]) -> None:
    """One JSON object, on one line of stderr."""
    sys.stderr.write(json.dumps(values) + "\n")
    sys.stderr.flush()


def indent_backtrace(text: str) -> list[str]:
    """A guest's backtrace, indented; no lines where there is none."""
    return [f"  {line.strip()}" for line in text.splitlines() if line.strip()]


def format_seconds(value: float) -> str:
    """A span of time as it was given: no more digits than needed."""
    return f"{value:g} s"


def print_table(rows: Iterable[tuple[str, str]], *, style: Mapping[str, str] | None = None) -> None:
    """Names and values on stdout, one pair a line; ``style`` has rich's styles of some names."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal has UTF-8
    found = list(rows)
    width = max((len(name) for name, _ in found), default=0)
    if not sys.stdout.isatty():  # nothing is styled there, and rich is slow to import
        sys.stdout.write("".join(f"{name:<{width}}  {escape(value)}\n" for name, value in found))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    styles = style or {}
    with console.capture() as printed:  # rich would end the process itself on a broken pipe
        for name, value in found:
            line = Text(f"{name:<{width}}  ", style="bold")
            line.append(escape(value), style=styles.get(name, "not bold"))
            console.print(line, soft_wrap=True)
    sys.stdout.write(printed.get())


def print_grid(rows: Sequence[Sequence[str]], *, names: int) -> None:
    """Rows of cells on stdout; so many columns in front are names, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if at < names else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
