"""``journaltool recover``: copy the readable events of a damaged journal."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count, format_location, format_seq_range

if TYPE_CHECKING:
    from journal.operations.salvage import SalvageResult
    from journal.rewrite.bit_repair import BitRepair
    from journal.rewrite.block_copier import Loss

HELP = """Copy the readable events of a damaged journal to a new file.

The new journal has every event of every intact block, with the same sequence number and time. A
block with a single flipped bit is repaired. Losses are listed by sequence numbers and bytes.

SOURCE is only read. TARGET must not exist, and gets its name when it is complete and durable.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("recover")}

\b
Examples:
  journaltool recover broken.journal whole.journal
  journaltool recover --json broken.journal whole.journal
  journaltool recover --max-search 1MiB broken whole.journal
"""

SHOWN_MAX = 100
"""Largest number of losses, and of repairs, in a table. The JSON output has all of them."""


def recover(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The journal: a file or a directory.")
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The new journal file.")],
    max_search: Annotated[
        int | None,
        common.size_option(
            "Search blocks up to this size for a flipped bit. 1MiB takes a minute. "
            "[default: 256KiB]"
        ),
    ] = None,
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Recover a journal (the help text is HELP)."""
    with error_report.reporting_errors(exit_codes.ExitCode.ERROR, about=source):
        error_report.raise_on_signals()
        from journal.format import bit_search
        from journal.operations import salvage

        size_max = bit_search.BODY_SIZE_MAX if max_search is None else max_search
        with progress.show_progress(quiet) as on_progress:
            result = salvage.salvage(source, target, progress=on_progress, body_size_max=size_max)
        if as_json:
            typer.echo(json.dumps(to_json(result, source, target), indent=2))
        elif not quiet:
            terminal.print_table(to_table(result, source, target))
    raise typer.Exit(exit_codes.ExitCode.FINE if result.is_whole else exit_codes.ExitCode.DAMAGED)


def to_json(result: "SalvageResult", source: Path, target: Path) -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "source": str(source),
        "target": str(target),
        "id": result.journal_id.hex(),
        "whole": result.is_whole,
        "size": result.size,
        "blocks": result.blocks,
        "events": result.events,
        "next_seq": result.next_seq,
        "torn_size": result.torn_size,
        "debris_size": result.debris_size,
        "repaired_events": result.repaired_events,
        "repairs": [one._asdict() for one in result.repairs],
        "lost_events": result.lost_events,
        "lost_size": result.lost_size,
        "losses": [{**one._asdict(), "events": one.events} for one in result.losses],
    }


def to_table(result: "SalvageResult", source: Path, target: Path) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    kept = f"{format_count(result.events, 'event')} in {format_count(result.blocks, 'block')}"
    rows = [
        (
            "source",
            f"{terminal.quote(str(source))}, {format_count(result.size, 'byte')}",
        ),
        ("target", terminal.quote(str(target))),
        ("kept", f"{kept}; the next sequence number is {result.next_seq}"),
    ]
    if result.torn_size:
        rows.append(
            (
                "torn",
                f"{format_count(result.torn_size, 'byte')}, cut short by a crash",
            )
        )
    if result.debris_size:
        rows.append(("debris", f"{format_count(result.debris_size, 'byte')}, left by crashes"))
    if result.repairs:
        saved = f"in blocks with {format_count(result.repaired_events, 'event')}"
        rows.append(("repaired", f"{format_count(len(result.repairs), 'bit')}, {saved}"))
        rows += [("", _describe_repair(one)) for one in result.repairs[:SHOWN_MAX]]
        rows += _count_hidden(len(result.repairs))
    rows += losses_to_table(result.losses)
    return rows


def losses_to_table(losses: "tuple[Loss, ...]") -> list[tuple[str, str]]:
    """Return the table rows of losses: the total, then one row for each loss."""
    events = sum(one.events for one in losses)
    unknown = any(one.open_ended for one in losses)
    if not losses:
        return [("lost", "nothing")]
    least = "at least " if unknown else ""
    size = format_count(sum(one.size for one in losses), "byte")
    rows = [("lost", f"{least}{format_count(events, 'event')} in {size}")]
    return (
        rows + [("", describe_loss(one)) for one in losses[:SHOWN_MAX]] + _count_hidden(len(losses))
    )


def describe_loss(loss: "Loss") -> str:
    """Return one loss as a phrase."""
    which = format_seq_range(loss.first_seq, loss.last_seq)
    if loss.open_ended:
        which = f"any events from event {loss.first_seq} on"
    durable = ", which had been durable" if loss.acknowledged else ""
    where = format_location(loss.offset, loss.file)
    return f"{which}{durable}: {format_count(loss.size, 'byte')} {where}: {loss.reason}"


def _describe_repair(one: "BitRepair") -> str:
    where = format_location(one.offset, one.file)
    which = (
        "" if one.last_seq < one.first_seq else f", {format_seq_range(one.first_seq, one.last_seq)}"
    )
    return f"bit {one.bit} of the byte {where}, in a {one.what}{which}"


def _count_hidden(count: int) -> list[tuple[str, str]]:
    return [("", f"and {count - SHOWN_MAX} more")] if count > SHOWN_MAX else []
