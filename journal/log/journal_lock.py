"""Lock of a journal: one writer or one replacement at a time, by whatever name it was opened.

The lock is an ``flock`` of the journal's file or directory, so hard links, symbolic links and bind
mounts lead to the same lock, and the end of the process unlocks. The writer of a directory also
locks the segment that it appends to: another name of that segment leads to a lock, too.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from journal.errors import JournalLocked, OptionError
from journal.fs.open_resources import OPEN_RESOURCES, close_descriptor
from journal.log import segment_files

_TEST_SECONDS = 0.01
"""Time after which a lock that was only a test has gone."""


class JournalLock:
    """Open file or directory, and the lock on it after ``acquire``.

    A forked child does not prolong the lock, because it closes its copy of the descriptor at once.
    """

    __slots__ = ("__weakref__", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        OPEN_RESOURCES.release_in_children(self)

    @property
    def is_open(self) -> bool:
        """Return whether the lock was not released, and belongs to this process."""
        return self.descriptor >= 0

    def acquire(self, path: Path) -> None:
        """Take the lock, as ``lock`` does."""
        lock(self.descriptor, path)

    def release(self) -> None:
        """Unlock, and close the descriptor."""
        descriptor, self.descriptor = self.descriptor, -1
        unlock(descriptor)

    def _abandon(self, owner: int) -> None:
        """Close the descriptor. Unlocking would take the lock from ``owner``."""
        del owner
        descriptor, self.descriptor = self.descriptor, -1
        close_descriptor(descriptor)


def lock(descriptor: int, path: Path) -> None:
    """Lock an open file or directory, as long as it is open. ``path`` is for the message.

    Raises JournalLocked if another descriptor has the lock.
    """
    import fcntl  # Windows has no such module, and reads journals.

    for is_last in (False, True):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if is_last:
                owner = "this process" if _is_locked_here(descriptor) else "another process"
                raise JournalLocked(f"{path} is being written by {owner}", str(path)) from None
            time.sleep(_TEST_SECONDS)  # It may have been a test by ``lock_holder``.
        else:
            return


def _is_locked_here(descriptor: int) -> bool:
    """Return whether another descriptor of this process has the lock of the same file."""
    status = os.fstat(descriptor)
    with suppress(OSError):
        for entry in Path("/proc/self/fdinfo").iterdir():
            with suppress(OSError):  # It may have been closed meanwhile.
                is_same = os.path.samestat(os.fstat(int(entry.name)), status)
                if is_same and "FLOCK" in entry.read_text():
                    return True
    return False


def unlock(descriptor: int) -> None:
    """Unlock and close a descriptor, if it is one.

    Closing alone does not unlock while a child, which has not started its program yet, has a copy.
    """
    import fcntl

    if descriptor >= 0:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        close_descriptor(descriptor)


def check_not_segment(path: Path) -> None:
    """Raise OptionError if a file is a segment of a directory, or would become one.

    > Why not lock the directory? Events written through a segment would follow its seal, and a
    replaced segment breaks the chain. Only a writer of the whole directory can change segments.
    """
    target = Path(os.path.realpath(path))
    if segment_files.segment_index(target.name) is None:
        return
    names = segment_files.list_segments(target.parent) if target.parent.is_dir() else []
    if names:
        reason = f"{path} is a segment of the journal {target.parent}"
        raise OptionError(f"{reason}: open the directory instead")
