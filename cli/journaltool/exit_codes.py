"""How a command ends: its exit codes, and errors told in one sentence."""

import os
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import typer

from journaltool.output import terminal


class ExitCode(IntEnum):
    """The exit codes that are not the guest's own.

    run and resume say REFUSED for every error: the others might be the guest's.
    """

    FINE = 0
    ERROR = 1
    """The journal cannot be read, or is none; something cannot be written; options do not fit."""
    USAGE = 2
    DAMAGED = 3
    """Blocks or events are wrong. verify and recover: anything at all is wrong, or lost."""
    TORN = 4
    """Whole, but for the end that a crash cut short; only verify calls that an end of its own."""
    GAP = 5
    """Blocks are missing that must have been there."""
    LOST = 6
    """What is lost had been durable: a sync had promised it."""
    LOCKED = 7
    """Another process writes the journal."""
    STORAGE = 8
    """The operating system refused a write or a sync."""
    UNFINISHED = 9
    """verify: nothing wrong so far, and the time was over."""
    TIMEOUT = 124
    REFUSED = 125
    """run, resume: an error of the tool, not of the guest."""
    INTERRUPTED = 130
    TRAPPED = 134


_CODE_OF_ERROR = {
    "LostAcknowledged": ExitCode.LOST,
    "MissingEvents": ExitCode.GAP,
    "CorruptBlock": ExitCode.DAMAGED,
    "MalformedEvent": ExitCode.DAMAGED,
    "TornBlock": ExitCode.TORN,
    "JournalLocked": ExitCode.LOCKED,
    "StorageError": ExitCode.STORAGE,
}
"""By the names of the classes in journal.errors, which is not imported for it; others are ERROR."""

_GRAVEST_FIRST = (ExitCode.LOST, ExitCode.GAP, ExitCode.DAMAGED, ExitCode.ERROR)


def code_for_signal(number: int) -> int:
    """The exit code of what ``number`` stopped."""
    return 128 + number


def code_for_error(error: Exception) -> ExitCode:
    """The exit code that a kind of error has to itself."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return next((_CODE_OF_ERROR[kind] for kind in kinds if kind in _CODE_OF_ERROR), ExitCode.ERROR)


def code_for_errors(errors: Iterable[Exception]) -> ExitCode:
    """The exit code of the gravest; FINE when there is none."""
    codes = {code_for_error(error) for error in errors}
    if not codes:
        return ExitCode.FINE
    return next((code for code in _GRAVEST_FIRST if code in codes), ExitCode.ERROR)


@contextmanager
def reporting_errors(
    code: ExitCode | None = None,
    *,
    about: Path | None = None,
    recoverable: Path | None = None,
    as_json: bool = False,
) -> Iterator[None]:
    """Turn what is expected to go wrong into a sentence on stderr and an exit.

    The exit is with ``code``, or with the one that the kind of error has to itself. An error of the
    format knows an offset and no journal: ``about`` is the one that is read. Where damage of
    ``recoverable`` is in the way, the sentence ends with what to do about it.
    """
    try:
        yield
        sys.stdout.flush()
        return
    except BrokenPipeError:  # whoever read our output has enough
        _discard_output()
        raise typer.Exit(ExitCode.FINE) from None
    except KeyboardInterrupt:  # of a command that is ended by it: see ``raise_on_sigint``
        _discard_output()
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except (OSError, MemoryError) as error:
        _discard_output()
        _report_error(error, _describe_system_error(error), as_json)
        own = ExitCode.ERROR
    except Exception as error:
        # slow to import, but whoever raises one of them has imported them
        from journal.errors import DamagedJournal, FormatError, JournalError

        if not isinstance(error, JournalError):
            raise
        reason = str(error)
        if (
            isinstance(error, FormatError)
            and about is not None
            and not reason.startswith(f"{about} ")
        ):
            reason = f"{about}: {reason}"
        if isinstance(error, DamagedJournal) and recoverable is not None:
            name = shlex.quote(str(recoverable))
            reason += f"; what is left of it: {terminal.PROGRAM} recover {name} TARGET"
        _report_error(error, reason, as_json)
        own = code_for_error(error)
    raise typer.Exit(own if code is None else code)


def die_on_sigint() -> None:
    """Let SIGINT terminate the process by its default action.

    Python runs signal handlers only between bytecodes, so a handler would wait for the end of a
    long call into native code, such as the compilation of a module.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_on_sigint() -> None:
    """Let Ctrl-C end this command with an exit code, not by the signal, and clean up before."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _discard_output() -> None:
    """Drop what cannot be written: Python would try, and complain, once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _describe_system_error(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    reason = error.strerror or str(error) or type(error).__name__
    named = None if isinstance(error.filename, int) else error.filename  # a number is a descriptor
    return f"{os.fsdecode(named)}: {reason}" if named else reason


def _report_error(error: Exception, reason: str, as_json: bool) -> None:
    from journal.errors import Divergence

    lines = [f"error: {reason}"]
    known: dict[str, object] = {"error": type(error).__name__, "message": reason}
    if isinstance(error, Divergence):
        lines = [f"error: the replay diverged from the journal at event {error.seq}"]
        lines += [f"  the journal has  {error.expected}", f"  the guest did    {error.actual}"]
        lines += terminal.indent_backtrace(error.backtrace)
        known |= {"seq": error.seq, "expected": error.expected, "actual": error.actual}
        known["backtrace"] = error.backtrace
    terminal.print_status(*lines)
    if as_json:
        terminal.print_status_json({"outcome": "error", **known})
