"""Source and target of a command that writes a new journal: files, pipes, or in place."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from journaltool.options import output_path

PIPE = "-"

SourceArgument = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="The journal: a file, a directory or -.")
]
TargetOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="TARGET", help="The new journal: a file or -."),
]
InPlaceOption = Annotated[
    bool, typer.Option("--in-place", help="Replace SOURCE when the new journal is durable.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace TARGET if it is a journal.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Write nothing, and only report the result.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, or on stderr with -o -.")
]


def is_pipe(path: Path | None) -> bool:
    """Return whether a path means standard input or output."""
    return str(path) == PIPE


def check_source_and_target(
    source: Path, output: Path | None, in_place: bool, dry_run: bool
) -> None:
    """Raise ``typer.BadParameter`` for conflicting options and for a journal on a terminal."""
    if in_place and output is not None:
        raise typer.BadParameter("--in-place and --output exclude each other")
    if not (in_place or dry_run or output is not None):
        raise typer.BadParameter("one of -o TARGET, --in-place and --dry-run is required")
    if in_place and is_pipe(source):
        raise typer.BadParameter("--in-place cannot replace standard input")
    if output is not None and output.exists() and source.exists() and output.samefile(source):
        raise typer.BadParameter("TARGET is the same file as SOURCE: use --in-place to replace it")
    if is_pipe(output) and not dry_run and sys.stdout.isatty():
        raise typer.BadParameter(
            "a journal cannot be written to a terminal: name a file with -o, or use a pipe"
        )


@contextmanager
def open_source(source: Path) -> Iterator[Path]:
    """Yield the path of the source. Standard input is first copied to a temporary file."""
    if not is_pipe(source):
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix="journaltool-") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield Path(file.name)


@contextmanager
def open_target(target: Path | None, replace: bool) -> Iterator[Path | None]:
    """Yield the path to write to. A journal for standard output is copied there at the end."""
    if target is None:
        yield None
    elif is_pipe(target):
        with tempfile.TemporaryDirectory(prefix="journaltool-") as folder:
            path = Path(folder) / "new.journal"
            yield path
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    elif replace and os.path.lexists(target):
        with output_path.prepare_output(target, True) as path:
            yield path
    else:
        yield target


@contextmanager
def replace_in_place(journal: Path | None) -> Iterator[Path | None]:
    """Yield a path whose journal replaces the given journal when the block ends."""
    if journal is None:
        yield None
        return
    from journal.log.in_place_replacement import InPlaceReplacement

    with InPlaceReplacement(journal) as exchange:
        yield exchange.make_output_path()
        exchange.replace()
