"""``journaltool compact``: a shorter journal that leads to the same states."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes as exits
from journaltool.options import common as options
from journaltool.options import source_target as piping
from journaltool.output import lenient_reader as reading
from journaltool.output import progress
from journaltool.output import text as render

if TYPE_CHECKING:
    from journal.compaction import Compaction, Policy

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
    source: piping.SourceArgument,
    output: piping.TargetOption = None,
    in_place: piping.InPlaceOption = False,
    force: piping.ForceOption = False,
    dry_run: piping.DryRunOption = False,
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
    quiet: options.QuietOption = False,
    as_json: piping.JsonOption = False,
) -> None:
    """Compact a journal (the help text is HELP)."""
    piping.check(source, output, in_place, dry_run)
    seconds = None if keep_within is None else _seconds(keep_within)
    exits.interruptible()
    recoverable = None if piping.is_pipe(source) else source
    with exits.told(about=source, recoverable=recoverable):
        from journal.compaction import Policy
        from journal.log.segment_files import journal_size

        target = None if dry_run else source if in_place else output
        policy = Policy(keep_last, keep_every, seconds)
        with (
            piping.read_from(source) as old,
            progress.bar(not quiet) as shown,
            piping.written_to(None if in_place else target, force) as new,
            progress.interruptible(shown) as report,
        ):
            size = journal_size(old)
            found = _compacted(old, old if in_place else new, policy, report, dry_run)
            written = None if dry_run else journal_size(old if new is None else new)
        known = _known(found, source, target) | {"file_size": size, "new_file_size": written}
        _tell(known, to_pipe=piping.is_pipe(target), quiet=quiet, as_json=as_json)


def _compacted(
    source: Path,
    target: Path | None,
    policy: "Policy",
    report: progress.Report,
    dry_run: bool,
) -> "Compaction":
    from journal import compaction

    if target is source:
        return compaction.compact_in_place(source, policy=policy, progress=report, dry_run=dry_run)
    return compaction.compact(
        source, target or source, policy=policy, progress=report, dry_run=dry_run
    )


def _seconds(text: str) -> float:
    """A length of time."""
    import re

    from journal.query.literals import DURATION_PATTERN, parse_duration

    if not re.fullmatch(DURATION_PATTERN, text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is no span of time: write 90s, 10m, 1h30m or 7d")
    return parse_duration(text) / 1e9


def _known(found: "Compaction", source: Path, target: Path | None) -> dict[str, Any]:
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


def _tell(known: dict[str, Any], *, to_pipe: bool, quiet: bool, as_json: bool) -> None:
    if as_json and to_pipe:
        render.say_json(known)
    elif as_json:
        typer.echo(json.dumps(known, indent=2))
    elif quiet:
        return
    elif to_pipe:
        reason = f"; {known['reason']}" if known["reason"] else ""
        render.say(f"{_kept(known)}{reason}")
    else:
        render.table(_rows(known))
        _print_kinds(known["kinds"])


def _kept(known: dict[str, Any]) -> str:
    from journaltool.output.memory_format import size_text

    sizes = f"{size_text(known['kept_size'])} of {size_text(known['size'])}"
    return f"{known['kept_events']:,} of {reading.count(known['events'], 'event')}, {sizes}"


def _rows(known: dict[str, Any]) -> list[tuple[str, str]]:
    from journaltool.output.memory_format import size_text

    target = "nothing is written"
    if known["target"] is not None:
        target = f"{render.quoted(known['target'])}, {size_text(known['new_file_size'])}"
    rows = [
        ("source", f"{render.quoted(known['source'])}, {size_text(known['file_size'])}"),
        ("target", target),
        ("snapshots", _snapshots(known["snapshots"], len(known["dropped_snapshots"]))),
        ("kept", _kept(known)),
    ]
    return rows + [("reason", known["reason"])] * bool(known["reason"])


def _snapshots(kept: tuple[int, ...], dropped: int) -> str:
    if not kept:
        return "there is none"
    shown = ", ".join(map(str, kept[-_SHOWN_MAX:]))
    more = "…, " if len(kept) > _SHOWN_MAX else ""
    return f"{len(kept)} of {len(kept) + dropped} kept: number {more}{shown}"


_NUMBERS = ("events", "dropped_events", "size", "dropped_size")
_HEADINGS = ("kind", "group", "events", "gone", "bytes", "gone")


def _print_kinds(kinds: list[dict[str, Any]]) -> None:
    """Tell of the kinds of which something goes."""
    rows = [
        [one["kind"] or f"unknown({one['tag']})", one["group"] or "-", *_cells([one])]
        for one in kinds
        if one["dropped_events"] or one["dropped_size"]
    ]
    if rows:
        typer.echo("")
        render.grid([_HEADINGS, *rows, ["all kinds", "", *_cells(kinds)]], names=2)


def _cells(kinds: list[dict[str, Any]]) -> list[str]:
    return [f"{sum(one[key] for one in kinds):,}" for key in _NUMBERS]
