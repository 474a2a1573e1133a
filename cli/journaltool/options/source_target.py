"""The two ends of a command that makes a new journal of one: files, pipes, or one and the same."""

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
    Path, typer.Argument(metavar="SOURCE", help="The journal: a file, a directory, or -.")
]
TargetOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="TARGET", help="The new journal: a file, or -."),
]
InPlaceOption = Annotated[
    bool, typer.Option("--in-place", help="Replace SOURCE, once the new one is durable.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a journal that TARGET is.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Write nothing: only tell what would be.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout; with -o -, on stderr.")
]


def is_pipe(path: Path | None) -> bool:
    """Whether standard input or output is meant."""
    return str(path) == PIPE


def check_source_and_target(
    source: Path, output: Path | None, in_place: bool, dry_run: bool
) -> None:
    """Refuse ends that contradict each other, and bytes on a terminal."""
    if in_place and output is not None:
        raise typer.BadParameter("--in-place has no TARGET")
    if not (in_place or dry_run or output is not None):
        raise typer.BadParameter("name a TARGET with -o, or --in-place, or --dry-run")
    if in_place and is_pipe(source):
        raise typer.BadParameter("standard input cannot be replaced")
    if output is not None and output.exists() and source.exists() and output.samefile(source):
        raise typer.BadParameter("TARGET is SOURCE: to replace it is what --in-place does")
    if is_pipe(output) and not dry_run and sys.stdout.isatty():
        raise typer.BadParameter("a journal is bytes, and standard output is a terminal")


@contextmanager
def open_source(source: Path) -> Iterator[Path]:
    """The journal to read; what comes through a pipe is put into a file first."""
    if not is_pipe(source):
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix="journaltool-") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield Path(file.name)


@contextmanager
def open_target(target: Path | None, replace: bool) -> Iterator[Path | None]:
    """Where to write; what is to go through a pipe goes there when it is whole."""
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
    """Where to write what takes the place of a journal, if there is one, when the block ends."""
    if journal is None:
        yield None
        return
    from journal.log.in_place_replacement import InPlaceReplacement

    with InPlaceReplacement(journal) as exchange:
        yield exchange.make_output_path()
        exchange.replace()
