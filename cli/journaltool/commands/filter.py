"""``journaltool filter``: some events of a journal as a new one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes as exits
from journaltool.options import common as options
from journaltool.options import query as where
from journaltool.options import source_target as piping
from journaltool.output import lenient_reader as reading
from journaltool.output import progress
from journaltool.output import text as render

if TYPE_CHECKING:
    from journal.operations.filter import FilterResult

HELP = """Write the events of a journal that are asked for, or all but them, to a new one.

Numbers and times stay. An event is meant if all options hold for it; of several groups and kinds,
descriptors, or paths, any one. With --drop all others are written. What says what ran is kept in
any case, without --no-preamble.

It tells what the new journal can still be used for. Where a resume would not notice what is
missing, the new journal says of itself that it cannot be resumed.

SOURCE is only read, unless --in-place replaces it; it may be - for standard input. TARGET gets its
name when it is whole and durable; it may be - for standard output. In place, a directory stays
one, with a single segment; owner and mode stay.

An expression compares what every event has, which is kind, group, tag, seq, time, size, path and
descriptor, and the fields that inspect shows; a field of such a name has a dot in front. There are
== != < <= > >=, in (1, 2), glob "*.txt", matches "[0-9]+", and, or, not and parentheses. Values
are 42, 0x2a, 64Ki, "text", b"bytes", x"00ff", 2026-11-21T10:00Z, -5m, 1.5s, true and none.
"""

EPILOG = """\b
Groups: core memory threads files stdio sockets inputs snapshots, and the names that Wasmer's
journal has for them: mem thread fs file filesystem net network networking snap snapshot.

\b
Exit codes:
  0  filtered                                      2  wrong usage
  1  SOURCE cannot be read, or is no journal; TARGET exists, or cannot be written
  3  a block of SOURCE is wrong, or an event that has to be looked into
  5  blocks of SOURCE are missing                  6  what is lost of SOURCE had been durable
  7  with --in-place: SOURCE is being written      8  TARGET could not be written whole

\b
Examples:
  journaltool filter work.journal -o small.journal --drop --group memory --group inputs
  journaltool filter work.journal -o - --path '/tmp/**' --since -5m | ssh there 'cat > b.journal'
  journaltool filter work.journal --dry-run --where 'kind == "PathRename" and path glob "/tmp/*"'
"""


def filter(
    source: piping.SourceArgument,
    output: piping.TargetOption = None,
    in_place: piping.InPlaceOption = False,
    force: piping.ForceOption = False,
    dry_run: piping.DryRunOption = False,
    drop: Annotated[
        bool, typer.Option("--drop/--keep", help="Drop what is meant, or keep it. [keep]")
    ] = False,
    group: where.GroupOption = None,
    kind: where.KindOption = None,
    numbers: where.NumbersOption = None,
    since: where.SinceOption = None,
    until: where.UntilOption = None,
    fd: where.FdOption = None,
    path: where.PathOption = None,
    where_: where.WhereOption = None,
    preamble: Annotated[
        bool,
        typer.Option("--preamble/--no-preamble", help="Keep what says what ran in any case."),
    ] = True,
    quiet: options.QuietOption = False,
    as_json: piping.JsonOption = False,
) -> None:
    """Filter a journal (the help text is HELP)."""
    piping.check(source, output, in_place, dry_run)
    which = where.question(
        groups=group or (),
        kinds=kind or (),
        numbers=numbers,
        since=since,
        until=until,
        descriptors=fd or (),
        paths=path or (),
        where=where_,
    )
    exits.interruptible()
    with exits.told(about=source, recoverable=None if piping.is_pipe(source) else source):
        from journal.operations import filter as filtering

        to_pipe = piping.is_pipe(output)
        target = None if dry_run else source if in_place else output
        with (
            piping.read_from(source) as old,
            progress.bar(not quiet) as shown,
            piping.written_to(None if in_place else target, force) as new,
            progress.interruptible(shown) as report,
            piping.replaced(source if in_place and not dry_run else None) as beside,
        ):
            found = filtering.filter(
                old,
                beside or new,
                which,
                keep=not drop,
                preamble=preamble,
                measured=dry_run,
                progress=report,
            )
        known = _known(found, source, target)
        if as_json and not to_pipe:
            typer.echo(json.dumps(known, indent=2))
        elif as_json:
            render.say_json(known)
        elif to_pipe and not quiet:
            render.say(_sentence(found))
        elif not quiet:
            render.table(_rows(found, source, target))


def _kinds(counts: dict[int, int]) -> dict[str, int]:
    """How many events of which kinds, the most of them first."""
    from journal.events import BY_TAG

    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        BY_TAG[tag].__name__ if tag in BY_TAG else f"unknown({tag})": count
        for tag, count in ordered
    }


def _known(found: "FilterResult", source: Path, target: Path | None) -> dict[str, Any]:
    """Everything, in what JSON has."""
    return {
        "source": str(source),
        "target": None if target is None else str(target),
        "id": found.journal_id.hex(),
        "size": found.size,
        "written": found.written,
        "blocks": found.blocks,
        "blocks_whole": found.blocks_whole,
        "blocks_passed": found.blocks_passed,
        "events": found.events,
        "dropped_events": found.events_dropped,
        "kept": _kinds(found.kept),
        "dropped": _kinds(found.dropped),
        "next_seq": found.next_seq,
        "resumable": found.resumable,
        "reason": found.reason,
    }


def _sentence(found: "FilterResult") -> str:
    kept = reading.count(found.events, "event")
    return f"{kept} kept, {found.events_dropped} dropped; {_use(found)}"


def _use(found: "FilterResult") -> str:
    return found.reason if found.resumable else f"it cannot be resumed: {found.reason}"


def _rows(found: "FilterResult", source: Path, target: Path | None) -> list[tuple[str, str]]:
    def told(counts: dict[int, int]) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in _kinds(counts).items())
        total = reading.count(sum(counts.values()), "event")
        return f"{total}: {kinds}" if kinds else total

    from journaltool.output.memory_format import size_text

    written = size_text(found.written)
    blocks = f"{reading.count(found.blocks, 'block')}, {found.blocks_whole} of them as they were"
    return [
        ("source", f"{render.quoted(str(source))}, {size_text(found.size)}"),
        ("target", "nothing is written" if target is None else render.quoted(str(target))),
        ("kept", told(found.kept)),
        ("dropped", told(found.dropped)),
        ("size", f"{written} in {blocks}"),
        ("use", _use(found)),
    ]
