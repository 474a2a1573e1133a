"""``journaltool replay``: execute a recorded program again and compare its effects."""

import gc
import json
import os
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, groups, limits, mounts
from journaltool.output import progress, terminal
from journaltool.processes import supervisor

if TYPE_CHECKING:
    from journal import Divergence
    from journal.engine import ReplayResult, RunResult, SnapshotCheck

HELP = """Execute a recorded program again, and compare its effects.

The program gets the recorded inputs, and every effect is compared with the recorded effect. The
output of the program is discarded, and no file except the journal is read or written.

At each snapshot, the whole state is compared too, byte by byte. --verify prints each comparison.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("replay")}

\b
Examples:
  journaltool replay hello.journal
  journaltool replay --verify work.journal
  journaltool replay --verify --each --json work.journal
"""


@groups.flatten
def replay(  # long: it names each option
    journal: common.JournalArgument,
    verify: Annotated[
        bool, typer.Option("--verify", help="Print the comparison at each snapshot.")
    ] = False,
    start: Annotated[
        int | None,
        typer.Option(
            "--from",
            click_type=common.Number(min=0),
            metavar="NUMBER",
            help="Start at this snapshot.",
        ),
    ] = None,
    each: Annotated[
        bool,
        typer.Option(
            "--each",
            help="Replay from each snapshot to the next, so that a difference at one snapshot does "
            "not affect the others.",
        ),
    ] = False,
    module: common.ModuleOption = None,
    secret_env: mounts.SecretOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=common.parse_seconds,
            metavar="SECONDS",
            help="Give up after this time with exit code 124.",
        ),
    ] = None,
    *,
    policy: limits.PolicyArguments,
    quiet: common.SilentOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Execute a program again (the help text is HELP)."""
    if each and start is not None:
        raise typer.BadParameter(
            "--each starts at every snapshot, so --from has no effect: use only one of them"
        )
    with error_report.reporting_errors(exit_codes.ExitCode.ERROR, about=journal):
        from journal import verify_replay

        gc.freeze()
        gc.enable()
        error_report.die_on_sigint()
        start_time = time.monotonic()
        time_limit = supervisor.limit_time(timeout, lambda: "before the end", quiet=quiet)
        with time_limit, progress.show_progress(quiet) as on_progress:
            found = verify_replay(
                journal,
                start=start,
                from_each_snapshot=each,
                module=module,
                secrets=mounts.parse_environment(secret_env or (), os.environ),
                cache=common.module_cache(),
                approvals=common.approvals_directory(),
                policy=policy.build(),
                note=terminal.make_note_printer(quiet),
                progress=on_progress,
            )
        values = {"journal": str(journal), **to_json(found)}
        values["seconds"] = round(time.monotonic() - start_time, 6)
        if as_json:
            typer.echo(json.dumps(values, indent=2))
        elif not quiet:
            style = "bold green" if found.matches else "bold red"
            terminal.print_table(to_table(values, verify), style={"verdict": style})
    raise typer.Exit(exit_codes.ExitCode.FINE if found.matches else exit_codes.ExitCode.DAMAGED)


def to_json(found: "ReplayResult") -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "verdict": "the same" if found.matches else "different",
        "snapshots": [_check_to_json(one) for one in found.checks],
        "divergence": _divergence_to_json(found.divergence),
        "ended": _outcome_to_json(found.result),
    }


def _check_to_json(one: "SnapshotCheck") -> dict[str, Any]:
    from journal.snapshots.triggers import format_trigger

    return {
        "seq": one.info.seq,
        "trigger": format_trigger(one.info.trigger),
        "holds": one.matches,
        "reason": one.reason,
    }


def _divergence_to_json(error: "Divergence | None") -> dict[str, Any] | None:
    if error is None:
        return None
    names = ("seq", "expected", "actual", "backtrace")
    return {name: getattr(error, name) for name in names}


def _outcome_to_json(outcome: "RunResult | None") -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {
        "outcome": outcome.kind.value,
        "exit_code": outcome.code,
        "reason": outcome.reason,
        "backtrace": outcome.backtrace,
    }


def to_table(values: dict[str, Any], every: bool) -> list[tuple[str, str]]:
    """Return the rows of the table. With ``every``, each snapshot has a row."""
    rows = [("journal", terminal.quote(values["journal"]))]
    snapshots = values["snapshots"]
    if every:
        rows += [("snapshot", _describe_check(one)) for one in snapshots]
    elif snapshots:
        compared = sum(one["holds"] is not None for one in snapshots)
        rows.append(("snapshots", f"{compared} of {len(snapshots)} compared"))
        wrong = [one for one in snapshots if one["holds"] is False]
        rows += [("snapshot", _describe_check(one)) for one in wrong]
    diverged = values["divergence"]
    if diverged:
        rows.append(("diverged", f"at event {diverged['seq']}"))
        rows += [("recorded", diverged["expected"]), ("replayed", diverged["actual"])]
        rows += [("", line) for line in terminal.indent_backtrace(diverged["backtrace"])]
    else:
        rows.append(("ended", _describe_outcome(values["ended"])))
    seconds = terminal.format_seconds(round(values["seconds"], 2))
    return [*rows, ("took", seconds), ("verdict", values["verdict"])]


def _describe_check(one: dict[str, Any]) -> str:
    """Return a snapshot and its comparison as a phrase."""
    found = {True: "the same", False: "different", None: "not compared"}[one["holds"]]
    reason = f": {one['reason']}" if one["reason"] else ""
    return f"{one['seq']} {one['trigger']}, {found}{reason}"


def _describe_outcome(ended: dict[str, Any] | None) -> str:
    if ended is None:
        return "no: the journal ends before the end of the program"
    if ended["outcome"] == "trapped":
        return f"trapped: {ended['reason']}"
    return f"with exit code {ended['exit_code']}"
