"""Report of errors on stderr, and of interruptions by Ctrl-C."""

import errno
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from journaltool.exit_codes import ExitCode, code_for_error
from journaltool.output import terminal

if TYPE_CHECKING:
    from journal import GrantsMissing


_REPEAT_SECONDS = 0.05


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM in the main thread."""


@contextmanager
def reporting_errors(
    code: ExitCode | None = None,
    *,
    about: Path | None = None,
    recoverable: Path | None = None,
    as_json: bool = False,
) -> Iterator[None]:
    """Report an expected error as a sentence on stderr, and exit.

    The exit code is ``code``, or by default the code of the error's class. The message
    of a FormatError without a path gets the path ``about``. If ``recoverable`` is damaged, the
    message ends with the command that recovers it. ``as_json`` adds a JSON object on stderr.
    """
    try:
        yield
        sys.stdout.flush()
        return
    except BrokenPipeError:  # The reader of the output closed it.
        _discard_output()
        raise typer.Exit(ExitCode.FINE) from None
    except Terminated:  # See ``raise_on_signals``.
        _discard_output()
        raise typer.Exit(ExitCode.TERMINATED) from None
    except KeyboardInterrupt:
        _discard_output()
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except (OSError, MemoryError) as error:
        _discard_output()
        _report_error(error, _describe_system_error(error), as_json)
        default_code = ExitCode.ERROR
    except Exception as error:
        # This import is slow, but code that raises such an error has imported the module.
        from journal.errors import JournalError, OutputLost, StorageError

        if not isinstance(error, JournalError):
            raise
        if isinstance(error, OutputLost) and error.errno == errno.EPIPE:
            # Other programs are ended by SIGPIPE then, also without a message.
            raise typer.Exit(ExitCode.BROKEN_PIPE) from None
        reason = _describe_journal_error(error, about, recoverable)
        if isinstance(error, StorageError) and error.is_disk_full:
            # Only run and resume pass this code. Without an event there is nothing to resume.
            can_resume = code is ExitCode.REFUSED and error.first_seq_lost > 0
            reason += f"; make room, then {'resume' if can_resume else 'repeat the command'}"
        _report_error(error, reason, as_json, about)
        default_code = code_for_error(error)
    raise typer.Exit(default_code if code is None else code)


def run_reporting(command: Callable[[], object]) -> None:
    """Run the command line, and report an output that cannot be written as each command does.

    typer prints help texts and the version itself, and ends by ``SystemExit``.
    """
    try:
        with reporting_errors():
            try:
                command()
            except SystemExit as end:
                # typer exits with 1 and without a message when the reader has closed the output.
                if isinstance(end.__context__, BrokenPipeError):
                    raise end.__context__ from None
                sys.stdout.flush()
                raise
    except typer.Exit as end:
        raise SystemExit(end.exit_code) from None


def die_on_sigint() -> None:
    """Let SIGINT terminate the process by its default action.

    Python runs signal handlers only between bytecodes, so a handler would wait for the end of a
    long call into native code, such as the compilation of a module.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_on_signals() -> None:
    """Make SIGINT and SIGTERM raise exceptions, so that the command cleans up before it exits.

    Python ignores an exception that is raised in a finalizer or a callback. The signal is repeated
    then, until the exception reaches the command.
    """
    sys.unraisablehook = _repeat_ignored_signal
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, _raise_terminated)


def _repeat_ignored_signal(ignored: "sys.UnraisableHookArgs") -> None:
    """Send an interruption that Python ignored once more; report other exceptions as usual."""
    if not isinstance(ignored.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    is_sigterm = isinstance(ignored.exc_value, Terminated)
    number = signal.SIGTERM if is_sigterm else signal.SIGINT
    # The finalizer has ended by then. Another thread must send it: here it would be ignored again.
    threading.Timer(_REPEAT_SECONDS, os.kill, (os.getpid(), number)).start()


def _raise_terminated(*_: object) -> NoReturn:
    raise Terminated


def _discard_output() -> None:
    """Redirect stdout to the null device if it cannot be flushed.

    Otherwise Python would try to flush it again at exit, and print an error.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def describe_error(error: Exception, about: Path) -> str:
    """Return a sentence for an error that concerns one of many journals."""
    if isinstance(error, OSError | MemoryError):
        reason = _describe_system_error(error)
    else:
        from journal.errors import JournalError

        is_expected = isinstance(error, JournalError)
        reason = _describe_journal_error(error, about, None) if is_expected else repr(error)
    return reason if str(about) in reason else f"{about}: {reason}"


def _describe_system_error(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory"
    reason = error.strerror or str(error) or type(error).__name__
    path = None if isinstance(error.filename, int) else error.filename  # An int is a descriptor.
    return f"{os.fsdecode(path)}: {reason}" if path else reason


def _describe_journal_error(error: Exception, about: Path | None, recoverable: Path | None) -> str:
    from journal.errors import DamagedJournal, FormatError, WrongKey

    reason = str(error)
    if isinstance(error, FormatError | WrongKey) and about is not None:
        is_named = error.path or reason.startswith(f"{about} ")
        reason = reason if is_named else f"{about}: {reason}"
    if isinstance(error, DamagedJournal) and recoverable is not None:
        name = shlex.quote(str(recoverable))
        reason += f"; recover the readable events with: {terminal.PROGRAM} recover {name} TARGET"
    return reason


def _describe_missing(error: "GrantsMissing", about: Path | None) -> list[str]:
    """Return what a journal asks for, and how the user can grant it."""
    name = shlex.quote(str(about)) if about is not None else "JOURNAL"
    return [
        "error: the journal asks for access that nobody granted",
        *(f"  {request}" for request in error.requests),
        "if you trust the journal, grant the access with these options:",
        f"  {' '.join(error.options)}",
        f"or approve the journal for this and later times: {terminal.PROGRAM} trust {name}",
    ]


def _report_error(error: Exception, reason: str, as_json: bool, about: Path | None = None) -> None:
    from journal.errors import Divergence, GrantsMissing, HostMismatch

    lines = [f"error: {reason}"]
    values: dict[str, object] = {"error": type(error).__name__, "message": reason}
    if isinstance(error, Divergence):
        lines = [f"error: the replay diverged from the journal at event {error.seq}"]
        lines += [f"  the journal has  {error.expected}", f"  the guest did    {error.actual}"]
        lines += terminal.indent_backtrace(error.backtrace)
        values |= {"seq": error.seq, "expected": error.expected, "actual": error.actual}
        values["backtrace"] = error.backtrace
    if isinstance(error, HostMismatch) and error.differences:
        lines = ["error: the host differs from the recording"]
        lines += [f"  {difference}" for difference in error.differences]
        values["differences"] = list(error.differences)
    if isinstance(error, GrantsMissing):
        lines = _describe_missing(error, about)
        values |= {"requests": list(error.requests), "options": list(error.options)}
    terminal.print_status(*lines)
    if as_json:
        terminal.print_status_json({"outcome": "error", **values})
