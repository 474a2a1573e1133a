"""``journaltool completion``: what a shell needs to complete the command line."""

from enum import StrEnum
from typing import Annotated

import typer

COMPLETION_VARIABLE = "_JOURNALTOOL_COMPLETE"
"""A shell asks for completions with it; whoever starts the command looks for it."""

HELP = """Print what a shell needs to complete commands, options, groups and kinds.

Nothing is installed: the text goes where the shell reads such texts.
"""

EPILOG = """\b
  bash  in ~/.bashrc:  eval "$(journaltool completion bash)"
  zsh   in ~/.zshrc, behind compinit:  eval "$(journaltool completion zsh)"
  fish  journaltool completion fish > ~/.config/fish/completions/journaltool.fish

\b
Exit codes:
  0  printed                                       2  wrong usage

\b
Examples:
  journaltool completion bash >> ~/.bashrc
  journaltool completion fish > ~/.config/fish/completions/journaltool.fish
"""


class Shell(StrEnum):
    """The shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell that is to complete.")],
) -> None:
    """Print a shell's script (the help text is HELP)."""
    from typer._completion_shared import get_completion_script

    script = get_completion_script(
        prog_name="journaltool", complete_var=COMPLETION_VARIABLE, shell=shell.value
    )
    # names of files are wanted where nothing else is known
    typer.echo(script.replace(" --no-files", ""))


def register_completion() -> None:
    """Let the command line answer a shell's question."""
    from journaltool import shell_completion

    shell_completion.register_shells()
