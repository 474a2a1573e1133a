"""``journaltool compact``: remove events that no retained state depends on."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, groups, source_target
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count, name_kind

if TYPE_CHECKING:
    from journal.compaction import CompactionResult, RetentionPolicy

HELP = """Write a smaller journal with the same retained states.

The retained states are the states at the retained snapshots and at the end of the journal. The
command removes overwritten pages, removed files, closed descriptors, snapshots that are not
retained, and the inputs before the newest retained snapshot. Retained events keep their sequence
numbers and times. Every event after the newest snapshot is retained. Nothing is removed if a resume
would have to start at the beginning of the program. If fewer events are removed than possible, the
output has the reason.

--keep-last retains the newest snapshots, --keep-every the newest snapshot in each range of sequence
numbers, and --keep-within the snapshots that are not much older than the newest snapshot. Each
retained snapshot can be resumed as before.

SOURCE is only read, unless --in-place replaces it. SOURCE may be - for standard input. TARGET gets
its name when it is complete and durable. TARGET may be - for standard output.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("compact")}

\b
Examples:
  journaltool compact work.journal --dry-run --keep-every 1000000
  journaltool compact work.journal --in-place --keep-last 3 --keep-within 10m
  journaltool compact work.journal -o - | ssh there 'cat > small.journal'
"""

_SHOWN_MAX = 5


KeepLastOption = Annotated[
    int,
    typer.Option(
        metavar="N", click_type=common.Number(min=1), help="Retain the newest N snapshots."
    ),
]
KeepEveryOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        click_type=common.Number(min=1),
        help="Retain the newest snapshot of every N sequence numbers.",
    ),
]
KeepWithinOption = Annotated[
    str | None,
    typer.Option(
        metavar="SPAN",
        help="Retain snapshots at most this much older than the newest: 90s, 1h30m or 7d.",
    ),
]


@groups.flatten
def compact(
    source: source_target.SourceArgument,
    *,
    target_options: source_target.TargetArguments,
    keep_last: KeepLastOption = 1,
    keep_every: KeepEveryOption = None,
    keep_within: KeepWithinOption = None,
    quiet: common.QuietOption = False,
    as_json: source_target.JsonOption = False,
) -> None:
    """Compact a journal (the help text is HELP)."""
    target_options.check(source)
    seconds = None if keep_within is None else _parse_span(keep_within)
    recoverable = None if source_target.is_pipe(source) else source
    with error_report.reporting_errors(about=source, recoverable=recoverable):
        error_report.raise_on_signals()
        from journal.compaction import RetentionPolicy
        from journal.log.segment_files import journal_size

        in_place, dry_run = target_options.in_place, target_options.dry_run
        policy = RetentionPolicy(keep_last, keep_every, seconds)
        with (
            source_target.open_source(source) as old,
            progress.show_progress(quiet) as report_to_user,
            target_options.open_new() as new,
            progress.defer_interrupts(report_to_user) as on_progress,
        ):
            size = journal_size(old)
            result = _run_compaction(old, old if in_place else new, policy, on_progress, dry_run)
            written = None if dry_run else journal_size(old if new is None else new)
        target = target_options.find_target(source)
        values = to_json(result, source, target) | {"file_size": size, "new_file_size": written}
        report(values, to_pipe=source_target.is_pipe(target), quiet=quiet, as_json=as_json)


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
    """Return the seconds of a time span such as ``1h30m``."""
    import re

    from journal.query.literals import DURATION_PATTERN, parse_duration

    if not re.fullmatch(DURATION_PATTERN, text, re.ASCII):
        raise typer.BadParameter(
            f"{text!r} is not a time span: write for example 90s, 10m, 1h30m or 7d"
        )
    return parse_duration(text) / 1e9


def to_json(result: "CompactionResult", source: Path, target: Path | None) -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "source": str(source),
        "target": None if target is None else str(target),
        "id": result.journal_id.hex(),
        "next_seq": result.next_seq,
        "upto": result.upto,
        "snapshots": result.snapshots,
        "dropped_snapshots": result.dropped_snapshots,
        "events": result.events,
        "size": result.size,
        "kept_events": result.kept_events,
        "kept_size": result.kept_size,
        "reason": result.reason,
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
            for kind in sorted(result.kinds, key=lambda one: (-one.dropped_size, one.tag))
        ],
    }


# -- table -----------------------------------------------------------------------------------------


def report(values: dict[str, Any], *, to_pipe: bool, quiet: bool, as_json: bool) -> None:
    """Print the result for the selected output format."""
    if as_json and to_pipe:
        terminal.print_status_json(values)
    elif as_json:
        typer.echo(json.dumps(values, indent=2))
    elif quiet:
        return
    elif to_pipe:
        reason = f"; {values['reason']}" if values["reason"] else ""
        terminal.print_status(f"{_describe_kept(values)}{reason}")
    else:
        terminal.print_table(to_table(values))
        _print_kinds(values["kinds"])


def _describe_kept(values: dict[str, Any]) -> str:
    from journaltool.output.memory_format import format_size

    sizes = f"{format_size(values['kept_size'])} of {format_size(values['size'])}"
    return f"{values['kept_events']:,} of {format_count(values['events'], 'event')}, {sizes}"


def to_table(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""
    from journaltool.output.memory_format import format_size

    target = "not written (--dry-run)"
    if values["target"] is not None:
        target = f"{terminal.quote(values['target'])}, {format_size(values['new_file_size'])}"
    rows = [
        ("source", f"{terminal.quote(values['source'])}, {format_size(values['file_size'])}"),
        ("target", target),
        ("snapshots", _describe_snapshots(values["snapshots"], len(values["dropped_snapshots"]))),
        ("kept", _describe_kept(values)),
    ]
    return rows + [("reason", values["reason"])] * bool(values["reason"])


def _describe_snapshots(retained: tuple[int, ...], dropped: int) -> str:
    if not retained:
        return "none"
    listed = ", ".join(map(str, retained[-_SHOWN_MAX:]))
    more = "…, " if len(retained) > _SHOWN_MAX else ""
    return (
        f"{len(retained)} of {len(retained) + dropped} retained, at sequence numbers {more}{listed}"
    )


_NUMERIC_KEYS = ("events", "dropped_events", "size", "dropped_size")
_HEADINGS = ("kind", "group", "events", "gone", "bytes", "gone")


def _print_kinds(kinds: list[dict[str, Any]]) -> None:
    """Print a table of the event kinds that lose events or bytes."""
    rows = [
        [one["kind"] or name_kind(one["tag"]), one["group"] or "-", *_sum_cells([one])]
        for one in kinds
        if one["dropped_events"] or one["dropped_size"]
    ]
    if rows:
        typer.echo("")
        terminal.print_grid([_HEADINGS, *rows, ["all kinds", "", *_sum_cells(kinds)]], names=2)


def _sum_cells(kinds: list[dict[str, Any]]) -> list[str]:
    return [f"{sum(one[key] for one in kinds):,}" for key in _NUMERIC_KEYS]
