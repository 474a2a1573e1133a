"""Backend of files in a real directory, which no content of a journal can leave.

Every name is looked up in an open directory and never followed as a link, so that neither a path
nor a concurrent change by another process leads outside.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

from journal._platform import NO_FOLLOW, OPEN_FLAGS
from journal.events.descriptors import FileDescriptorSetSize, FileDescriptorSetTimes
from journal.events.paths import FileType
from journal.vfs.effects import EffectRecorder
from journal.vfs.errors import FileError, quote_path
from journal.vfs.memory_backend import ENTRY_SIZE
from journal.vfs.path_resolution import PathLocation, check_name
from journal.vfs.times import TimeUpdate
from journal.wasi_abi import Errno, to_wasi_errno

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
    """Return ``operation`` with each OSError converted to FileError."""

    @wraps(operation)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return operation(*args, **kwargs)
        except OSError as error:
            subject = f" for {quote_path(str(error.filename))}" if error.filename else ""
            reason = f"the operating system refused the operation{subject}: {error.strerror}"
            raise FileError(to_wasi_errno(error), reason) from error

    return wrapper


class HostEntry(NamedTuple):
    """A name in a directory of the operating system, with its attributes."""

    status: os.stat_result

    @property
    def filetype(self) -> FileType:
        """Type of the file; types that a guest cannot create are unknown."""
        mode = self.status.st_mode
        return next((kind for test, kind in _KINDS if test(mode)), FileType.UNKNOWN)


class HostBackend:
    """Backend of the files of one mount in the open directory ``root``, which it owns.

    All files together have at most ``size_max`` bytes, including holes. A directory is represented
    by an open descriptor. The backend replays effects that succeeded before, so it checks only what
    the operating system would not refuse.
    """

    def __init__(self, root: int, size_max: int, recorder: EffectRecorder) -> None:
        self.recorder = recorder
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
    def find(self, at: int, name: str) -> HostEntry | None:
        """Return the entry ``name`` without following links, None if it does not exist."""
        check_name(name)
        status = _stat_if_exists(at, name)
        return HostEntry(status) if status else None

    @translate_os_errors
    def link_target(self, at: int, name: str) -> str | None:
        """Return the target of the link ``name``, or None if ``name`` is not a link."""
        entry = self.find(at, name)
        if entry is None or entry.filetype is not FileType.SYMBOLIC_LINK:
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
            raise FileError(Errno.INVAL, "{} is not a file", name)
        return HostBackendFile(self, handle)

    @translate_os_errors
    def make_file(self, at: int, name: str, now: int) -> "HostBackendFile":
        """Create and open a regular file."""
        handle = os.open(name, _FLAGS | os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=at)
        os.utime(handle, ns=(now, now))
        self._count_creation(at, now)
        return HostBackendFile(self, handle)

    @translate_os_errors
    def make_directory(self, at: int, name: str, now: int) -> None:
        """Create a directory."""
        os.mkdir(name, DIRECTORY_MODE, dir_fd=at)
        os.utime(name, ns=(now, now), dir_fd=at, follow_symlinks=False)
        self._count_creation(at, now)

    @translate_os_errors
    def make_symlink(self, at: int, name: str, target: str, now: int) -> None:
        """Create a symbolic link with the guest's target. The link is never followed here."""
        os.symlink(target, name, dir_fd=at)
        os.utime(name, ns=(now, now), dir_fd=at, follow_symlinks=False)
        self._count_creation(at, now)

    @translate_os_errors
    def make_hard_link(self, at: int, name: str, to: int, to_name: str, now: int) -> None:
        """Create a hard link to a file that is not a directory."""
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

    # -- checks before a change ------------------------------------------------------------------

    def check_can_create(self, at: int, name: str) -> None:
        """Do nothing: the operating system refuses names in a removed directory."""

    def check_empty(self, at: int, name: str) -> None:
        """Do nothing: the operating system refuses to remove a directory with entries."""

    def check_rename(
        self,
        source: PathLocation[int],
        target: PathLocation[int],
        node: HostEntry,
    ) -> None:
        """Raise ``FileError`` if a file would get the path of a directory."""
        if node.filetype is not FileType.DIRECTORY and target.must_be_directory:
            raise FileError(
                Errno.NOTDIR, "{} is a file, but its path names a directory", target.name
            )

    def check_space(self, names: int, size: int) -> None:
        """Raise ``FileError`` with ``NOSPC`` if new names and bytes exceed the size limit."""
        total = self._size + names * ENTRY_SIZE + size
        if total > self._size_max:
            raise FileError(
                Errno.NOSPC,
                "the files would have {} bytes, but the limit is {}",
                total,
                self._size_max,
            )

    # -- used space ------------------------------------------------------------------------------

    def reserve(self, growth: int) -> None:
        """Add ``growth`` to the used bytes; raise ``FileError`` with ``NOSPC`` above the limit."""
        if growth > 0:
            self.check_space(0, growth)
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
    """An open file of the operating system. The object owns the descriptor ``handle``."""

    def __init__(self, backend: HostBackend, handle: int) -> None:
        self._backend, self._handle = backend, handle
        backend.count_open(os.fstat(handle))

    @translate_os_errors
    def size(self, fd: int) -> int:
        """Return the size in bytes."""
        return os.fstat(self._handle).st_size

    @translate_os_errors
    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Write ``data`` at ``offset``, with zeros in a gap, and return the count of bytes."""
        self._put(offset, data)
        _set_mtime(self._handle, self._backend.recorder.record_write(fd, offset, data))
        return len(data)

    @translate_os_errors
    def append(self, data: bytes) -> None:
        """Append a part of a file that is put in place before the guest starts."""
        status = os.fstat(self._handle)
        self._put(status.st_size, data)
        os.utime(self._handle, ns=(status.st_atime_ns, status.st_mtime_ns))

    def set_size(self, fd: int, size: int) -> None:
        """Truncate the file, or extend it with zeros."""
        self.resize(size, self._backend.recorder.record(FileDescriptorSetSize, fd, size))

    @translate_os_errors
    def resize(self, size: int, now: int) -> None:
        """Change the size at the time ``now``."""
        self._backend.reserve(size - os.fstat(self._handle).st_size)
        os.ftruncate(self._handle, size)
        _set_mtime(self._handle, now)

    def extend(self, size: int, now: int) -> None:
        """Extend the file, which is shorter than ``size``, with zeros."""
        self.resize(size, now)

    @translate_os_errors
    def set_times(self, fd: int, times: TimeUpdate) -> None:
        """Set the access and modification times."""
        now = self._backend.recorder.record(FileDescriptorSetTimes, fd, *times)
        status = os.fstat(self._handle)
        os.utime(self._handle, ns=times.resolve(now, status.st_atime_ns, status.st_mtime_ns))

    @translate_os_errors
    def close(self) -> None:
        """Close the file."""
        status = os.fstat(self._handle)
        os.close(self._handle)
        self._backend.count_close(status)

    def _put(self, offset: int, data: bytes) -> None:
        """Write all bytes, and count the growth of the file."""
        end = offset + len(data)
        self._backend.reserve(max(end - os.fstat(self._handle).st_size, 0) if data else 0)
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._handle, rest, end - len(rest))
            rest = rest[written:]


def open_directory(name: str, at: int | None = None) -> int:
    """Open the directory ``name`` in ``at`` without following links."""
    return os.open(name, _FLAGS | os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)


def _set_mtime(handle: int, now: int) -> None:
    """Set the modification time of an open file to ``now``."""
    os.utime(handle, ns=(os.fstat(handle).st_atime_ns, now))


def _stat_if_exists(at: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None
