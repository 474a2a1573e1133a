"""Differences between operating systems: all can read journals, and only Linux can write them."""

import os
import sys

from journal.errors import OptionError

NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
"""Flag of ``os.open`` that refuses symbolic links, or 0 on a system without it."""
OPEN_FLAGS: int = sum(getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK"))
"""Flags of each ``os.open`` for reading, as far as the system has them; O_RDONLY is 0."""
HAS_DIRECTORY_DESCRIPTORS = hasattr(os, "O_DIRECTORY")
"""Whether a directory can be opened, and a file be opened relative to it. Windows cannot."""

_WRITING = ("fdatasync", "posix_fadvise", "posix_fallocate", "pwrite", "pwritev")
_MISSING = [name for name in _WRITING if not hasattr(os, name)]


def find_interpreter() -> str | None:
    """Return the path of the Python interpreter that can run a worker process, or None.

    In a frozen program, ``sys.executable`` is the program, which a worker would start again.
    """
    return None if getattr(sys, "frozen", False) else sys.executable or None


def require_linux(action: str) -> None:
    """Raise OptionError unless this system has what writing needs; ``action`` begins the message.

    > Why OptionError? No disk refused a write: the request does not fit the system.
    """
    if _MISSING:
        raise OptionError(f"{action} needs Linux: this system has no os.{_MISSING[0]}")
