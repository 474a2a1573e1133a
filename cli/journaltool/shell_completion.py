"""Shell completion classes that correct errors of typer's classes.

They complete a value that an equals sign joins to its option, and print help texts unchanged: typer
reads brackets in help texts as markup, and zsh would lose quotes.
"""

from typer._click.shell_completion import CompletionItem, add_completion_class
from typer._completion_classes import BashComplete, FishComplete, ZshComplete


class BashCompletion(BashComplete):
    """Completion for bash, which splits ``--kind=Str`` into three words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the arguments without the equals sign."""
        args, incomplete = super().get_completion_args()
        return args[:-1] if args[-1:] == ["="] else args, incomplete


class ZshCompletion(ZshComplete):
    """Completion for zsh, which evaluates the printed text as a call of its own functions."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return completions that start with the option that the value is joined to."""
        return _join_to_option(super().get_completions(args, incomplete), incomplete)

    def format_completion(self, item: CompletionItem) -> str:
        """Return an item quoted for zsh: double quotes within single quotes."""
        description = f":{_quote_for_zsh(item.help)}" if item.help else ""
        return _quote_for_zsh(item.value) + description

    def complete(self) -> str:
        """Return the text for zsh. File names complete after the option that they are joined to."""
        found = super().complete()
        joined = _option_prefix(self.get_completion_args()[1])
        return "compset -P '*='; _files" if found == "_files" and joined else found


class FishCompletion(FishComplete):
    """Completion for fish, which reads one line per item, with the help after a tab."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return completions that start with the option that the value is joined to."""
        return _join_to_option(super().get_completions(args, incomplete), incomplete)

    def format_completion(self, item: CompletionItem) -> str:
        """Return an item as one line."""
        return f"{item.value}\t{_join_lines(item.help)}" if item.help else str(item.value)


def register_shells() -> None:
    """Register the classes of this module for their shells."""
    for kind in (BashCompletion, ZshCompletion, FishCompletion):
        add_completion_class(kind, kind.name)


def _option_prefix(incomplete: str) -> str:
    """Return the option that a value is joined to, such as ``--kind=``, or an empty string."""
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
