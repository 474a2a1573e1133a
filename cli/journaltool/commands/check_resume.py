"""``journaltool check-resume``: compare the host with a recording without running the guest."""

import json
import os
from typing import TYPE_CHECKING

import typer

from journaltool import error_report
from journaltool.exit_codes import ExitCode, list_codes
from journaltool.options import common, groups, limits, mounts, network
from journaltool.output import progress, terminal

if TYPE_CHECKING:
    from journal.engine import ResumeCheck

HELP = """Check whether a program can be resumed exactly, without running it.

The command compares its standard input, the mounted directories, and the files that the program had
open with the recording, as journaltool resume does. It prints each difference on one line, and
where a resume would start. It also reads what a resume would read of the journal, and reports a
process that writes the journal. Pass the same standard input and the same --dir, --net and
--tcp-listen options as for the resume.

Nothing is written.
"""

EPILOG = f"""\b
Exit codes:
{list_codes("check-resume")}

\b
Examples:
  journaltool check-resume work.journal
  journaltool check-resume --json --dir /mnt/copy::/data work.journal
"""


@groups.flatten
def check_resume(
    journal: common.JournalArgument,
    module: common.ModuleOption = None,
    directory: mounts.GrantOption = None,
    secret_env: mounts.SecretOption = None,
    net: network.KeptNetOption = None,
    tcp_listen: network.GrantListenOption = None,
    *,
    policy: limits.PolicyArguments,
    quiet: common.SilentOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Check a resume (the help text is HELP)."""
    with error_report.reporting_errors(ExitCode.ERROR, about=journal):
        from journal.engine import check_resume as check

        with progress.show_progress(quiet) as on_progress:
            result = check(
                journal,
                module=module,
                grants=mounts.parse_grants(directory or (), tcp_listen or ()),
                secrets=mounts.parse_environment(secret_env or (), os.environ),
                stdin=0,
                cache=common.module_cache(),
                approvals=common.approvals_directory(),
                network=network.parse_rules(net or ()),
                policy=policy.build(),
                progress=on_progress,
            )
        if as_json:
            typer.echo(json.dumps({"journal": str(journal), **to_json(result)}, indent=2))
        elif not quiet:
            _print_lines(result)
    raise typer.Exit(_code_of(result))


def to_json(result: "ResumeCheck") -> dict[str, object]:
    """Return the result as JSON values."""
    return {
        "exact": result.is_exact,
        "ended": result.has_ended,
        "obstacle": result.obstacle,
        "differences": list(result.differences),
        "snapshot": result.snapshot,
        "running": result.writer is not None,
        "process": result.writer or None,
    }


def _print_lines(result: "ResumeCheck") -> None:
    lines = list(result.differences)
    if result.obstacle:
        lines.append(f"cannot be resumed: {result.obstacle}")
    elif result.has_ended:
        lines = ["the program has ended: a resume delivers its remaining output"]
    else:
        lines = lines or ["can be resumed: no difference was found"]
        is_at_snapshot = result.snapshot is not None
        place = f"snapshot {result.snapshot}" if is_at_snapshot else "the start of the program"
        lines.append(f"a resume starts at {place}")
    for line in lines:
        typer.echo(terminal.escape(line))


def _code_of(result: "ResumeCheck") -> ExitCode:
    if result.obstacle:
        return ExitCode.ERROR if result.writer is None else ExitCode.LOCKED
    return ExitCode.DAMAGED if result.differences else ExitCode.FINE
