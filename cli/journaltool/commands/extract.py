"""``journaltool extract``: files, memory or environment of a guest, at any event."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from journaltool import exit_codes
from journaltool.options import common
from journaltool.output import terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.operations.extract import (
        EnvironmentResult,
        ExtractFilesResult,
        ExtractMemoryResult,
    )
    from journal.replay import ReplayLimits

HELP = """Take a guest's files, its memory, or its environment out of a journal, without running it.

Without --at as they are at its end; with it, behind that event. Memory is that of the last snapshot
up to there: nothing else tells what it was.

--files makes a new directory, --tar writes an archive: the files that the journal holds, with the
guest's times, for the owner alone; a mount called /work is work in it. What directories of the host
had is not in the journal. Symbolic links say what the guest wrote: follow them with care.

A directory or a file gets its name when it is whole and durable.
"""

EPILOG = """\b
Exit codes:
  0  extracted                                     2  wrong usage
  1  JOURNAL cannot be read, or is none, or has no such event or snapshot, or cannot be played;
     the target exists, or cannot be written
  3  blocks or events are wrong                    5  blocks are missing
  6  what had been durable is lost

\b
Examples:
  journaltool extract work.journal --files out
  journaltool extract work.journal --at 8 --tar - | tar t
  journaltool extract work.journal --memory memory.raw --pages 16-31
"""

_STDOUT = Path("-")
_PAGE_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def _parse_pages(text: str) -> tuple[int, int]:
    found = _PAGE_RANGE.fullmatch(text)
    if found is None or int(found[1]) > int(found[2] or found[1]):
        raise typer.BadParameter(f"{text!r} is no range of pages: write 16-31, or 16")
    return int(found[1]), int(found[2] or found[1])


def extract(
    journal: common.JournalArgument,
    at: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=0, help="Behind this event; else the end.")
    ] = None,
    files: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="The files, into a new directory.")
    ] = None,
    tar: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The files, as an archive; - for stdout.")
    ] = None,
    memory: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The memory, as it is; - for stdout.")
    ] = None,
    environment: Annotated[
        bool, typer.Option("--environment", help="The environment, a line for each variable.")
    ] = False,
    pages: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="These pages of 4 KiB alone.")
    ] = None,
    memory_index: Annotated[
        int, typer.Option(metavar="NUMBER", min=0, help="Which memory, where there are several.")
    ] = 0,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="End each variable with a NUL, not a line.")
    ] = False,
    max_size: Annotated[
        int | None,
        typer.Option(
            parser=common.parse_size, metavar="SIZE", help="What files, or memory, may take; 1GiB."
        ),
    ] = None,
    quiet: common.QuietOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout; on stderr if that is taken.")
    ] = False,
) -> None:
    """Extract something (the help text is HELP)."""
    if sum((files is not None, tar is not None, memory is not None, environment)) != 1:
        raise typer.BadParameter("say what: one of --files, --tar, --memory, --environment")
    wanted = None if pages is None else _parse_pages(pages)
    target = files or tar or memory or _STDOUT
    if (tar or memory) == _STDOUT and sys.stdout.isatty():
        raise typer.BadParameter("that is not for a terminal: name a file, or pipe it")
    with exit_codes.reporting_errors(about=journal, recoverable=journal):
        exit_codes.raise_on_sigint()
        from journal.operations import extract as extracting

        limits = _build_limits(max_size)
        if environment:
            _print_environment(extracting.extract_environment(journal, at=at), null, as_json)
            return
        found: ExtractFilesResult | ExtractMemoryResult
        if files is not None:
            found = extracting.extract_files(journal, files, at=at, limits=limits)
        elif tar is not None:
            found = _write_atomically(
                journal,
                tar,
                lambda out: extracting.archive_files(journal, out, at=at, limits=limits),
            )
        else:
            found = _write_atomically(
                journal,
                target,
                lambda out: extracting.extract_memory(
                    journal,
                    out,
                    at=at,
                    memory=memory_index,
                    pages=wanted,
                    sparse=memory != _STDOUT,
                    limits=limits,
                ),
            )
        report(found, target, quiet, as_json)


def _build_limits(size: int | None) -> "ReplayLimits":
    from journal.replay import ReplayLimits

    return (
        ReplayLimits() if size is None else ReplayLimits(files_size_max=size, memory_size_max=size)
    )


def _write_atomically(
    journal: Path,
    target: Path,
    write: "Callable[[BinaryIO], ExtractFilesResult | ExtractMemoryResult]",
) -> "ExtractFilesResult | ExtractMemoryResult":
    """Write a file that gets its name when it is whole, or to stdout."""
    from journal import OptionError
    from journal.fs import atomic_file
    from journal.rewrite.block_copier import check_output_path

    if target == _STDOUT:
        return write(sys.stdout.buffer)
    check_output_path(target, [journal])
    found: list[ExtractFilesResult | ExtractMemoryResult] = []

    def fill(file: BinaryIO) -> None:
        found.append(write(file))
        if os.path.lexists(target):
            raise OptionError(f"{target} exists already")

    atomic_file.replace(target, fill)
    return found[0]


def report(
    found: "ExtractFilesResult | ExtractMemoryResult", target: Path, quiet: bool, as_json: bool
) -> None:
    """Print the result."""
    from journal.operations.extract import ExtractMemoryResult

    known: dict[str, Any] = {"target": str(target), **found._asdict()}
    if as_json and target == _STDOUT:
        terminal.print_status_json(known)
    elif as_json:
        typer.echo(json.dumps(known, indent=2))
    elif not quiet and target != _STDOUT:
        told = (
            _memory_to_table(found)
            if isinstance(found, ExtractMemoryResult)
            else _files_to_table(found)
        )
        terminal.print_table([("target", terminal.quote(str(target))), *told])
    if not (quiet or isinstance(found, ExtractMemoryResult)) and found.mounts:
        names = ", ".join(map(terminal.quote, found.mounts))
        terminal.print_status(f"not in the journal, as it was a directory of the host: {names}")


def _files_to_table(found: "ExtractFilesResult") -> list[tuple[str, str]]:
    counts = [
        format_count(found.files, "file"),
        f"{found.directories} director{'y' if found.directories == 1 else 'ies'}",
        format_count(found.links, "symbolic link"),
    ]
    return [("files", f"{', '.join(counts)}, {format_count(found.size, 'byte')}")]


def _memory_to_table(found: "ExtractMemoryResult") -> list[tuple[str, str]]:
    size = format_count(found.size, "byte")
    return [
        (
            "memory",
            f"{size} from {found.start} on, {format_count(found.pages, 'page')} not zero",
        ),
        ("snapshot", str(found.snapshot)),
    ]


def _print_environment(found: "EnvironmentResult", null: bool, as_json: bool) -> None:
    if as_json:
        known = {
            "arguments": [_decode(one) for one in found.arguments],
            "environment": [_decode(one) for one in found.environment],
            "directory": found.directory,
        }
        typer.echo(json.dumps(known, indent=2))
        return
    if null:
        sys.stdout.buffer.write(b"".join(one + b"\0" for one in found.environment))
        return
    for variable in found.environment:
        typer.echo(terminal.escape(_decode(variable)))


def _decode(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
