"""``journaltool completion``: the script that makes a shell complete the command line."""

from enum import StrEnum
from typing import Annotated

import typer

from journaltool import exit_codes

COMPLETION_VARIABLE = "_JOURNALTOOL_COMPLETE"
"""Environment variable that a shell sets to request completions; ``main`` checks it."""

HELP = """Print the script for completion in a shell.

The script completes commands, options, groups and kinds. The command installs nothing. Put its
output where your shell reads such scripts.
"""

EPILOG = f"""\b
Installation:
  bash  Add to ~/.bashrc:  eval "$(journaltool completion bash)"
  zsh   Add to ~/.zshrc, after compinit:  eval "$(journaltool completion zsh)"
  fish  Run:  journaltool completion fish > ~/.config/fish/completions/journaltool.fish

\b
Exit codes:
{exit_codes.list_codes("completion")}

\b
Examples:
  journaltool completion bash >> ~/.bashrc
  journaltool completion fish > ~/.config/fish/completions/journaltool.fish
"""


class Shell(StrEnum):
    """Supported shells."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="The shell: bash, zsh or fish.")],
) -> None:
    """Print the script for a shell (the help text is HELP)."""
    from typer._completion_shared import get_completion_script

    script = get_completion_script(
        prog_name="journaltool", complete_var=COMPLETION_VARIABLE, shell=shell.value
    )
    # Without this change, fish would not offer file names for arguments.
    typer.echo(script.replace(" --no-files", ""))


def register_completion() -> None:
    """Register the shell classes that answer completion requests."""
    from journaltool import shell_completion

    shell_completion.register_shells()
