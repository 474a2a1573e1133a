"""Backend of files in a real directory that no content of a journal can leave.

Every name is looked up in an open directory and never followed as a link, so that neither a path
nor a concurrent change by another process leads outside.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from journal._platform import NO_FOLLOW, OPEN_FLAGS
from journal.events.paths import FileType
from journal.replay.filesystem.directory_ops import TimeUpdate
from journal.replay.limits import ENTRY_SIZE, ReplayError, check_size, quote_path

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
"""Only the owner has access, because files of a guest may be secret."""

_FLAGS: int = OPEN_FLAGS | NO_FOLLOW | getattr(os, "O_NOCTTY", 0)
_KINDS = (
    (stat.S_ISREG, FileType.REGULAR_FILE),
    (stat.S_ISDIR, FileType.DIRECTORY),
    (stat.S_ISLNK, FileType.SYMBOLIC_LINK),
)

P = ParamSpec("P")
R = TypeVar("R")


def translate_os_errors(operation: Callable[P, R]) -> Callable[P, R]:
    """Return ``operation`` with each OSError converted to ReplayError."""

    @wraps(operation)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return operation(*args, **kwargs)
        except OSError as error:
            name = f" for {quote_path(str(error.filename))}" if error.filename else ""
            raise ReplayError(
                f"the operating system refused the operation{name}: {error.strerror}"
            ) from error

    return wrapper


class HostBackend:
    """Backend of the files of one mount in the open directory ``root``, which it owns.

    All files together have at most ``size_max`` bytes, including holes. A directory is represented
    by an open descriptor.
    """

    def __init__(self, root: int, size_max: int) -> None:
        self._root = root
        self._size = 0
        self._size_max = size_max
        self._open_counts: Counter[int] = Counter()

    def root(self) -> int:
        """Return the root directory of the mount."""
        return self._root

    def close(self) -> None:
        """Close the root directory of the mount."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    @translate_os_errors
    def kind(self, at: int, name: str) -> FileType | None:
        """Return the type of ``name`` without following links, None if it does not exist."""
        status = _stat_if_exists(at, name)
        return _file_type(status) if status else None

    @translate_os_errors
    def link_target(self, at: int, name: str) -> str | None:
        """Return the target of the link ``name``, or None if ``name`` is not a link."""
        if self.kind(at, name) is not FileType.SYMBOLIC_LINK:
            return None
        return os.readlink(name, dir_fd=at)

    @translate_os_errors
    def enter(self, at: int, name: str) -> int:
        """Open the directory ``name`` without following links."""
        return open_directory(name, at)

    def leave(self, at: int) -> None:
        """Close the directory ``at``."""
        os.close(at)

    @translate_os_errors
    def open_file(self, at: int, name: str) -> "HostBackendFile":
        """Open an existing regular file."""
        handle = os.open(name, _FLAGS | os.O_RDWR, dir_fd=at)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise ReplayError(f"{quote_path(name)} is not a file")
        return HostBackendFile(self, handle)

    @translate_os_errors
    def make_file(self, at: int, name: str, now: int) -> "HostBackendFile":
        """Create and open a regular file."""
        self.check_space(1, 0)
        handle = os.open(name, _FLAGS | os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=at)
        os.utime(handle, ns=(now, now))
        self._count_creation(at, now)
        return HostBackendFile(self, handle)

    @translate_os_errors
    def make_directory(self, at: int, name: str, now: int) -> None:
        """Create a directory."""
        self.check_space(1, 0)
        os.mkdir(name, DIRECTORY_MODE, dir_fd=at)
        os.utime(name, ns=(now, now), dir_fd=at, follow_symlinks=False)
        self._count_creation(at, now)

    @translate_os_errors
    def make_symlink(self, at: int, name: str, target: str, now: int) -> None:
        """Create a symbolic link with the guest's target. The link is never followed here."""
        self.check_space(1, 0)
        os.symlink(target, name, dir_fd=at)
        os.utime(name, ns=(now, now), dir_fd=at, follow_symlinks=False)
        self._count_creation(at, now)

    @translate_os_errors
    def make_hard_link(self, at: int, name: str, to: int, to_name: str, now: int) -> None:
        """Create a hard link to a file that is not a directory."""
        self.check_space(1, 0)
        os.link(name, to_name, src_dir_fd=at, dst_dir_fd=to, follow_symlinks=False)
        self._count_creation(to, now)

    @translate_os_errors
    def unlink(self, at: int, name: str, now: int) -> None:
        """Unlink a file or a symbolic link."""
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
        os.unlink(name, dir_fd=at)
        self._count_removal(status)
        _set_mtime(at, now)

    @translate_os_errors
    def remove_directory(self, at: int, name: str, now: int) -> None:
        """Remove an empty directory."""
        os.rmdir(name, dir_fd=at)
        self._size -= ENTRY_SIZE
        _set_mtime(at, now)

    @translate_os_errors
    def rename(self, at: int, name: str, to: int, to_name: str, now: int) -> None:
        """Rename a directory entry, and replace the entry ``to_name``."""
        node, old = _stat_if_exists(at, name), _stat_if_exists(to, to_name)
        if node and old and (node.st_dev, node.st_ino) == (old.st_dev, old.st_ino):
            return
        os.rename(name, to_name, src_dir_fd=at, dst_dir_fd=to)
        if old:
            self._count_removal(old)
        _set_mtime(at, now)
        _set_mtime(to, now)

    @translate_os_errors
    def set_times(self, at: int, name: str, times: TimeUpdate, now: int) -> None:
        """Set the times of ``name`` without following links."""
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
        resolved = times.resolve(now, status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=resolved, dir_fd=at, follow_symlinks=False)

    # -- used space ---------------------------------------------------------------------------

    def check_space(self, names: int, size: int) -> None:
        """Raise ReplayError if ``names`` new entries and ``size`` bytes exceed the limit."""
        check_size("the files", self._size + names * ENTRY_SIZE + size, self._size_max)

    def reserve(self, growth: int) -> None:
        """Add ``growth`` to the used bytes. Raises ReplayError if they would exceed the limit."""
        if growth > 0:
            check_size("the files", self._size + growth, self._size_max)
        self._size += growth

    def count_open(self, status: os.stat_result) -> None:
        """Count an open of a file."""
        self._open_counts[status.st_ino] += 1

    def count_close(self, status: os.stat_result) -> None:
        """Count a close of a file. Its bytes are freed with its last name and last descriptor."""
        self._open_counts[status.st_ino] -= 1
        if not self._open_counts[status.st_ino]:
            del self._open_counts[status.st_ino]
            if not status.st_nlink:
                self._size -= status.st_size

    def _count_removal(self, status: os.stat_result) -> None:
        """Count the removal of a name. ``status`` is that of the file before."""
        self._size -= ENTRY_SIZE
        last = status.st_nlink == 1 and status.st_ino not in self._open_counts
        if last and stat.S_ISREG(status.st_mode):
            self._size -= status.st_size

    def _count_creation(self, at: int, now: int) -> None:
        """Count a new name in the directory ``at``."""
        self._size += ENTRY_SIZE
        _set_mtime(at, now)


class HostBackendFile:
    """An open file of the operating system. The object owns the descriptor."""

    def __init__(self, backend: HostBackend, handle: int) -> None:
        self._backend, self._handle = backend, handle
        backend.count_open(os.fstat(handle))

    @translate_os_errors
    def size(self) -> int:
        """Return the size in bytes."""
        return os.fstat(self._handle).st_size

    @translate_os_errors
    def write(self, offset: int, data: bytes, now: int | None) -> None:
        """Write ``data`` at ``offset``, with zeros in a gap. Without ``now`` keep the times."""
        before = os.fstat(self._handle)
        if data:
            self._backend.reserve(max(offset + len(data) - before.st_size, 0))
        at, rest = offset, memoryview(data)
        while rest:
            written = os.pwrite(self._handle, rest, at)
            at, rest = at + written, rest[written:]
        mtime = before.st_mtime_ns if now is None else now
        os.utime(self._handle, ns=(before.st_atime_ns, mtime))

    @translate_os_errors
    def set_size(self, size: int, now: int) -> None:
        """Truncate the file, or extend it with zeros."""
        self._backend.reserve(size - os.fstat(self._handle).st_size)
        os.ftruncate(self._handle, size)
        _set_mtime(self._handle, now)

    def extend(self, size: int, now: int) -> None:
        """Extend the file, which is shorter than ``size``, with zeros."""
        self.set_size(size, now)

    @translate_os_errors
    def set_times(self, times: TimeUpdate, now: int) -> None:
        """Set the times of the file."""
        status = os.fstat(self._handle)
        os.utime(self._handle, ns=times.resolve(now, status.st_atime_ns, status.st_mtime_ns))

    @translate_os_errors
    def close(self) -> None:
        """Close the file."""
        status = os.fstat(self._handle)
        os.close(self._handle)
        self._backend.count_close(status)


def open_directory(name: str, at: int | None = None) -> int:
    """Open the directory ``name`` in ``at`` without following links."""
    return os.open(name, _FLAGS | os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)


def _file_type(status: os.stat_result) -> FileType:
    return next((kind for test, kind in _KINDS if test(status.st_mode)), FileType.UNKNOWN)


def _set_mtime(handle: int, now: int) -> None:
    """Set the modification time of an open file to ``now``."""
    os.utime(handle, ns=(os.fstat(handle).st_atime_ns, now))


def _stat_if_exists(at: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None
