"""``journaltool compact``: a shorter journal that leads to the same states."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes
from journaltool.options import common, source_target
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.compaction import CompactionResult, RetentionPolicy

HELP = """Write to a new journal only what the states of a journal are made of.

These are the states at the snapshots that are kept, and at the end. Gone are pages that were
written over, files that were removed, descriptors that were closed, snapshots that are not kept,
and what the guest was told before the newest one. What stays has its number and its time; all
behind the newest snapshot does. Where a resume would have to begin at the very start, nothing goes.
Where less goes than might, it says why.

Kept are the newest snapshots (--keep-last), the newest one of each so many event numbers
(--keep-every), and those that are not much older than the newest (--keep-within). Each of them can
be resumed from as before.

SOURCE is only read, unless --in-place replaces it; it may be - for standard input. TARGET gets its
name when it is whole and durable; it may be - for standard output.
"""

EPILOG = """\b
Exit codes:
  0  compacted                                     2  wrong usage
  1  SOURCE cannot be read, or is no journal; TARGET exists, or cannot be written
  3  a block of SOURCE is wrong                    5  blocks of SOURCE are missing
  6  what is lost of SOURCE had been durable       8  TARGET could not be written whole
  7  with --in-place, or of a TARGET to be replaced: it is being written

\b
Examples:
  journaltool compact work.journal --dry-run --keep-every 1000000
  journaltool compact work.journal --in-place --keep-last 3 --keep-within 10m
  journaltool compact work.journal -o - | ssh there 'cat > small.journal'
"""

_SHOWN_MAX = 5


def compact(
    source: source_target.SourceArgument,
    output: source_target.TargetOption = None,
    in_place: source_target.InPlaceOption = False,
    force: source_target.ForceOption = False,
    dry_run: source_target.DryRunOption = False,
    keep_last: Annotated[
        int, typer.Option(metavar="N", min=1, help="Keep the newest N snapshots.")
    ] = 1,
    keep_every: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep the newest one of each N event numbers."),
    ] = None,
    keep_within: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN", help="Keep those up to 90s, 10m, 1h30m or 7d older than the newest."
        ),
    ] = None,
    quiet: common.QuietOption = False,
    as_json: source_target.JsonOption = False,
) -> None:
    """Compact a journal (the help text is HELP)."""
    source_target.check_source_and_target(source, output, in_place, dry_run)
    seconds = None if keep_within is None else _parse_span(keep_within)
    recoverable = None if source_target.is_pipe(source) else source
    with exit_codes.reporting_errors(about=source, recoverable=recoverable):
        exit_codes.raise_on_sigint()
        from journal.compaction import RetentionPolicy
        from journal.log.segment_files import journal_size

        target = None if dry_run else source if in_place else output
        policy = RetentionPolicy(keep_last, keep_every, seconds)
        with (
            source_target.open_source(source) as old,
            progress.show_bar(not quiet) as shown,
            source_target.open_target(None if in_place else target, force) as new,
            progress.defer_interrupts(shown) as on_progress,
        ):
            size = journal_size(old)
            found = _run_compaction(old, old if in_place else new, policy, on_progress, dry_run)
            written = None if dry_run else journal_size(old if new is None else new)
        known = to_json(found, source, target) | {"file_size": size, "new_file_size": written}
        report(known, to_pipe=source_target.is_pipe(target), quiet=quiet, as_json=as_json)


def _run_compaction(
    source: Path,
    target: Path | None,
    policy: "RetentionPolicy",
    on_progress: progress.ProgressCallback,
    dry_run: bool,
) -> "CompactionResult":
    from journal import compaction

    if target is source:
        return compaction.compact_in_place(
            source, policy=policy, progress=on_progress, dry_run=dry_run
        )
    return compaction.compact(
        source, target or source, policy=policy, progress=on_progress, dry_run=dry_run
    )


def _parse_span(text: str) -> float:
    """A length of time."""
    import re

    from journal.query.literals import DURATION_PATTERN, parse_duration

    if not re.fullmatch(DURATION_PATTERN, text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is no span of time: write 90s, 10m, 1h30m or 7d")
    return parse_duration(text) / 1e9


def to_json(found: "CompactionResult", source: Path, target: Path | None) -> dict[str, Any]:
    """Everything, in what JSON has."""
    return {
        "source": str(source),
        "target": None if target is None else str(target),
        "id": found.journal_id.hex(),
        "next_seq": found.next_seq,
        "upto": found.upto,
        "snapshots": found.snapshots,
        "dropped_snapshots": found.dropped_snapshots,
        "events": found.events,
        "size": found.size,
        "kept_events": found.kept_events,
        "kept_size": found.kept_size,
        "reason": found.reason,
        "kinds": [
            {
                "kind": kind.name or None,
                "tag": kind.tag,
                "group": kind.group or None,
                "events": kind.events,
                "size": kind.size,
                "dropped_events": kind.dropped_events,
                "dropped_size": kind.dropped_size,
            }
            for kind in sorted(found.kinds, key=lambda one: (-one.dropped_size, one.tag))
        ],
    }


# -- to read ---------------------------------------------------------------------------------------


def report(known: dict[str, Any], *, to_pipe: bool, quiet: bool, as_json: bool) -> None:
    """Print the result."""
    if as_json and to_pipe:
        terminal.print_status_json(known)
    elif as_json:
        typer.echo(json.dumps(known, indent=2))
    elif quiet:
        return
    elif to_pipe:
        reason = f"; {known['reason']}" if known["reason"] else ""
        terminal.print_status(f"{_describe_kept(known)}{reason}")
    else:
        terminal.print_table(to_table(known))
        _print_kinds(known["kinds"])


def _describe_kept(known: dict[str, Any]) -> str:
    from journaltool.output.memory_format import format_size

    sizes = f"{format_size(known['kept_size'])} of {format_size(known['size'])}"
    return f"{known['kept_events']:,} of {format_count(known['events'], 'event')}, {sizes}"


def to_table(known: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    from journaltool.output.memory_format import format_size

    target = "nothing is written"
    if known["target"] is not None:
        target = f"{terminal.quote(known['target'])}, {format_size(known['new_file_size'])}"
    rows = [
        ("source", f"{terminal.quote(known['source'])}, {format_size(known['file_size'])}"),
        ("target", target),
        ("snapshots", _describe_snapshots(known["snapshots"], len(known["dropped_snapshots"]))),
        ("kept", _describe_kept(known)),
    ]
    return rows + [("reason", known["reason"])] * bool(known["reason"])


def _describe_snapshots(kept: tuple[int, ...], dropped: int) -> str:
    if not kept:
        return "there is none"
    shown = ", ".join(map(str, kept[-_SHOWN_MAX:]))
    more = "…, " if len(kept) > _SHOWN_MAX else ""
    return f"{len(kept)} of {len(kept) + dropped} kept: number {more}{shown}"


_NUMERIC_KEYS = ("events", "dropped_events", "size", "dropped_size")
_HEADINGS = ("kind", "group", "events", "gone", "bytes", "gone")


def _print_kinds(kinds: list[dict[str, Any]]) -> None:
    """Tell of the kinds of which something goes."""
    rows = [
        [one["kind"] or f"unknown({one['tag']})", one["group"] or "-", *_sum_cells([one])]
        for one in kinds
        if one["dropped_events"] or one["dropped_size"]
    ]
    if rows:
        typer.echo("")
        terminal.print_grid([_HEADINGS, *rows, ["all kinds", "", *_sum_cells(kinds)]], names=2)


def _sum_cells(kinds: list[dict[str, Any]]) -> list[str]:
    return [f"{sum(one[key] for one in kinds):,}" for key in _NUMERIC_KEYS]
