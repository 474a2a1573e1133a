"""Files in a real directory, which nothing that a journal says can lead out of.

Every name is looked up in an open directory, and none is followed if it is a link, so that neither
a path nor a change made meanwhile by another process leads elsewhere.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from journal.events.paths import FileType
from journal.replay.filesystem.directory_ops import TimeUpdate
from journal.replay.limits import ENTRY_SIZE, ReplayError, check_size, quote_path

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
"""What a guest had may be secret."""

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_KINDS = (
    (stat.S_ISREG, FileType.REGULAR_FILE),
    (stat.S_ISDIR, FileType.DIRECTORY),
    (stat.S_ISLNK, FileType.SYMBOLIC_LINK),
)

P = ParamSpec("P")
R = TypeVar("R")


def translate_os_errors(deed: Callable[P, R]) -> Callable[P, R]:
    """``deed``, with what the operating system refuses in our own words."""

    @wraps(deed)
    def telling(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return deed(*args, **kwargs)
        except OSError as error:
            name = f" for {quote_path(str(error.filename))}" if error.filename else ""
            raise ReplayError(f"the operating system refused it{name}: {error.strerror}") from error

    return telling


class HostBackend:
    """Keeps the files of one mount below the open directory ``root``, which it takes over.

    They have at most ``size_max`` bytes together, holes included. A directory is an open
    descriptor.
    """

    def __init__(self, root: int, size_max: int) -> None:
        self._root = root
        self._size = 0
        self._size_max = size_max
        self._opened: Counter[int] = Counter()

    def root(self) -> int:
        """The mount's own directory."""
        return self._root

    def close(self) -> None:
        """Close the mount's own directory."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    @translate_os_errors
    def kind(self, at: int, name: str) -> FileType | None:
        """What ``name`` is, never through a link."""
        found = _stat_if_exists(at, name)
        return _file_type(found) if found else None

    @translate_os_errors
    def link_target(self, at: int, name: str) -> str | None:
        """What the link ``name`` says, if it is one."""
        if self.kind(at, name) is not FileType.SYMBOLIC_LINK:
            return None
        return os.readlink(name, dir_fd=at)

    @translate_os_errors
    def enter(self, at: int, name: str) -> int:
        """Open the directory ``name``, never through a link."""
        return open_directory(name, at)

    def leave(self, at: int) -> None:
        """Close it."""
        os.close(at)

    @translate_os_errors
    def open_file(self, at: int, name: str) -> "HostBackendFile":
        """Open a regular file that is there."""
        handle = os.open(name, _FLAGS | os.O_RDWR, dir_fd=at)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise ReplayError(f"{quote_path(name)} is not a file")
        return HostBackendFile(self, handle)

    @translate_os_errors
    def make_file(self, at: int, name: str, now: int) -> "HostBackendFile":
        """Make a regular file, and open it."""
        self.check_space(1, 0)
        handle = os.open(name, _FLAGS | os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=at)
        os.utime(handle, ns=(now, now))
        self._made(at, now)
        return HostBackendFile(self, handle)

    @translate_os_errors
    def make_directory(self, at: int, name: str, now: int) -> None:
        """Make a directory."""
        self.check_space(1, 0)
        os.mkdir(name, DIRECTORY_MODE, dir_fd=at)
        os.utime(name, ns=(now, now), dir_fd=at, follow_symlinks=False)
        self._made(at, now)

    @translate_os_errors
    def make_symlink(self, at: int, name: str, target: str, now: int) -> None:
        """Make a symbolic link that says what the guest wrote; it is never followed here."""
        self.check_space(1, 0)
        os.symlink(target, name, dir_fd=at)
        os.utime(name, ns=(now, now), dir_fd=at, follow_symlinks=False)
        self._made(at, now)

    @translate_os_errors
    def make_hard_link(self, at: int, name: str, to: int, to_name: str, now: int) -> None:
        """Give what is no directory one more name."""
        self.check_space(1, 0)
        os.link(name, to_name, src_dir_fd=at, dst_dir_fd=to, follow_symlinks=False)
        self._made(to, now)

    @translate_os_errors
    def unlink(self, at: int, name: str, now: int) -> None:
        """Remove the name of what is no directory."""
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
        os.unlink(name, dir_fd=at)
        self._removed(found)
        _set_mtime(at, now)

    @translate_os_errors
    def remove_directory(self, at: int, name: str, now: int) -> None:
        """Remove an empty directory."""
        os.rmdir(name, dir_fd=at)
        self._size -= ENTRY_SIZE
        _set_mtime(at, now)

    @translate_os_errors
    def rename(self, at: int, name: str, to: int, to_name: str, now: int) -> None:
        """Give something another name, in the place of what had it."""
        node, replaced = _stat_if_exists(at, name), _stat_if_exists(to, to_name)
        if node and replaced and (node.st_dev, node.st_ino) == (replaced.st_dev, replaced.st_ino):
            return
        os.rename(name, to_name, src_dir_fd=at, dst_dir_fd=to)
        if replaced:
            self._removed(replaced)
        _set_mtime(at, now)
        _set_mtime(to, now)

    @translate_os_errors
    def set_times(self, at: int, name: str, times: TimeUpdate, now: int) -> None:
        """Set the times of what a name stands for, never through a link."""
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
        resolved = times.resolve(now, found.st_atime_ns, found.st_mtime_ns)
        os.utime(name, ns=resolved, dir_fd=at, follow_symlinks=False)

    # -- how much there is -----------------------------------------------------------------------

    def check_space(self, names: int, size: int) -> None:
        """Refuse what there is no room for: so many names more, and so many bytes in files."""
        check_size("the files", self._size + names * ENTRY_SIZE + size, self._size_max)

    def reserve(self, growth: int) -> None:
        """Count bytes that are used from now on; refuses what is more than the mount may have."""
        if growth > 0:
            check_size("the files", self._size + growth, self._size_max)
        self._size += growth

    def opened(self, found: os.stat_result) -> None:
        """A file was opened."""
        self._opened[found.st_ino] += 1

    def closed(self, found: os.stat_result) -> None:
        """A file was closed: its bytes are gone with the last name and the last descriptor."""
        self._opened[found.st_ino] -= 1
        if not self._opened[found.st_ino]:
            del self._opened[found.st_ino]
            if not found.st_nlink:
                self._size -= found.st_size

    def _removed(self, found: os.stat_result) -> None:
        """One name is gone of what was ``found`` there before."""
        self._size -= ENTRY_SIZE
        last = found.st_nlink == 1 and found.st_ino not in self._opened
        if last and stat.S_ISREG(found.st_mode):
            self._size -= found.st_size

    def _made(self, at: int, now: int) -> None:
        """Something has a name in ``at`` that it had not before."""
        self._size += ENTRY_SIZE
        _set_mtime(at, now)


class HostBackendFile:
    """An open file of the operating system, which it takes over."""

    def __init__(self, backend: HostBackend, handle: int) -> None:
        self._backend, self._handle = backend, handle
        backend.opened(os.fstat(handle))

    @translate_os_errors
    def size(self) -> int:
        """Its size in bytes."""
        return os.fstat(self._handle).st_size

    @translate_os_errors
    def write(self, offset: int, data: bytes, now: int | None) -> None:
        """Put ``data`` at ``offset``, behind zeros if it is shorter; its times stay if no now."""
        before = os.fstat(self._handle)
        if data:
            self._backend.reserve(max(offset + len(data) - before.st_size, 0))
        at, left = offset, memoryview(data)
        while left:
            written = os.pwrite(self._handle, left, at)
            at, left = at + written, left[written:]
        mtime = before.st_mtime_ns if now is None else now
        os.utime(self._handle, ns=(before.st_atime_ns, mtime))

    @translate_os_errors
    def set_size(self, size: int, now: int) -> None:
        """Cut it, or lengthen it with zeros."""
        self._backend.reserve(size - os.fstat(self._handle).st_size)
        os.ftruncate(self._handle, size)
        _set_mtime(self._handle, now)

    def extend(self, size: int, now: int) -> None:
        """Lengthen it with zeros: it is shorter."""
        self.set_size(size, now)

    @translate_os_errors
    def set_times(self, times: TimeUpdate, now: int) -> None:
        """Set its times."""
        found = os.fstat(self._handle)
        os.utime(self._handle, ns=times.resolve(now, found.st_atime_ns, found.st_mtime_ns))

    @translate_os_errors
    def close(self) -> None:
        """Close it."""
        found = os.fstat(self._handle)
        os.close(self._handle)
        self._backend.closed(found)


def open_directory(name: str, at: int | None = None) -> int:
    """Open the directory ``name`` in ``at``, never through a link."""
    return os.open(name, _FLAGS | os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)


def _file_type(found: os.stat_result) -> FileType:
    return next((kind for test, kind in _KINDS if test(found.st_mode)), FileType.UNKNOWN)


def _set_mtime(handle: int, now: int) -> None:
    """What is open there was changed at ``now``, whatever the clock says."""
    os.utime(handle, ns=(os.fstat(handle).st_atime_ns, now))


def _stat_if_exists(at: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None
