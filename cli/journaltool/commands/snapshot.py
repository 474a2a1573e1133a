"""``journaltool snapshot``: request a snapshot of a running program and wait for it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common
from journaltool.output import terminal

if TYPE_CHECKING:
    from journal import Reader
    from journal.events.snapshots import Snapshot
    from journaltool.processes.writer_process import WriterProcess

HELP = """Take a snapshot of a running program, and wait for it.

The argument is the journal of the program, or the id of the process that records the program, as ps
shows it. Write ./1234 for a journal with the name 1234. The program continues, unless it runs with
--stop-after-snapshot.

The process must belong to the same user and must be able to take snapshots. The snapshot is taken
at the next host call of the program.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("snapshot")}

\b
Examples:
  journaltool snapshot work.journal
  journaltool snapshot --timeout 5 --json work.journal
"""

TIMEOUT_SECONDS = 30.0


def snapshot(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PID|JOURNAL", help="The process id, or the journal that the process writes."
        ),
    ],
    timeout: Annotated[
        float,
        typer.Option(
            parser=common.parse_seconds, metavar="SECONDS", help="Wait at most this long."
        ),
    ] = TIMEOUT_SECONDS,
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Take a snapshot (the help text is HELP)."""
    with error_report.reporting_errors(exit_codes.ExitCode.ERROR, as_json=as_json):
        error_report.raise_on_signals()
        from journal import OptionError, Reader

        with _find_writer(target) as (process, path), Reader(path) as reader:
            result = _request_snapshot(process, reader, timeout)
            if result is None and process.is_gone:
                raise OptionError(f"process {process.pid} ended before it took a snapshot")
            pid = process.pid
        if result is not None:
            report(to_json(path, pid, *result), quiet=quiet, as_json=as_json)
    if result is None:
        limit = terminal.format_seconds(timeout)
        terminal.print_status(f"no snapshot within {limit}: process {pid} may still take it later")
        raise typer.Exit(exit_codes.ExitCode.UNFINISHED)


@contextmanager
def _find_writer(target: str) -> "Iterator[tuple[WriterProcess, Path]]":
    from journal._platform import require_linux

    require_linux("requesting a snapshot")
    from journaltool.processes import writer_process

    if target.isascii() and target.isdigit():
        process, path = writer_process.find_by_pid(int(target))
    else:
        path = Path(target)
        process = writer_process.find_by_journal(path)
    with process:
        yield process, path


def _request_snapshot(
    process: "WriterProcess", reader: "Reader", timeout: float
) -> "tuple[int, Snapshot] | None":
    """Request a snapshot and return its sequence number and event; None after the timeout."""
    from journal.events.codec import decode
    from journal.events.snapshots import Snapshot

    deadline = time.monotonic() + timeout
    start = reader.summary().last_seq + 1
    process.request_snapshot()

    def is_over() -> bool:
        return time.monotonic() >= deadline or process.is_gone

    tags = frozenset((Snapshot.tag,))
    for _ in range(2):  # Read again: the process may end right after its snapshot.
        found = reader.follow(start, tags=tags, stop=is_over, timeout_seconds=timeout)
        for frame in found:
            event = decode(frame.tag, frame.payload, frame.offset)
            assert isinstance(event, Snapshot)
            return frame.seq, event
    return None


def to_json(path: Path, pid: int, seq: int, event: "Snapshot") -> dict[str, Any]:
    """Return the result as JSON values."""
    from journal.snapshots.triggers import format_trigger

    return {
        "journal": str(path),
        "process": pid,
        "seq": seq,
        "trigger": format_trigger(event.trigger),
        "when": event.when,
        "digest": event.digest.hex(),
    }


def report(values: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    """Print the result."""
    if as_json:
        typer.echo(json.dumps(values, indent=2))
    elif not quiet:
        rows = [("journal", terminal.quote(values["journal"]))]
        rows += [(name, str(values[name])) for name in ("process", "seq", "trigger")]
        terminal.print_table(rows)
