"""What a guest's descriptor numbers stand for."""

from dataclasses import dataclass, field
from typing import TypeVar

from journal.engine.abi import (
    FDSTAT,
    RIGHTS_ALL,
    RIGHTS_DIRECTORY,
    RIGHTS_PREOPEN,
    RIGHTS_PREOPEN_INHERITING,
    Entry,
    Errno,
    Refusal,
    Rights,
    Stat,
)
from journal.engine.files import Directory, File
from journal.engine.inputs import Source
from journal.events.paths import FileType

DESCRIPTORS_MAX = 65536


@dataclass(slots=True, eq=False)
class InputStream:
    """Standard input; ``position`` counts the bytes the guest has read."""

    source: Source
    terminal: bool
    position: int = 0


@dataclass(slots=True, eq=False)
class OutputStream:
    """Standard output or error; ``position`` counts the bytes the guest has written."""

    number: int
    terminal: bool
    position: int = 0


@dataclass(slots=True, eq=False)
class OpenFile:
    """An open regular file."""

    file: File
    reads: bool
    writes: bool
    rights: Rights
    flags: int
    position: int = 0


@dataclass(slots=True, eq=False)
class OpenDirectory:
    """An open directory; ``preopen`` is its name if the guest had it from the start.

    ``listing`` is what the guest saw when it began to read the directory, so that a cookie means
    the same entry although entries come and go meanwhile.
    """

    directory: Directory
    preopen: str | None = None
    reads: bool = True
    listing: list[Entry] = field(default_factory=list)


Descriptor = InputStream | OutputStream | OpenFile | OpenDirectory
D = TypeVar("D", InputStream, OutputStream, OpenFile, OpenDirectory)


class Descriptors:
    """The table of one process."""

    def __init__(self) -> None:
        self.used: dict[int, Descriptor] = {}
        self._free: set[int] = set()

    def next(self) -> int:
        """The number that :meth:`add` will give: the highest one given back, or a new one."""
        if self._free:
            return max(self._free)
        if len(self.used) >= DESCRIPTORS_MAX:
            raise Refusal(Errno.MFILE)
        return max(self.used, default=-1) + 1

    def add(self, descriptor: Descriptor) -> int:
        """Give ``descriptor`` a number."""
        fd = self.next()
        self._free.discard(fd)
        self.used[fd] = descriptor
        return fd

    def get(self, fd: int) -> Descriptor:
        """What ``fd`` stands for; refuses with ``BADF``."""
        found = self.used.get(fd)
        if found is None:
            raise Refusal(Errno.BADF)
        return found

    def file(self, fd: int) -> OpenFile:
        """An open file; refuses with ``BADF`` what is none."""
        found = self.used.get(fd)
        if type(found) is not OpenFile:
            raise Refusal(Errno.BADF)
        return found

    def seekable(self, fd: int) -> OpenFile:
        """An open file; refuses a stream with ``SPIPE``."""
        found = self.used.get(fd)
        if isinstance(found, (InputStream, OutputStream)):
            raise Refusal(Errno.SPIPE)
        return self.file(fd)

    def directory(self, fd: int) -> OpenDirectory:
        """An open directory; refuses with ``BADF`` what is none."""
        found = self.used.get(fd)
        if type(found) is not OpenDirectory:
            raise Refusal(Errno.BADF)
        return found

    def remove(self, fd: int) -> Descriptor:
        """Take ``fd`` out of the table."""
        found = self.get(fd)
        del self.used[fd]
        self._free.add(fd)
        return found

    def renumber(self, old: int, new: int) -> Descriptor | None:
        """Let ``new`` stand for what ``old`` did; what ``new`` stood for."""
        found, replaced = self.get(old), self.get(new)
        if old == new:
            return None
        del self.used[old]
        self._free.add(old)
        self.used[new] = found
        return replaced


def close(descriptor: Descriptor) -> None:
    """Give back what ``descriptor`` holds."""
    if isinstance(descriptor, OpenFile):
        descriptor.file.close()
    elif isinstance(descriptor, OpenDirectory) and descriptor.preopen is None:
        descriptor.directory.close()


def fdstat(descriptor: Descriptor) -> bytes:
    """The structure that ``fd_fdstat_get`` gives."""
    if isinstance(descriptor, InputStream):
        return _stream_stat(Rights.FD_READ, terminal=descriptor.terminal)
    if isinstance(descriptor, OutputStream):
        return _stream_stat(Rights.FD_WRITE, terminal=descriptor.terminal)
    if isinstance(descriptor, OpenFile):
        rights = descriptor.rights
        return FDSTAT.pack(FileType.REGULAR_FILE, descriptor.flags, rights, rights)
    if descriptor.preopen is not None:
        return FDSTAT.pack(FileType.DIRECTORY, 0, RIGHTS_PREOPEN, RIGHTS_PREOPEN_INHERITING)
    rights = RIGHTS_DIRECTORY & ~Rights.FD_WRITE
    return FDSTAT.pack(FileType.DIRECTORY, 0, rights, rights)


def _stream_stat(rights: Rights, *, terminal: bool) -> bytes:
    return FDSTAT.pack(stream_type(terminal=terminal), 0, rights, rights)


def stream_type(*, terminal: bool) -> FileType:
    """What a guest sees a standard stream as."""
    return FileType.CHARACTER_DEVICE if terminal else FileType.UNKNOWN


def file_rights(*, reads: bool, writes: bool) -> Rights:
    """The rights of an open file."""
    rights = RIGHTS_ALL
    if not reads:
        rights &= ~(Rights.FD_READ | Rights.FD_READDIR)
    if not writes:
        rights &= ~Rights.FD_WRITE
    return rights


def filestat(fd: int, descriptor: Descriptor) -> Stat:
    """The attributes of whatever a descriptor stands for."""
    if isinstance(descriptor, (InputStream, OutputStream)):
        return Stat(0, 0, stream_type(terminal=descriptor.terminal), 0, 0, 0, 0, 0)
    if isinstance(descriptor, OpenFile):
        return descriptor.file.stat(fd)
    return descriptor.directory.stat(fd)
