"""``journaltool filter``: copy selected events to a new journal."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, groups, query, source_target
from journaltool.output import declared_kinds, progress, terminal
from journaltool.output.phrases import format_count, name_kind

if TYPE_CHECKING:
    from journal.events.definition import Event
    from journal.operations.filter import FilterResult

    Kinds = Mapping[int, type[Event]]

HELP = """Copy the selected events of a journal to a new journal.

Events keep their sequence numbers and times. An event is selected if it matches every option. For a
repeated option, one match is enough, and --group and --kind count as one option. --drop copies all
events that are not selected. The preamble, which describes the program and its mounts, is always
kept, unless --no-preamble is set.

The output says whether the new journal can be resumed. If a resume could not detect the missing
events, the new journal is marked as not resumable.

SOURCE is only read, unless --in-place replaces it. SOURCE may be - for standard input. TARGET gets
its name when it is complete and durable. TARGET may be - for standard output. With --in-place, a
directory becomes a directory with a single segment, and owner and mode do not change.

The group sockets also has the events of the descriptors of sockets, the bytes that they received
and the results of the host.

An expression compares the properties of every event (kind, group, tag, seq, time, size, path,
descriptor and of_socket) and the fields that inspect prints. Put a dot before a field that has the
name of a property. The operators are == != < <= > >=, in (1, 2), glob "*.txt", matches "[0-9]+",
and, or, not and parentheses. Values are 42, 0x2a, 64Ki, "text", b"bytes", x"00ff",
2026-11-21T10:00Z, -5m, 1.5s, true and none.
"""

EPILOG = f"""\b
Groups: core memory threads files stdio sockets inputs snapshots application, and the names of
Wasmer: mem thread fs file filesystem net network networking snap snapshot.

\b
Exit codes:
{exit_codes.list_codes("filter")}

\b
Examples:
  journaltool filter work.journal -o small.journal --drop --group memory --group inputs
  journaltool filter work.journal -o - --path '/tmp/**' --since -5m | ssh there 'cat > b.journal'
  journaltool filter work.journal --dry-run --where 'kind == "PathRename" and path glob "/tmp/*"'
"""


DropOption = Annotated[
    bool, typer.Option("--drop/--keep", help="Drop or keep the selected events.")
]
PreambleOption = Annotated[bool, typer.Option(help="Always keep the preamble.")]


@groups.flatten
def filter(
    source: source_target.SourceArgument,
    *,
    target_options: source_target.TargetArguments,
    drop: DropOption = False,
    group: query.GroupOption = None,
    kind: query.KindOption = None,
    numbers: query.SeqRangeOption = None,
    query_options: query.QueryArguments,
    preamble: PreambleOption = True,
    quiet: common.QuietOption = False,
    as_json: source_target.JsonOption = False,
) -> None:
    """Filter a journal (the help text is HELP)."""
    target_options.check(source)
    with error_report.reporting_errors(
        about=source, recoverable=None if source_target.is_pipe(source) else source
    ):
        error_report.raise_on_signals()
        from journal.operations import filter

        with source_target.open_source(source) as old:
            uses_names = bool(kind) or query_options.where is not None
            kinds = declared_kinds.read_kinds(old, None if uses_names else ())
            selection = query_options.build(group, kind, numbers, kinds=kinds)
            with (
                progress.show_progress(quiet) as report_to_user,
                target_options.open_new() as new,
                progress.defer_interrupts(report_to_user) as on_progress,
                target_options.replace_source(source) as replacement,
            ):
                result = filter.filter(
                    old,
                    replacement or new,
                    selection,
                    keep=not drop,
                    keep_preamble=preamble,
                    measure_size=target_options.dry_run,
                    progress=on_progress,
                )
                kinds = declared_kinds.read_kinds(old, result.kept.keys() | result.dropped.keys())
        target = target_options.find_target(source)
        to_pipe = source_target.is_pipe(target)
        _report(result, kinds, source, target, to_pipe, quiet, as_json)


def _report(
    result: "FilterResult",
    kinds: "Kinds",
    source: Path,
    target: Path | None,
    to_pipe: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print the result for the selected output format."""
    values = to_json(result, kinds, source, target)
    if as_json and not to_pipe:
        typer.echo(json.dumps(values, indent=2))
    elif as_json:
        terminal.print_status_json(values)
    elif to_pipe and not quiet:
        terminal.print_status(_describe_result(result))
    elif not quiet:
        terminal.print_table(to_table(result, kinds, source, target))


def _count_by_kind(counts: dict[int, int], kinds: "Kinds") -> dict[str, int]:
    """Return the number of events of each kind name, in descending order."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        kinds[tag].__name__ if tag in kinds else name_kind(tag): count for tag, count in ordered
    }


def to_json(
    result: "FilterResult", kinds: "Kinds", source: Path, target: Path | None
) -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "source": str(source),
        "target": None if target is None else str(target),
        "id": result.journal_id.hex(),
        "size": result.size,
        "written": result.written,
        "blocks": result.blocks,
        "blocks_whole": result.blocks_copied,
        "blocks_passed": result.blocks_skipped,
        "events": result.events,
        "dropped_events": result.events_dropped,
        "kept": _count_by_kind(result.kept, kinds),
        "dropped": _count_by_kind(result.dropped, kinds),
        "next_seq": result.next_seq,
        "resumable": result.resumable,
        "reason": result.reason,
    }


def _describe_result(result: "FilterResult") -> str:
    kept = format_count(result.events, "event")
    return f"{kept} kept, {result.events_dropped} dropped; {_describe_use(result)}"


def _describe_use(result: "FilterResult") -> str:
    return result.reason if result.resumable else f"it cannot be resumed: {result.reason}"


def to_table(
    result: "FilterResult", kinds: "Kinds", source: Path, target: Path | None
) -> list[tuple[str, str]]:
    """Return the rows of the table for a terminal."""

    def format_kinds(counts: dict[int, int]) -> str:
        listed = ", ".join(
            f"{count} {kind}" for kind, count in _count_by_kind(counts, kinds).items()
        )
        total = format_count(sum(counts.values()), "event")
        return f"{total}: {listed}" if listed else total

    from journaltool.output.memory_format import format_size

    written = format_size(result.written)
    blocks = f"{format_count(result.blocks, 'block')}, {result.blocks_copied} of them unchanged"
    return [
        ("source", f"{terminal.quote(str(source))}, {format_size(result.size)}"),
        ("target", "not written (--dry-run)" if target is None else terminal.quote(str(target))),
        ("kept", format_kinds(result.kept)),
        ("dropped", format_kinds(result.dropped)),
        ("size", f"{written} in {blocks}"),
        ("use", _describe_use(result)),
    ]
