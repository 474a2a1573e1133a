"""Channels: open objects through which bytes pass, such as pipe ends and sockets."""

import fcntl
import select
import struct
import termios
from collections.abc import Iterable, MutableMapping
from enum import IntFlag
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from journal.events.paths import FileType
from journal.wasi_abi import RIGHTS_SOCKET, Errno, Rights, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext


class Readiness(IntFlag):
    """State of an open object, with the bits of WASIX's epoll."""

    READABLE = 1
    WRITABLE = 2
    READ_HANGUP = 4
    """The peer will send no more bytes."""
    ERROR = 16
    HANGUP = 32
    """The peer has closed its end."""


NOT_READY = Readiness(0)
ANY_EVENT = Readiness(63)
"""All events at once, with those of WASIX that no channel has."""
ALWAYS_WATCHED = Readiness.ERROR | Readiness.HANGUP
"""Events that are reported whether the guest wants them or not, as on Linux."""

_SIZE = struct.Struct("i")


class WaitSource(Protocol):
    """A condition that a guest waits for.

    Whoever makes it true without a descriptor of the host wakes the interrupter of the guest.
    """

    def is_ready(self) -> bool:
        """Return whether the guest can continue."""

    def poll_events(self) -> list[tuple[int, int]]:
        """Return the descriptors of the host to watch, each with its events of ``select.poll``."""


class ChannelState(NamedTuple):
    """Contents of a channel inside the guest, as a snapshot stores them.

    The fields are those of :class:`journal.events.snapshots.DescriptorContents`.
    """

    value: int
    flags: int
    parts: tuple[bytes, ...]


class ByteChannel:
    """An open object through which bytes pass. All descriptors that refer to it share it.

    A method that needs inputs, or has effects, takes them from the tape of ``context``. A subclass
    overrides what its kind supports.
    """

    filetype: ClassVar[FileType] = FileType.UNKNOWN
    rights: ClassVar[Rights] = RIGHTS_SOCKET
    flags: int = 0
    """WASI's fdflags."""
    is_exact: ClassVar[bool] = True
    """Whether the events of :meth:`watch_events` are the state; otherwise they are only a hint."""
    watchers: "MutableMapping[ChannelWatcher, None]" = MappingProxyType({})  # type: ignore[assignment]
    """Watches of epoll sets that have this channel. :func:`add_watcher` adds one."""

    def announce(self, events: Readiness = ANY_EVENT) -> None:
        """Tell the epoll sets that have this channel that ``events`` have come.

        An object inside the guest calls it each time: a second write is a second edge, although
        the channel was readable before. A socket of the host calls it when its descriptor of the
        host is another one, or none.
        """
        if self.watchers:
            reached: set[int] = set()
            for watcher in tuple(self.watchers):
                watcher.on_events(events, reached)

    def read(self, context: "CallContext", fd: int, size_max: int) -> bytes:
        """Return bytes for fd_read, at most ``size_max``; wait for them unless NONBLOCK is set."""
        raise WasiError(Errno.BADF)

    def write(self, context: "CallContext", fd: int, data: bytes) -> int:
        """Accept bytes of fd_write and return how many; wait for room unless NONBLOCK is set."""
        raise WasiError(Errno.BADF)

    def readiness(self) -> Readiness:
        """Return what the guest could do now without waiting. A live guest only."""
        return NOT_READY

    def poll_events(self, wanted: Readiness) -> list[tuple[int, int]]:
        """Return the descriptors of the host by which ``wanted`` can come true; none inside the
        guest.

        With descriptors, their events are the state of the channel: nothing asks ``readiness``.
        """
        return []

    def watch_events(self, wanted: Readiness) -> list[tuple[int, int]]:
        """Return the descriptors of the host that an epoll set watches: those of
        :meth:`poll_events`, at any time.
        """
        return self.poll_events(wanted)

    def available_size(self) -> int:
        """Return how many bytes can be read without waiting; 1 if only a read can tell."""
        for fd, _ in self.poll_events(Readiness.READABLE):
            try:
                return int(_SIZE.unpack(fcntl.ioctl(fd, termios.FIONREAD, bytes(_SIZE.size)))[0])
            except OSError:  # A listening socket.
                break
        return 1

    def buffered_size(self) -> int:
        """Return the size of the memory of this process that holds bytes for the guest."""
        return 0

    def save(self) -> ChannelState | None:
        """Return the contents for a snapshot; None if the effects of the guest determine them."""
        return None

    def load(self, state: ChannelState) -> None:
        """Restore contents. Raises ``ValueError`` for contents that this channel cannot have."""
        raise ValueError("this descriptor has no contents")

    def close(self) -> None:
        """Release the resources of the host: the last descriptor was closed."""

    def release_host(self) -> None:
        """Release the resources of the host, because the session ends."""


class ChannelWatcher(Protocol):
    """A watch of an epoll set on an open object."""

    def on_events(self, events: Readiness, reached: set[int]) -> None:
        """Note that ``events`` have come. ``reached`` are the epoll sets that know it already."""

    def on_close(self) -> None:
        """End the watch, because the last descriptor of the object was closed."""

    def on_replacement(self, channel: ByteChannel) -> None:
        """Watch ``channel``, which has taken the place of the watched channel."""


class Watched(Protocol):
    """An open object that an epoll set can watch."""

    watchers: MutableMapping[ChannelWatcher, None]


def add_watcher(target: Watched, watcher: ChannelWatcher) -> None:
    """Let ``watcher`` know the events of an object from now on."""
    if not target.watchers:
        target.watchers = {}
    target.watchers[watcher] = None


class ChannelWait:
    """Wait until one of several channels has one of the wanted events, or a source is ready."""

    def __init__(
        self,
        wanted: Iterable[tuple[ByteChannel, Readiness]],
        sources: Iterable[WaitSource] = (),
    ) -> None:
        self._wanted, self._sources = list(wanted), list(sources)

    def is_ready(self) -> bool:
        """Return whether a channel has one of its events, or a source is ready."""
        return any(source.is_ready() for source in self._sources) or any(self.find_events())

    def find_events(self) -> list[Readiness]:
        """Return for each channel the wanted events that it has, with errors and hang-ups."""
        watched = [channel.poll_events(events) for channel, events in self._wanted]
        poll = make_poll(each for descriptors in watched for each in descriptors)
        masks = dict(poll.poll(0)) if any(watched) else {}
        found = []
        for (channel, events), descriptors in zip(self._wanted, watched, strict=True):
            state = NOT_READY if descriptors else channel.readiness()
            for fd, _ in descriptors:
                state |= from_poll_mask(masks.get(fd, 0))
            found.append(state & (events | ALWAYS_WATCHED))
        return found

    def poll_events(self) -> list[tuple[int, int]]:
        """Return the descriptors of the host by which an event can come."""
        watched = [each for channel, events in self._wanted for each in channel.poll_events(events)]
        return watched + [each for source in self._sources for each in source.poll_events()]


def make_poll(watched: Iterable[tuple[int, int]]) -> select.poll:
    """Return a poll object of the host. A descriptor that occurs twice has both masks."""
    masks: dict[int, int] = {}
    for fd, mask in watched:
        masks[fd] = masks.get(fd, 0) | mask
    poll = select.poll()
    for fd, mask in masks.items():
        poll.register(fd, mask)
    return poll


def to_poll_mask(wanted: Readiness) -> int:
    """Return the events of ``select.poll`` for a descriptor of the host."""
    mask = select.POLLIN if wanted & Readiness.READABLE else 0
    mask |= select.POLLOUT if wanted & Readiness.WRITABLE else 0
    return mask | (select.POLLRDHUP if wanted & Readiness.READ_HANGUP else 0)


def from_poll_mask(mask: int) -> Readiness:
    """Return the state of a descriptor of the host, from its events of ``select.poll``."""
    found = NOT_READY
    for bit, each in _FROM_POLL:
        if mask & bit:
            found |= each
    return found


_FROM_POLL = (
    (select.POLLIN, Readiness.READABLE),
    (select.POLLOUT, Readiness.WRITABLE),
    (select.POLLRDHUP, Readiness.READ_HANGUP),
    (select.POLLERR, Readiness.ERROR),
    (select.POLLHUP, Readiness.HANGUP),
    (select.POLLNVAL, Readiness.ERROR),  # Nothing would ever end a wait for it.
)
