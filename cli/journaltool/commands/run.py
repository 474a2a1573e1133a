"""``journaltool run``: record a run of a WebAssembly module."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, compaction, mounts, snapshot
from journaltool.processes import supervisor

if TYPE_CHECKING:
    from journal.engine import Configuration

HELP = """Run a WebAssembly program and record it in a journal.

The program gets the standard input, output and error of this command. Options precede MODULE, and
everything after MODULE belongs to the program.

The triggers for --snapshot-on are idle, first-stdin, first-environ, first-listen, first-sigint,
sigint, sigalrm, sigtstp, sigstop, periodic-interval, non-deterministic-call, bootstrap, transaction
and explicit. The program itself requests an explicit snapshot.

Ctrl-C, SIGTERM and SIGHUP stop the program, and it can be resumed. A signal that is a trigger of
--snapshot-on takes a snapshot instead. After the snapshot of sigtstp (Ctrl-Z) the process is
suspended. The snapshot of sigstop is taken when the process continues. journaltool snapshot sends
SIGUSR1.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("run")}

\b
Examples:
  journaltool run hello.wasm
  journaltool run -j work.journal --dir .::/work:ro --timeout 60 tool.wasm -v /work/in.txt
  journaltool run --snapshot-period 60 --compact-growth 2 python.wasm -c 'print(1)'
"""


class LevelChoice(StrEnum):
    """Names of ``journal.engine.RecordingLevel`` in lower case: how much is recorded."""

    FULL = "full"
    STATE = "state"


class UnknownImportsChoice(StrEnum):
    """Values of ``journal.engine.UnknownImports``: what to do about an import outside WASI."""

    REFUSE = "refuse"
    TRAP = "trap"


SizeLimits = tuple[int | None, int | None, int | None]


def run(
    module: Annotated[Path, typer.Argument(metavar="MODULE", help="The program: a .wasm file.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="The arguments of the program.")
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal", "-j", metavar="PATH", help="The journal. The default is MODULE.journal."
        ),
    ] = None,
    directory: Annotated[
        list[str] | None,
        typer.Option(
            "--dir",
            metavar="HOST::GUEST[:ro]",
            help="Mount a host directory in the guest, with :ro as read-only. HOST alone mounts it "
            "under the same name. Repeatable.",
        ),
    ] = None,
    memory: Annotated[
        list[str] | None,
        typer.Option(metavar="GUEST", help="Mount an empty in-memory directory. Repeatable."),
    ] = None,
    no_root: Annotated[
        bool, typer.Option("--no-root", help="Do not mount an in-memory directory at /.")
    ] = False,
    copy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST::GUEST",
            help="Copy a file or directory into the in-memory files of the guest. Repeatable.",
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="Set an environment variable of the guest. NAME alone inherits the value. "
            "Repeatable.",
        ),
    ] = None,
    arg0: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Argument 0 of the program. The default is the name of MODULE.",
        ),
    ] = None,
    net: common.NetOption = False,
    durability: common.DurabilityOption = common.DurabilityChoice.OUTPUT,
    level: Annotated[
        LevelChoice,
        typer.Option(
            help="Record all inputs, which a replay needs (full), or omit the inputs (state)."
        ),
    ] = LevelChoice.FULL,
    no_embed: Annotated[
        bool, typer.Option("--no-embed", help="Do not store the module in the journal.")
    ] = False,
    unknown_imports: Annotated[
        UnknownImportsChoice,
        typer.Option(
            help="Refuse a module with imports other than WASI, or trap when one is called."
        ),
    ] = UnknownImportsChoice.REFUSE,
    max_memory: Annotated[
        int | None,
        typer.Option(
            parser=common.parse_size,
            metavar="SIZE",
            help="The largest size of the memory of the guest.",
        ),
    ] = None,
    max_files: Annotated[
        int | None,
        typer.Option(
            parser=common.parse_size,
            metavar="SIZE",
            help="The largest total size of in-memory files.",
        ),
    ] = None,
    stack: Annotated[
        int | None,
        typer.Option(
            parser=common.parse_size,
            metavar="SIZE",
            help="The size of the call stack of the guest.",
        ),
    ] = None,
    segments: Annotated[
        int | None,
        typer.Option(
            parser=common.parse_size,
            metavar="SIZE",
            help="Write the journal as a directory of segments of this size.",
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
    force: Annotated[bool, typer.Option("--force", help="Replace an existing journal.")] = False,
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Run a program (the help text is HELP)."""
    from journaltool.options import output_path

    path = journal or Path(f"{module.stem or 'guest'}.journal")
    with error_report.reporting_errors(exit_codes.ExitCode.REFUSED, as_json=as_json):
        import journal as library

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
        variables = mounts.parse_environment(env or (), os.environ)
        guest_mounts = mounts.parse_mounts(directory or (), memory or (), not no_root)
        copies = mounts.parse_copies(copy or ())
        record = library.record  # This imports the engine.
        error_report.die_on_sigint()
        with output_path.prepare_output(path, force) as target:
            recorder = record(
                module,
                target,
                args=mounts.encode_arguments(arg0 if arg0 is not None else module.name, args or ()),
                env=variables,
                mounts=guest_mounts,
                copies=copies,
                stdin=0,
                stdout=1,
                stderr=2,
                durability=library.engine.Durability(durability.value),
                level=library.engine.RecordingLevel[level.name],
                embed=not no_embed,
                configuration=_build_configuration((max_memory, max_files, stack), unknown_imports),
                cache=common.module_cache(),
                roll=library.log.RollPolicy(segments) if segments is not None else None,
                network=net,
                snapshots=snapshots,
                compaction=schedule,
                note=supervisor.note_printer(quiet),
            )
        recorder.set_path(path)
        result = supervisor.run_until_end(recorder, timeout, snapshots)
        resumable = level is LevelChoice.FULL or result.with_snapshot
        supervisor.report(result, str(path), quiet=quiet, as_json=as_json, resumable=resumable)
    raise typer.Exit(result.code)


def _build_configuration(sizes: SizeLimits, unknown: UnknownImportsChoice) -> "Configuration":
    from journal.engine import Configuration, UnknownImports

    names = ("memory_size_max", "files_size_max", "stack_size")
    given: dict[str, Any] = {
        name: value for name, value in zip(names, sizes, strict=True) if value is not None
    }
    return Configuration(**given, unknown_imports=UnknownImports(unknown.value))
