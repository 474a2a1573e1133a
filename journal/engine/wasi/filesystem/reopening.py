"""Reopening of host files that a guest had open when its recording ended.

A file is found by its recorded names, or by a search for its inode if another name leads to it now.
"""

import errno
import os
import resource
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from journal.engine.wasi.filesystem.host_paths import FileIdentity, identify
from journal.errors import HostMismatch
from journal.fs.birth_time import read_birth_time

T = TypeVar("T")

_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that replaced the file must not block the resume.
_FILE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

#: Errors of a name that leads to no file, or to a file of another kind. All other errors say
#: nothing about the file, so they stop the resume.
_ABSENT = frozenset(
    (
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ESTALE),
        *(errno.ENXIO, errno.ENODEV, errno.ENAMETOOLONG),
    )
)

#: Largest number of directory entries that a search for other names visits.
SEARCH_COUNT_MAX = 100_000

#: Descriptors that a session needs besides those of the guest's files.
_SPARE_DESCRIPTORS = 64

#: Descriptors by which the limit is raised when a running guest needs more.
_MORE_DESCRIPTORS = 1024

_REMEDIES = {
    errno.EMFILE: "; raise the limit of open files (ulimit -n), and resume again",
    errno.ENFILE: "; close files of other processes, and resume again",
}


class RecordedTimes(NamedTuple):
    """Start and end of a recording, in nanoseconds since the epoch.

    ``session`` is the start of its last session. ``earlier`` are the first and last times of the
    parts after which the clock was set back. All times are 0 for a new run, which reopens nothing.
    """

    started: int = 0
    session: int = 0
    ended: int = 0
    earlier: tuple[tuple[int, int], ...] = ()

    def is_after_end(self, moment: int) -> bool:
        """Return whether a moment is after the recording: later than its end and than no part."""
        if not self.ended or moment <= self.ended:
            return False
        return not any(first <= moment <= last for first, last in self.earlier)


def reopen(
    root: int,
    node: FileIdentity,
    flags: int,
    *,
    is_moved: bool,
    times: RecordedTimes = RecordedTimes(),  # noqa: B008 - an immutable value
    path: str = "",
) -> int | None:
    """Return a descriptor of the file ``node``, opened by its names; None if another file is there.

    ``is_moved`` means that the mount is a copy. Its files have other inodes, so only names and
    types are compared. ``times`` are those of the recording: a file that was created after its end
    is another file, because the inode of an open file is not given out again. Raises
    ``HostMismatch`` if the host refuses; ``path`` names the file in the message.
    """
    try:
        handle = open_names(root, node.names, flags)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise refusal(path, error) from error
    identity = identify(handle, node.names)
    is_same = identity.filetype == node.filetype
    if is_same and not is_moved:
        is_same = identity == node and not times.is_after_end(read_birth_time(handle) or 0)
    if is_same:
        return handle
    os.close(handle)
    return None


def open_names(root: int, names: tuple[str, ...], flags: int) -> int:
    """Open a path below ``root`` without following links."""
    directory = os.open(".", _DIRECTORY_FLAGS, dir_fd=root)
    try:
        for name in names[:-1]:
            parent, directory = directory, os.open(name, _DIRECTORY_FLAGS, dir_fd=directory)
            os.close(parent)
        return os.open(names[-1] if names else ".", flags | _FILE_FLAGS, dir_fd=directory)
    finally:
        os.close(directory)


def stat_names(root: int, names: tuple[str, ...]) -> os.stat_result | None:
    """Return the status of a path below ``root``, or None if nothing is there.

    Links are not followed, so that no recorded name tells anything about a file outside.
    """
    try:
        handle = open_names(root, names, os.O_PATH)
    except OSError:
        return None
    try:
        return os.fstat(handle)
    finally:
        os.close(handle)


def refusal(path: str, error: OSError) -> HostMismatch:
    """Return the error for a file that the host does not open."""
    remedy = _REMEDIES.get(error.errno or 0, "")
    return HostMismatch(
        f"{path}, which the guest had open, cannot be reopened: {error.strerror}{remedy}"
    )


def is_born_after(handle: int, moment: int) -> bool:
    """Return whether an open file was created after ``moment``; false if nobody knows."""
    birth_time = read_birth_time(handle) if moment else None
    return birth_time is not None and birth_time > moment


def find_names(
    root: int, inodes: Collection[int], count_max: int = SEARCH_COUNT_MAX
) -> dict[int, list[tuple[str, ...]]]:
    """Return the names below ``root`` of files with these inodes.

    The search visits at most ``count_max`` entries, upper directories first. It skips directories
    that cannot be read.
    """
    found: dict[int, list[tuple[str, ...]]] = {inode: [] for inode in inodes}
    pending: deque[tuple[str, ...]] = deque([()])
    while pending and count_max > 0:
        names = pending.popleft()
        with suppress(OSError):
            for name, inode, is_directory in _list_entries(root, names):
                count_max -= 1
                if inode in found:
                    found[inode].append((*names, name))
                if is_directory:
                    pending.append((*names, name))
                if count_max <= 0:
                    break
    return found


def _list_entries(root: int, names: tuple[str, ...]) -> Iterator[tuple[str, int, bool]]:
    handle = open_names(root, names, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(handle) as entries:
            for entry in entries:
                yield entry.name, entry.inode(), entry.is_dir(follow_symlinks=False)
    finally:
        os.close(handle)


def with_more_descriptors(open_more: Callable[[], T]) -> T:
    """Return the result of ``open_more``, which opens files or sockets.

    If the process has too many open files, its soft limit is raised, and the call made again.
    """
    try:
        return open_more()
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    raise_descriptor_limit(_MORE_DESCRIPTORS)
    return open_more()


def raise_descriptor_limit(count: int) -> None:
    """Raise the soft limit of open files, so that ``count`` more files can be opened.

    The hard limit stays. If it is too low, the open of a file reports it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    try:
        used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        used = soft
    needed = used + count + _SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if needed > soft:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
