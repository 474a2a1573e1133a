"""``journaltool check-resume``: compare the host with a recording without running the guest."""

import json
import os
from typing import TYPE_CHECKING

import typer

from journaltool import error_report
from journaltool.exit_codes import ExitCode, list_codes
from journaltool.options import common, mounts
from journaltool.output import terminal

if TYPE_CHECKING:
    from journal.engine import ResumeCheck

HELP = """Check whether a program can be resumed exactly, without running it.

The command compares its standard input, the mounted directories, and the files that the program had
open with the recording, as journaltool resume does. It prints each difference on one line. Pass the
same standard input and the same --dir options as for the resume.

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


def check_resume(
    journal: common.JournalArgument,
    module: common.ModuleOption = None,
    directory: mounts.GrantOption = None,
    secret_env: mounts.SecretOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Check a resume (the help text is HELP)."""
    with error_report.reporting_errors(ExitCode.ERROR, about=journal):
        from journal.engine import check_resume as check

        result = check(
            journal,
            module=module,
            grants=mounts.parse_grants(directory or ()),
            secrets=mounts.parse_environment(secret_env or (), os.environ),
            stdin=0,
            approvals=common.approvals_directory(),
        )
        if as_json:
            typer.echo(json.dumps({"journal": str(journal), **to_json(result)}, indent=2))
        else:
            _print_lines(result)
    raise typer.Exit(_code_of(result))


def to_json(result: "ResumeCheck") -> dict[str, object]:
    """Return the result as JSON values."""
    return {
        "exact": result.is_exact,
        "ended": result.has_ended,
        "obstacle": result.obstacle,
        "differences": list(result.differences),
    }


def _print_lines(result: "ResumeCheck") -> None:
    if result.has_ended:
        lines = ["the program has ended: a resume delivers its remaining output"]
    elif result.obstacle:
        lines = [f"cannot be resumed: {result.obstacle}"]
    else:
        lines = list(result.differences) or ["can be resumed: no difference was found"]
    for line in lines:
        typer.echo(terminal.escape(line))


def _code_of(result: "ResumeCheck") -> ExitCode:
    if result.obstacle:
        return ExitCode.ERROR
    return ExitCode.DAMAGED if result.differences else ExitCode.FINE
