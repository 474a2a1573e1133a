"""Lock of a journal: one writer or one replacement at a time, by whatever name it was opened.

The lock is an ``flock`` of the journal's file or directory, so hard links, symbolic links and bind
mounts lead to the same lock. The writer of a directory also locks the segment that it appends to:
another name of that segment leads to a lock, too.
"""

import os
from pathlib import Path

from journal.errors import JournalLocked, OptionError
from journal.log import segment_files


def lock(descriptor: int, path: Path) -> None:
    """Lock an open file or directory, as long as it is open. ``path`` is for the message.

    Raises JournalLocked if another descriptor has the lock.
    """
    import fcntl  # Windows has no such module, and reads journals.

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalLocked(f"{path} is being written by another process") from None


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
