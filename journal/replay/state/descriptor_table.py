"""Descriptor table of a guest, as far as events determine it.

Reads leave no event: the position of a descriptor is the result of opens, writes and seeks, or the
position in a snapshot.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from journal.events.definition import Event
from journal.events.descriptors import EpollEvent
from journal.events.paths import FileType
from journal.events.sockets import Shutdown, SocketType
from journal.replay.limits import ReplayError, check_count
from journal.vfs.backend import BackendFile
from journal.vfs.descriptor_table import DescriptorTable
from journal.vfs.directory import MountDirectory
from journal.wasi_abi import Errno

STREAMS = (0, 1, 2)
"""Descriptors that every guest has: standard input, output and error."""


@dataclass(slots=True)
class StandardStream:
    """A standard stream."""

    number: int


class OpenMountFile:
    """An open file of a mount in memory."""

    __slots__ = ("file",)

    def __init__(self, file: BackendFile) -> None:
        self.file = file


class OpenMountDirectory:
    """An open directory of a mount in memory. ``preopen`` is its name if a mount opened it."""

    __slots__ = ("directory", "preopen")

    def __init__(self, directory: MountDirectory[Any], preopen: str | None = None) -> None:
        self.directory, self.preopen = directory, preopen


@dataclass(slots=True)
class HostNode:
    """A file or a directory of the guest's former host, whose contents are not in the journal.

    ``size`` is the size that the guest last received or set. In a journal without host results an
    open is assumed to have succeeded, and ``is_certain`` is false.
    """

    kind: FileType
    preopen: str | None = None
    size: int | None = None
    is_certain: bool = True


@dataclass(slots=True)
class Pipe:
    """A pipe, with the number of bytes written to it."""

    written: int = 0


@dataclass(slots=True)
class PipeEnd:
    """One end of a pipe."""

    pipe: Pipe
    is_write_end: bool


@dataclass(slots=True)
class EventCounter:
    """An event counter, with its initial value."""

    initial: int
    flags: int


@dataclass(slots=True)
class Epoll:
    """An epoll instance, with its watches.

    As on Linux, a watch belongs to an open object and to the number of the descriptor with which it
    was added. It ends with the last descriptor of the object. The object is None in a journal of
    another engine that watches a number which is not open.
    """

    watches: "dict[Watch, EpollEvent | None]" = field(default_factory=dict)


@dataclass(slots=True)
class SocketState:
    """A socket, with the events that created, bound and connected it.

    ``requested`` is the last request for a connection, unless it has failed: then the socket of a
    stream ``is_refused`` until it requests another connection. ``options`` has the last event that
    set each option, ``groups`` the multicast groups of the socket. ``has_sent`` says whether a
    datagram was sent, so that the host has chosen a port. ``is_certain`` is false if the journal of
    this library has no host results, so that the socket may not exist. A socket ``is_inside`` the
    guest if no host takes part in it: its requests have no host results.

    ``sent`` and ``received`` count bytes; ``sent`` those that the host accepted. ``error`` is the
    last error of a connection, a send or a receive, 0 without one. These three say what has
    happened, and no later event depends on them.
    """

    created_by: Event
    is_certain: bool = True
    bound: Event | None = None
    requested: Event | None = None
    is_refused: bool = False
    connected: Event | None = None
    listening: Event | None = None
    options: dict[tuple[int, int], Event] = field(default_factory=dict)
    groups: dict[tuple[object, object], None] = field(default_factory=dict)
    shut: set[Shutdown] = field(default_factory=set)
    has_sent: bool = False
    is_inside: bool = False
    sent: int = 0
    received: int = 0
    error: int = 0

    @property
    def is_datagram(self) -> bool:
        """Return whether the socket transfers messages without a connection."""
        return getattr(self.created_by, "ty", SocketType.STREAM) is SocketType.DGRAM

    @property
    def is_lost(self) -> bool:
        """Return whether the last error says that the connection is lost.

        The peer reset the connection, or a resume could not continue it.
        """
        return self.error == Errno.CONNRESET

    def refuse(self) -> None:
        """Record that a request for a connection has failed."""
        if not self.is_datagram:  # A datagram socket keeps its peer.
            self.requested, self.is_refused = None, True

    def record_error(self, errno: int) -> None:
        """Record the error of a call. A call that would only have to wait has not failed."""
        if errno not in _NOT_FAILED:
            self.error = errno


_NOT_FAILED = frozenset((0, Errno.AGAIN, Errno.INPROGRESS, Errno.INTR))


class Watch(NamedTuple):
    """Key of a watch: the number of the descriptor, and the watched object."""

    fd: int
    target: "OpenFileDescription | None"


OpenObject = (
    StandardStream
    | OpenMountFile
    | OpenMountDirectory
    | HostNode
    | PipeEnd
    | EventCounter
    | Epoll
    | SocketState
)
T = TypeVar(
    "T",
    StandardStream,
    OpenMountFile,
    OpenMountDirectory,
    HostNode,
    PipeEnd,
    EventCounter,
    Epoll,
    SocketState,
)

_KIND_NAMES: dict[type[OpenObject], str] = {
    StandardStream: "a standard stream",
    OpenMountFile: "a file",
    OpenMountDirectory: "a directory",
    HostNode: "a file or directory of the host",
    PipeEnd: "a pipe",
    EventCounter: "an event counter",
    Epoll: "an epoll instance",
    SocketState: "a socket",
}


class OpenFileDescription:
    """An open file description, as in POSIX: duplicates share it, with its position and fdflags.

    ``position`` is None if only the guest knows it. ``watchers`` are the epoll instances that watch
    the object, each with the number of the watched descriptor; None if there never was one.
    """

    __slots__ = ("entry_count", "flags", "object", "position", "watchers")

    def __init__(self, open_object: OpenObject, flags: int = 0) -> None:
        self.object, self.flags, self.entry_count = open_object, flags, 0
        self.position: int | None = 0
        self.watchers: dict[tuple[OpenFileDescription, int], None] | None = None


class DescriptorEntry:
    """An entry of the descriptor table. ``fd_flags`` 1 is close-on-exec.

    ``rights`` are the base rights and the inheriting rights.
    """

    __slots__ = ("description", "fd_flags", "rights")

    def __init__(
        self, description: OpenFileDescription, fd_flags: int = 0, rights: tuple[int, int] = (0, 0)
    ) -> None:
        self.description, self.fd_flags, self.rights = description, fd_flags, rights


class ReplayTable(DescriptorTable[DescriptorEntry]):
    """The descriptors of one process in a replay, initially the standard streams."""

    def __init__(self) -> None:
        super().__init__(self._release)
        self.open_streams()

    def open_streams(self) -> None:
        """Open the standard streams."""
        for stream in STREAMS:
            self.add(stream, StandardStream(stream))

    def description(self, fd: int) -> OpenFileDescription:
        """Return the open file description of ``fd``."""
        return self.entry(fd).description

    def object_of(self, fd: int, kind: type[T]) -> T:
        """Return the open object of ``fd``. Raises ReplayError for another type than ``kind``."""
        open_object = self.description(fd).object
        if not isinstance(open_object, kind):
            raise ReplayError(
                f"descriptor {fd} is {_KIND_NAMES[type(open_object)]}, not {_KIND_NAMES[kind]}"
            )
        return open_object

    def directory(self, fd: int) -> MountDirectory[Any] | None:
        """Return the directory of ``fd``, or None if it belongs to the former host."""
        open_object = self.description(fd).object
        if isinstance(open_object, HostNode) and open_object.kind is not FileType.REGULAR_FILE:
            return None
        return self.object_of(fd, OpenMountDirectory).directory

    def check_free(self, fd: int) -> None:
        """Raise ReplayError if ``fd`` is in use or the table is full."""
        entry = self.entries.get(fd)
        if entry is None:
            check_count("descriptors", len(self.entries) + 1)
            return
        open_object = entry.description.object
        if not isinstance(open_object, (HostNode, SocketState)) or open_object.is_certain:
            raise ReplayError(f"descriptor {fd} is already open")

    def add(
        self,
        fd: int,
        open_object: OpenObject,
        *,
        flags: int = 0,
        fd_flags: int = 0,
        rights: tuple[int, int] = (0, 0),
    ) -> None:
        """Add a descriptor ``fd`` for ``open_object``, at position 0."""
        self.check_free(fd)
        self._put(fd, DescriptorEntry(OpenFileDescription(open_object, flags), fd_flags, rights))

    def duplicate(self, original: int, copied: int, fd_flags: int) -> None:
        """Make the descriptor ``copied`` a duplicate of ``original``."""
        entry = self.entry(original)
        self.check_free(copied)
        self._put(copied, DescriptorEntry(entry.description, fd_flags, entry.rights))

    def number_descriptions(self) -> dict[OpenFileDescription, int]:
        """Return the open file descriptions, numbered in the order of their first descriptors."""
        numbers: dict[OpenFileDescription, int] = {}
        for _, entry in self:
            numbers.setdefault(entry.description, len(numbers))
        return numbers

    def find_watch(self, fd: int) -> Watch:
        """Return the key of a watch of ``fd``."""
        return Watch(fd, self.description(fd) if fd in self.entries else None)

    def put_watch(self, epfd: int, fd: int, event: EpollEvent | None) -> None:
        """Let the epoll instance ``epfd`` watch ``fd``, or change how it does."""
        watches, watch = self.object_of(epfd, Epoll).watches, self.find_watch(fd)
        check_count("watched descriptors", len(watches) + (watch not in watches))
        watches[watch] = event
        if watch.target is not None:
            watch.target.watchers = watch.target.watchers or {}
            watch.target.watchers[self.description(epfd), fd] = None

    def end_watch(self, epoll: OpenFileDescription, watch: Watch) -> None:
        """End a watch of an epoll instance, if it exists."""
        assert isinstance(epoll.object, Epoll)
        epoll.object.watches.pop(watch, None)
        if watch.target is not None and watch.target.watchers is not None:
            watch.target.watchers.pop((epoll, watch.fd), None)

    def _put(self, fd: int, entry: DescriptorEntry) -> None:
        entry.description.entry_count += 1
        self.entries[fd] = entry

    def _release(self, fd: int, entry: DescriptorEntry) -> None:
        """Close the open object of ``entry`` if no duplicate of the descriptor remains."""
        description = entry.description
        description.entry_count -= 1
        if description.entry_count:
            return
        if isinstance(description.object, OpenMountFile):
            description.object.file.close()
        elif isinstance(description.object, OpenMountDirectory):
            description.object.directory.close()
        elif isinstance(description.object, Epoll):
            for watch in list(description.object.watches):
                self.end_watch(description, watch)
        for epoll, number in list(description.watchers or ()):
            self.end_watch(epoll, Watch(number, description))
