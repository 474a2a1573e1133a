"""``journaltool snapshot``: ask a running program's recorder for a snapshot, and wait for it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes
from journaltool.options import common
from journaltool.output import terminal

if TYPE_CHECKING:
    from journal import Reader
    from journal.events.snapshots import Snapshot
    from journaltool.processes.writer_process import WriterProcess

HELP = """Have a program that is being recorded take a snapshot now, and wait for it.

TARGET is its journal, or the number of the process that records it, as ps shows it. A journal whose
name is a number is written ./1234. The program goes on, unless it runs with --stop-after-snapshot.

Only a process of the same user is asked, and only one that expects it. It takes the snapshot at the
program's next call of its host.
"""

EPILOG = """\b
Exit codes:
  0  taken                                         2  wrong usage
  1  nobody writes the journal, or whoever does cannot be asked, or it ended before
  9  asked for, but not taken before --timeout: it may come later

\b
Examples:
  journaltool snapshot work.journal
  journaltool snapshot --timeout 5 --json work.journal
"""

TIMEOUT_SECONDS = 30.0


def snapshot(
    target: Annotated[
        str, typer.Argument(metavar="PID|JOURNAL", help="A process, or the journal it writes.")
    ],
    timeout: Annotated[
        float,
        typer.Option(
            parser=common.parse_seconds, metavar="SECONDS", help="Wait so long for it, at most."
        ),
    ] = TIMEOUT_SECONDS,
    quiet: common.QuietOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Take a snapshot (the help text is HELP)."""
    with exit_codes.reporting_errors(exit_codes.ExitCode.ERROR, as_json=as_json):
        exit_codes.raise_on_sigint()
        from journal import OptionError, Reader

        with _find_writer(target) as (process, path), Reader(path) as reader:
            taken = _request_snapshot(process, reader, timeout)
            if taken is None and process.is_gone:
                raise OptionError(f"process {process.pid} ended before it took a snapshot")
            pid = process.pid
        if taken is not None:
            report(to_json(path, pid, *taken), quiet=quiet, as_json=as_json)
    if taken is None:
        terminal.print_status(
            f"no snapshot in {terminal.format_seconds(timeout)}: process {pid} takes it when it can"
        )
        raise typer.Exit(exit_codes.ExitCode.UNFINISHED)


@contextmanager
def _find_writer(target: str) -> "Iterator[tuple[WriterProcess, Path]]":
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
    """The next snapshot in the journal; None where none comes in time."""
    from journal.events.codec import decode
    from journal.events.snapshots import Snapshot

    deadline = time.monotonic() + timeout
    start = reader.summary().last_seq + 1
    process.request_snapshot()

    def is_over() -> bool:
        return time.monotonic() >= deadline or process.is_gone

    tags = frozenset((Snapshot.tag,))
    for _ in range(2):  # once more, as the last that a process does may be to take it
        found = reader.follow(start, tags=tags, stop=is_over, timeout_seconds=timeout)
        for frame in found:
            event = decode(frame.tag, frame.payload, frame.offset)
            assert isinstance(event, Snapshot)
            return frame.seq, event
    return None


def to_json(path: Path, pid: int, seq: int, event: "Snapshot") -> dict[str, Any]:
    """Everything, in what JSON has."""
    from journal.snapshots.triggers import format_trigger

    return {
        "journal": str(path),
        "process": pid,
        "seq": seq,
        "trigger": format_trigger(event.trigger),
        "when": event.when,
        "digest": event.digest.hex(),
    }


def report(known: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    """Print the result."""
    if as_json:
        typer.echo(json.dumps(known, indent=2))
    elif not quiet:
        rows = [("journal", terminal.quote(known["journal"]))]
        rows += [(name, str(known[name])) for name in ("process", "seq", "trigger")]
        terminal.print_table(rows)
