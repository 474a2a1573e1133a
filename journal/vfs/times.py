"""A request of a guest to set the times of a file."""

from typing import NamedTuple

from journal.events.paths import TimeFlags
from journal.vfs.errors import FileError
from journal.wasi_abi import Errno

_ATIME, _ATIME_NOW, _MTIME, _MTIME_NOW = map(int, TimeFlags)


class TimeUpdate(NamedTuple):
    """Requested times of a file, in nanoseconds since the epoch.

    ``flags`` select the times to set, and whether to the requested or to the present time.
    """

    atime: int
    mtime: int
    flags: int

    def resolve(self, now: int, atime: int, mtime: int) -> tuple[int, int]:
        """Return the new times of a file that has the times ``atime`` and ``mtime``."""
        if self.flags & _ATIME_NOW:
            atime = now
        elif self.flags & _ATIME:
            atime = self.atime
        if self.flags & _MTIME_NOW:
            mtime = now
        elif self.flags & _MTIME:
            mtime = self.mtime
        return atime, mtime


def make_time_update(atime: int, mtime: int, flags: int) -> TimeUpdate:
    """Return the requested times; raise ``FileError`` with ``INVAL`` for contradictory flags."""
    if any(flags & pair == pair for pair in (_ATIME | _ATIME_NOW, _MTIME | _MTIME_NOW)):
        raise FileError(Errno.INVAL, "the time flags {} contradict each other", flags)
    return TimeUpdate(atime, mtime, flags)
