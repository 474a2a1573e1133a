"""``journaltool tail``: the last events of a journal, and those that come."""

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

HELP = """Print the last events of a journal, as inspect does.

With -f it goes on with those that a writer adds, until Ctrl-C.
"""

EPILOG = """\b
Exit codes:
  0    shown, or whoever reads the output has enough
  1    the journal cannot be read, or is none        2  wrong usage
  3    of what was to be shown, events are wrong     5  or blocks are missing
  6    or what had been durable is lost: what can be read is shown
  130  Ctrl-C ended it

\b
Examples:
  journaltool tail hello.journal
  journaltool tail -n 3 --json hello.journal
  journaltool tail -f work.journal
"""


def tail(
    journal: common.JournalArgument,
    number: Annotated[
        int, typer.Option("-n", "--lines", min=0, metavar="N", help="The last N events.")
    ] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with events that are added.")
    ] = False,
    shown: Annotated[
        str, typer.Option("--bytes", metavar="N|all", help="How much of long values is shown.")
    ] = "48",
    as_json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object a line: all but memory exact, bytes base64."),
    ] = False,
) -> None:
    """Print the last events (the help text is HELP)."""
    errors: list[FormatError] = []
    with exit_codes.reporting_errors(about=journal):
        exit_codes.raise_on_sigint()
        from journal import Reader, RecoveryMode

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
    """Print each event that comes, until Ctrl-C, or until nobody reads the output any more."""
    gone = threading.Event()
    try:
        _watch_output(gone)
        _print_frames(line, frames)
    except KeyboardInterrupt:
        if gone.is_set():
            raise BrokenPipeError from None
        raise


def flush_and_wait() -> bool:
    """Let go of what was printed before waiting; wait on."""
    sys.stdout.flush()
    return False


def _watch_output(gone: threading.Event) -> None:
    """Interrupt the command when whoever reads its output has gone, as no event may come to tell.

    > Why a thread? The system tells it at once and for nothing, whatever the main thread waits for.
    """

    def watch() -> None:
        waiting = select.poll()
        waiting.register(1, 0)  # an error is told without being asked for
        if waiting.poll():
            gone.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    if stat.S_ISFIFO(os.fstat(1).st_mode):
        threading.Thread(target=watch, daemon=True).start()
