"""``journaltool extract``: files, memory or environment of a guest at an event."""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, output_path
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.operations.extract import (
        EnvironmentResult,
        ExtractFilesResult,
        ExtractMemoryResult,
    )
    from journal.replay import ReplayLimits

HELP = """Extract the files, memory or environment of a guest.

The guest does not run. The state is extracted at the end of the journal, or with --at after that
event. Memory comes from the last snapshot up to that event, because only snapshots record memory.

--files makes a new directory, and --tar writes an archive. Both contain the files that the journal
stores, with the times of the guest and with access only for the owner. The mount /work becomes the
directory work. Files in mounted host directories are not in the journal. The guest chose the
targets of symbolic links, so follow the links with care.

A directory or file gets its name when it is complete and durable.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("extract")}

\b
Examples:
  journaltool extract work.journal --files out
  journaltool extract work.journal --at 8 --tar - | tar t
  journaltool extract work.journal --memory memory.raw --pages 16-31
"""

_STDOUT = Path("-")
_PAGE_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def _parse_pages(text: str) -> tuple[int, int]:
    match = _PAGE_RANGE.fullmatch(text)
    if match is None or int(match[1]) > int(match[2] or match[1]):
        raise typer.BadParameter(f"{text!r} is not a page range: write for example 16-31 or 16")
    return int(match[1]), int(match[2] or match[1])


AtOption = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        click_type=common.Number(min=0),
        help="Extract the state after this event. The default is the end of the journal.",
    ),
]
FilesOption = Annotated[
    Path | None, typer.Option(metavar="DIRECTORY", help="Write the files to a new directory.")
]
TarOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the files to a tar archive, or - for stdout."),
]
MemoryOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the raw memory to a file, or - for stdout."),
]
EnvironmentOption = Annotated[
    bool, typer.Option("--environment", help="Print the environment, one variable per line.")
]
PagesOption = Annotated[
    str | None, typer.Option(metavar="FIRST-LAST", help="Extract only these pages of 4 KiB.")
]
MemoryIndexOption = Annotated[
    int,
    typer.Option(
        metavar="NUMBER",
        click_type=common.Number(min=0),
        help="The index of the memory, if the guest has several.",
    ),
]
NullOption = Annotated[
    bool, typer.Option("--null", "-0", help="End each variable with a NUL instead of a newline.")
]
MaxSizeOption = Annotated[
    int | None,
    common.size_option("The largest size of files or memory. [default: 1GiB]"),
]


def extract(  # long: it names each option
    journal: common.JournalArgument,
    at: AtOption = None,
    files: FilesOption = None,
    tar: TarOption = None,
    memory: MemoryOption = None,
    environment: EnvironmentOption = False,
    pages: PagesOption = None,
    memory_index: MemoryIndexOption = 0,
    null: NullOption = False,
    max_size: MaxSizeOption = None,
    quiet: common.QuietOption = False,
    as_json: common.JsonBesideDataOption = False,
) -> None:
    """Extract a state (the help text is HELP)."""
    if sum((files is not None, tar is not None, memory is not None, environment)) != 1:
        raise typer.BadParameter("choose exactly one of --files, --tar, --memory and --environment")
    page_range = None if pages is None else _parse_pages(pages)
    if (tar or memory) == _STDOUT and sys.stdout.isatty():
        raise typer.BadParameter(
            "binary data cannot be written to a terminal: name a file, or use a pipe"
        )
    with error_report.reporting_errors(about=journal, recoverable=journal):
        error_report.raise_on_signals()
        from journal.operations import extract

        limits = _build_limits(max_size)
        result: ExtractFilesResult | ExtractMemoryResult
        if environment:
            with progress.show_phase("extracting", quiet):
                found = extract.extract_environment(journal, at=at)
            _print_environment(found, null, as_json)
            return
        with progress.show_phase("extracting", quiet):
            if files is not None:
                result = extract.extract_files(journal, files, at=at, limits=limits)
            elif tar is not None:
                archive = partial(extract.archive_files, journal, at=at, limits=limits)
                result = _write(journal, tar, archive)
            else:
                assert memory is not None
                dump = partial(
                    extract.extract_memory,
                    journal,
                    at=at,
                    memory=memory_index,
                    pages=page_range,
                    sparse=memory != _STDOUT,
                    limits=limits,
                )
                result = _write(journal, memory, dump)
        report(result, files or tar or memory or _STDOUT, quiet, as_json)


def _build_limits(size: int | None) -> "ReplayLimits":
    from journal.replay import ReplayLimits

    return (
        ReplayLimits() if size is None else ReplayLimits(files_size_max=size, memory_size_max=size)
    )


def _write(
    journal: Path, target: Path, write: Callable[[BinaryIO], output_path.Result]
) -> output_path.Result:
    """Write to a new file, or to stdout."""
    if target == _STDOUT:
        return write(sys.stdout.buffer)
    return output_path.write_file(journal, target, write)


def report(
    result: "ExtractFilesResult | ExtractMemoryResult", target: Path, quiet: bool, as_json: bool
) -> None:
    """Print the result, and the mounts without files in the journal."""
    from journal.operations.extract import ExtractMemoryResult

    values: dict[str, Any] = {"target": str(target), **result._asdict()}
    if as_json and target == _STDOUT:
        terminal.print_status_json(values)
    elif as_json:
        typer.echo(json.dumps(values, indent=2))
    elif not quiet and target != _STDOUT:
        rows = (
            _memory_to_table(result)
            if isinstance(result, ExtractMemoryResult)
            else _files_to_table(result)
        )
        terminal.print_table([("target", terminal.quote(str(target))), *rows])
    if not (quiet or isinstance(result, ExtractMemoryResult)) and result.mounts:
        names = ", ".join(map(terminal.quote, result.mounts))
        terminal.print_status(f"files of mounted host directories are not in the journal: {names}")


def _files_to_table(result: "ExtractFilesResult") -> list[tuple[str, str]]:
    counts = [
        format_count(result.files, "file"),
        f"{result.directories} director{'y' if result.directories == 1 else 'ies'}",
        format_count(result.links, "symbolic link"),
    ]
    return [("files", f"{', '.join(counts)}, {format_count(result.size, 'byte')}")]


def _memory_to_table(result: "ExtractMemoryResult") -> list[tuple[str, str]]:
    size = format_count(result.size, "byte")
    return [
        (
            "memory",
            f"{size} from address {result.start}, {format_count(result.pages, 'page')} not zero",
        ),
        ("snapshot", str(result.snapshot)),
    ]


def _print_environment(result: "EnvironmentResult", null: bool, as_json: bool) -> None:
    if as_json:
        values = {
            "arguments": [_decode(one) for one in result.arguments],
            "environment": [_decode(one) for one in result.environment],
            "directory": result.directory,
        }
        typer.echo(json.dumps(values, indent=2))
        return
    if null:
        sys.stdout.buffer.write(b"".join(one + b"\0" for one in result.environment))
        return
    for variable in result.environment:
        typer.echo(terminal.escape(_decode(variable)))


def _decode(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
