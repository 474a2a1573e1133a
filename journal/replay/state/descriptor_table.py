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
from journal.replay.filesystem.directory_ops import Directory, File
from journal.replay.limits import NotPlayable, check_count

STREAMS = (0, 1, 2)
"""The descriptors that every guest has: standard input, output and error."""


@dataclass(slots=True)
class Stream:
    """A standard stream."""

    number: int


class OpenFile:
    """A file that the host keeps."""

    __slots__ = ("file",)

    def __init__(self, file: File) -> None:
        self.file = file


class OpenDirectory:
    """A directory that the host keeps; ``preopen`` is its name if the guest has it by a mount."""

    __slots__ = ("directory", "preopen")

    def __init__(self, directory: Directory[Any], preopen: str | None = None) -> None:
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
    certain: bool = True


@dataclass(slots=True)
class Pipe:
    """A pipe: how many bytes were written to it."""

    written: int = 0


@dataclass(slots=True)
class PipeEnd:
    """One end of a pipe."""

    pipe: Pipe
    writes: bool


@dataclass(slots=True)
class Counter:
    """A counter to wait on, as it began."""

    initial: int
    flags: int


@dataclass(slots=True)
class Epoll:
    """What is watched, by descriptor."""

    watched: dict[int, EpollEvent | None] = field(default_factory=dict)


@dataclass(slots=True)
class Socket:
    """A socket, by the events that say what it is: how it was made, bound and connected.

    ``options`` are the last events that set each, ``groups`` the multicast groups it is in;
    ``sent`` counts bytes. Where a journal of ours has no answers, it is not ``certain`` that there
    is one.
    """

    made: Event
    certain: bool = True
    bound: Event | None = None
    connected: Event | None = None
    listening: Event | None = None
    options: dict[tuple[int, int], Event] = field(default_factory=dict)
    groups: dict[tuple[object, object], None] = field(default_factory=dict)
    shut: set[Shutdown] = field(default_factory=set)
    sent: int = 0


Thing = Stream | OpenFile | OpenDirectory | HostNode | PipeEnd | Counter | Epoll | Socket
T = TypeVar("T", Stream, OpenFile, OpenDirectory, HostNode, PipeEnd, Counter, Epoll, Socket)

_WORDS: dict[type[Thing], str] = {
    Stream: "a standard stream",
    OpenFile: "a file",
    OpenDirectory: "a directory",
    HostNode: "of the host",
    PipeEnd: "a pipe",
    Counter: "a counter",
    Epoll: "an epoll",
    Socket: "a socket",
}


class Description:
    """What one or more numbers stand for: duplicates share it, with its position and fdflags.

    ``position`` is None where only the guest knows.
    """

    __slots__ = ("flags", "numbers", "position", "thing")

    def __init__(self, thing: Thing, flags: int = 0) -> None:
        self.thing, self.flags, self.numbers = thing, flags, 0
        self.position: int | None = 0


class Number:
    """One number: ``fd_flags`` 1 is close-on-exec; ``rights`` are its own and the inheriting."""

    __slots__ = ("description", "fd_flags", "rights")

    def __init__(
        self, description: Description, fd_flags: int = 0, rights: tuple[int, int] = (0, 0)
    ) -> None:
        self.description, self.fd_flags, self.rights = description, fd_flags, rights


class Table:
    """The descriptors of one process; it begins with the standard streams."""

    def __init__(self) -> None:
        self.used: dict[int, Number] = {}
        self.open_streams()

    def open_streams(self) -> None:
        """Open what every process has."""
        for stream in STREAMS:
            self.add(stream, Stream(stream))

    def number(self, fd: int) -> Number:
        """What stands at ``fd``."""
        found = self.used.get(fd)
        if found is None:
            raise NotPlayable(f"descriptor {fd} is not open")
        return found

    def description(self, fd: int) -> Description:
        """What ``fd`` stands for, with its position."""
        return self.number(fd).description

    def thing(self, fd: int, kind: type[T]) -> T:
        """What ``fd`` stands for, which must be of one kind."""
        found = self.description(fd).thing
        if not isinstance(found, kind):
            raise NotPlayable(f"descriptor {fd} is {_WORDS[type(found)]}, not {_WORDS[kind]}")
        return found

    def directory(self, fd: int) -> Directory[Any] | None:
        """The directory at ``fd``; None where it is one of the former host."""
        found = self.description(fd).thing
        if isinstance(found, HostNode) and found.kind is not FileType.REGULAR_FILE:
            return None
        return self.thing(fd, OpenDirectory).directory

    def check_free(self, fd: int) -> None:
        """Refuse a number that is in use."""
        found = self.used.get(fd)
        if found is None:
            check_count("descriptors", len(self.used) + 1)
            return
        thing = found.description.thing
        if not isinstance(thing, (HostNode, Socket)) or thing.certain:
            raise NotPlayable(f"descriptor {fd} is open already")

    def add(
        self,
        fd: int,
        thing: Thing,
        *,
        flags: int = 0,
        fd_flags: int = 0,
        rights: tuple[int, int] = (0, 0),
    ) -> None:
        """Open ``thing`` at ``fd``, at its beginning."""
        self.check_free(fd)
        self._put(fd, Number(Description(thing, flags), fd_flags, rights))

    def duplicate(self, original: int, copied: int, fd_flags: int) -> None:
        """Let ``copied`` stand for the same as ``original``."""
        found = self.number(original)
        self.check_free(copied)
        self._put(copied, Number(found.description, fd_flags, found.rights))

    def renumber(self, old: int, new: int) -> None:
        """Let ``new`` stand for what ``old`` did, and close what ``new`` stood for."""
        found = self.number(old)
        if old == new:
            return
        if new in self.used:
            self.close(new)
        del self.used[old]
        self.used[new] = found

    def close(self, fd: int) -> None:
        """Close ``fd``, and what it stands for if no other number does."""
        description = self.number(fd).description
        del self.used[fd]
        description.numbers -= 1
        if not description.numbers:
            _close(description.thing)

    def close_all(self) -> None:
        """Close everything."""
        for fd in list(self.used):
            self.close(fd)

    def __iter__(self) -> Iterator[tuple[int, Number]]:
        return iter(sorted(self.used.items()))

    def _put(self, fd: int, number: Number) -> None:
        number.description.numbers += 1
        self.used[fd] = number


def _close(thing: Thing) -> None:
    if isinstance(thing, OpenFile):
        thing.file.close()
    elif isinstance(thing, OpenDirectory):
        thing.directory.close()
