"""``journaltool run``: record a new run of a module."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes as exits
from journaltool.options import common as options
from journaltool.options import compaction as upkeeping
from journaltool.options import mounts as mounting
from journaltool.options import snapshot as snapshotting
from journaltool.processes import supervisor as supervise

if TYPE_CHECKING:
    from journal import Configuration

HELP = """Run a WebAssembly program and record it in a journal.

The program has this command's standard input, output and error. Options stand before MODULE;
everything behind it belongs to the program.

--snapshot-on takes the names idle, first-stdin, first-environ, first-listen, first-sigint, sigint,
sigalrm, sigtstp, sigstop, periodic-interval, non-deterministic-call, bootstrap, transaction and
explicit, which is when the program asks for it itself.

Ctrl-C, SIGTERM and SIGHUP stop the program so that it can be resumed. A signal that a snapshot is
taken for does not: after that of sigtstp, Ctrl-Z, the process is suspended, and that of sigstop is
taken when it goes on. SIGUSR1 is what journaltool snapshot sends.
"""

EPILOG = """\b
Exit codes:
  0-255  the program's own; 0 also if --stop-after-snapshot stopped it
  124    --timeout stopped it     125  an error of this tool
  130    Ctrl-C stopped it        134  it trapped
  143    SIGTERM stopped it       2    wrong usage

\b
Examples:
  journaltool run hello.wasm
  journaltool run -j work.journal --dir .::/work:ro --timeout 60 tool.wasm -v /work/in.txt
  journaltool run --snapshot-period 60 --compact-growth 2 python.wasm -c 'print(1)'
"""


class Level(StrEnum):
    """How much is recorded: ``journal.RecordingLevel``."""

    FULL = "full"
    STATE = "state"


class UnknownImports(StrEnum):
    """What becomes of imports that are not WASI's: ``journal.UnknownImports``."""

    REFUSE = "refuse"
    TRAP = "trap"


Sizes = tuple[int | None, int | None, int | None]


def run(
    module: Annotated[Path, typer.Argument(metavar="MODULE", help="The program, a .wasm file.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="The program's arguments.")
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal", "-j", metavar="PATH", help="The journal; MODULE's name + .journal if none."
        ),
    ] = None,
    directory: Annotated[
        list[str] | None,
        typer.Option(
            "--dir",
            metavar="HOST::GUEST[:ro]",
            help="A directory of this machine, its name for the guest, and whether it is read "
            "only. HOST alone is its own name. Repeatable.",
        ),
    ] = None,
    memory: Annotated[
        list[str] | None,
        typer.Option(metavar="GUEST", help="A directory in memory. Repeatable."),
    ] = None,
    no_root: Annotated[
        bool, typer.Option("--no-root", help="Do not give the guest a / in memory.")
    ] = False,
    copy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST::GUEST",
            help="A file or directory that is copied into the guest's memory. Repeatable.",
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="A variable of the guest; NAME alone takes its value from here. Repeatable.",
        ),
    ] = None,
    arg0: Annotated[
        str | None, typer.Option(metavar="NAME", help="The program's own name for itself.")
    ] = None,
    net: options.NetOption = False,
    durability: options.DurabilityOption = options.Durability.OUTPUT,
    level: Annotated[
        Level, typer.Option(help="Everything, to replay every instruction, or only the state.")
    ] = Level.FULL,
    no_embed: Annotated[
        bool, typer.Option("--no-embed", help="Leave the module out of the journal.")
    ] = False,
    unknown_imports: Annotated[
        UnknownImports,
        typer.Option(help="Refuse imports that are not WASI's, or trap when called."),
    ] = UnknownImports.REFUSE,
    max_memory: Annotated[
        int | None,
        typer.Option(parser=options.size, metavar="SIZE", help="The guest's memory, at most."),
    ] = None,
    max_files: Annotated[
        int | None,
        typer.Option(parser=options.size, metavar="SIZE", help="Files in memory, at most."),
    ] = None,
    stack: Annotated[
        int | None,
        typer.Option(parser=options.size, metavar="SIZE", help="The stack of the guest's calls."),
    ] = None,
    segments: Annotated[
        int | None,
        typer.Option(
            parser=options.size,
            metavar="SIZE",
            help="Make the journal a directory of segments of this size.",
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
    force: Annotated[
        bool, typer.Option("--force", help="Replace the journal if there is one.")
    ] = False,
    quiet: options.QuietOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Run a program (the help text is HELP)."""
    from journaltool.options import output_path as replacing

    path = journal or Path(f"{module.stem or 'guest'}.journal")
    with exits.told(exits.Code.REFUSED, as_json=as_json):
        import journal as library

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
        variables = mounting.environment(env or (), os.environ)
        mounts = mounting.mounts(directory or (), memory or (), not no_root)
        copies = mounting.copies(copy or ())
        with replacing.place(path, force) as target:
            recorder = library.record(
                module,
                target,
                args=mounting.arguments(arg0 if arg0 is not None else module.name, args or ()),
                env=variables,
                mounts=mounts,
                copies=copies,
                stdin=0,
                stdout=1,
                stderr=2,
                durability=library.Durability(durability.value),
                level=library.RecordingLevel[level.name],
                embed=not no_embed,
                configuration=_configuration((max_memory, max_files, stack), unknown_imports),
                cache=options.cache(),
                roll=library.RollPolicy(segments) if segments is not None else None,
                network=net,
                snapshots=snapshots,
                upkeep=upkeep,
                note=supervise.note(quiet),
            )
        recorder.set_path(path)
        ended = supervise.until_end(recorder, timeout, snapshots)
        resumable = level is Level.FULL or ended.with_snapshot
        supervise.tell(ended, str(path), quiet=quiet, as_json=as_json, resumable=resumable)
    raise typer.Exit(ended.code)


def _configuration(sizes: Sizes, unknown: UnknownImports) -> "Configuration":
    from journal import Configuration, UnknownImports

    names = ("memory_size_max", "files_size_max", "stack_size")
    given: dict[str, Any] = {
        name: value for name, value in zip(names, sizes, strict=True) if value is not None
    }
    return Configuration(**given, unknown_imports=UnknownImports(unknown.value))
