"""``journaltool replay``: execute a recorded program again and compare its effects."""

import gc
import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, groups, limits, many, mounts, session
from journaltool.output import progress, terminal
from journaltool.processes import supervisor

if TYPE_CHECKING:
    from journal import Divergence
    from journal.engine import ReplayResult, RunResult, SnapshotCheck

HELP = f"""Execute a recorded program again, and compare its effects.

The program gets the recorded inputs, and every effect is compared with the recorded effect. The
output of the program is discarded, and no file except the journal is read or written.

At each snapshot, the whole state is compared too, byte by byte. --verify prints each comparison.

{many.MANY_HELP.format(command="replay")}
--timeout then holds for each journal. With --module or --secret-env, no results are kept.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("replay")}

\b
Examples:
  journaltool replay hello.journal
  journaltool replay --verify --each --json work.journal
  journaltool replay --jobs 4 --timeout 600 runs/*.journal
"""


@groups.flatten
def replay(  # long: it names each option
    journals: many.JournalsArgument,
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
    allocation: session.AllocationOption = "on-demand",
    many_options: many.ManyArguments,
    quiet: common.SilentOption = False,
    as_json: many.JsonOption = False,
) -> None:
    """Execute programs again (the help text is HELP)."""
    if each and start is not None:
        raise typer.BadParameter(
            "--each starts at every snapshot, so --from has no effect: use only one of them"
        )
    many_options.check(journals)
    secrets = mounts.parse_environment(secret_env or (), os.environ)
    options: dict[str, Any] = {"start": start, "from_each_snapshot": each, "module": module}
    options["secrets"] = secrets
    with error_report.reporting_errors(exit_codes.ExitCode.ERROR):
        from journal.engine import parse_allocation

        options["allocation"] = parse_allocation(allocation)
    if not many_options.is_given(journals):
        _replay_alone(journals[0], options, policy, timeout, verify, quiet, as_json)
    with error_report.reporting_errors(exit_codes.ExitCode.ERROR):
        error_report.raise_on_signals()
        from importlib.metadata import version  # Slow to import.

        options["policy"] = policy.build()  # Without wasmtime, it raises EngineError.
        options["engine"] = version("wasmtime")
        from journaltool.processes import many_journals  # Slow to import.

        task = many_journals.ManyTask(
            command="replay",
            verb="replaying",
            function=partial(replay_one, **options),
            find_verdict=lambda values: str(values["verdict"]),
            find_code=_find_code,
            describe=lambda values: _describe_one(values, verify),
            keeps_results=module is None and not secrets,
            seconds_max=timeout,
        )
        code = many_journals.run_task(task, journals, many_options, quiet=quiet, as_json=as_json)
    raise typer.Exit(code)


def _replay_alone(
    journal: Path,
    options: dict[str, Any],
    policy: limits.PolicyArguments,
    timeout: float | None,
    verify: bool,
    quiet: bool,
    as_json: bool,
) -> NoReturn:
    """Replay one journal in this process, and end the command."""
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
                cache=common.module_cache(),
                approvals=common.approvals_directory(),
                policy=policy.build(),
                note=terminal.make_note_printer(quiet),
                progress=on_progress,
                **options,
            )
        values = {"journal": str(journal), **to_json(found)}
        values["seconds"] = round(time.monotonic() - start_time, 6)
        if as_json:
            typer.echo(json.dumps(values, indent=2))
        elif not quiet:
            style = "bold green" if found.matches else "bold red"
            terminal.print_table(to_table(values, verify), style={"verdict": style})
    raise typer.Exit(_find_code(values))


def replay_one(path: Path, *, engine: str, **options: Any) -> dict[str, Any]:
    """Return the result for one of many journals: the work of a worker process.

    ``engine`` is the version of wasmtime: results of another one are not used.
    """
    from journal import verify_replay

    # A replay leaves no files, and native code would delay a handler of Python.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    places: dict[str, Any] = {
        "cache": common.module_cache(),
        "approvals": common.approvals_directory(),
    }
    found = verify_replay(path, **places, **options)
    return {"journal": str(path), **to_json(found)}


def _find_code(values: dict[str, Any]) -> exit_codes.ExitCode:
    is_same = values["verdict"] == "the same"
    return exit_codes.ExitCode.FINE if is_same else exit_codes.ExitCode.DAMAGED


def _describe_one(values: dict[str, Any], every: bool) -> list[str]:
    """Return the lines of the output for one of many journals."""
    _, *rows = to_rows(values, every)
    first = next(text for name, text in rows if name in ("ended", "diverged"))
    return [first, *(f"{name}: {text}" for name, text in rows if text is not first)]


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
    seconds = terminal.format_seconds(round(values["seconds"], 2))
    return [*to_rows(values, every), ("took", seconds), ("verdict", values["verdict"])]


def to_rows(values: dict[str, Any], every: bool) -> list[tuple[str, str]]:
    """Return the rows about the snapshots and the end."""
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
    return rows


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
