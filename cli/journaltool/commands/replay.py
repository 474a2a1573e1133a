"""``journaltool replay``: execute a journal's program again, and see whether it does the same."""

import gc
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes as exits
from journaltool.options import common as options
from journaltool.output import text as render

if TYPE_CHECKING:
    from journal import Divergence
    from journal.engine.session.process import RunResult
    from journal.engine.session.verify import ReplayResult, SnapshotCheck

HELP = """Execute the program of a journal again, to where the journal ends, and tell how it ended.

It hears what it heard, and all that it does is compared with what it did. Nothing outside is
touched: what it prints goes nowhere, and no file is read or written but the journal.

At each snapshot its whole state is compared too, by its digest; --verify shows each of them.
"""

EPILOG = """\b
Exit codes:
  0  it did the same, however it ended             2  wrong usage
  1  the journal cannot be read, is none, or cannot be executed here
  3  something came out differently

\b
Examples:
  journaltool replay hello.journal
  journaltool replay --verify work.journal
  journaltool replay --verify --each --json work.journal
"""


def replay(
    journal: options.JournalArgument,
    verify: Annotated[
        bool, typer.Option("--verify", help="Show what was found at each snapshot.")
    ] = False,
    start: Annotated[
        int | None,
        typer.Option(
            "--from", min=0, metavar="NUMBER", help="Begin at this snapshot, not at the start."
        ),
    ] = None,
    each: Annotated[
        bool,
        typer.Option(
            "--each",
            help="Go from each snapshot to the next, so that one that is wrong spoils no other.",
        ),
    ] = False,
    module: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The program, where the journal does not hold it."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing; the exit code tells.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Execute a program again (the help text is HELP)."""
    if each and start is not None:
        raise typer.BadParameter("--each goes from every snapshot on, so --from says nothing")
    with exits.told(exits.Code.ERROR, about=journal):
        from journal import verify_replay

        gc.freeze()
        gc.enable()
        begun = time.monotonic()
        found = verify_replay(
            journal,
            start=start,
            from_each_snapshot=each,
            module=module,
            cache=options.cache(),
            note=(lambda text: None) if quiet else render.say,
        )
        known = {"journal": str(journal), **_known(found)}
        known["seconds"] = round(time.monotonic() - begun, 6)
        if as_json:
            typer.echo(json.dumps(known, indent=2))
        elif not quiet:
            style = "bold green" if found.matches else "bold red"
            render.table(_rows(known, verify), style={"verdict": style})
    raise typer.Exit(exits.Code.FINE if found.matches else exits.Code.DAMAGED)


def _known(found: "ReplayResult") -> dict[str, Any]:
    """Everything, in what JSON has."""
    return {
        "verdict": "the same" if found.matches else "different",
        "snapshots": [_checked(one) for one in found.checks],
        "divergence": _divergence(found.divergence),
        "ended": _ended(found.result),
    }


def _checked(one: "SnapshotCheck") -> dict[str, Any]:
    from journal.snapshots.triggers import format_trigger

    return {
        "seq": one.info.seq,
        "trigger": format_trigger(one.info.trigger),
        "holds": one.matches,
        "reason": one.reason,
    }


def _divergence(error: "Divergence | None") -> dict[str, Any] | None:
    if error is None:
        return None
    names = ("seq", "expected", "actual", "backtrace")
    return {name: getattr(error, name) for name in names}


def _ended(outcome: "RunResult | None") -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {
        "outcome": outcome.kind.value,
        "exit_code": outcome.code,
        "reason": outcome.reason,
        "backtrace": outcome.backtrace,
    }


def _rows(known: dict[str, Any], every: bool) -> list[tuple[str, str]]:
    """The same to read."""
    rows = [("journal", render.quoted(known["journal"]))]
    snapshots = known["snapshots"]
    if every:
        rows += [("snapshot", _snapshot_row(one)) for one in snapshots]
    elif snapshots:
        compared = sum(one["holds"] is not None for one in snapshots)
        rows.append(("snapshots", f"{compared} of {len(snapshots)} compared"))
        wrong = [one for one in snapshots if one["holds"] is False]
        rows += [("snapshot", _snapshot_row(one)) for one in wrong]
    diverged = known["divergence"]
    if diverged:
        rows.append(("diverged", f"at event {diverged['seq']}"))
        rows += [("recorded", diverged["expected"]), ("replayed", diverged["actual"])]
        rows += [("", line) for line in render.backtrace(diverged["backtrace"])]
    else:
        rows.append(("ended", _ending(known["ended"])))
    seconds = render.seconds(round(known["seconds"], 2))
    return [*rows, ("took", seconds), ("verdict", known["verdict"])]


def _snapshot_row(one: dict[str, Any]) -> str:
    """One snapshot, and what was found there."""
    found = {True: "the same", False: "different", None: "not compared"}[one["holds"]]
    reason = f": {one['reason']}" if one["reason"] else ""
    return f"{one['seq']} {one['trigger']}, {found}{reason}"


def _ending(ended: dict[str, Any] | None) -> str:
    if ended is None:
        return "no: the journal ends before the program"
    if ended["outcome"] == "trapped":
        return f"trapped: {ended['reason']}"
    return f"with exit code {ended['exit_code']}"
