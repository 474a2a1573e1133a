"""Descriptors of the host that an epoll set of the guest watches, in an epoll instance of the host.

The kernel keeps their edges, so an edge of a socket of the host is exactly Linux's.
"""

import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from journal.engine.wasi.objects.epoll_watch import EpollWatch


class HostWatches:
    """The watches of one epoll set that have a descriptor of the host.

    The instance of the host exists from the first watch on. The host knows a descriptor once, so a
    second watch of the same one has a copy of it.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._watch_of: dict[int, EpollWatch] = {}
        self._fd_of: dict[
            EpollWatch, tuple[int, int]
        ] = {}  # The watched descriptor and its original.

    def __contains__(self, watch: "EpollWatch") -> bool:
        return watch in self._fd_of

    def __len__(self) -> int:
        return len(self._fd_of)

    def fileno(self) -> int | None:
        """Return the descriptor of the instance, which is readable when a watch has an event."""
        return None if self._epoll is None else self._epoll.fileno()

    def put(self, watch: "EpollWatch", fd: int, mask: int) -> None:
        """Watch ``fd`` for the events of ``mask``, from now on and with a new edge.

        Raises ``OSError`` if the host does not watch such a descriptor, or no more.
        """
        current, original = self._fd_of.get(watch, (-1, -1))
        if self._epoll is None:
            self._epoll = select.epoll()
        if original == fd:
            try:
                self._epoll.modify(current, mask)
                return
            except FileNotFoundError:  # Another file has the same number now.
                pass
        self.remove(watch)
        copied = os.dup(fd) if fd in self._watch_of else fd
        try:
            self._epoll.register(copied, mask)
        except OSError:
            if copied != fd:
                os.close(copied)
            raise
        self._watch_of[copied], self._fd_of[watch] = watch, (copied, fd)

    def remove(self, watch: "EpollWatch") -> None:
        """Stop to watch the descriptor of ``watch``, if it has one. It may be closed already."""
        fd, original = self._fd_of.pop(watch, (-1, -1))
        if self._watch_of.get(fd) is not watch:
            return
        del self._watch_of[fd]
        if self._epoll is not None:
            with suppress(OSError):  # The host has forgotten a descriptor that was closed.
                self._epoll.unregister(fd)
        if fd != original:
            os.close(fd)

    def has_events(self) -> bool:
        """Return whether a watch has an event. Consumes no edge."""
        if self._epoll is None or not self._fd_of:
            return False
        poll = select.poll()
        poll.register(self._epoll.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def take_events(self, count: int) -> "list[tuple[EpollWatch, int]]":
        """Return at most ``count`` watches and their events, in the order of the host."""
        if self._epoll is None or not self._fd_of:
            return []
        found = self._epoll.poll(0, count)
        return [(self._watch_of[fd], mask) for fd, mask in found if fd in self._watch_of]

    def close(self) -> None:
        """Forget all watches and close the instance of the host."""
        for fd, original in self._fd_of.values():
            if fd != original:
                os.close(fd)
        self._fd_of.clear()
        self._watch_of.clear()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
