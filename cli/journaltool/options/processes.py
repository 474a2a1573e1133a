"""Options of the programs that a guest may start in other processes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessArguments:
    """Options of the processes that a guest may start."""

    command: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODULE",
            help="Let the guest start MODULE, a .wasm file, in another process or in its place, as "
            "NAME or /bin/NAME. Repeatable.",
        ),
    ] = None
    max_processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="COUNT",
            help="The largest number of processes of the run at a time. The default is 64.",
        ),
    ] = None

    def build(self) -> dict[str, Any]:
        """Return the options of ``RunConfig``. Raises ``BadParameter`` for a wrong one."""
        commands: dict[str, Path] = {}
        for text in self.command or ():
            name, separator, module = text.partition("=")
            if not (name and separator and module):
                raise typer.BadParameter(f"--command must be NAME=MODULE, got {text!r}")
            if name in commands:
                raise typer.BadParameter(f"--command has {name!r} twice")
            commands[name] = Path(module)
        options: dict[str, Any] = {"commands": commands or None}
        if self.max_processes is not None:
            options["processes_max"] = self.max_processes
        return options
