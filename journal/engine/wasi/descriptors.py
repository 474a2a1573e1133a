"""Descriptor table of a guest and the objects that its descriptors refer to."""

import socket as host
from dataclasses import dataclass, field
from typing import TypeVar

from journal.engine.wasi.filesystem.host_files import HostFile
from journal.engine.wasi.filesystem.host_fs import HostDirectory
from journal.engine.wasi.filesystem.memory_fs import MemoryDirectory
from journal.engine.wasi.stdio.stdin import StdinSource
from journal.events.paths import FileType
from journal.events.sockets import AddressFamily, SocketType
from journal.events.wire_types import SocketAddress
from journal.vfs.descriptor_table import DescriptorTable
from journal.vfs.memory_backend import MemoryFile
from journal.wasi_abi import (
    FDSTAT,
    RIGHTS_ALL,
    RIGHTS_DIRECTORY,
    RIGHTS_PREOPEN,
    RIGHTS_PREOPEN_INHERITING,
    RIGHTS_SOCKET,
    DirectoryEntry,
    Errno,
    FileStat,
    Rights,
    WasiError,
)

DESCRIPTORS_MAX = 65536

GuestFile = MemoryFile | HostFile
"""An open regular file. Methods take offsets, because the descriptor has the position.

Each method of files and directories gets the descriptor ``fd``, under which it records effects and
results on the tape, and raises ``WasiError`` to refuse a call.
"""

GuestDirectory = MemoryDirectory | HostDirectory
"""An open directory. Paths are relative to it and cannot leave it."""


@dataclass(slots=True, eq=False)
class InputStream:
    """Standard input; ``position`` counts the bytes that the guest has read."""

    source: StdinSource
    terminal: bool
    position: int = 0


@dataclass(slots=True, eq=False)
class OutputStream:
    """Standard output or error; ``position`` counts the bytes that the guest has written."""

    number: int
    terminal: bool
    position: int = 0


@dataclass(slots=True, eq=False)
class OpenFile:
    """An open regular file and its position in bytes."""

    file: GuestFile
    is_readable: bool
    is_writable: bool
    rights: Rights
    flags: int
    position: int = 0


@dataclass(slots=True, eq=False)
class OpenDirectory:
    """An open directory. ``preopen`` is its name in the guest if it is a mount, else None.

    ``listing`` contains the entries at the time the guest began to read the directory, so a
    cookie keeps its meaning while entries are added and removed.
    """

    directory: GuestDirectory
    preopen: str | None = None
    is_readable: bool = True
    listing: list[DirectoryEntry] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Socket:
    """A socket in the state that the guest knows.

    ``local`` is the address of a bound socket, ``backlog`` the queue length of a listening one.
    ``handle`` is the socket of the host, or None during a replay.
    """

    family: AddressFamily
    kind: SocketType
    protocol: int
    local: SocketAddress | None = None
    backlog: int | None = None
    flags: int = 0
    handle: host.socket | None = None

    @property
    def filetype(self) -> FileType:
        """Return the WASI file type."""
        is_stream = self.kind is SocketType.STREAM
        return FileType.SOCKET_STREAM if is_stream else FileType.SOCKET_DGRAM

    def close(self) -> None:
        """Close the socket of the host, if there is one."""
        if self.handle is not None:
            self.handle.close()
            self.handle = None


Descriptor = InputStream | OutputStream | OpenFile | OpenDirectory | Socket
D = TypeVar("D", InputStream, OutputStream, OpenFile, OpenDirectory, Socket)


class Descriptors:
    """Descriptor table of a running guest.

    ``used`` are the open descriptors by number, ``free`` the numbers that were released.
    """

    def __init__(self) -> None:
        self._table = DescriptorTable(close_descriptor)
        self.used: dict[int, Descriptor] = self._table.entries
        self.free: set[int] = set()

    def next_fd(self) -> int:
        """Return the number that :meth:`add` assigns: the highest released number, else a new one.

        Raises ``WasiError`` with ``MFILE`` if the table is full.
        """
        if self.free:
            return max(self.free)
        if len(self.used) >= DESCRIPTORS_MAX:
            raise WasiError(Errno.MFILE)
        return max(self.used, default=-1) + 1

    def add(self, descriptor: Descriptor) -> int:
        """Add ``descriptor`` and return its number."""
        fd = self.next_fd()
        self.free.discard(fd)
        self.used[fd] = descriptor
        return fd

    def get(self, fd: int) -> Descriptor:
        """Return the descriptor ``fd``; raise ``WasiError`` with ``BADF`` if it is not open."""
        descriptor = self.used.get(fd)
        if descriptor is None:
            raise WasiError(Errno.BADF)
        return descriptor

    def get_file(self, fd: int) -> OpenFile:
        """Return an open file; raise ``WasiError`` with ``BADF`` for any other descriptor."""
        descriptor = self.used.get(fd)
        if type(descriptor) is not OpenFile:
            raise WasiError(Errno.BADF)
        return descriptor

    def get_seekable(self, fd: int) -> OpenFile:
        """Return an open file; raise ``WasiError`` with ``SPIPE`` for a stream or a socket."""
        descriptor = self.used.get(fd)
        if isinstance(descriptor, (InputStream, OutputStream, Socket)):
            raise WasiError(Errno.SPIPE)
        return self.get_file(fd)

    def get_directory(self, fd: int) -> OpenDirectory:
        """Return an open directory; raise ``WasiError`` with ``BADF`` for any other descriptor."""
        descriptor = self.used.get(fd)
        if type(descriptor) is not OpenDirectory:
            raise WasiError(Errno.BADF)
        return descriptor

    def get_socket(self, fd: int) -> Socket:
        """Return a socket; raise ``WasiError`` with ``NOTSOCK`` for any other descriptor."""
        descriptor = self.get(fd)
        if type(descriptor) is not Socket:
            raise WasiError(Errno.NOTSOCK)
        return descriptor

    def close(self, fd: int) -> None:
        """Close the descriptor ``fd``."""
        self._table.close(fd)
        self.free.add(fd)

    def renumber(self, old: int, new: int) -> None:
        """Move the descriptor ``old`` to ``new``, and close the previous descriptor there."""
        self._table.renumber(old, new)
        if old != new:
            self.free.add(old)
            self.free.discard(new)


def close_descriptor(fd: int, descriptor: Descriptor) -> None:
    """Release the resources of ``descriptor``, which had the number ``fd``."""
    if isinstance(descriptor, OpenFile):
        descriptor.file.close()
    elif isinstance(descriptor, Socket):
        descriptor.close()
    elif isinstance(descriptor, OpenDirectory) and descriptor.preopen is None:
        descriptor.directory.close()


def pack_fdstat(descriptor: Descriptor) -> bytes:
    """Return the structure that ``fd_fdstat_get`` writes."""
    if isinstance(descriptor, InputStream):
        return _pack_stream_fdstat(Rights.FD_READ, terminal=descriptor.terminal)
    if isinstance(descriptor, OutputStream):
        return _pack_stream_fdstat(Rights.FD_WRITE, terminal=descriptor.terminal)
    if isinstance(descriptor, OpenFile):
        rights = descriptor.rights
        return FDSTAT.pack(FileType.REGULAR_FILE, descriptor.flags, rights, rights)
    if isinstance(descriptor, Socket):
        return FDSTAT.pack(descriptor.filetype, descriptor.flags, RIGHTS_SOCKET, RIGHTS_SOCKET)
    if descriptor.preopen is not None:
        return FDSTAT.pack(FileType.DIRECTORY, 0, RIGHTS_PREOPEN, RIGHTS_PREOPEN_INHERITING)
    rights = RIGHTS_DIRECTORY & ~Rights.FD_WRITE
    return FDSTAT.pack(FileType.DIRECTORY, 0, rights, rights)


def _pack_stream_fdstat(rights: Rights, *, terminal: bool) -> bytes:
    return FDSTAT.pack(stream_filetype(terminal=terminal), 0, rights, rights)


def stream_filetype(*, terminal: bool) -> FileType:
    """Return the WASI file type of a standard stream."""
    return FileType.CHARACTER_DEVICE if terminal else FileType.UNKNOWN


def file_rights(*, is_readable: bool, is_writable: bool) -> Rights:
    """Return the rights of an open file."""
    rights = RIGHTS_ALL
    if not is_readable:
        rights &= ~(Rights.FD_READ | Rights.FD_READDIR)
    if not is_writable:
        rights &= ~Rights.FD_WRITE
    return rights


def read_filestat(fd: int, descriptor: Descriptor) -> FileStat:
    """Return the attributes of the file, directory, stream or socket of a descriptor."""
    if isinstance(descriptor, (InputStream, OutputStream)):
        return FileStat(0, 0, stream_filetype(terminal=descriptor.terminal), 0, 0, 0, 0, 0)
    if isinstance(descriptor, OpenFile):
        return descriptor.file.stat(fd)
    if isinstance(descriptor, Socket):
        return FileStat(0, 0, descriptor.filetype, 0, 0, 0, 0, 0)
    return descriptor.directory.stat(fd)
