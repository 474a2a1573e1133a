"""What the guest gets to see: directories, files copied in, and environment variables."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from journal import FileCopy, HostMount, MemoryMount

_SEPARATOR = "::"
_READ_ONLY = ":ro"


def parse_mounts(
    directories: Sequence[str], memory: Sequence[str], root: bool
) -> "list[HostMount | MemoryMount]":
    """The mounts for ``--dir`` and ``--memory``, and ``/`` in memory if nobody else is ``/``."""
    from journal import MemoryMount

    found: list[HostMount | MemoryMount] = [_parse_directory(text) for text in directories]
    found += [MemoryMount(name) for name in memory]
    names = [mount.guest for mount in found]
    if root and "/" not in names:
        found.insert(0, MemoryMount("/"))
    for index, name in enumerate(names):
        if not name:
            raise typer.BadParameter("a directory of the guest needs a name")
        if name in names[:index]:
            raise typer.BadParameter(f"the guest can have only one directory {name}")
    return found


def _parse_directory(text: str) -> "HostMount":
    from journal import HostMount

    named = text.removesuffix(_READ_ONLY)
    host, separator, guest = named.partition(_SEPARATOR)
    if not host:
        raise typer.BadParameter(f"{text!r} names no directory: write HOST::GUEST or HOST")
    return HostMount(host, guest if separator else host, read_only=named != text)


def parse_moved(texts: Sequence[str]) -> dict[str, str]:
    """Where directories are now, by their names in the guest."""
    found = {}
    for text in texts:
        host, _, guest = text.partition(_SEPARATOR)
        if not host or not guest:
            raise typer.BadParameter(f"{text!r} does not say what is where: write HOST::GUEST")
        found[guest] = host
    return found


def parse_copies(texts: Sequence[str]) -> "list[FileCopy]":
    """What ``--copy`` puts into the guest's memory."""
    from journal import FileCopy

    found = []
    for text in texts:
        host, _, guest = text.partition(_SEPARATOR)
        if not host or not guest:
            raise typer.BadParameter(f"{text!r} does not say what goes where: write HOST::GUEST")
        found.append(FileCopy(host, guest))
    return found


def parse_environment(texts: Sequence[str], inherited: Mapping[str, str]) -> dict[str, str]:
    """The guest's variables: ``NAME=VALUE``, or ``NAME`` alone for the one ``inherited``."""
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not name:
            raise typer.BadParameter(f"{text!r} is no variable: write NAME=VALUE or NAME")
        if not separator and name not in inherited:
            raise typer.BadParameter(f"{name} is not set here, so the guest cannot inherit it")
        found[name] = value if separator else inherited[name]
        _check_utf8(name, found[name])
    return found


def _check_utf8(name: str, value: str) -> None:
    try:
        f"{name}{value}".encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"{name!r} is not UTF-8, as a guest's variables are") from None


def encode_arguments(first: str, rest: Sequence[str]) -> list[bytes]:
    """The guest's arguments, byte for byte as the system gave them."""
    return [os.fsencode(argument) for argument in (first, *rest)]
