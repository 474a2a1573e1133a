"""Wait for changes of a file or a directory: inotify, with a fallback to polling."""

import ctypes
import os
import select
import time

_IN_MODIFY, _IN_CREATE, _IN_MOVED_TO = 0x2, 0x100, 0x80
_IN_ATTRIB, _IN_MOVE_SELF = 0x4, 0x800  # Reported when another file takes the watched name.
_CHANGES = _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO | _IN_ATTRIB | _IN_MOVE_SELF
_EVENTS_SIZE = 1 << 14
_RECHECK_SECONDS = 1.0
"""Longest wait: inotify does not report changes that another machine makes over a network."""
_POLL_SECONDS = 0.02


class FileWatcher:
    """A watch on a path that waits for the next change. Spurious wake-ups are possible."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._descriptor = _open_inotify(os.fsencode(path))

    def __enter__(self) -> "FileWatcher":
        return self

    def __exit__(self, *_: object) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def wait(self, seconds: float | None) -> None:
        """Wait for a change, but no longer than ``seconds`` or the recheck period."""
        if self._descriptor < 0:
            # The caller's deadline may have passed since the caller checked it.
            time.sleep(_POLL_SECONDS if seconds is None else max(0.0, min(seconds, _POLL_SECONDS)))
            return
        limit = _RECHECK_SECONDS if seconds is None else max(0.0, min(seconds, _RECHECK_SECONDS))
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if poll.poll(limit * 1000):
            os.read(self._descriptor, _EVENTS_SIZE)


def _open_inotify(path: bytes) -> int:
    """Return an inotify descriptor that becomes readable when the path changes, or -1."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        descriptor: int = library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, AttributeError, TypeError):  # On Windows, CDLL(None) is a TypeError.
        return -1
    if descriptor < 0:
        return -1
    if library.inotify_add_watch(descriptor, path, _CHANGES) < 0:
        os.close(descriptor)
        return -1
    return descriptor
