"""``journaltool resume``: resume a recorded program."""

import os
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from journaltool import error_report
from journaltool.exit_codes import ExitCode
from journaltool.options import (
    common,
    compaction,
    groups,
    limits,
    moment,
    mounts,
    network,
    processes,
    session,
    signatures,
    snapshot,
)
from journaltool.output import progress, terminal
from journaltool.processes import supervisor

HELP = """Resume a recorded program at the end of its journal.

Recorded output that a crash did not deliver is delivered first. A program that had ended ends again
in the same way.

The resume starts at the newest snapshot that has the stacks of the program, and executes the
program again from there to the end of the journal. Without such a snapshot, the resume executes the
program again from its start, which takes longer and has the same result.

Before the program continues, the host is compared with the recording: standard input, the mounted
directories, and the files that the program had open. Each difference is reported on stderr.

On a terminal, a program that waits for input shows the unfinished last line of its output again,
such as a prompt. If there is none, the command prints "resumed, waiting for input" on stderr.

Options of the first run are kept unless they are given again: --durability, those of snapshots and
of compactions, the size of segments, and --net. --command, --timeout and --stop-after-snapshot are
not kept.

A journal grants nothing. A host directory is mounted, a module that the journal does not store is
read, and the network is used, only if this user recorded the journal, approved it (journaltool
trust), or names them by --dir, --module, --net and --tcp-listen. --net none refuses the network.
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


class LostConnectionChoice(StrEnum):
    """Values of ``journal.engine.LostConnections``: reset open connections, or refuse to resume."""

    RESET = "reset"
    REFUSE = "refuse"


class SleepChoice(StrEnum):
    """Values of ``journal.engine.SleepPolicy``: keep the deadline of a sleep, or sleep again."""

    KEEP = "keep"
    RESTART = "restart"


AtOption = Annotated[
    str | None,
    moment.moment_option("Resume at this event in a new journal. See journaltool snapshots."),
]
IntoOption = Annotated[
    Path | None,
    typer.Option(
        metavar="NEW",
        help="Resume in a new journal, a fork. JOURNAL does not change. The default for --at is "
        "the newest snapshot that can be resumed.",
    ),
]
ReexecuteOption = Annotated[
    bool, typer.Option("--reexecute", help="Ignore snapshots and execute from the start.")
]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Refuse to resume if the host differs from the recording. The default reports each "
        "difference and continues.",
    ),
]
KeptDurabilityOption = Annotated[
    session.DurabilityChoice | None,
    typer.Option(
        "--durability",
        help="Deliver output after its events are durable (output), or at once, with a sync every "
        "second (interval) or only at the end (none). The default is that of the first run.",
    ),
]
InFlightOption = Annotated[
    InFlightChoice, typer.Option(help="Repeat or drop the one write that a crash left in doubt.")
]
LostConnectionOption = Annotated[
    LostConnectionChoice,
    typer.Option(
        "--on-lost-connection",
        help="Let the next use of a connection that was open fail with ECONNRESET (reset), or "
        "refuse to resume a program that had open connections (refuse).",
    ),
]
SleepOption = Annotated[
    SleepChoice,
    typer.Option(
        help="Let a sleep that was interrupted, of a second or longer, keep its deadline or begin "
        "again."
    ),
]
ReseedOption = Annotated[
    bool | None,
    typer.Option(
        "--reseed/--no-reseed",
        help="Tell the program that it is one of several with this history: its generation file "
        "gets a new content, and its monotonic clock counts the time since the last session. The "
        "default with --into.",
    ),
]


@groups.flatten
def resume(  # long: it names each option
    journal: common.JournalArgument,
    module: common.ModuleOption = None,
    directory: mounts.GrantOption = None,
    secret_env: mounts.SecretOption = None,
    net: network.KeptNetOption = None,
    tcp_listen: network.GrantListenOption = None,
    at: AtOption = None,
    into: IntoOption = None,
    reexecute: ReexecuteOption = False,
    strict: StrictOption = False,
    durability: KeptDurabilityOption = None,
    in_flight: InFlightOption = InFlightChoice.REPEAT,
    on_lost_connection: LostConnectionOption = LostConnectionChoice.RESET,
    sleep: SleepOption = SleepChoice.KEEP,
    reseed: ReseedOption = None,
    *,
    policy: limits.PolicyArguments,
    snapshot_options: snapshot.SnapshotArguments,
    compaction_options: compaction.CompactionArguments,
    process_options: processes.ProcessArguments,
    allocation: session.AllocationOption = "on-demand",
    timeout: session.TimeoutOption = None,
    forward_signals: session.ForwardOption = None,
    sign_key: signatures.SignKeyOption = None,
    quiet: common.QuietOption = False,
    as_json: session.JsonOption = False,
) -> None:
    """Resume a program (the help text is HELP)."""
    # The library warns of lost sockets and of differences of the host.
    warnings.showwarning = lambda message, *_: terminal.print_status(str(message))
    with (
        error_report.reporting_errors(ExitCode.REFUSED, about=journal, as_json=as_json),
        progress.show_progress(quiet) as on_progress,
    ):
        import journal as library

        if at is not None and into is None:
            raise typer.BadParameter(
                "--at resumes in a new journal: name the new journal with --into"
            )
        forwarded = session.parse_signals(forward_signals)
        signing_key = signatures.read_signing_key(sign_key)
        snapshot_options.check()
        compaction_options.check()
        resume = library.resume  # This imports the engine.
        recorded = library.engine.read_recorded_options(journal)
        snapshots = snapshot_options.build(recorded.snapshots)
        schedule = compaction_options.build(recorded.compaction)
        error_report.die_on_sigint()
        with supervisor.limit_start(timeout, into or journal, quiet=quiet):
            recorder = resume(
                journal,
                module=module,
                grants=mounts.parse_grants(directory or (), tcp_listen or ()),
                in_flight=library.engine.InFlightPolicy(in_flight.value),
                sleep=library.engine.SleepPolicy(sleep.value),
                lost_connections=library.engine.LostConnections(on_lost_connection.value),
                reseed=reseed,
                policy=policy.build(),
                at=moment.find(journal, at),
                into=into,
                reexecute=reexecute,
                strict=strict,
                secrets=mounts.parse_environment(secret_env or (), os.environ),
                on_input_wait=terminal.make_resume_greeting(quiet),
                config=session.build_config(
                    durability or session.DurabilityChoice(recorded.durability.value),
                    network.parse_rules(net or ()),
                    snapshots,
                    schedule,
                    quiet,
                    on_progress,
                    allocation,
                    process_options.build(),
                ),
            )
        result = supervisor.run_until_end(recorder, timeout, snapshots, forwarded)
        signatures.sign_at_end(into or journal, signing_key)
        code = result.outcome.code
        if recorder.ended_before and code is not None and not quiet:
            terminal.print_status(f"the program had already ended with exit code {code}")
        supervisor.report(
            result, str(into or journal), quiet=quiet, as_json=as_json, resumable=True
        )
    raise typer.Exit(result.code)
