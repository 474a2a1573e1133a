"""``journaltool verify``: check every byte of a journal."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes
from journaltool.options import common
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count, format_location, format_seq_range

if TYPE_CHECKING:
    from journal import Finding
    from journal.log.scan import Debris
    from journal.operations.verify import Verifier, VerifyCursor

HELP = """Verifier every byte of a journal.

That is every hash, the chain of blocks and every event; what is wrong is named. Nothing is changed.
A tail that a crash cut short is normal: a resume goes on in front of it.

A page of memory that is named, where its bytes stand already, is looked up with --pages alone: that
takes longer. One that leads nowhere, or to other bytes, is as wrong as any event.

With --max-seconds it stops in time and gives a cursor, with which --from goes on; what was found
before counts on.
"""

EPILOG = """\b
Exit codes:
  0  whole                                         2  wrong usage
  1  the journal cannot be read, or is none        3  damaged: events are lost or wrong
  4  whole, but for a tail that a crash cut short  9  nothing wrong so far, time is over

\b
Examples:
  journaltool verify hello.journal
  journaltool verify --quiet work.journal && echo whole
  journaltool verify --json --max-seconds 60 large.journal
"""

FINDINGS_SHOWN_MAX = 100


def verify(
    journal: common.JournalArgument,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            parser=common.parse_seconds, metavar="SECONDS", help="Stop after this time, exit 9."
        ),
    ] = None,
    cursor: Annotated[
        str | None,
        typer.Option("--from", metavar="CURSOR", help="Go on where a check was stopped."),
    ] = None,
    hashes: Annotated[
        bool, typer.Option("--hashes", help="Do not look into the events: several times as fast.")
    ] = False,
    pages: Annotated[
        bool, typer.Option("--pages", help="Look up each page of memory that is named.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing; the exit code tells.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Check a journal (the help text is HELP)."""
    if hashes and pages:
        raise typer.BadParameter("--pages looks into the events, which --hashes does not")
    with exit_codes.reporting_errors(exit_codes.ExitCode.ERROR, about=journal):
        exit_codes.raise_on_sigint()
        from journal.operations.verify import Verifier

        begun = time.monotonic()
        with progress.show_bar(not quiet) as on_progress:
            check = Verifier(
                journal,
                cursor=_parse_cursor(cursor),
                decode=not hashes,
                pages=pages,
                progress=on_progress,
            )
            found = _run_check(check, None if max_seconds is None else begun + max_seconds)
        known = {"journal": str(journal), **to_json(check, *found)}
        known["seconds"] = round(time.monotonic() - begun, 6)
        if as_json:
            typer.echo(json.dumps(known, indent=2))
        elif not quiet:
            terminal.print_table(to_table(known), style={"verdict": _STYLES[known["verdict"]]})
    raise typer.Exit(_CODES[known["verdict"]])


_CODES = {
    "whole": exit_codes.ExitCode.FINE,
    "torn": exit_codes.ExitCode.TORN,
    "damaged": exit_codes.ExitCode.DAMAGED,
    "unfinished": exit_codes.ExitCode.UNFINISHED,
}
_STYLES = {
    "whole": "bold green",
    "torn": "bold yellow",
    "damaged": "bold red",
    "unfinished": "bold yellow",
}


def _parse_cursor(text: str | None) -> "VerifyCursor | None":
    from journal.errors import OptionError
    from journal.operations.verify import VerifyCursor

    try:
        return None if text is None else VerifyCursor.parse(text)
    except OptionError as error:
        raise typer.BadParameter(str(error)) from None


def _run_check(check: "Verifier", deadline: float | None) -> "tuple[list[Finding], list[Debris]]":
    """Check, and keep the first of what is found."""
    from journal.log.scan import Debris

    findings: list[Finding] = []
    debris: list[Debris] = []
    stop = None if deadline is None else lambda: time.monotonic() >= deadline
    for one in check.run(stop):
        if isinstance(one, Debris):
            if len(debris) < FINDINGS_SHOWN_MAX:
                debris.append(one)
        elif len(findings) < FINDINGS_SHOWN_MAX:
            findings.append(one)
    return findings, debris


def to_json(check: "Verifier", findings: "list[Finding]", debris: "list[Debris]") -> dict[str, Any]:
    """Everything that was found, in what JSON has."""
    figures, tail = check.counts, check.tail
    torn_size = tail.torn_size if tail else 0
    verdict = "damaged" if figures.findings else "torn" if torn_size else "whole"
    if check.cursor is not None and not figures.findings:
        verdict = "unfinished"
    return {
        "verdict": verdict,
        "finished": check.cursor is None,
        "cursor": None if check.cursor is None else str(check.cursor),
        "size": check.size,
        "segments": figures.segments,
        "blocks": figures.blocks,
        "events": figures.events,
        "tail": tail.offset if tail else None,
        "tail_file": tail.segment.name if tail else None,
        "torn_size": torn_size,
        "debris_size": figures.debris_size,
        "debris_count": figures.debris_count,
        "debris": [{"file": one.name, "offset": one.offset, "size": one.size} for one in debris],
        "unknown_events": figures.unknown_events,
        "named_pages": figures.referenced_pages,
        "gaps": figures.gaps,
        "lost_events": figures.lost_events,
        "lost_size": figures.lost_size,
        "findings_count": figures.findings,
        "findings": [_finding_to_json(one) for one in findings],
    }


def _finding_to_json(finding: "Finding") -> dict[str, Any]:
    return {
        "error": type(finding.error).__name__,
        "message": str(finding.error),
        "file": finding.error.file,
        "offset": finding.offset,
        "size": finding.size,
        "first_seq": finding.first_seq,
        "last_seq": finding.last_seq,
        "durable": bool(getattr(finding.error, "acknowledged", False)),
    }


def to_table(known: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    rows = [("journal", terminal.quote(known["journal"])), ("verdict", _describe_verdict(known))]
    counts = ", ".join(
        format_count(known[f"{what}s"], what) for what in ("segment", "block", "event")
    )
    rows.append(("checked", f"{format_count(known['size'], 'byte')}: {counts}"))
    if known["torn_size"]:
        where = format_location(known["tail"], known["tail_file"])
        rows.append(("torn", f"{format_count(known['torn_size'], 'byte')} {where}"))
    for one in known["debris"]:
        where = format_location(one["offset"], one["file"])
        rows.append(("debris", f"{format_count(one['size'], 'byte')} {where}, of a crash"))
    if known["unknown_events"]:
        rows.append(
            (
                "unknown",
                f"{format_count(known['unknown_events'], 'event')} of no kind here",
            )
        )
    if known["named_pages"]:
        rows.append(
            (
                "pages",
                f"{format_count(known['named_pages'], 'named page')} looked up",
            )
        )
    if known["gaps"]:
        lost = f"{format_count(known['lost_events'], 'event')} in {known['lost_size']} bytes"
        rows.append(("lost", f"{lost}, at {format_count(known['gaps'], 'place')}"))
    rows += [("finding", _describe_finding(one)) for one in known["findings"]]
    hidden = known["findings_count"] - len(known["findings"])
    if hidden:
        rows.append(("", f"and {format_count(hidden, 'finding')} more"))
    if known["cursor"]:
        rows.append(("go on", f"--from {known['cursor']}"))
    return rows


def _describe_verdict(known: dict[str, Any]) -> str:
    if known["verdict"] == "whole":
        return "whole"
    if known["verdict"] == "torn":
        return "whole, but for a tail that a crash cut short"
    if known["verdict"] == "unfinished":
        return "nothing wrong so far, and not finished"
    lost, more = known["lost_events"], "" if known["finished"] else ", and not finished"
    return "damaged" + (f", {format_count(lost, 'event')} lost" if lost else "") + more


def _describe_finding(one: dict[str, Any]) -> str:
    durable = ", which had been durable" if one["durable"] else ""
    which = format_seq_range(one["first_seq"], one["last_seq"])
    return f"{one['message']} ({format_count(one['size'], 'byte')}, {which}{durable})"
