"""``journaltool run``: record a run of a WebAssembly module."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import (
    common,
    compaction,
    groups,
    mounts,
    network,
    processes,
    session,
    signatures,
    snapshot,
)
from journaltool.output import progress, terminal
from journaltool.processes import supervisor

if TYPE_CHECKING:
    from journal import Recorder
    from journal.engine import Configuration

HELP = """Run a WebAssembly program and record it in a journal.

The program gets the standard input, output and error of this command. Options precede MODULE, and
everything after MODULE belongs to the program.

The triggers for --snapshot-on are idle, first-stdin, first-environ, first-listen, first-sigint,
sigint, sigalrm, sigtstp, sigstop, periodic-interval, non-deterministic-call, bootstrap, transaction
and explicit. The program itself requests an explicit snapshot.

Ctrl-C, SIGTERM and SIGHUP stop the program, and it can be resumed. A second signal, a second later,
ends a program that does not stop. A signal that is a trigger of --snapshot-on takes a snapshot
instead. After the snapshot of sigtstp (Ctrl-Z) the process is suspended. The snapshot of sigstop is
taken when the process continues. journaltool snapshot sends SIGUSR1.

With --forward-signals the program gets signals for which it has a handler. A signal that arrives
while the program has not handled the last one of its kind, a second later, does the same as without
the option: so a second Ctrl-C stops a program that hangs. SIGKILL always ends the process, and the
program can be resumed.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("run")}

\b
Examples:
  journaltool run hello.wasm
  journaltool run -j work.journal --dir .::/work:ro --timeout 60 tool.wasm -v /work/in.txt
  journaltool run --net listen=127.0.0.1:8080 --net connect=*.example.org:443 tool.wasm
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitArguments:
    """Options of the limits that a guest can observe."""

    unknown_imports: Annotated[
        UnknownImportsChoice,
        typer.Option(
            help="Refuse a module with imports other than WASI, or trap when one is called."
        ),
    ] = UnknownImportsChoice.REFUSE
    max_memory: Annotated[
        int | None,
        common.size_option("The largest size of the memory of the guest."),
    ] = None
    max_files: Annotated[
        int | None,
        common.size_option("The largest total size of in-memory files."),
    ] = None
    stack: Annotated[
        int | None,
        common.size_option("The size of the call stack of the guest."),
    ] = None

    def build(self) -> "Configuration":
        """Return the configuration for the library, which has the default limits."""
        from journal.engine import Configuration, UnknownImports

        sizes = {
            "memory_size_max": self.max_memory,
            "files_size_max": self.max_files,
            "stack_size": self.stack,
        }
        given: dict[str, Any] = {name: size for name, size in sizes.items() if size is not None}
        return Configuration(**given, unknown_imports=UnknownImports(self.unknown_imports.value))


ModuleArgument = Annotated[
    Path, typer.Argument(metavar="MODULE", help="The program: a .wasm file.")
]
ProgramArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[ARGS]...", help="The arguments of the program.")
]
JournalOption = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        "-j",
        metavar="PATH",
        help="The journal. The default is MODULE.journal, or MODULE-2.journal and so on if that "
        "exists.",
    ),
]
LevelOption = Annotated[
    LevelChoice,
    typer.Option(
        help="Record all inputs, which a replay needs (full), or omit the inputs (state)."
    ),
]
NoEmbedOption = Annotated[
    bool, typer.Option("--no-embed", help="Do not store the module in the journal.")
]
SegmentsOption = Annotated[
    int | None,
    common.size_option("Write the journal as a directory of segments of this size."),
]
GenerationFileOption = Annotated[
    bool,
    typer.Option(
        "--generation-file",
        help="Give the program the file /run/journal/generation, whose content changes in each "
        "fork.",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an existing journal.")]


@groups.flatten
def run(  # long: it names each option
    module: ModuleArgument,
    args: ProgramArguments = None,
    journal: JournalOption = None,
    *,
    guest: mounts.GuestArguments,
    generation_file: GenerationFileOption = False,
    net: network.NetOption = None,
    tcp_listen: network.ListenOption = None,
    durability: session.DurabilityOption = session.DurabilityChoice.OUTPUT,
    level: LevelOption = LevelChoice.FULL,
    no_embed: NoEmbedOption = False,
    limits: LimitArguments,
    process_options: processes.ProcessArguments,
    allocation: session.AllocationOption = "on-demand",
    segments: SegmentsOption = None,
    snapshot_options: snapshot.SnapshotArguments,
    compaction_options: compaction.CompactionArguments,
    timeout: session.TimeoutOption = None,
    forward_signals: session.ForwardOption = None,
    sign_key: signatures.SignKeyOption = None,
    force: ForceOption = False,
    quiet: common.QuietOption = False,
    as_json: session.JsonOption = False,
) -> None:
    """Run a program (the help text is HELP)."""
    from journaltool.options import output_path

    path = journal or Path(f"{module.stem or 'guest'}.journal")
    with (
        error_report.reporting_errors(exit_codes.ExitCode.REFUSED, as_json=as_json),
        progress.show_progress(quiet) as on_progress,
    ):
        import journal as library

        if path == module:
            raise library.OptionError(
                f"{module} has the name of a journal: use resume, or name another journal with -j"
            )
        snapshots, schedule = snapshot_options.build(), compaction_options.build()
        variables = mounts.parse_variables(guest.env or (), guest.secret_env or (), os.environ)
        guest_mounts = mounts.parse_mounts(
            guest.directory or (), guest.memory or (), not guest.no_root
        )
        copies = mounts.parse_copies(guest.copy or ())
        forwarded = session.parse_signals(forward_signals)
        signing_key = signatures.read_signing_key(sign_key)
        first_argument = module.name if guest.arg0 is None else guest.arg0
        record = library.record  # This imports the engine.
        error_report.die_on_sigint()
        config = session.build_config(
            durability,
            network.parse_rules(net or ()),
            snapshots,
            schedule,
            quiet,
            on_progress,
            allocation,
            process_options.build(),
        )

        def create(path: Path) -> "Recorder":
            with output_path.prepare_output(path, force) as target:
                recorder = record(
                    module,
                    target,
                    args=mounts.encode_arguments(first_argument, args or ()),
                    env=variables,
                    mounts=guest_mounts,
                    listeners=tcp_listen or (),
                    copies=copies,
                    generation_file=generation_file,
                    level=library.engine.RecordingLevel[level.name],
                    embed=not no_embed,
                    configuration=limits.build(),
                    roll=library.log.RollPolicy(segments) if segments is not None else None,
                    config=config,
                )
                recorder.set_path(path)  # The block's end renames the journal.
            return recorder

        with supervisor.limit_start(timeout, path, quiet=quiet):
            if journal is not None or force:
                recorder = create(path)
            else:
                path, recorder = output_path.create_numbered(path, create)
        if journal is None and not quiet:
            terminal.print_status(f"recording in {path}")
        result = supervisor.run_until_end(recorder, timeout, snapshots, forwarded)
        signatures.sign_at_end(path, signing_key)
        resumable = level is LevelChoice.FULL or result.with_snapshot
        supervisor.report(result, str(path), quiet=quiet, as_json=as_json, resumable=resumable)
    raise typer.Exit(result.code)
