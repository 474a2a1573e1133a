"""``journaltool resume``: go on with the run of a journal."""

import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from journaltool import exits, mounting, options, render, supervise

HELP = """Go on with the program of a journal, from where the journal ends.

Output that a crash kept from leaving is delivered first. A program that had ended ends again, in
the same way.
"""

EPILOG = """\b
Exit codes: those of journaltool run.

\b
Examples:
  journaltool resume hello.journal
  journaltool resume --timeout 60 --json work.journal
  journaltool resume --module tool.wasm --in-flight drop work.journal
"""


class InFlight(StrEnum):
    """What becomes of the write that a crash left in doubt: ``journal.InFlight``."""

    REPEAT = "repeat"
    DROP = "drop"


def resume(
    journal: options.JournalArgument,
    module: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The program, where the journal does not hold it."),
    ] = None,
    directory: Annotated[
        list[str] | None,
        typer.Option(
            "--dir",
            metavar="HOST::GUEST",
            help="Where a directory of the guest is now, if not where it was. Repeatable.",
        ),
    ] = None,
    net: options.NetOption = False,
    durability: options.DurabilityOption = options.Durability.OUTPUT,
    in_flight: Annotated[
        InFlight,
        typer.Option(help="Print again the one output that may have left already, or drop it."),
    ] = InFlight.REPEAT,
    max_memory: Annotated[
        int | None,
        typer.Option(
            parser=options.size, metavar="SIZE", help="Refuse a guest that may have more memory."
        ),
    ] = None,
    timeout: options.TimeoutOption = None,
    quiet: options.QuietOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Go on with a program (the help text is HELP)."""
    warnings.showwarning = lambda message, *_: render.say(str(message))  # of sockets that are lost
    with exits.told(exits.Code.REFUSED, about=journal, as_json=as_json):
        import journal as library

        recorder = library.resume(
            journal,
            module=module,
            moved=mounting.moved(directory or ()),
            stdin=0,
            stdout=1,
            stderr=2,
            durability=library.Durability(durability.value),
            in_flight=library.InFlight(in_flight.value),
            memory_size_max=max_memory,
            cache=options.cache(),
            network=net,
        )
        ended = supervise.until_end(recorder, timeout)
        if recorder.ended_before and ended.outcome.code is not None and not quiet:
            render.say(f"the program has ended with exit code {ended.outcome.code}")
        supervise.tell(ended, str(journal), quiet=quiet, as_json=as_json, resumable=True)
    raise typer.Exit(ended.code)
