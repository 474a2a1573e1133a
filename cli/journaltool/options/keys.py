"""Options of the keys of sealed journals, which every command has that reads or writes one.

No key and no passphrase is an argument: other users can list the arguments of a process.
"""

import inspect
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report
from journaltool.exit_codes import ExitCode
from journaltool.options.groups import to_parameter

if TYPE_CHECKING:
    from journal import SealKey

Keys = tuple["SealKey | None", "SealKey | None"]
"""The key with which a command reads journals, and the key with which it seals new ones."""

PASSPHRASE_VARIABLE = "JOURNAL_PASSPHRASE"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyArguments:
    """Options of the key with which sealed journals are read."""

    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            metavar="FILE",
            envvar="JOURNAL_KEY_FILE",
            help="The key of a sealed journal. A journal without a seal is refused.",
        ),
    ] = None
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            envvar="JOURNAL_PASSPHRASE_FILE",
            help="A file with the passphrase of a sealed journal in its first line.",
        ),
    ] = None
    passphrase: Annotated[
        bool,
        typer.Option(
            "--passphrase",
            help=f"Use the passphrase in {PASSPHRASE_VARIABLE}, or ask for it on the terminal.",
        ),
    ] = False

    def read(self, *, is_new: bool = False) -> "SealKey | None":
        """Return the key that the options give, or None. A new passphrase is asked for twice."""
        given = [self.key_file is not None, self.passphrase_file is not None, self.passphrase]
        if not any(given):
            return None
        if sum(given) > 1:
            raise typer.BadParameter(
                "--key-file, --passphrase-file and --passphrase exclude each other"
            )
        from journal import SealKey

        if self.key_file is not None:
            return SealKey.read(self.key_file)
        if self.passphrase_file is not None:
            return SealKey.read_passphrase(self.passphrase_file)
        return SealKey.from_passphrase(read_passphrase(is_new=is_new))

    def choose(self, *, reads_journals: bool) -> Keys:
        """Return the keys for this command."""
        key = self.read(is_new=not reads_journals)
        return (key if reads_journals else None), key


@dataclass(frozen=True, slots=True, kw_only=True)
class SealArguments(KeyArguments):
    """Options of the keys with which journals are read, and new ones are sealed."""

    seal: Annotated[
        bool,
        typer.Option(
            "--seal",
            help="Seal the new journal: with the key of the other options, or else as "
            "--passphrase. With a key, it is always sealed.",
        ),
    ] = False
    seal_key: Annotated[
        Path | None,
        typer.Option("--seal-key", metavar="FILE", help="Seal the new journal with this key."),
    ] = None

    def choose(self, *, reads_journals: bool) -> Keys:
        """Return the keys for this command."""
        reading, writing = KeyArguments.choose(self, reads_journals=reads_journals)
        if self.seal_key is None and not self.seal:
            return reading, writing
        from journal import SealKey

        if self.seal_key is not None:
            return reading, SealKey.read(self.seal_key)
        return reading, writing or SealKey.from_passphrase(read_passphrase(is_new=True))


def read_passphrase(*, is_new: bool) -> str:
    """Return the passphrase in the environment, or ask for it on the terminal."""
    from journal import OptionError

    found = os.environ.get(PASSPHRASE_VARIABLE)
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise OptionError(
            f"no terminal to ask for a passphrase: use --passphrase-file or {PASSPHRASE_VARIABLE}"
        )
    text: str = typer.prompt("Passphrase", hide_input=True, err=True, confirmation_prompt=is_new)
    return text


def _use(reading: "SealKey | None", writing: "SealKey | None") -> AbstractContextManager[None]:
    """Return a context in which these keys are those of the process."""
    if writing is None:
        return nullcontext()
    from journal.log import using_key  # A command without keys does without it.

    return using_key(reading, writing=writing)


def _find_journal(values: dict[str, Any]) -> Path:
    """Return the only journal of a command. A head belongs to one journal."""
    path = values.get("journal") or values.get("source")
    if path is None:
        path, *others = values["journals"]
        if others:
            raise typer.BadParameter("--expect-head belongs to one journal: name only one")
    return Path(path)


def _check_head(path: Path, expected: str) -> None:
    from journal.log.head import Head, check_head

    check_head(path, Head.parse(expected))


HEAD_NAME = "expect_head"
_HEAD_PARAMETER = inspect.Parameter(
    HEAD_NAME,
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option(
            "--expect-head",
            metavar="HEAD",
            help="Refuse a journal that does not contain the state with this head.",
        ),
    ],
)


def accept_keys(
    command: Callable[..., None],
    group: type[KeyArguments] = KeyArguments,
    *,
    reads_journals: bool = True,
    has_head: bool = False,
    code: ExitCode | None = None,
) -> Callable[..., None]:
    """Return ``command`` with the options of ``group``, which set the keys before it runs.

    With ``has_head``, it also has --expect-head, which checks its argument ``journal``,
    ``source`` or ``journals``. ``code`` is the exit code of an error, as for ``reporting_errors``.
    """
    signature = inspect.signature(command)
    options = fields(group)

    @wraps(command)
    def command_with_keys(**values: Any) -> None:
        expected = values.pop(HEAD_NAME) if has_head else None
        keys = group(**{each.name: values.pop(each.name) for each in options})
        with error_report.reporting_errors(code):
            chosen = keys.choose(reads_journals=reads_journals)
        with _use(*chosen):
            if expected is not None:
                with error_report.reporting_errors(code):
                    _check_head(_find_journal(values), expected)
            command(**values)

    parameters = [*signature.parameters.values(), *map(to_parameter, options)]
    if has_head:
        parameters.append(_HEAD_PARAMETER)
    command_with_keys.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters
    )
    return command_with_keys
