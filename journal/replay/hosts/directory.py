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
    HostBackend,
    open_directory,
    translate_os_errors,
)
from journal.replay.filesystem.path_resolution import check_name, check_path, split_path
from journal.replay.hosts.base import BaseHost
from journal.replay.limits import ReplayError, ReplayLimits, quote_path

_IGNORED_KINDS = {ModulePart, InstrumentedPart}
_IGNORED_GROUPS = {Group.MEMORY, Group.THREADS, Group.STDIO, Group.SNAPSHOTS, Group.INPUTS}

FILE_TAGS = frozenset(
    tag
    for tag, kind in BY_TAG.items()
    if kind.group not in _IGNORED_GROUPS and kind not in _IGNORED_KINDS
) | {HostResult.tag}
"""The kinds of events that say what becomes of files, and of the descriptors they are open by."""


class DirectoryHost(BaseHost[HostBackend]):
    """A host in the directory ``path``, which must be there and empty. A context manager.

    A mount called ``/work`` is kept in ``work`` below it, one called ``/`` in the directory itself;
    or ``separate_mounts``, each in a directory of its own, called ``0``, ``1`` and so on in the
    order of ``mounted``, which has the names by which a guest comes to each: then they may lie in
    one another.

    Nothing outside of it is read or written, whatever the journal says. Symbolic links say what the
    guest wrote, and are never followed here: who follows them later may be led elsewhere. Times of
    modification are the guest's.
    """

    keeps_output = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        limits: ReplayLimits | None = None,
        *,
        separate_mounts: bool = False,
    ) -> None:
        super().__init__(limits)
        self._separate_mounts = separate_mounts
        self._root = -1
        try:
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise OptionError(f"{Path(path)} cannot be opened: {error.strerror}") from error
        with os.scandir(self._root) as found:
            is_empty = next(found, None) is None
        if not is_empty:
            self._close_root()
            raise OptionError(f"{Path(path)} is not empty: files could not be told separate_mounts")
        self.mount_paths: dict[str, list[str]] = {}

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
        for backend in self.backends.values():
            backend.close()
        self._close_root()

    def start_process(self) -> None:
        """Refuse a second process: its files would be mixed with those of the first."""
        raise ReplayError("another process begins: the directory has the files of one already")

    @translate_os_errors
    def make_backend(self, guest: str) -> HostBackend:
        """Make the directory of a memory mount."""
        names = _mount_names(guest)
        if not self._separate_mounts:
            self._check_beside(guest, names)
        at = open_directory(".", self._root)
        for name in [str(len(self.mount_paths))] if self._separate_mounts else names:
            above = at
            try:
                at = _open_or_make_directory(name, above)
            finally:
                os.close(above)
        self.mount_paths[guest] = names
        return HostBackend(at, self.limits.files_size_max)

    def _check_beside(self, guest: str, names: list[str]) -> None:
        for other, taken in self.mount_paths.items():
            shorter = min(len(names), len(taken))
            if names[:shorter] == taken[:shorter]:
                raise ReplayError(
                    f"the mounts {quote_path(other)} and {quote_path(guest)} are nested, and one "
                    "directory cannot hold both"
                )

    def _close_root(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1


def _mount_names(guest: str) -> list[str]:
    """Where below the directory a mount is kept."""
    names = [name for name in split_path(guest) if name != "."]
    check_path("/".join(names) or ".")
    for name in names:
        check_name(name)
    if ".." in names:
        raise ReplayError(f"the mount {quote_path(guest)} leads out of the directory")
    return names


def _open_or_make_directory(name: str, at: int) -> int:
    """Open the directory ``name`` in ``at``, made if it is not there."""
    with suppress(FileExistsError):  # another mount lies beside this one
        os.mkdir(name, DIRECTORY_MODE, dir_fd=at)
    return open_directory(name, at)
