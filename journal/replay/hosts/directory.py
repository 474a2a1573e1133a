"""A host that writes the files of a guest's memory mounts to a real directory."""

import os
from contextlib import suppress
from typing import Self

from journal import _arguments
from journal._platform import require_linux
from journal.errors import OptionError
from journal.events import tag_sets
from journal.events.definition import Group, Needed, Pinned
from journal.replay.hosts.base import BaseHost
from journal.replay.limits import ReplayError, ReplayLimits, translate_file_errors
from journal.vfs.errors import quote_path
from journal.vfs.host_backend import (
    DIRECTORY_MODE,
    HostBackend,
    open_directory,
    translate_os_errors,
)
from journal.vfs.path_resolution import check_name, check_path, split_path

FILE_TAGS = (
    tag_sets.tags_in_group(Group.CORE, Group.FILES, Group.SOCKETS)
    | tag_sets.tags_with_rule(Needed, Pinned)
) - tag_sets.PREAMBLE_CODE
"""Tags of the events that may have effects on files and on descriptors."""


class DirectoryHost(BaseHost[HostBackend]):
    """A host in the existing empty directory ``path``; a context manager.

    The mount ``/work`` is stored in the subdirectory ``work``, the mount ``/`` in the directory
    itself. With ``separate_mounts`` the mounts are stored in subdirectories ``0``, ``1`` and so on,
    in the order of ``mount_paths``, which maps each mount to its path components in the guest.
    Mounts may be nested only with ``separate_mounts``.

    No file outside the directory is read or written, whatever the journal contains. Symbolic links
    have the targets that the guest wrote and are never followed here, but may lead a later user out
    of the directory. Modification times are those of the guest.
    """

    keeps_output = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        limits: ReplayLimits | None = None,
        *,
        separate_mounts: bool = False,
    ) -> None:
        folder = _arguments.check_path("path", path)
        self._separate_mounts = _arguments.check_flag("separate_mounts", separate_mounts)
        require_linux("writing the files of a guest")
        super().__init__(limits)
        self._root = -1
        try:
            self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise OptionError(f"cannot open {folder}: {error.strerror}") from error
        with os.scandir(self._root) as entries:
            is_empty = next(entries, None) is None
        if not is_empty:
            self._close_root()
            raise OptionError(f"{folder} is not empty; choose an empty directory")
        self.mount_paths: dict[str, list[str]] = {}

    @property
    def tags(self) -> frozenset[int]:
        """Tags of the events that the host processes: those of files and descriptors."""
        return FILE_TAGS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all descriptors. The files remain."""
        with translate_file_errors():
            self.table.close_all()
        for backend in self.backends.values():
            backend.close()
        self._close_root()

    def start_process(self) -> None:
        """Raise ReplayError: files of a second process would mix with those of the first."""
        raise ReplayError("a second process starts, but the directory holds files of the first")

    @translate_os_errors
    def make_backend(self, guest: str) -> HostBackend:
        """Create the directory of a memory mount and return its backend."""
        names = _mount_names(guest)
        if not self._separate_mounts:
            self._check_not_nested(guest, names)
        at = open_directory(".", self._root)
        for name in [str(len(self.mount_paths))] if self._separate_mounts else names:
            parent = at
            try:
                at = _open_or_make_directory(name, parent)
            finally:
                os.close(parent)
        self.mount_paths[guest] = names
        return HostBackend(at, self.limits.files_size_max, self)

    def _check_not_nested(self, guest: str, names: list[str]) -> None:
        for other, other_names in self.mount_paths.items():
            shorter = min(len(names), len(other_names))
            if names[:shorter] == other_names[:shorter]:
                raise ReplayError(
                    f"the mounts {quote_path(other)} and {quote_path(guest)} are nested, so one "
                    "directory cannot hold both; use separate_mounts"
                )

    def _close_root(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1


def _mount_names(guest: str) -> list[str]:
    """Return the path components of a mount below the directory."""
    names = [name for name in split_path(guest) if name != "."]
    check_path("/".join(names) or ".")
    for name in names:
        check_name(name)
    if ".." in names:
        raise ReplayError(f"the mount {quote_path(guest)} is outside the directory")
    return names


def _open_or_make_directory(name: str, at: int) -> int:
    """Open the directory ``name`` in ``at``. Create it if it does not exist."""
    with suppress(FileExistsError):  # Another mount shares this parent directory.
        os.mkdir(name, DIRECTORY_MODE, dir_fd=at)
    return open_directory(name, at)
