"""Output to a terminal: escaped text, status sentences on stderr, and tables on stdout."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import TextIOWrapper

PROGRAM = "journaltool"
_COLUMNS = 80


def escape(text: str) -> str:
    """Return text with every unprintable character escaped. A newline could fake a line."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def quote(text: str) -> str:
    """Return text unchanged, or as a repr if it is empty, has spaces or is not printable."""
    return text if text and text.isprintable() and " " not in text else repr(text)


def print_status(*lines: str) -> None:
    """Print one message of one or more lines on stderr."""
    _STDERR.write(f"{PROGRAM}: " + "\n".join(map(escape, lines)) + "\n")


def make_note_printer(quiet: bool) -> Callable[[str], None]:
    """Return the function that prints notes of the library, or ignores them if ``quiet``."""
    return (lambda text: None) if quiet else print_status


def make_resume_greeting(quiet: bool) -> Callable[[bytes], None] | None:
    """Return the function that shows a user on a terminal that a resumed program waits for input.

    It receives the unfinished last line of the program's output, and shows it again. Without a
    terminal, or if ``quiet``, return None.
    """
    if quiet or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def greet(line: bytes) -> None:
        if line:
            _STDERR.write_bytes(line)
        else:
            print_status("resumed, waiting for input")

    return greet


def print_status_json(values: Mapping[str, object]) -> None:
    """Print one JSON object on one line of stderr."""
    _STDERR.write(json.dumps(values) + "\n")


def show_transient_line(text: str) -> None:
    """Show a line on the terminal of stderr until the next message, in place of the one before."""
    _STDERR.show(escape(f"{PROGRAM}: {text}"))


def clear_transient_line() -> None:
    """Remove the line that ``show_transient_line`` showed, if there is one."""
    _STDERR.clear()


class _StandardError:
    """Standard error with at most one transient line, which each message removes. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._shown_size = 0

    def write(self, text: str) -> None:
        """Write a message."""
        with self._lock:
            self.clear()
            sys.stderr.write(text)
            sys.stderr.flush()

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are. A program's prompt has its colours."""
        with self._lock:
            self.clear()
            sys.stderr.buffer.write(data)
            sys.stderr.flush()

    def show(self, line: str) -> None:
        """Show a transient line, cut to the width of the terminal."""
        with self._lock:
            line = line[: _read_columns() - 1]
            sys.stderr.write(f"\r{line.ljust(self._shown_size)}")
            sys.stderr.flush()
            self._shown_size = len(line)

    def clear(self) -> None:
        """Remove the transient line."""
        with self._lock:
            if self._shown_size:
                sys.stderr.write(f"\r{' ' * self._shown_size}\r")
                sys.stderr.flush()
                self._shown_size = 0


_STDERR = _StandardError()


def _read_columns() -> int:
    """Return the width of the terminal of stderr."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS


def indent_backtrace(text: str) -> list[str]:
    """Return the indented lines of a backtrace of a guest. An empty text has no lines."""
    return [f"  {line.strip()}" for line in text.splitlines() if line.strip()]


def format_seconds(value: float) -> str:
    """Return seconds with their unit and no more digits than needed."""
    return f"{value:g} s"


def print_table(rows: Iterable[tuple[str, str]], *, style: Mapping[str, str] | None = None) -> None:
    """Print names and values on stdout, one pair per line. ``style`` has rich styles by name."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # The terminal may not use UTF-8.
    found = list(rows)
    width = max((len(name) for name, _ in found), default=0)
    if not sys.stdout.isatty():  # Styles need a terminal, and rich is slow to import.
        sys.stdout.write("".join(f"{name:<{width}}  {escape(value)}\n" for name, value in found))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    styles = style or {}
    with console.capture() as printed:  # rich would exit the process on a broken pipe.
        for name, value in found:
            line = Text(f"{name:<{width}}  ", style="bold")
            line.append(escape(value), style=styles.get(name, "not bold"))
            console.print(line, soft_wrap=True)
    sys.stdout.write(printed.get())


def print_grid(rows: Sequence[Sequence[str]], *, names: int) -> None:
    """Print rows on stdout. The first ``names`` columns are names, and the others are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if at < names else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
