"""``journaltool trust``: approve the access to the host that a journal asks for."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report
from journaltool.exit_codes import ExitCode, list_codes
from journaltool.options import common
from journaltool.output import terminal

if TYPE_CHECKING:
    from journal.engine import AccessRequest, Approval

HELP = """Approve what a journal asks for, so that it can be resumed without options.

A journal is a program together with its input. A resume gives it the host directories and the
network that it was recorded with only if this user recorded it on this machine, approved it, or
names them in options.
Approve only journals of people whose programs you would run: this command does not check the
program.

An approval holds for all copies of the journal on this machine. It names the directories, the
rules of the network and the module, and a changed journal gets no more than these.
"""

EPILOG = f"""\b
Exit codes:
{list_codes("trust")}

\b
Examples:
  journaltool trust --show mailed.journal
  journaltool trust mailed.journal
  journaltool trust --revoke mailed.journal
"""


def trust(
    journal: Annotated[
        Path | None,
        typer.Argument(metavar="[JOURNAL]", help="The journal: a file or a directory."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print what the journal asks for, and approve nothing.")
    ] = False,
    list_all: Annotated[
        bool, typer.Option("--list", help="List all approvals, and approve nothing.")
    ] = False,
    revoke: Annotated[
        bool,
        typer.Option(
            "--revoke",
            help="Remove the approvals of the journal. Instead of the journal, its id is accepted.",
        ),
    ] = False,
    as_json: common.JsonOption = False,
) -> None:
    """Approve a journal (the help text is HELP)."""
    if show + list_all + revoke > 1:
        raise typer.BadParameter("--show, --list and --revoke exclude each other: use one of them")
    if (journal is None) != list_all:
        raise typer.BadParameter("name one journal, or use --list without a journal")
    with error_report.reporting_errors(ExitCode.ERROR, about=journal):
        from journal import engine

        directory = common.approvals_directory()
        if journal is None:
            _print_list(engine.Approvals(directory).find(), as_json)
        elif revoke:
            count = engine.Approvals(directory).revoke(_find_id(journal))
            _print(as_json, {"journal": str(journal), "revoked": count}, [f"{count} revoked"])
        else:
            request = engine.read_request(journal)
            if not show:
                engine.approve(journal, approvals=directory)
            _print(
                as_json,
                {"journal": str(journal), **_to_json(request), "approved": not show},
                _describe(request, "asks for" if show else "approved"),
            )


def _find_id(journal: Path) -> bytes:
    """Return the id of a journal, which may be given itself in place of the journal."""
    from journal import Reader

    text = str(journal)
    if len(text) == 32 and not journal.exists():
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    with Reader(journal) as reader:
        return reader.journal_id


def _describe(request: "AccessRequest", verb: str) -> list[str]:
    if request.is_empty:
        return ["asks for no access: it can be resumed without an approval"]
    return [f"{verb}: {phrase}" for phrase in request.describe()]


def _to_json(request: "AccessRequest") -> dict[str, Any]:
    return {
        "id": request.journal_id.hex(),
        "module": request.module_hash.hex(),
        "module_path": request.module_path,
        "directories": [
            {"host": mount.host, "guest": mount.guest, "read_only": mount.read_only}
            for mount in request.mounts
        ],
        "listeners": list(request.listeners),
        "rules": list(request.rules),
        "options": list(request.list_options()),
    }


def _print_list(approvals: "list[Approval]", as_json: bool) -> None:
    if as_json:
        values = [{**_to_json(each.request), "time": each.time} for each in approvals]
        typer.echo(json.dumps(values, indent=2))
        return
    for each in approvals:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.time))
        typer.echo(f"{each.request.journal_id.hex()}  {moment}")
        for phrase in each.request.describe():
            typer.echo(terminal.escape(f"  {phrase}"))


def _print(as_json: bool, values: dict[str, Any], lines: list[str]) -> None:
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    for line in lines:
        typer.echo(terminal.escape(line))
