"""Arguments and options of commands that accept many journals."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from journaltool.options import common

JournalsArgument = Annotated[
    list[Path], typer.Argument(metavar="JOURNAL...", help="Journals: files or directories.")
]
SourcesArgument = Annotated[
    list[Path], typer.Argument(metavar="SOURCE...", help="Journals: files, directories or -.")
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout, or a line for each of many."),
]
MANY_HELP = """With several journals, or with --jobs, worker processes do the work, and each journal
has a line of output, in the given order. A bad journal does not stop the others, and the exit code
is the gravest one. Results are kept in $XDG_STATE_HOME/wasm-journal/finished/{command}.state, below
~/.local/state by default. The next run takes them from there for journals that have not changed
since, so an interrupted run continues. --again does everything again. Remove the file to forget the
results.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyArguments:
    """Options of a command for many journals."""

    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            click_type=common.Number(min=1),
            help="Use N worker processes. The default for several journals is the number of "
            "processors.",
        ),
    ] = None
    job_memory: Annotated[
        int | None,
        typer.Option(
            "--job-memory",
            parser=common.parse_size,
            metavar="SIZE",
            help="The most memory that a worker process may use, at least 64MiB. The default is no "
            "limit.",
        ),
    ] = None
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Also do journals that have not changed since an earlier run."
        ),
    ] = False

    def is_given(self, journals: Sequence[Path]) -> bool:
        """Return whether worker processes do the work."""
        return len(journals) > 1 or self.jobs is not None

    def check(self, journals: Sequence[Path]) -> None:
        """Raise ``typer.BadParameter`` for options that have no effect."""
        if not self.is_given(journals) and (self.again or self.job_memory is not None):
            raise typer.BadParameter("--again and --job-memory need --jobs or several journals")
        if self.job_memory is not None and self.job_memory < MEMORY_SIZE_MIN:
            raise typer.BadParameter("--job-memory must be at least 64MiB")


MEMORY_SIZE_MIN = 64 << 20
"""The limit of the library, which is slow to import."""


def find_state(command: str) -> Path | None:
    """Return the file of the results of a command, or None if there is no place for it.

    Results are authenticated with the key of the user, which only Linux can store.
    """
    from journal._platform import require_linux
    from journal.errors import OptionError

    try:
        require_linux("storing results")
    except OptionError:
        return None
    state, home = (os.environ.get(name, "") for name in ("XDG_STATE_HOME", "HOME"))
    base = state or (home and f"{home}/.local/state")
    if not base.startswith("/"):
        return None
    return Path(base) / "wasm-journal" / "finished" / f"{command}.state"
