"""``journaltool tail``: print the last events of a journal and follow new ones."""

import os
import select
import stat
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, redaction
from journaltool.output import event_lines, lenient_reader
from journaltool.output.socket_notes import SocketNotes

if TYPE_CHECKING:
    from journal import Frame, Reader
    from journal.errors import FormatError

HELP = """Print the last events of a journal, in the format of inspect.

With -f, new events are printed as a writer adds them, until Ctrl-C. The command ends with an error
if the journal is replaced by another one, cut, removed or renamed.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("tail")}

\b
Examples:
  journaltool tail hello.journal
  journaltool tail -n 3 --json hello.journal
  journaltool tail -f work.journal
"""


def tail(  # long: it names each option
    journal: common.JournalArgument,
    number: Annotated[
        int,
        typer.Option(
            "-n",
            "--lines",
            click_type=common.Number(min=0),
            metavar="N",
            help="Print the last N events.",
        ),
    ] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new events as they are added.")
    ] = False,
    shown: common.ValueLimitOption = "48",
    redact: redaction.RedactOption = None,
    as_json: common.JsonLinesOption = False,
) -> None:
    """Print the last events (the help text is HELP)."""
    errors: list[FormatError] = []
    with error_report.reporting_errors(about=journal):
        error_report.raise_on_signals()
        from journal import Reader
        from journal.log import RecoveryMode

        hidden = redaction.parse_redaction(redact)
        cut = event_lines.parse_value_limit(shown)
        with (
            Reader(journal, mode=RecoveryMode.SALVAGE) as reader,
            SocketNotes(journal, hidden) as notes,
        ):
            summary = reader.summary()
            kinds = reader.declarations().kinds
            malformed = errors if reader.records_process() else None
            line = (
                event_lines.json_line_formatter(malformed, kinds, hidden, notes)
                if as_json
                else event_lines.text_line_formatter(
                    *(summary.first_time, cut, malformed),
                    kinds=kinds,
                    redaction=hidden,
                    notes=notes,
                )
            )
            frames = reader.last(number) if number else []
            start = frames[0].seq if frames else summary.last_seq + 1
            if follow:  # The follower reads these events again, to notice if they change.
                _follow(reader, line, start)
            else:
                print_frames(line, frames)
                sys.stdout.flush()
            errors += [one.error() for one in reader.losses if one.last_seq >= start]
        lenient_reader.report_errors(journal, errors)
    raise typer.Exit(exit_codes.code_for_errors(errors))


def print_frames(line: event_lines.LineFormatter, frames: "Iterable[Frame]") -> None:
    """Print one line for each event."""
    out = sys.stdout.buffer
    for frame in frames:
        text = line(frame.seq, frame.time, frame.tag, frame.payload, frame.offset)
        out.write((text + "\n").encode("utf-8", "backslashreplace"))


def _follow(reader: "Reader", line: event_lines.LineFormatter, start: int) -> None:
    print_frames(line, reader.follow(start, stop=flush_and_check_output))


def flush_and_check_output() -> bool:
    """Flush stdout before the reader waits. Return False, so that the reader continues to wait.

    Raises BrokenPipeError if the other end of stdout is closed, even if nothing was to be flushed.
    Otherwise a command that waits for an event would not notice the closed pipe.
    """
    sys.stdout.flush()
    raise_if_output_closed()
    return False


def raise_if_output_closed() -> None:
    """Raise BrokenPipeError if stdout is a pipe and its other end is closed.

    Windows has no poll(); there, the next write finds the closed pipe.
    """
    if hasattr(select, "poll") and stat.S_ISFIFO(os.fstat(1).st_mode):
        output = select.poll()
        output.register(1, 0)  # poll() always reports POLLERR.
        if output.poll(0):
            raise BrokenPipeError
