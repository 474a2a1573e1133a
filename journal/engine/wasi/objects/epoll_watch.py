"""Watches of epoll sets: one watched descriptor of a set, and the state of its open object."""

from typing import Protocol

from journal.engine.wasi.channel import (
    ALWAYS_WATCHED,
    ANY_EVENT,
    NOT_READY,
    ByteChannel,
    Readiness,
)
from journal.engine.wasi.descriptors import InputStream, OutputStream
from journal.events.descriptors import EpollEvent

#: Flags of a watch beside its events: report only changes; report one event, then nothing.
EDGE, ONESHOT = 64, 128

_EVENTS, _ALWAYS = int(ANY_EVENT), int(ALWAYS_WATCHED)
_HOST_EDGE, _HOST_ONESHOT = 1 << 31, 1 << 30

Watchable = ByteChannel | InputStream | OutputStream


class WatchSet(Protocol):
    """The epoll set of a watch."""

    def queue(self, watch: "EpollWatch", reached: set[int], *, is_changed: bool) -> None:
        """Let the next wait examine ``watch``, and tell the sets that watch this one."""

    def drop(self, watch: "EpollWatch") -> None:
        """End a watch."""

    def replace(self, watch: "EpollWatch", target: ByteChannel) -> None:
        """Watch another channel in place of the object of ``watch``."""


class EpollWatch:
    """One watched descriptor of an epoll set: Linux's epitem.

    ``event`` is what the guest gave: the events and its data. A one-shot watch that has reported
    is not ``is_enabled`` until the guest modifies it.
    """

    __slots__ = ("epoll", "event", "fd", "is_enabled", "target", "wanted")

    def __init__(self, epoll: WatchSet, fd: int, target: Watchable, event: EpollEvent) -> None:
        self.epoll, self.fd, self.target = epoll, fd, target
        self.set_event(event)

    def set_event(self, event: EpollEvent) -> None:
        """Watch for other events, and enable the watch."""
        self.event, self.is_enabled = event, True
        self.wanted = event.events & _EVENTS | _ALWAYS  # An operation on an enum flag is slow.

    def find_events(self) -> int:
        """Return which wanted events the object has now."""
        return int(get_readiness(self.target)) & self.wanted if self.is_enabled else 0

    @property
    def is_exact(self) -> bool:
        """Return whether the host knows the events of an object that it watches.

        Otherwise its descriptor only hints that the state of the object may have changed.
        """
        return isinstance(self.target, ByteChannel) and self.target.is_exact

    def on_events(self, events: Readiness, reached: set[int]) -> None:
        """Queue the watch, because ``events`` have come. See ``ByteChannel.announce``."""
        if self.is_enabled and int(events) & self.wanted:
            self.epoll.queue(self, reached, is_changed=events == ANY_EVENT)

    def on_close(self) -> None:
        """End the watch, because the last descriptor of the object was closed."""
        self.epoll.drop(self)

    def on_replacement(self, channel: ByteChannel) -> None:
        """Watch ``channel``, which has taken the place of the watched channel."""
        self.epoll.replace(self, channel)

    def get_host_events(self) -> list[tuple[int, int]]:
        """Return the descriptors of the host to watch, each with its events of ``select.poll``."""
        target = self.target
        if isinstance(target, ByteChannel):
            return target.watch_events(Readiness(self.wanted))
        if isinstance(target, InputStream) and not target.source.is_rereadable:
            return target.source.poll_events()
        return []

    def to_host_mask(self, events: int) -> int:
        """Return the events of ``select.epoll``, given those of ``select.poll``."""
        events |= _HOST_EDGE if self.event.events & EDGE else 0
        return events | (_HOST_ONESHOT if self.event.events & ONESHOT and self.is_exact else 0)


def get_readiness(target: Watchable) -> Readiness:
    """Return what the guest could do with an open object now without waiting."""
    if isinstance(target, ByteChannel):
        return target.readiness()
    if isinstance(target, OutputStream):
        return Readiness.WRITABLE
    return Readiness.READABLE if target.source.is_ready() else NOT_READY
