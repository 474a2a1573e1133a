"""``journaltool filter``: some events of a journal as a new one."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exits, options, progress, reading, render, replacing, where

if TYPE_CHECKING:
    from journal.filtering import Filtered

HELP = """Write the events of a journal that are asked for, or all but them, to a new one.

Numbers and times stay. An event is meant if all options hold for it; of several groups and kinds,
descriptors, or paths, any one. With --drop all others are written. What says what ran is kept in
any case, without --no-preamble.

It tells what the new journal can still be used for. Where a resume would not notice what is
missing, the new journal says of itself that it cannot be resumed.

SOURCE is only read, unless --in-place replaces it; it may be - for standard input. TARGET gets its
name when it is whole and durable; it may be - for standard output.

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

PIPE = "-"


def filter(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The journal: a file, a directory, or -.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="TARGET", help="The new journal: a file, or -."),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Replace SOURCE, once the new one is durable.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a journal that TARGET is.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing: only tell what would be.")
    ] = False,
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
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout; with -o -, on stderr.")
    ] = False,
) -> None:
    """Filter a journal (the help text is HELP)."""
    _check(source, output, in_place, dry_run)
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
    with exits.told(about=source):
        from journal import filtering

        to_pipe = str(output) == PIPE
        target = source if in_place else output
        with (
            _read_from(source) as old,
            _written_to(old, None if dry_run else target, force or in_place) as new,
            progress.bar(not quiet) as report,
        ):
            found = filtering.filter(
                old, new, which, keep=not drop, preamble=preamble, progress=report
            )
        known = _known(found, source, None if dry_run else target)
        if as_json and not to_pipe:
            typer.echo(json.dumps(known, indent=2))
        elif as_json:
            render.say_json(known)
        elif to_pipe and not quiet:
            render.say(_sentence(found))
        elif not quiet:
            render.table(_rows(found, source, None if dry_run else target))


def _check(source: Path, output: Path | None, in_place: bool, dry_run: bool) -> None:
    if in_place and output is not None:
        raise typer.BadParameter("--in-place has no TARGET")
    if not (in_place or dry_run or output is not None):
        raise typer.BadParameter("name a TARGET with -o, or --in-place, or --dry-run")
    if in_place and str(source) == PIPE:
        raise typer.BadParameter("standard input cannot be replaced")
    if output is not None and output.exists() and source.exists() and output.samefile(source):
        raise typer.BadParameter("TARGET is SOURCE: to replace it is what --in-place does")
    if str(output) == PIPE and not dry_run and sys.stdout.isatty():
        raise typer.BadParameter("a journal is bytes, and standard output is a terminal")


@contextmanager
def _read_from(source: Path) -> Iterator[Path]:
    """The journal to read; what comes through a pipe is put into a file first."""
    if str(source) != PIPE:
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix="journaltool-") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield Path(file.name)


@contextmanager
def _written_to(source: Path, target: Path | None, replace: bool) -> Iterator[Path | None]:
    """Where to write; what is to go through a pipe goes there when it is whole."""
    if target is None:
        yield None
    elif str(target) == PIPE:
        with tempfile.TemporaryDirectory(prefix="journaltool-") as folder:
            path = Path(folder) / "filtered.journal"
            yield path
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    elif replace and os.path.lexists(target):
        with replacing.place(target, True) as path:
            yield path
    else:
        yield target


def _kinds(counts: dict[int, int]) -> dict[str, int]:
    """How many events of which kinds, the most of them first."""
    from journal.events import BY_TAG

    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        BY_TAG[tag].__name__ if tag in BY_TAG else f"unknown({tag})": count
        for tag, count in ordered
    }


def _known(found: "Filtered", source: Path, target: Path | None) -> dict[str, Any]:
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


def _sentence(found: "Filtered") -> str:
    kept = reading.count(found.events, "event")
    return f"{kept} kept, {found.events_dropped} dropped; {_use(found)}"


def _use(found: "Filtered") -> str:
    return found.reason if found.resumable else f"it cannot be resumed: {found.reason}"


def _rows(found: "Filtered", source: Path, target: Path | None) -> list[tuple[str, str]]:
    def told(counts: dict[int, int]) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in _kinds(counts).items())
        total = reading.count(sum(counts.values()), "event")
        return f"{total}: {kinds}" if kinds else total

    from journaltool.pages import size_text

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
