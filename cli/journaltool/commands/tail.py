"""``journaltool tail``: print the last events of a journal and follow new ones."""

import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool import exit_codes
from journaltool.options import common
from journaltool.output import event_lines, lenient_reader

if TYPE_CHECKING:
    from journal import Frame, Reader
    from journal.errors import FormatError

HELP = """Print the last events of a journal, in the format of inspect.

With -f, new events are printed as a writer adds them, until Ctrl-C.
"""

EPILOG = """\b
Exit codes:
  0    The events were printed, or the reader of the output closed it.
  1    The journal cannot be read or is not a journal.
  2    The usage is wrong.
  3    Some of these events are damaged. Readable events were printed.
  5    Some of these blocks are missing. Readable events were printed.
  6    Some of these events had been durable and are lost. Readable events were printed.
  130  Ctrl-C ended the command.

\b
Examples:
  journaltool tail hello.journal
  journaltool tail -n 3 --json hello.journal
  journaltool tail -f work.journal
"""


def tail(
    journal: common.JournalArgument,
    number: Annotated[
        int, typer.Option("-n", "--lines", min=0, metavar="N", help="Print the last N events.")
    ] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new events as they are added.")
    ] = False,
    shown: Annotated[
        str,
        typer.Option(
            "--bytes", metavar="N|all", help="The number of bytes to show of a long value."
        ),
    ] = "48",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object per line, exact except for memory, bytes as base64.",
        ),
    ] = False,
) -> None:
    """Print the last events (the help text is HELP)."""
    errors: list[FormatError] = []
    with exit_codes.reporting_errors(about=journal):
        exit_codes.raise_on_sigint()
        from journal import Reader
        from journal.log import RecoveryMode

        cut = event_lines.parse_value_limit(shown)
        with Reader(journal, mode=RecoveryMode.SALVAGE) as reader:
            summary = reader.summary()
            line = (
                event_lines.json_line_formatter(errors)
                if as_json
                else event_lines.text_line_formatter(summary.first_time, cut, errors)
            )
            frames = reader.last(number) if number else []
            _print_frames(line, frames)
            sys.stdout.flush()
            start = frames[0].seq if frames else summary.last_seq + 1
            if follow:
                _follow(reader, line, frames[-1].seq + 1 if frames else start)
            errors += [one.error() for one in reader.losses if one.last_seq >= start]
        lenient_reader.report_errors(journal, errors)
    raise typer.Exit(exit_codes.code_for_errors(errors))


def _print_frames(line: event_lines.LineFormatter, frames: "Iterable[Frame]") -> None:
    out = sys.stdout.buffer
    for frame in frames:
        text = line(frame.seq, frame.time, frame.tag, frame.payload, frame.offset)
        out.write((text + "\n").encode("utf-8", "backslashreplace"))


def _follow(reader: "Reader", line: event_lines.LineFormatter, start: int) -> None:
    print_new_events(line, reader.follow(start, stop=flush_and_wait))


def print_new_events(line: event_lines.LineFormatter, frames: "Iterable[Frame]") -> None:
    """Print each new event until Ctrl-C, or until the reader of the output closes it."""
    gone = threading.Event()
    try:
        _watch_output(gone)
        _print_frames(line, frames)
    except KeyboardInterrupt:
        if gone.is_set():
            raise BrokenPipeError from None
        raise


def flush_and_wait() -> bool:
    """Flush stdout before the reader waits. Return False, so that the reader continues to wait."""
    sys.stdout.flush()
    return False


def _watch_output(gone: threading.Event) -> None:
    """Interrupt the command when the reader of its output closes the pipe.

    Without a new event the command would not write, and so would not notice the closed pipe. A
    thread polls the pipe at no cost, while the main thread waits for events.
    """

    def watch() -> None:
        waiting = select.poll()
        waiting.register(1, 0)  # poll() always reports POLLERR.
        if waiting.poll():
            gone.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    if stat.S_ISFIFO(os.fstat(1).st_mode):
        threading.Thread(target=watch, daemon=True).start()
