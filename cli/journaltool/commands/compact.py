"""``journaltool compact``: remove events that no retained state depends on."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, groups, many, source_target
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count, name_kind

if TYPE_CHECKING:
    from journal.compaction import CompactionResult, RetentionPolicy

HELP = f"""Write a smaller journal with the same retained states.

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

{many.MANY_HELP.format(command="compact")}
Several sources need --in-place or --dry-run.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("compact")}

\b
Examples:
  journaltool compact work.journal --dry-run --keep-every 1000000
  journaltool compact work.journal -o - | ssh there 'cat > small.journal'
  journaltool compact --jobs 4 --in-place --keep-last 3 --keep-within 10m runs/*.journal
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


JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on stdout, or on stderr with -o -, or a line for each of many.",
    ),
]


@groups.flatten
def compact(
    sources: many.SourcesArgument,
    *,
    target_options: source_target.TargetArguments,
    keep_last: KeepLastOption = 1,
    keep_every: KeepEveryOption = None,
    keep_within: KeepWithinOption = None,
    many_options: many.ManyArguments,
    quiet: common.QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compact journals (the help text is HELP)."""
    many_options.check(sources)
    for source in sources:
        target_options.check(source)
    seconds = None if keep_within is None else _parse_span(keep_within)
    limits = keep_last, keep_every, seconds
    if not many_options.is_given(sources):
        _compact_alone(sources[0], target_options, limits, quiet, as_json)
        return
    dry_run = target_options.dry_run
    if target_options.output is not None or any(map(source_target.is_pipe, sources)):
        raise typer.BadParameter("several sources and --jobs need --in-place or --dry-run")
    with error_report.reporting_errors():
        error_report.raise_on_signals()
        from journaltool.processes import many_journals  # Slow to import.

        task = many_journals.ManyTask(
            command="compact",
            verb="compacting",
            function=partial(compact_one, limits=limits, dry_run=dry_run),
            find_verdict=lambda values: "compacted" if values["target"] else "examined",
            find_code=lambda values: exit_codes.ExitCode.FINE,
            describe=_describe_one,
            rewrites=not dry_run,
        )
        code = many_journals.run_task(task, sources, many_options, quiet=quiet, as_json=as_json)
    raise typer.Exit(code)


Limits = tuple[int, int | None, float | None]
"""The arguments of a RetentionPolicy."""


def compact_one(path: Path, *, limits: Limits, dry_run: bool) -> dict[str, Any]:
    """Compact one of many journals in place: the work of a worker process."""
    from journal.compaction import RetentionPolicy, compact_in_place
    from journal.log.segment_files import journal_size

    size = journal_size(path)
    with progress.defer_interrupts(progress.ignore) as on_progress:
        result = compact_in_place(
            path, policy=RetentionPolicy(*limits), progress=on_progress, dry_run=dry_run
        )
    written = None if dry_run else journal_size(path)
    values = to_json(result, path, None if dry_run else path)
    return values | {"file_size": size, "new_file_size": written}


def _describe_one(values: dict[str, Any]) -> list[str]:
    """Return the lines of the output for one of many journals."""
    return [_describe_kept(values), *([f"reason: {values['reason']}"] * bool(values["reason"]))]


def _compact_alone(
    source: Path,
    target_options: source_target.TargetArguments,
    limits: Limits,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compact one journal in this process."""
    recoverable = None if source_target.is_pipe(source) else source
    with error_report.reporting_errors(about=source, recoverable=recoverable):
        error_report.raise_on_signals()
        from journal.compaction import RetentionPolicy
        from journal.log.segment_files import journal_size

        in_place, dry_run = target_options.in_place, target_options.dry_run
        policy = RetentionPolicy(*limits)
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
