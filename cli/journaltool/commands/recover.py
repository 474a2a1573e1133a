"""``journaltool recover``: what is left of a damaged journal, in a new one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes as exits
from journaltool.options import common as options
from journaltool.output import lenient_reader as reading
from journaltool.output import progress
from journaltool.output import text as render

if TYPE_CHECKING:
    from journal.operations.salvage import SalvageResult
    from journal.rewrite.bit_repair import BitRepair
    from journal.rewrite.block_copier import Loss

HELP = """Write what is left of a damaged journal to a new file.

Every event of every block that is whole is kept, with its number and its time. Where a single bit
of a block was turned over, it is found again. What is lost is listed by numbers and by bytes.

SOURCE is only read. TARGET must not exist, and gets its name when it is whole and durable.
"""

EPILOG = """\b
Exit codes:
  0  no event is lost; what a crash cut short never counted
  1  SOURCE cannot be read, or is no journal; TARGET exists, or cannot be written
  2  wrong usage
  3  TARGET is there, with all that could be saved; events are lost

\b
Examples:
  journaltool recover broken.journal whole.journal
  journaltool recover --json broken.journal whole.journal
  journaltool recover --max-search 1MiB broken whole.journal
"""

SHOWN = 100
"""Losses and repairs that are listed in a table; --json has them all."""


def recover(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The journal: a file, or a directory.")
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The new journal, a file.")],
    max_search: Annotated[
        int | None,
        typer.Option(
            parser=options.size,
            metavar="SIZE",
            help="Search blocks up to this size for a bit; 1MiB takes a minute each. [256KiB]",
        ),
    ] = None,
    quiet: options.QuietOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Recover a journal (the help text is HELP)."""
    exits.interruptible()
    with exits.told(exits.Code.ERROR, about=source):
        from journal.operations import salvage as recovering
        from journal.rewrite import bit_search

        size_max = bit_search.BODY_SIZE_MAX if max_search is None else max_search
        with progress.bar(not quiet) as report:
            found = recovering.salvage(source, target, progress=report, body_size_max=size_max)
        if as_json:
            typer.echo(json.dumps(_known(found, source, target), indent=2))
        elif not quiet:
            render.table(_rows(found, source, target))
    raise typer.Exit(exits.Code.FINE if found.is_whole else exits.Code.DAMAGED)


def _known(found: "SalvageResult", source: Path, target: Path) -> dict[str, Any]:
    """Everything, in what JSON has."""
    return {
        "source": str(source),
        "target": str(target),
        "id": found.journal_id.hex(),
        "whole": found.is_whole,
        "size": found.size,
        "blocks": found.blocks,
        "events": found.events,
        "next_seq": found.next_seq,
        "torn_size": found.torn_size,
        "debris_size": found.debris_size,
        "repaired_events": found.repaired_events,
        "repairs": [one._asdict() for one in found.repairs],
        "lost_events": found.lost_events,
        "lost_size": found.lost_size,
        "losses": [{**one._asdict(), "events": one.events} for one in found.losses],
    }


def _rows(found: "SalvageResult", source: Path, target: Path) -> list[tuple[str, str]]:
    kept = f"{reading.count(found.events, 'event')} in {reading.count(found.blocks, 'block')}"
    rows = [
        ("source", f"{render.quoted(str(source))}, {reading.count(found.size, 'byte')}"),
        ("target", render.quoted(str(target))),
        ("kept", f"{kept}; the next would have number {found.next_seq}"),
    ]
    if found.torn_size:
        rows.append(("torn", f"{reading.count(found.torn_size, 'byte')}, cut short by a crash"))
    if found.debris_size:
        rows.append(("debris", f"{reading.count(found.debris_size, 'byte')}, of crashes"))
    if found.repairs:
        saved = f"with {reading.count(found.repaired_events, 'event')}"
        rows.append(("repaired", f"{reading.count(len(found.repairs), 'bit')}, {saved}"))
        rows += [("", _repair(one)) for one in found.repairs[:SHOWN]]
        rows += _more(len(found.repairs))
    rows += loss_rows(found.losses)
    return rows


def loss_rows(losses: "tuple[Loss, ...]") -> list[tuple[str, str]]:
    """What is lost: the sum of it, and a line each."""
    events = sum(one.events for one in losses)
    unknown = any(one.open_ended for one in losses)
    if not losses:
        return [("lost", "nothing")]
    least = "at least " if unknown else ""
    size = reading.count(sum(one.size for one in losses), "byte")
    rows = [("lost", f"{least}{reading.count(events, 'event')} in {size}")]
    return rows + [("", loss_line(one)) for one in losses[:SHOWN]] + _more(len(losses))


def loss_line(loss: "Loss") -> str:
    """One loss in a sentence."""
    which = reading.events(loss.first_seq, loss.last_seq)
    if loss.open_ended:
        which = f"what came from event {loss.first_seq} on, if anything"
    durable = ", which had been durable" if loss.acknowledged else ""
    where = reading.place(loss.offset, loss.file)
    return f"{which}{durable}: {reading.count(loss.size, 'byte')} {where}: {loss.reason}"


def _repair(one: "BitRepair") -> str:
    where = reading.place(one.offset, one.file)
    which = (
        "" if one.last_seq < one.first_seq else f", {reading.events(one.first_seq, one.last_seq)}"
    )
    return f"bit {one.bit} of the byte {where}, in a {one.what}{which}"


def _more(count: int) -> list[tuple[str, str]]:
    return [("", f"and {count - SHOWN} more")] if count > SHOWN else []
