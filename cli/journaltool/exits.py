"""How a command ends: its exit codes, and errors told in one sentence."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import typer

from journaltool import render


class Code(IntEnum):
    """The exit codes that are not the guest's own."""

    FINE = 0
    ERROR = 1
    """inspect, info, verify: the file cannot be read, or is no journal."""
    USAGE = 2
    DAMAGED = 3
    """inspect, verify: events are lost or wrong."""
    TORN = 4
    """verify: whole, but for the end that a crash cut short."""
    TIMEOUT = 124
    REFUSED = 125
    """run, resume: an error of the tool, not of the guest."""
    TRAPPED = 134


def of_signal(number: int) -> int:
    """The exit code of what ``number`` stopped."""
    return 128 + number


@contextmanager
def told(code: Code, *, about: Path | None = None, as_json: bool = False) -> Iterator[None]:
    """Turn what is expected to go wrong into a sentence on stderr and an exit with ``code``.

    An error of the format knows an offset and no file: ``about`` is the one that is read.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has enough
        _let_go_of_output()
        raise typer.Exit(Code.FINE) from None
    except (OSError, MemoryError) as error:
        _let_go_of_output()
        _tell(error, _system_reason(error), as_json)
    except Exception as error:
        # slow to import, but whoever raises one of them has imported them
        from journal.errors import FormatError, JournalError

        if not isinstance(error, JournalError):
            raise
        reason = str(error)
        if (
            isinstance(error, FormatError)
            and about is not None
            and not reason.startswith(f"{about} ")
        ):
            reason = f"{about}: {reason}"
        _tell(error, reason, as_json)
    else:
        return
    raise typer.Exit(code)


def _let_go_of_output() -> None:
    """Drop what cannot be written: Python would try, and complain, once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _system_reason(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    reason = error.strerror or str(error) or type(error).__name__
    return f"{os.fsdecode(error.filename)}: {reason}" if error.filename else reason


def _tell(error: Exception, reason: str, as_json: bool) -> None:
    from journal.errors import Divergence

    lines = [f"error: {reason}"]
    known: dict[str, object] = {"error": type(error).__name__, "message": reason}
    if isinstance(error, Divergence):
        lines = [f"error: the replay diverged from the journal at event {error.seq}"]
        lines += [f"  the journal has  {error.expected}", f"  the guest did    {error.actual}"]
        lines += render.backtrace(error.backtrace)
        known |= {"seq": error.seq, "expected": error.expected, "actual": error.actual}
        known["backtrace"] = error.backtrace
    render.say(*lines)
    if as_json:
        render.say_json({"outcome": "error", **known})
