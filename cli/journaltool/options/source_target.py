"""Source and target of a command that writes a new journal: files, pipes, or in place."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from journaltool.options import output_path

PIPE = "-"

SourceArgument = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="The journal: a file, a directory or -.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, or on stderr with -o -.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetArguments:
    """Options of the target of a new journal."""

    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="TARGET", help="The new journal: a file or -."),
    ] = None
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Replace SOURCE when the new journal is durable.")
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Replace TARGET if it is a journal.")] = (
        False
    )
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing, and only report the result.")
    ] = False

    def check(self, source: Path) -> None:
        """Raise ``typer.BadParameter`` for conflicting options and for a journal on a terminal."""
        output = self.output
        if self.in_place and output is not None:
            raise typer.BadParameter("--in-place and --output exclude each other")
        if not (self.in_place or self.dry_run or output is not None):
            raise typer.BadParameter("one of -o TARGET, --in-place and --dry-run is required")
        if self.in_place and is_pipe(source):
            raise typer.BadParameter("--in-place cannot replace standard input")
        if output is not None and _is_same(output, source):
            raise typer.BadParameter(
                "TARGET is the same file as SOURCE: use --in-place to replace it"
            )
        if is_pipe(output) and not self.dry_run and sys.stdout.isatty():
            raise typer.BadParameter(
                "a journal cannot be written to a terminal: name a file with -o, or use a pipe"
            )

    def find_target(self, source: Path) -> Path | None:
        """Return the path that gets the new journal, or None with ``--dry-run``."""
        if self.dry_run:
            return None
        return source if self.in_place else self.output

    def open_new(self) -> AbstractContextManager[Path | None]:
        """Yield the path to write a new journal to, or None if no new file is named."""
        is_named = not (self.in_place or self.dry_run)
        return open_target(self.output if is_named else None, self.force)

    @contextmanager
    def replace_source(self, source: Path) -> Iterator[Path | None]:
        """Yield the path of a journal that replaces the source, or None without ``--in-place``."""
        if self.dry_run or not self.in_place:
            yield None
            return
        from journal.log.in_place_replacement import InPlaceReplacement

        with InPlaceReplacement(source) as exchange:
            yield exchange.make_output_path()
            exchange.replace()


def _is_same(target: Path, source: Path) -> bool:
    try:
        return target.samefile(source)
    except OSError:  # One of them does not exist, or has a name that cannot exist.
        return False


def is_pipe(path: Path | None) -> bool:
    """Return whether a path means standard input or output."""
    return str(path) == PIPE


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
