"""``journaltool resume``: go on with the run of a journal."""

import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from journaltool import exit_codes as exits
from journaltool.options import common as options
from journaltool.options import compaction as upkeeping
from journaltool.options import mounts as mounting
from journaltool.options import snapshot as snapshotting
from journaltool.output import text as render
from journaltool.processes import supervisor as supervise

HELP = """Go on with the program of a journal, from where the journal ends.

Output that a crash kept from leaving is delivered first. A program that had ended ends again, in
the same way.

It begins at the newest snapshot that has the program's stacks, and executes again what came behind
it; without such a one, from the program's start. That is the same, and takes longer.
"""

EPILOG = """\b
Exit codes: those of journaltool run.

\b
Examples:
  journaltool resume hello.journal
  journaltool resume --timeout 60 --json work.journal
  journaltool resume --module tool.wasm --in-flight drop work.journal
"""


class InFlight(StrEnum):
    """What becomes of the write that a crash left in doubt: ``journal.InFlightPolicy``."""

    REPEAT = "repeat"
    DROP = "drop"


def resume(
    journal: options.JournalArgument,
    module: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The program, where the journal does not hold it."),
    ] = None,
    directory: Annotated[
        list[str] | None,
        typer.Option(
            "--dir",
            metavar="HOST::GUEST",
            help="Where a directory of the guest is now, if not where it was. Repeatable.",
        ),
    ] = None,
    net: options.NetOption = False,
    at: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="NUMBER",
            help="Go on from this event, in a new journal; journaltool snapshots has numbers.",
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="NEW",
            help="The new journal: JOURNAL stays as it is. From the last snapshot, without --at.",
        ),
    ] = None,
    reexecute: Annotated[
        bool, typer.Option("--reexecute", help="Ignore snapshots: execute all from the start.")
    ] = False,
    durability: options.DurabilityOption = options.Durability.OUTPUT,
    in_flight: Annotated[
        InFlight,
        typer.Option(help="Print again the one output that may have left already, or drop it."),
    ] = InFlight.REPEAT,
    max_memory: Annotated[
        int | None,
        typer.Option(
            parser=options.size, metavar="SIZE", help="Refuse a guest that may have more memory."
        ),
    ] = None,
    snapshot_on: snapshotting.OnOption = None,
    snapshot_period: snapshotting.PeriodOption = None,
    snapshot_events: snapshotting.EventsOption = None,
    snapshot_bytes: snapshotting.BytesOption = None,
    no_snapshots: snapshotting.NoneOption = False,
    stop_after_snapshot: snapshotting.StopAfterOption = False,
    stacks: snapshotting.StacksOption = snapshotting.Stacks.AUTO,
    safe_points: snapshotting.SafePointsOption = snapshotting.SafePoints.CALLS,
    dirty_pages: snapshotting.DirtyPagesOption = snapshotting.DirtyPages.AUTO,
    page_index: snapshotting.PageIndexOption = False,
    compact_growth: upkeeping.GrowthOption = None,
    compact_events: upkeeping.EventsOption = None,
    compact_bytes: upkeeping.BytesOption = None,
    compact_on_close: upkeeping.OnCloseOption = False,
    compact_keep: upkeeping.KeepOption = 1,
    timeout: options.TimeoutOption = None,
    quiet: options.QuietOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Go on with a program (the help text is HELP)."""
    warnings.showwarning = lambda message, *_: render.say(str(message))  # of sockets that are lost
    with exits.told(exits.Code.REFUSED, about=journal, as_json=as_json):
        import journal as library

        if at is not None and into is None:
            raise typer.BadParameter("--at goes on in a new journal: name it with --into")
        wish = snapshotting.Wish(
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
        snapshots = snapshotting.snapshots(wish)
        upkeep = upkeeping.upkeep(
            growth=compact_growth,
            events=compact_events,
            size=compact_bytes,
            on_close=compact_on_close,
            keep=compact_keep,
        )
        recorder = library.resume(
            journal,
            module=module,
            moved_mounts=mounting.moved(directory or ()),
            stdin=0,
            stdout=1,
            stderr=2,
            durability=library.Durability(durability.value),
            in_flight=library.InFlightPolicy(in_flight.value),
            memory_size_max=max_memory,
            cache=options.cache(),
            network=net,
            snapshots=snapshots,
            upkeep=upkeep,
            at=at,
            into=into,
            reexecute=reexecute,
            note=supervise.note(quiet),
        )
        ended = supervise.until_end(recorder, timeout, snapshots)
        if recorder.ended_before and ended.outcome.code is not None and not quiet:
            render.say(f"the program has ended with exit code {ended.outcome.code}")
        supervise.tell(ended, str(into or journal), quiet=quiet, as_json=as_json, resumable=True)
    raise typer.Exit(ended.code)
