"""Waiting for a file or a directory to change: inotify, and looking again where it is not told."""

import ctypes
import os
import select
import time

_IN_MODIFY, _IN_CREATE, _IN_MOVED_TO = 0x2, 0x100, 0x80
_IN_ATTRIB, _IN_MOVE_SELF = 0x4, 0x800  # as when another has taken its name
_CHANGES = _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO | _IN_ATTRIB | _IN_MOVE_SELF
_EVENTS_SIZE = 1 << 14
_LOOK_SECONDS = 1.0
"""Changes made on another machine's side of a network are not told: look as often as this."""
_POLL_SECONDS = 0.02


class FileWatcher:
    """Tells that something changed since it was last asked; it may say so when nothing did."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._descriptor = _open_inotify(os.fsencode(path))

    def __enter__(self) -> "FileWatcher":
        return self

    def __exit__(self, *_: object) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def wait(self, seconds: float | None) -> None:
        """Return when something changed, or after so many seconds, or to have a look anyway."""
        if self._descriptor < 0:
            time.sleep(_POLL_SECONDS if seconds is None else min(seconds, _POLL_SECONDS))
            return
        limit = _LOOK_SECONDS if seconds is None else max(0.0, min(seconds, _LOOK_SECONDS))
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        if waiting.poll(limit * 1000):
            os.read(self._descriptor, _EVENTS_SIZE)


def _open_inotify(path: bytes) -> int:
    """Give a descriptor that can be read when the path changes; -1 where there is no inotify."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        descriptor: int = library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, AttributeError):
        return -1
    if descriptor < 0:
        return -1
    if library.inotify_add_watch(descriptor, path, _CHANGES) < 0:
        os.close(descriptor)
        return -1
    return descriptor
