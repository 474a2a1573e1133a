"""``journaltool verify``: check every byte of a journal."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exits, options, reading, render

if TYPE_CHECKING:
    from journal import Finding, Reader, Summary

HELP = """Check every byte of a journal.

That is every hash, the chain of blocks and every event; what is wrong is named. Nothing is changed.
A tail that a crash cut short is normal: a resume goes on in front of it.
"""

EPILOG = """\b
Exit codes:
  0  whole                                         2  wrong usage
  1  the journal cannot be read, or is none        3  damaged: events are lost or wrong
  4  whole, but for a tail that a crash cut short

\b
Examples:
  journaltool verify hello.journal
  journaltool verify --json work.journal
  journaltool verify --quiet work.journal && echo whole
"""

FINDINGS_SHOWN = 100


def verify(
    journal: options.JournalArgument,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing; the exit code tells.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Check a journal (the help text is HELP)."""
    with exits.told(exits.Code.ERROR, about=journal):
        from journal import Reader

        with Reader(journal) as reader:
            known = _checked(reader)
        known = {"journal": str(journal), **known}
        if as_json:
            typer.echo(json.dumps(known, indent=2))
        elif not quiet:
            render.table(_rows(known), style={"verdict": _STYLES[known["verdict"]]})
    raise typer.Exit(_CODES[known["verdict"]])


_CODES = {
    "whole": exits.Code.FINE,
    "torn": exits.Code.TORN,
    "damaged": exits.Code.DAMAGED,
}
_STYLES = {"whole": "bold green", "torn": "bold yellow", "damaged": "bold red"}


def _checked(reader: "Reader") -> dict[str, Any]:
    """Everything that was found, in what JSON has."""
    from journal.errors import UnknownEvent

    known, torn = _counted(reader)
    findings: list[dict[str, Any]] = []
    lost = wrong = unknown = 0
    for finding in reader.verify():
        # An event of a later version is none that is wrong: it can only not be told what it means.
        if isinstance(finding.error, UnknownEvent):
            unknown += 1
            continue
        wrong += 1
        if _is_gap(finding):
            lost += max(0, finding.last_seq - finding.first_seq + 1)
        if len(findings) < FINDINGS_SHOWN:
            findings.append(_told(finding))
    verdict = "damaged" if wrong else "torn" if torn else "whole"
    return {
        "verdict": verdict,
        **known,
        "unknown_events": unknown,
        "lost_events": lost,
        "findings_count": wrong,
        "findings": findings,
    }


def _counted(reader: "Reader") -> tuple[dict[str, Any], int]:
    """What the headers count; nothing, where they leave no way to go on: verify tells why."""
    from journal.errors import FormatError

    try:
        summary: Summary = reader.summary()
    except FormatError:
        return {}, 0
    known = {
        "size": summary.size,
        "segments": summary.segments,
        "blocks": summary.blocks,
        "events": summary.events,
        "tail": summary.tail,
        "torn_size": summary.torn_size,
        "debris": [{"offset": offset, "size": size} for offset, size in summary.debris],
    }
    return known, summary.torn_size


def _is_gap(finding: "Finding") -> bool:
    from journal.errors import DamagedJournal

    return isinstance(finding.error, DamagedJournal)


def _told(finding: "Finding") -> dict[str, Any]:
    return {
        "error": type(finding.error).__name__,
        "message": str(finding.error),
        "offset": finding.offset,
        "size": finding.size,
        "first_seq": finding.first_seq,
        "last_seq": finding.last_seq,
        "durable": bool(getattr(finding.error, "acknowledged", False)),
    }


def _rows(known: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("journal", render.quoted(known["journal"])), ("verdict", _verdict(known))]
    if "size" in known:
        counts = ", ".join(
            reading.count(known[f"{what}s"], what) for what in ("segment", "block", "event")
        )
        rows.append(("checked", f"{reading.count(known['size'], 'byte')}: {counts}"))
        if known["torn_size"]:
            rows.append(
                ("torn", f"{reading.count(known['torn_size'], 'byte')} at offset {known['tail']}")
            )
        rows += [
            (
                "debris",
                f"{reading.count(one['size'], 'byte')} at offset {one['offset']}, of a crash",
            )
            for one in known["debris"]
        ]
    if known["unknown_events"]:
        rows.append(
            ("unknown", f"{reading.count(known['unknown_events'], 'event')} of no kind here")
        )
    rows += [("finding", _finding(one)) for one in known["findings"]]
    hidden = known["findings_count"] - len(known["findings"])
    if hidden:
        rows.append(("", f"and {reading.count(hidden, 'finding')} more"))
    return rows


def _verdict(known: dict[str, Any]) -> str:
    if known["verdict"] == "whole":
        return "whole"
    if known["verdict"] == "torn":
        return "whole, but for a tail that a crash cut short"
    lost = known["lost_events"]
    return "damaged" + (f", {reading.count(lost, 'event')} lost" if lost else "")


def _finding(one: dict[str, Any]) -> str:
    first, last = one["first_seq"], one["last_seq"]
    if last < first:
        which = "no event"
    else:
        which = f"event {first}" if first == last else f"events {first} to {last}"
    durable = ", which had been durable" if one["durable"] else ""
    return f"{one['message']} ({reading.count(one['size'], 'byte')}, {which}{durable})"
