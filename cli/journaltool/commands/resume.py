"""``journaltool resume``: resume a recorded program."""

import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, compaction, mounts, snapshot
from journaltool.output import terminal
from journaltool.processes import supervisor

HELP = """Resume a recorded program at the end of its journal.

Recorded output that a crash did not deliver is delivered first. A program that had ended ends again
in the same way.

The resume starts at the newest snapshot that has the stacks of the program, and executes the
program again from there to the end of the journal. Without such a snapshot, the resume executes the
program again from its start, which takes longer and has the same result.
"""

EPILOG = """\b
Exit codes: The exit codes of journaltool run.

\b
Examples:
  journaltool resume hello.journal
  journaltool resume --timeout 60 --json work.journal
  journaltool resume --module tool.wasm --in-flight drop work.journal
"""


class InFlightChoice(StrEnum):
    """Values of ``journal.engine.InFlightPolicy``: repeat or drop an output in doubt."""

    REPEAT = "repeat"
    DROP = "drop"


def resume(
    journal: common.JournalArgument,
    module: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The module, if the journal does not store it."),
    ] = None,
    directory: Annotated[
        list[str] | None,
        typer.Option(
            "--dir",
            metavar="HOST::GUEST",
            help="The new location of a directory of the guest, if it has moved. Repeatable.",
        ),
    ] = None,
    net: common.NetOption = False,
    at: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="NUMBER",
            help="Resume at this event in a new journal. See journaltool snapshots.",
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="NEW",
            help="Resume in a new journal. JOURNAL does not change. The default for --at is the "
            "newest snapshot that can be resumed.",
        ),
    ] = None,
    reexecute: Annotated[
        bool, typer.Option("--reexecute", help="Ignore snapshots and execute from the start.")
    ] = False,
    durability: common.DurabilityOption = common.DurabilityChoice.OUTPUT,
    in_flight: Annotated[
        InFlightChoice,
        typer.Option(help="Repeat or drop the one write that a crash left in doubt."),
    ] = InFlightChoice.REPEAT,
    max_memory: Annotated[
        int | None,
        typer.Option(
            parser=common.parse_size,
            metavar="SIZE",
            help="Refuse to resume a guest that may use more memory.",
        ),
    ] = None,
    snapshot_on: snapshot.OnOption = None,
    snapshot_period: snapshot.PeriodOption = None,
    snapshot_events: snapshot.EventsOption = None,
    snapshot_bytes: snapshot.BytesOption = None,
    no_snapshots: snapshot.NoneOption = False,
    stop_after_snapshot: snapshot.StopAfterOption = False,
    stacks: snapshot.StacksOption = snapshot.StacksChoice.AUTO,
    safe_points: snapshot.SafePointsOption = snapshot.SafePointsChoice.CALLS,
    dirty_pages: snapshot.DirtyPagesOption = snapshot.DirtyPagesChoice.AUTO,
    page_index: snapshot.PageIndexOption = False,
    compact_growth: compaction.GrowthOption = None,
    compact_events: compaction.EventsOption = None,
    compact_bytes: compaction.BytesOption = None,
    compact_on_close: compaction.OnCloseOption = False,
    compact_keep: compaction.KeepOption = 1,
    timeout: common.TimeoutOption = None,
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Resume a program (the help text is HELP)."""
    # The library warns of lost sockets.
    warnings.showwarning = lambda message, *_: terminal.print_status(str(message))
    with error_report.reporting_errors(exit_codes.ExitCode.REFUSED, about=journal, as_json=as_json):
        import journal as library

        if at is not None and into is None:
            raise typer.BadParameter(
                "--at resumes in a new journal: name the new journal with --into"
            )
        snapshot_options = snapshot.SnapshotArguments(
            on=snapshot_on,
            period=snapshot_period,
            events=snapshot_events,
            size=snapshot_bytes,
            none=no_snapshots,
            stop_after=stop_after_snapshot,
            stacks=stacks,
            safe_points=safe_points,
            dirty_pages=dirty_pages,
            page_index=page_index,
        )
        snapshots = snapshot.build_snapshots(snapshot_options)
        schedule = compaction.build_schedule(
            growth=compact_growth,
            events=compact_events,
            size=compact_bytes,
            on_close=compact_on_close,
            keep=compact_keep,
        )
        resume = library.resume  # This imports the engine.
        error_report.die_on_sigint()
        recorder = resume(
            journal,
            module=module,
            moved_mounts=mounts.parse_moved(directory or ()),
            stdin=0,
            stdout=1,
            stderr=2,
            durability=library.engine.Durability(durability.value),
            in_flight=library.engine.InFlightPolicy(in_flight.value),
            memory_size_max=max_memory,
            cache=common.module_cache(),
            network=net,
            snapshots=snapshots,
            compaction=schedule,
            at=at,
            into=into,
            reexecute=reexecute,
            note=supervisor.note_printer(quiet),
        )
        result = supervisor.run_until_end(recorder, timeout, snapshots)
        if recorder.ended_before and result.outcome.code is not None and not quiet:
            terminal.print_status(
                f"the program had already ended with exit code {result.outcome.code}"
            )
        supervisor.report(
            result, str(into or journal), quiet=quiet, as_json=as_json, resumable=True
        )
    raise typer.Exit(result.code)
