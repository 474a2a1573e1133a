"""What a guest's descriptors stand for, as far as events say.

Reads leave no event: a position is where opening, writing and seeking left it, or where a snapshot
has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from journal.events.definition import Event
from journal.events.descriptors import EpollEvent
from journal.events.paths import FileType
from journal.events.sockets import Shutdown
from journal.replay.filesystem.directory_ops import BackendFile, MountDirectory
from journal.replay.limits import ReplayError, check_count

STREAMS = (0, 1, 2)
"""The descriptors that every guest has: standard input, output and error."""


@dataclass(slots=True)
class StandardStream:
    """A standard stream."""

    number: int


class OpenMountFile:
    """A file that the host keeps."""

    __slots__ = ("file",)

    def __init__(self, file: BackendFile) -> None:
        self.file = file


class OpenMountDirectory:
    """A directory that the host keeps; ``preopen`` is its name if the guest has it by a mount."""

    __slots__ = ("directory", "preopen")

    def __init__(self, directory: MountDirectory[Any], preopen: str | None = None) -> None:
        self.directory, self.preopen = directory, preopen


@dataclass(slots=True)
class HostNode:
    """A file or a directory of the guest's former host: what is in it is not in the journal.

    ``size`` is what the guest was told last, or made of it. Where a journal has no answers, an
    opening is taken for done: then it is not ``certain``.
    """

    kind: FileType
    preopen: str | None = None
    size: int | None = None
    is_certain: bool = True


@dataclass(slots=True)
class Pipe:
    """A pipe: how many bytes were written to it."""

    written: int = 0


@dataclass(slots=True)
class PipeEnd:
    """One end of a pipe."""

    pipe: Pipe
    is_write_end: bool


@dataclass(slots=True)
class EventCounter:
    """A counter to wait on, as it began."""

    initial: int
    flags: int


@dataclass(slots=True)
class Epoll:
    """What is watched, by descriptor."""

    watched: dict[int, EpollEvent | None] = field(default_factory=dict)


@dataclass(slots=True)
class SocketState:
    """A socket, by the events that say what it is: how it was made, bound and connected.

    ``options`` are the last events that set each, ``groups`` the multicast groups it is in;
    ``sent`` counts bytes. Where a journal of ours has no answers, it is not ``certain`` that there
    is one.
    """

    created_by: Event
    is_certain: bool = True
    bound: Event | None = None
    connected: Event | None = None
    listening: Event | None = None
    options: dict[tuple[int, int], Event] = field(default_factory=dict)
    groups: dict[tuple[object, object], None] = field(default_factory=dict)
    shut: set[Shutdown] = field(default_factory=set)
    sent: int = 0


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
    HostNode: "of the host",
    PipeEnd: "a pipe",
    EventCounter: "a counter",
    Epoll: "an epoll",
    SocketState: "a socket",
}


class OpenFileDescription:
    """What one or more numbers stand for: duplicates share it, with its position and fdflags.

    ``position`` is None where only the guest knows.
    """

    __slots__ = ("entry_count", "flags", "object", "position")

    def __init__(self, thing: OpenObject, flags: int = 0) -> None:
        self.object, self.flags, self.entry_count = thing, flags, 0
        self.position: int | None = 0


class DescriptorEntry:
    """One number: ``fd_flags`` 1 is close-on-exec; ``rights`` are its own and the inheriting."""

    __slots__ = ("description", "fd_flags", "rights")

    def __init__(
        self, description: OpenFileDescription, fd_flags: int = 0, rights: tuple[int, int] = (0, 0)
    ) -> None:
        self.description, self.fd_flags, self.rights = description, fd_flags, rights


class DescriptorTable:
    """The descriptors of one process; it begins with the standard streams."""

    def __init__(self) -> None:
        self.entries: dict[int, DescriptorEntry] = {}
        self.open_streams()

    def open_streams(self) -> None:
        """Open what every process has."""
        for stream in STREAMS:
            self.add(stream, StandardStream(stream))

    def entry(self, fd: int) -> DescriptorEntry:
        """What stands at ``fd``."""
        found = self.entries.get(fd)
        if found is None:
            raise ReplayError(f"descriptor {fd} is not open")
        return found

    def description(self, fd: int) -> OpenFileDescription:
        """What ``fd`` stands for, with its position."""
        return self.entry(fd).description

    def object_of(self, fd: int, kind: type[T]) -> T:
        """What ``fd`` stands for, which must be of one kind."""
        found = self.description(fd).object
        if not isinstance(found, kind):
            raise ReplayError(
                f"descriptor {fd} is {_KIND_NAMES[type(found)]}, not {_KIND_NAMES[kind]}"
            )
        return found

    def directory(self, fd: int) -> MountDirectory[Any] | None:
        """The directory at ``fd``; None where it is one of the former host."""
        found = self.description(fd).object
        if isinstance(found, HostNode) and found.kind is not FileType.REGULAR_FILE:
            return None
        return self.object_of(fd, OpenMountDirectory).directory

    def check_free(self, fd: int) -> None:
        """Refuse a number that is in use."""
        found = self.entries.get(fd)
        if found is None:
            check_count("descriptors", len(self.entries) + 1)
            return
        thing = found.description.object
        if not isinstance(thing, (HostNode, SocketState)) or thing.is_certain:
            raise ReplayError(f"descriptor {fd} is open already")

    def add(
        self,
        fd: int,
        thing: OpenObject,
        *,
        flags: int = 0,
        fd_flags: int = 0,
        rights: tuple[int, int] = (0, 0),
    ) -> None:
        """Open ``thing`` at ``fd``, at its beginning."""
        self.check_free(fd)
        self._put(fd, DescriptorEntry(OpenFileDescription(thing, flags), fd_flags, rights))

    def duplicate(self, original: int, copied: int, fd_flags: int) -> None:
        """Let ``copied`` stand for the same as ``original``."""
        found = self.entry(original)
        self.check_free(copied)
        self._put(copied, DescriptorEntry(found.description, fd_flags, found.rights))

    def renumber(self, old: int, new: int) -> None:
        """Let ``new`` stand for what ``old`` did, and close what ``new`` stood for."""
        found = self.entry(old)
        if old == new:
            return
        if new in self.entries:
            self.close(new)
        del self.entries[old]
        self.entries[new] = found

    def close(self, fd: int) -> None:
        """Close ``fd``, and what it stands for if no other number does."""
        description = self.entry(fd).description
        del self.entries[fd]
        description.entry_count -= 1
        if not description.entry_count:
            _close_object(description.object)

    def close_all(self) -> None:
        """Close everything."""
        for fd in list(self.entries):
            self.close(fd)

    def __iter__(self) -> Iterator[tuple[int, DescriptorEntry]]:
        return iter(sorted(self.entries.items()))

    def _put(self, fd: int, number: DescriptorEntry) -> None:
        number.description.entry_count += 1
        self.entries[fd] = number


def _close_object(thing: OpenObject) -> None:
    if isinstance(thing, OpenMountFile):
        thing.file.close()
    elif isinstance(thing, OpenMountDirectory):
        thing.directory.close()
