"""Files of this library that no guest may reach: its journal, its page index, and the caches.

A user often mounts the directory in which the journal is. A guest that could write there could
rewrite its own history, or put another journal in its place for the next resume. So these files do
not exist for a guest. Lookups fail with ``NOENT``, new names with ``ACCES``. Listings omit them.

A file is recognized by its identity (device and inode), and by its name in its directory, because
a compaction replaces the journal by another file with this name. A fork and its parent share files,
so the parent does not exist for the guest of the fork, nor the fork for the guest of the parent.
The directories and links that lead to a journal cannot be renamed or removed: ``BUSY``, as for a
mount point.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path

from journal._arguments import to_line
from journal.errors import OptionError
from journal.log import segment_files
from journal.vfs.path_resolution import PathLocation
from journal.wasi_abi import Errno, WasiError

PAGE_INDEX_SUFFIX = ".pages"
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{12}\.tmp", re.DOTALL)
"""Names of ``atomic_file.make_temporary_path``."""

_Identity = tuple[int, int]


class Access(Enum):
    """Use of a path by a guest."""

    FIND = "find"
    CREATE = "create"
    REMOVE = "remove"
    """Remove the name, or give it to another file."""


class OwnFiles:
    """The files and directories of this library on the host."""

    def __init__(self, paths: Iterable[str | os.PathLike[str]] = ()) -> None:
        self._paths: list[Path] = []
        self._journals: list[Path] = []
        self._nodes: set[_Identity] = set()
        self._names: dict[_Identity, set[str]] = {}
        self._ways: dict[_Identity, Path] = {}
        for path in paths:
            self.add(path)

    def add(self, path: str | os.PathLike[str]) -> None:
        """Add a file or directory, which need not exist yet."""
        self.pin(path)
        real = Path(os.path.realpath(path))
        with suppress(OSError):
            self._nodes.add(_identify(real.stat()))
        self._paths.append(real)
        for parent in real.parents:
            try:
                identity = _identify(parent.stat())
            except OSError:
                continue  # It will be created later, below the first directory that exists.
            name = real.relative_to(parent).parts[0]
            self._names.setdefault(identity, set()).add(_fold(name))
            return

    def add_journal(self, path: str | os.PathLike[str]) -> None:
        """Add a journal, which need not exist yet.

        The segment files of a directory are part of it under all their names: a fork shares them
        with its parent.
        """
        self.add(path)
        self._journals.append(self._paths[-1])

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Keep the names of all directories and links that lead to ``path``."""
        pending = Path.cwd().joinpath(path).parts[::-1]
        names, at, links = list(pending), Path("/"), 0
        while names:
            name = names.pop()
            entry = at / name
            try:
                self._ways[_identify(entry.lstat())] = entry
                if name == ".." or not entry.is_symlink():
                    at = Path(os.path.realpath(entry))
                    continue
                links += 1
                target = entry.readlink()
            except OSError:
                return
            if links > _LINKS_MAX:
                return
            names += target.parts[::-1]

    def check_outside(self, directory: str, guest: str) -> None:
        """Raise ``OptionError`` if a mounted directory is one of these or inside one."""
        path = Path(directory)
        for each in (path, *path.parents):
            with suppress(OSError):
                if _identify(each.stat()) in self._nodes:
                    raise OptionError(
                        f"{to_line(directory)} cannot be mounted as {to_line(guest)}: "
                        f"{to_line(str(each))} belongs to the journal or its caches; mount another "
                        "directory, or keep the journal elsewhere"
                    )

    def contains(self, status: os.stat_result) -> bool:
        """Return whether an open file is one of these.

        A file that has been replaced is forgotten: the system gives its inode to a new file, which
        may be one of the guest's.
        """
        identity = _identify(status)
        if identity not in self._nodes:
            return status.st_nlink > 1 and self._is_segment(status)
        if any(_has_identity(path, identity) for path in self._paths):
            return True
        self._nodes.discard(identity)
        return False

    def _is_segment(self, status: os.stat_result) -> bool:
        """Return whether a file with several names is a segment file of a journal."""
        if not stat.S_ISREG(status.st_mode):
            return False
        identity = _identify(status)
        for journal in self._journals:
            with suppress(OSError):
                names = segment_files.list_segments(journal)
                if any(_has_identity(journal / name, identity) for name in names):
                    return True
        return False

    def _is_way(self, status: os.stat_result) -> bool:
        """Return whether an entry is a directory or link that leads to one of these."""
        identity = _identify(status)
        entry = self._ways.get(identity)
        return entry is not None and _has_identity(entry, identity)

    def contains_entry(self, directory: os.stat_result, name: str, status: os.stat_result) -> bool:
        """Return whether an entry of a directory is one of these."""
        return self._has_name(directory, name) or self.contains(status)

    def check(self, location: PathLocation[int], access: Access) -> None:
        """Raise ``WasiError`` if the guest may not use a resolved path in this way."""
        if not self._ways:
            return
        status = self.check_name(location.parent, location.name, access)
        # The system itself refuses to rename or to remove ".".
        is_change = access is Access.REMOVE and location.name != "."
        if is_change and status is not None and self._is_way(status):
            raise WasiError(Errno.BUSY)

    def check_name(self, directory: int, name: str, access: Access) -> os.stat_result | None:
        """Return the status of a name in an open directory, None if nothing is there.

        Raises ``WasiError`` if it is one of these files.
        """
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError:
            status = None
        is_own = name != "." and self._has_name(os.fstat(directory), name)
        if is_own or (status is not None and self.contains(status)):
            raise WasiError(Errno.ACCES if access is Access.CREATE else Errno.NOENT)
        return status

    def _has_name(self, directory: os.stat_result, name: str) -> bool:
        names = self._names.get(_identify(directory))
        if names is None:
            return False
        folded = _fold(name)
        return (
            folded in names
            or folded.removesuffix(PAGE_INDEX_SUFFIX) in names
            or _TEMPORARY.fullmatch(folded) is not None
        )


_LINKS_MAX = 40


def _identify(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _has_identity(path: Path, identity: _Identity) -> bool:
    try:
        return _identify(path.lstat()) == identity
    except OSError:
        return False


def _fold(name: str) -> str:
    """Return a name in the form in which a file system that ignores case compares it."""
    return unicodedata.normalize("NFC", name).casefold()
