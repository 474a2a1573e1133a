"""``journaltool stats``: statistics of the events, pages and sizes of a journal."""

import json
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, groups, many, output_path, redaction
from journaltool.output import declared_kinds, progress, terminal
from journaltool.output.phrases import format_count, name_kind

if TYPE_CHECKING:
    from journal.operations.statistics import StatisticsResult

HELP = f"""Print statistics of the events and pages of a journal, or of many.

For each kind of event, the table shows the number of events, their bytes, share and rate. The
statistics also show the compression of blocks, the pages that snapshots store, repeated pages, and
events and bytes over time. Bytes of events are counted before compression.

With --by peer, the table shows the traffic of the sockets by the address of the peer instead:
connections, calls and bytes in both directions.

Statistics have no contents. --redact addresses hides the addresses of peers.

{many.MANY_HELP.format(command="stats")}"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("stats")}

\b
Examples:
  journaltool stats work.journal
  journaltool stats --svg work.svg work.journal
  journaltool stats --by peer server.journal
  journaltool stats --jobs 4 --json backups/*.journal
"""

LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "_.:-=+*#"


class Subject(StrEnum):
    """What statistics count."""

    KIND = "kind"
    PEER = "peer"


@groups.flatten
def stats(
    journals: many.JournalsArgument,
    pages: Annotated[
        bool, typer.Option("--pages/--no-pages", help="Count memory pages too.")
    ] = True,
    by: Annotated[
        Subject, typer.Option(help="Count by kind of event, or the traffic by peer.")
    ] = Subject.KIND,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a chart as an SVG file.")
    ] = None,
    redact: redaction.RedactOption = None,
    *,
    many_options: many.ManyArguments,
    quiet: common.QuietOption = False,
    as_json: many.JsonOption = False,
) -> None:
    """Print statistics (the help text is HELP)."""
    many_options.check(journals)
    if by is Subject.PEER:
        if svg is not None or many_options.is_given(journals):
            raise typer.BadParameter("--by peer reads one journal, without --svg and --jobs")
        with error_report.reporting_errors(about=journals[0]):
            error_report.raise_on_signals()
            from journaltool.output import peer_table

            hidden = redaction.parse_redaction(redact)
            with progress.show_progress(quiet) as on_progress:
                peers = peer_table.collect(journals[0], hidden, on_progress)
            peer_table.show(peers, quiet=quiet, as_json=as_json)
        raise typer.Exit(_find_code(peers))
    if not many_options.is_given(journals):
        _stats_alone(journals[0], pages, svg, redact, quiet, as_json)
    if svg is not None:
        raise typer.BadParameter("--svg draws one journal, without --jobs")
    with error_report.reporting_errors():
        error_report.raise_on_signals()
        redaction.parse_secrets(redact)
        from journaltool.processes import many_journals  # Slow to import.

        task = many_journals.ManyTask(
            command="stats",
            verb="reading",
            function=partial(stats_one, pages=pages),
            find_verdict=lambda values: "damaged" if values["damaged"] else "read",
            find_code=_find_code,
            describe=_describe_one,
        )
        code = many_journals.run_task(task, journals, many_options, quiet=quiet, as_json=as_json)
    raise typer.Exit(code)


def _stats_alone(
    journal: Path,
    pages: bool,
    svg: Path | None,
    redact: list[str] | None,
    quiet: bool,
    as_json: bool,
) -> NoReturn:
    """Print the statistics of one journal, and end the command."""
    with error_report.reporting_errors(about=journal):
        error_report.raise_on_signals()
        from journal.operations import statistics

        redaction.parse_secrets(redact)  # Statistics have no contents to redact.
        with progress.show_progress(quiet) as on_progress:
            result = statistics.collect_statistics(journal, pages=pages, progress=on_progress)
        values = to_json(result, journal, pages)
        if svg is not None:
            from journaltool.output import svg_chart

            chart = svg_chart.render_chart(journal.name, values).encode()
            output_path.write_file(journal, svg, lambda file: file.write(chart), force=True)
        if as_json:
            typer.echo(json.dumps(values, indent=2))
        elif not quiet:
            report(values)
    raise typer.Exit(_find_code(values))


def stats_one(path: Path, *, pages: bool) -> dict[str, Any]:
    """Return the statistics of one of many journals: the work of a worker process."""
    from journal.operations.statistics import collect_statistics

    return to_json(collect_statistics(path, pages=pages), path, pages)


def _find_code(values: dict[str, Any]) -> exit_codes.ExitCode:
    return exit_codes.ExitCode.DAMAGED if values["damaged"] else exit_codes.ExitCode.FINE


def _describe_one(values: dict[str, Any]) -> list[str]:
    """Return the line of the output for one of many journals."""
    from journaltool.output.memory_format import format_size

    events = f"{values['events']:,} events in {values['seconds']:,.3f} s"
    size = f"{format_size(values['size'])} in {format_count(values['blocks'], 'block')}"
    return [f"{events}, {size}, {format_count(values['snapshots'], 'snapshot')}"]


def to_json(result: "StatisticsResult", journal: Path, pages: bool) -> dict[str, Any]:
    """Return the result as JSON values."""
    summary = result.summary
    return {
        "journal": str(journal),
        "id": summary.journal_id.hex(),
        "events": result.events,
        "size": summary.size,
        "blocks": summary.blocks,
        "compressed_blocks": result.compressed_blocks,
        "segments": summary.segments,
        "payload_size": result.payload_size,
        "stored_size": result.stored_size,
        "columns_size": result.columns_size,
        "headers_size": result.headers_size,
        "first_time": summary.first_time,
        "last_time": summary.last_time,
        "seconds": result.seconds,
        "kinds": _kinds_to_json(result, journal),
        "snapshots": result.snapshots,
        "pages": _pages_to_json(result) if pages else None,
        "timeline": result.timeline,
        "timeline_sizes": result.sizes,
        "damaged": result.damaged,
    }


def _kinds_to_json(result: "StatisticsResult", journal: Path) -> list[dict[str, Any]]:
    from journal.events.tag_sets import find_group

    kinds = declared_kinds.read_kinds(journal, result.kinds)
    groups = {tag: group.value for tag in result.kinds if (group := find_group(tag))}
    ordered = sorted(result.kinds.values(), key=lambda kind: (-kind.size, -kind.events, kind.tag))
    return [
        {
            "kind": kinds[one.tag].__name__ if one.tag in kinds else None,
            "tag": one.tag,
            "group": groups.get(one.tag),
            "events": one.events,
            "size": one.size,
            "share": one.size / result.payload_size if result.payload_size else 0.0,
            "rate": one.events / result.seconds if result.seconds else None,
        }
        for one in ordered
    ]


def _pages_to_json(result: "StatisticsResult") -> dict[str, Any]:
    from journal.events.memory import PageKind
    from journal.operations.statistics import DISTINCT_MAX

    pages = result.pages
    return {
        "count": pages.count,
        "whole": pages.kinds[PageKind.WHOLE],
        "patched": pages.kinds[PageKind.PATCHED],
        "zero": pages.kinds[PageKind.ZERO],
        "same": pages.kinds[PageKind.SAME],
        "patch_size": pages.patch_size,
        "numbers": pages.distinct_pages,
        "contents": pages.distinct_contents,
        "at_least": max(pages.distinct_pages, pages.distinct_contents) >= DISTINCT_MAX,
        "malformed": pages.malformed,
    }


# -- table ---------------------------------------------------------------------------------------


def report(values: dict[str, Any]) -> None:
    """Print the result."""
    from journaltool.output.memory_format import format_size

    events, seconds = values["events"], values["seconds"]
    rate = f", {events / seconds:,.0f} a second" if seconds else ""
    raw, stored = values["payload_size"], values["stored_size"]
    ratio = f", {raw / stored:.2f} times as many before compression" if stored < raw else ""
    rest = (
        f"{format_size(values['columns_size'])} of columns, {format_size(values['headers_size'])}"
    )
    rows = [
        ("journal", terminal.quote(values["journal"])),
        ("events", f"{events:,} in {seconds:,.3f} s{rate}"),
        (
            "size",
            f"{format_size(values['size'])} in {format_count(values['blocks'], 'block')}",
        ),
        ("payloads", f"{format_size(stored)}{ratio}"),
        ("besides", f"{rest} of headers"),
        ("snapshots", f"{values['snapshots']:,}"),
    ]
    if values["pages"] and values["pages"]["count"]:
        rows.append(("pages", _describe_pages(values["pages"])))
    rows += [
        ("over time", f"{sparkline(values['timeline'])}  events"),
        ("", f"{sparkline(values['timeline_sizes'])}  bytes"),
    ]
    if values["damaged"]:
        rows.append(("damage", f"{format_count(values['damaged'], 'damaged place')} skipped"))
    terminal.print_table(rows)
    _print_kinds(values["kinds"])


def _describe_pages(pages: dict[str, Any]) -> str:
    from journaltool.output.memory_format import format_size

    least = "at least " if pages["at_least"] else ""
    again = pages["count"] / pages["numbers"] if pages["numbers"] else 0
    same = pages["whole"] - pages["contents"]
    same_text = f", {pages['same']:,} references" if pages["same"] else ""
    text = (
        f"{pages['count']:,} stored: {pages['whole']:,} whole, {pages['patched']:,} patched in "
        f"{format_size(pages['patch_size'])}, {pages['zero']:,} zero{same_text}; of {least}"
        f"{pages['numbers']:,} different pages, {again:.1f} times each"
    )
    return text + (f"; {same:,} whole pages repeat another" if same > 0 else "")


_HEADINGS = ("kind", "group", "events", "bytes", "share", "each", "a second")


def _print_kinds(kinds: list[dict[str, Any]]) -> None:
    from journaltool.output.memory_format import format_size

    rows = [_HEADINGS]
    for one in kinds:
        each = one["size"] / one["events"]
        rows.append(
            (
                one["kind"] or name_kind(one["tag"]),
                one["group"] or "-",
                f"{one['events']:,}",
                format_size(one["size"]),
                f"{100 * one['share']:.1f} %",
                format_size(round(each)),
                "-" if one["rate"] is None else f"{one['rate']:,.1f}",
            )
        )
    typer.echo("")
    terminal.print_grid(rows, names=2)


def sparkline(values: list[int]) -> str:
    """Return a line of bars, one for each value. Zero is a space."""
    levels = LEVELS if "utf" in (sys.stdout.encoding or "").lower() else ASCII_LEVELS
    top = max(values, default=0)
    if not top:
        return " " * len(values)
    return "".join(levels[-(-value * len(levels) // top) - 1] if value else " " for value in values)
