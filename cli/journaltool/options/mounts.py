"""Options of mounts, copied files, environment variables and arguments of a guest."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from journal import HostMount, MemoryMount
    from journal.engine import FileCopy, Grants, SecretValue

_SEPARATOR = "::"
_READ_ONLY = ":ro"

SecretOption = Annotated[
    list[str] | None,
    typer.Option(
        "--secret-env",
        metavar="NAME[=VALUE]",
        help="Set a variable whose value the journal does not contain; a resume and a replay need "
        "it again. NAME alone inherits the value. Repeatable.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestArguments:
    """Options of the directories, files, variables and argument 0 of a new guest."""

    directory: Annotated[
        list[str] | None,
        typer.Option(
            "--dir",
            metavar="HOST::GUEST[:ro]",
            help="Mount a host directory in the guest, with :ro as read-only. HOST alone mounts it "
            "under the same name. Repeatable.",
        ),
    ] = None
    memory: Annotated[
        list[str] | None,
        typer.Option(metavar="GUEST", help="Mount an empty in-memory directory. Repeatable."),
    ] = None
    no_root: Annotated[
        bool, typer.Option("--no-root", help="Do not mount an in-memory directory at /.")
    ] = False
    copy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST::GUEST",
            help="Copy a file or directory into the in-memory files of the guest. Repeatable.",
        ),
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="Set an environment variable of the guest. NAME alone inherits the value. "
            "Repeatable.",
        ),
    ] = None
    secret_env: SecretOption = None
    arg0: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Argument 0 of the program. The default is the name of MODULE.",
        ),
    ] = None


def parse_mounts(
    directories: Sequence[str], memory: Sequence[str], root: bool
) -> "list[HostMount | MemoryMount]":
    """Return the mounts of ``--dir`` and ``--memory``.

    With ``root``, the mounts get an in-memory ``/`` unless another mount is ``/``.
    """
    from journal import MemoryMount

    found: list[HostMount | MemoryMount] = [_parse_directory(text) for text in directories]
    found += [MemoryMount(name) for name in memory]
    names = [mount.guest for mount in found]
    if root and "/" not in names:
        found.insert(0, MemoryMount("/"))
    for index, name in enumerate(names):
        if not name:
            raise typer.BadParameter("a directory of the guest needs a name: write HOST::GUEST")
        if name in names[:index]:
            raise typer.BadParameter(f"the guest directory {name} is mounted more than once")
    return found


def _parse_directory(text: str) -> "HostMount":
    from journal import HostMount

    path = text.removesuffix(_READ_ONLY)
    host, separator, guest = path.partition(_SEPARATOR)
    if not host:
        raise typer.BadParameter(f"{text!r} has no host directory: write HOST::GUEST or HOST")
    return HostMount(host, guest if separator else host, read_only=path != text)


GrantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dir",
        metavar="HOST::GUEST[:ro]",
        help="Grant a host directory for the mount GUEST of the journal, with :ro as read-only. "
        "Not needed for a journal that was recorded or approved here, unless the directory has "
        "moved. Repeatable.",
    ),
]


def parse_grants(texts: Sequence[str], listeners: Sequence[str]) -> "Grants":
    """Return what ``--dir`` and ``--tcp-listen`` grant to a resumed guest."""
    from journal.engine import Grants

    directories = [_parse_directory(text) for text in texts]
    for text, mount in zip(texts, directories, strict=True):
        if _SEPARATOR not in text or not mount.guest:
            raise typer.BadParameter(f"{text!r} is not of the form HOST::GUEST")
    return Grants(directories=directories, listeners=listeners)


def parse_copies(texts: Sequence[str]) -> "list[FileCopy]":
    """Return the copies that ``--copy`` makes in the in-memory files of the guest."""
    from journal.engine import FileCopy

    found = []
    for text in texts:
        host, _, guest = text.partition(_SEPARATOR)
        if not host or not guest:
            raise typer.BadParameter(f"{text!r} is not of the form HOST::GUEST")
        found.append(FileCopy(host, guest))
    return found


def parse_variables(
    plain: Sequence[str], secret: Sequence[str], inherited: Mapping[str, str]
) -> "dict[str, str | SecretValue]":
    """Return the variables of the guest, the secret ones last."""
    from journal.engine import SecretValue

    found, hidden = parse_environment(plain, inherited), parse_environment(secret, inherited)
    for name in hidden:
        if name in found:
            raise typer.BadParameter(
                f"{name} is set by --env and by --secret-env: use only one of them"
            )
    return found | {name: SecretValue(value) for name, value in hidden.items()}


def parse_environment(texts: Sequence[str], inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the guest. ``NAME`` without a value takes the inherited value."""
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not name:
            raise typer.BadParameter(f"{text!r} is not a variable: write NAME=VALUE or NAME")
        if not separator and name not in inherited:
            raise typer.BadParameter(
                f"the guest cannot inherit {name}, because it is not set: write NAME=VALUE"
            )
        found[name] = value if separator else inherited[name]
        _check_utf8(name, found[name])
    return found


def _check_utf8(name: str, value: str) -> None:
    try:
        f"{name}{value}".encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"the variable {name!r} is not valid UTF-8") from None


def encode_arguments(first: str, rest: Sequence[str]) -> list[bytes]:
    """Return the arguments of the guest as the exact bytes of the command line."""
    return [os.fsencode(argument) for argument in (first, *rest)]
