"""``journaltool verify``: check every byte of a journal."""

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, groups, many, signatures
from journaltool.output import progress, terminal, verify_values
from journaltool.output.phrases import format_count, format_location, format_seq_range

if TYPE_CHECKING:
    from journal.operations.verify import VerifyCursor

HELP = f"""Check every byte of a journal, or of many.

The check covers every hash, the chain of blocks and every event, and lists each finding. The
journal is not changed. A tail that a crash cut short is normal: a resume continues before it.

--headers checks only the hashes and the chain, which works without the key of a sealed journal. It
finds accidents, but no changes that somebody made on purpose.

--signed-by also checks that a key has signed every event (journaltool sign), and reports events
that were appended after the last signature.

--pages also looks up each referenced page of memory, which takes longer. A reference to a missing
page, or to a page with other bytes, is a finding.

With --max-seconds the check stops after this time and prints a cursor. --from CURSOR continues the
check, and keeps the earlier findings.

{many.MANY_HELP.format(command="verify")}
A journal on a failing disk can lose bytes without a change of its times: use --again to find them.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("verify")}

\b
Examples:
  journaltool verify --quiet work.journal && echo whole
  journaltool verify --json --max-seconds 60 large.journal
  journaltool verify --jobs 4 backups/*.journal
"""

CursorOption = Annotated[
    str | None, typer.Option("--from", metavar="CURSOR", help="Continue a stopped check.")
]
SignedByOption = Annotated[
    str | None,
    typer.Option(
        "--signed-by",
        metavar="PUBLIC_KEY",
        help="Require that this key, or the key in this file, has signed all events.",
    ),
]
HeadersOption = Annotated[
    bool, typer.Option("--headers", help="Check only hashes and links: a seal needs no key then.")
]


@groups.flatten
def verify(  # long: it names each option
    journals: many.JournalsArgument,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            parser=common.parse_seconds,
            metavar="SECONDS",
            help="Stop after this time with exit code 9.",
        ),
    ] = None,
    cursor: CursorOption = None,
    hashes: Annotated[
        bool,
        typer.Option("--hashes", help="Do not decode the events, which is several times as fast."),
    ] = False,
    headers: HeadersOption = False,
    signed_by: SignedByOption = None,
    pages: Annotated[
        bool, typer.Option("--pages", help="Look up each referenced page of memory.")
    ] = False,
    *,
    many_options: many.ManyArguments,
    quiet: common.SilentOption = False,
    as_json: many.JsonOption = False,
) -> None:
    """Check journals (the help text is HELP)."""
    if (hashes or headers) and pages:
        raise typer.BadParameter("--pages needs decoded events: omit --hashes and --headers")
    many_options.check(journals)
    checks = {"decode": not hashes, "pages": pages, "headers": headers}
    if not many_options.is_given(journals):
        _verify_alone(journals[0], max_seconds, cursor, checks, signed_by, quiet, as_json)
    if cursor is not None:
        raise typer.BadParameter("--from continues the check of one journal, without --jobs")
    with error_report.reporting_errors(exit_codes.ExitCode.ERROR):
        error_report.raise_on_signals()
        key = None if signed_by is None else str(signatures.parse_public_key(signed_by))
        from journaltool.processes import many_journals  # Slow to import.

        task = many_journals.ManyTask(
            command="verify",
            verb="checking",
            function=partial(
                verify_values.verify_one,
                decode=not hashes,
                pages=pages,
                headers=headers,
                signed_by=key,
            ),
            find_verdict=lambda values: str(values["verdict"]),
            find_code=lambda values: _CODES[values["verdict"]],
            describe=_describe_one,
            total_seconds_max=max_seconds,
        )
        code = many_journals.run_task(task, journals, many_options, quiet=quiet, as_json=as_json)
    raise typer.Exit(code)


def _verify_alone(
    journal: Path,
    max_seconds: float | None,
    cursor: str | None,
    checks: dict[str, bool],
    signed_by: str | None,
    quiet: bool,
    as_json: bool,
) -> NoReturn:
    """Check one journal in this process, and end the command."""
    if signed_by is not None:
        signatures.check(journal, signed_by)
    with error_report.reporting_errors(exit_codes.ExitCode.ERROR, about=journal):
        error_report.raise_on_signals()
        from journal.operations.verify import Verifier

        start_time = time.monotonic()
        with progress.show_progress(quiet) as on_progress:
            check = Verifier(
                journal,
                cursor=_parse_cursor(cursor),
                progress=on_progress,
                **checks,
            )
            found = verify_values.run_check(
                check, None if max_seconds is None else start_time + max_seconds
            )
        values = {"journal": str(journal), **verify_values.to_json(check, *found)}
        values["seconds"] = round(time.monotonic() - start_time, 6)
        if as_json:
            typer.echo(json.dumps(values, indent=2))
        elif not quiet:
            terminal.print_table(to_table(values), style={"verdict": _STYLES[values["verdict"]]})
    raise typer.Exit(_CODES[values["verdict"]])


_CODES = {
    "whole": exit_codes.ExitCode.FINE,
    "torn": exit_codes.ExitCode.TORN,
    "damaged": exit_codes.ExitCode.DAMAGED,
    "unfinished": exit_codes.ExitCode.UNFINISHED,
    "not signed": exit_codes.ExitCode.DAMAGED,
}
_STYLES = {
    "whole": "bold green",
    "torn": "bold yellow",
    "damaged": "bold red",
    "unfinished": "bold yellow",
}


def _describe_one(values: dict[str, Any]) -> list[str]:
    """Return the lines of the output for one of many journals."""
    if values["verdict"] == "not signed":
        return [values["message"]]
    rows = to_table(values)
    shown = ("torn", "debris", "finding")
    return [dict(rows)["checked"], *(f"{name}: {text}" for name, text in rows if name in shown)]


def _parse_cursor(text: str | None) -> "VerifyCursor | None":
    from journal.errors import OptionError
    from journal.operations.verify import VerifyCursor

    try:
        return None if text is None else VerifyCursor.parse(text)
    except OptionError as error:
        raise typer.BadParameter(str(error)) from None


def to_table(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    rows = [("journal", terminal.quote(values["journal"])), ("verdict", _describe_verdict(values))]
    counts = ", ".join(
        format_count(values[f"{what}s"], what) for what in ("segment", "block", "event")
    )
    rows.append(("checked", f"{format_count(values['size'], 'byte')}: {counts}"))
    if values["torn_size"]:
        where = format_location(values["tail"], values["tail_file"])
        rows.append(("torn", f"{format_count(values['torn_size'], 'byte')} {where}"))
    for one in values["debris"]:
        where = format_location(one["offset"], one["file"])
        why = "superseded by a later file" if one["superseded"] else "left by a crash"
        rows.append(("debris", f"{format_count(one['size'], 'byte')} {where}, {why}"))
    if values["unknown_events"]:
        rows.append(
            (
                "unknown",
                f"{format_count(values['unknown_events'], 'event')} of unknown kinds",
            )
        )
    if values["named_pages"]:
        rows.append(
            (
                "pages",
                f"{format_count(values['named_pages'], 'referenced page')} looked up",
            )
        )
    if values["gaps"]:
        lost = f"{format_count(values['lost_events'], 'event')} in {values['lost_size']} bytes"
        rows.append(("lost", f"{lost}, at {format_count(values['gaps'], 'place')}"))
    rows += [("finding", _describe_finding(one)) for one in values["findings"]]
    hidden = values["findings_count"] - len(values["findings"])
    if hidden:
        rows.append(("", f"and {format_count(hidden, 'finding')} more"))
    if values["cursor"]:
        rows.append(("continue", f"--from {values['cursor']}"))
    return rows


def _describe_verdict(values: dict[str, Any]) -> str:
    if values["verdict"] == "whole":
        return "whole"
    if values["verdict"] == "torn":
        return "whole, except for a tail that a crash cut short"
    if values["verdict"] == "unfinished":
        return "nothing wrong so far; the check is not finished"
    lost, more = values["lost_events"], "" if values["finished"] else "; the check is not finished"
    return "damaged" + (f", {format_count(lost, 'event')} lost" if lost else "") + more


def _describe_finding(one: dict[str, Any]) -> str:
    durable = ", which had been durable" if one["durable"] else ""
    which = format_seq_range(one["first_seq"], one["last_seq"])
    return f"{one['message']} ({format_count(one['size'], 'byte')}, {which}{durable})"
