"""A host that puts the files of a guest's memory mounts into a real directory."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from journal.errors import OptionError
from journal.events import BY_TAG
from journal.events.definition import Group
from journal.events.inputs import HostResult
from journal.events.process import InstrumentedPart, ModulePart
from journal.replay.filesystem.host_backend import (
    DIRECTORY_MODE,
    DirectoryKeeper,
    open_directory,
    told,
)
from journal.replay.filesystem.path_resolution import check_name, check_path, names_of
from journal.replay.hosts.base import BaseHost
from journal.replay.limits import Limits, NotPlayable, shown

_UNHEEDED_KINDS = {ModulePart, InstrumentedPart}
_UNHEEDED = {Group.MEMORY, Group.THREADS, Group.STDIO, Group.SNAPSHOTS, Group.INPUTS}

FILE_TAGS = frozenset(
    tag
    for tag, kind in BY_TAG.items()
    if kind.group not in _UNHEEDED and kind not in _UNHEEDED_KINDS
) | {HostResult.tag}
"""The kinds of events that say what becomes of files, and of the descriptors they are open by."""


class DirectoryHost(BaseHost[DirectoryKeeper]):
    """A host in the directory ``path``, which must be there and empty. A context manager.

    A mount called ``/work`` is kept in ``work`` below it, one called ``/`` in the directory itself;
    or ``apart``, each in a directory of its own, called ``0``, ``1`` and so on in the
    order of ``mounted``, which has the names by which a guest comes to each: then they may lie in
    one another.

    Nothing outside of it is read or written, whatever the journal says. Symbolic links say what the
    guest wrote, and are never followed here: who follows them later may be led elsewhere. Times of
    modification are the guest's.
    """

    keeps_output = False

    def __init__(
        self, path: str | os.PathLike[str], limits: Limits | None = None, *, apart: bool = False
    ) -> None:
        super().__init__(limits)
        self._apart = apart
        self._root = -1
        try:
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise OptionError(f"{Path(path)} cannot be opened: {error.strerror}") from error
        with os.scandir(self._root) as found:
            is_empty = next(found, None) is None
        if not is_empty:
            self._close_root()
            raise OptionError(f"{Path(path)} is not empty: files could not be told apart")
        self.mounted: dict[str, list[str]] = {}

    @property
    def tags(self) -> frozenset[int]:
        """The kinds of events that it heeds: those of files and descriptors."""
        return FILE_TAGS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is open; the files stay."""
        self.table.close_all()
        for keeper in self.keepers.values():
            keeper.close()
        self._close_root()

    def begin(self) -> None:
        """Refuse a second process: its files would be mixed with those of the first."""
        raise NotPlayable("another process begins: the directory has the files of one already")

    @told
    def keeper_of(self, guest: str) -> DirectoryKeeper:
        """Make the directory of a memory mount."""
        names = _names_below(guest)
        if not self._apart:
            self._check_beside(guest, names)
        at = open_directory(".", self._root)
        for name in [str(len(self.mounted))] if self._apart else names:
            above = at
            try:
                at = _made_directory(name, above)
            finally:
                os.close(above)
        self.mounted[guest] = names
        return DirectoryKeeper(at, self.limits.files_size_max)

    def _check_beside(self, guest: str, names: list[str]) -> None:
        for other, taken in self.mounted.items():
            shorter = min(len(names), len(taken))
            if names[:shorter] == taken[:shorter]:
                raise NotPlayable(
                    f"the mounts {shown(other)} and {shown(guest)} lie in one another, and one "
                    "directory cannot hold both"
                )

    def _close_root(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1


def _names_below(guest: str) -> list[str]:
    """Where below the directory a mount is kept."""
    names = [name for name in names_of(guest) if name != "."]
    check_path("/".join(names) or ".")
    for name in names:
        check_name(name)
    if ".." in names:
        raise NotPlayable(f"the mount {shown(guest)} leads out of the directory")
    return names


def _made_directory(name: str, at: int) -> int:
    """Open the directory ``name`` in ``at``, made if it is not there."""
    with suppress(FileExistsError):  # another mount lies beside this one
        os.mkdir(name, DIRECTORY_MODE, dir_fd=at)
    return open_directory(name, at)
