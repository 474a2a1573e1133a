"""Process that holds the lock of a journal, as far as the system tells who it is."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LOCK_KIND = ("FLOCK", "ADVISORY", "WRITE")
UNKNOWN_PROCESS = 0
"""Id of a process that is not known, as that of a process in another container."""


def find_writer(path: Path) -> int | None:
    """Return the id of the process that writes the journal at ``path``, or None if none does.

    The id is ``UNKNOWN_PROCESS`` if the journal is locked by a process that cannot be seen here.
    """
    status = path.stat()
    for pid in find_lock_holders(status.st_ino):
        with suppress(FileNotFoundError):  # The process has just ended.
            if has_locked(pid, status):
                return pid
    return UNKNOWN_PROCESS if _is_locked(path) else None


def has_locked(pid: int, status: os.stat_result) -> bool:
    """Return whether a process holds a lock of the file with this status.

    Also true if the process belongs to another user, which hides its files. Raises
    FileNotFoundError if the process has ended.
    """
    try:
        descriptors = list(find_locked_descriptors(pid))
        files = [_PROC / str(pid) / "fd" / descriptor for descriptor in descriptors]
        return any(os.path.samestat(file.stat(), status) for file in files)
    except PermissionError:
        return True


def find_lock_holders(inode: int) -> Iterator[int]:
    """Yield the processes that lock a file with this inode number, on any file system."""
    with suppress(FileNotFoundError):  # Other systems have no such list.
        for line in (_PROC / "locks").read_text().splitlines():
            _, *kind, pid, place, _, _ = line.split()
            is_same_file = place.rpartition(":")[2] == str(inode)
            if tuple(kind) == _LOCK_KIND and is_same_file and int(pid) > 0:
                yield int(pid)


def find_locked_descriptors(pid: int) -> Iterator[str]:
    """Yield the descriptors through which a process holds locks."""
    folder = _PROC / str(pid) / "fdinfo"
    for descriptor in sorted(os.listdir(folder), key=int):  # noqa: PTH208 # Only names are needed.
        with suppress(FileNotFoundError):  # The descriptor was closed in the meantime.
            for line in (folder / descriptor).read_text().splitlines():
                name, _, value = line.partition(":")
                if name == "lock" and tuple(value.split()[1:4]) == _LOCK_KIND:
                    yield descriptor


def _is_locked(path: Path) -> bool:
    """Return whether a file or directory is locked.

    The test takes a shared lock for a moment. ``journal_lock.lock`` waits longer than that.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows has no locks of this kind, and no writers.
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
