"""How a shell's question is answered: typer's answers, with what they get wrong put right.

A value may be joined to its option by a sign of equality, and help is told as it stands: typer
takes its brackets for markup, and zsh would lose its quotes.
"""

from typer._click.shell_completion import CompletionItem, add_completion_class
from typer._completion_classes import BashComplete, FishComplete, ZshComplete


class BashCompletion(BashComplete):
    """BashCompletion takes ``--kind=Str`` for three words, of which it asks for the last."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Leave the sign out."""
        args, incomplete = super().get_completion_args()
        return args[:-1] if args[-1:] == ["="] else args, incomplete


class ZshCompletion(ZshComplete):
    """ZshCompletion evaluates the answer: a call of its own functions."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Give values with the option that they are joined to."""
        return _join_to_option(super().get_completions(args, incomplete), incomplete)

    def format_completion(self, item: CompletionItem) -> str:
        """Quote for zsh, twice: what is in double quotes stands in single ones."""
        told = f":{_quote_for_zsh(item.help)}" if item.help else ""
        return _quote_for_zsh(item.value) + told

    def complete(self) -> str:
        """Answer; names of files, where nothing is known, behind the option they are joined to."""
        found = super().complete()
        joined = _option_prefix(self.get_completion_args()[1])
        return "compset -P '*='; _files" if found == "_files" and joined else found


class FishCompletion(FishComplete):
    """FishCompletion takes a line for each, the help behind a tab."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Give values with the option that they are joined to."""
        return _join_to_option(super().get_completions(args, incomplete), incomplete)

    def format_completion(self, item: CompletionItem) -> str:
        """One line, whatever the help has."""
        return f"{item.value}\t{_join_lines(item.help)}" if item.help else str(item.value)


def register_shells() -> None:
    """Let these be asked."""
    for kind in (BashCompletion, ZshCompletion, FishCompletion):
        add_completion_class(kind, kind.name)


def _option_prefix(incomplete: str) -> str:
    """The option that a value is joined to, as ``--kind=``; empty where none is."""
    option, sign, _ = incomplete.partition("=")
    return option + sign if sign and option.startswith("--") else ""


def _join_to_option(found: list[CompletionItem], incomplete: str) -> list[CompletionItem]:
    joined = _option_prefix(incomplete)
    for item in found:
        item.value = joined + item.value
    return found


def _quote_for_zsh(text: str) -> str:
    for each in '\\"$`':
        text = text.replace(each, f"\\{each}")
    quoted = _join_lines(text).replace(":", "\\\\:").replace("'", "'\\''")
    return f'"{quoted}"'


def _join_lines(text: str) -> str:
    return " ".join(text.split())
