"""Descriptor table of a guest and the objects that its descriptors refer to."""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from journal.engine.wasi.channel import ByteChannel, ChannelWatcher
from journal.engine.wasi.filesystem.host_files import HostFile
from journal.engine.wasi.filesystem.host_fs import HostDirectory
from journal.engine.wasi.filesystem.memory_fs import MemoryDirectory
from journal.engine.wasi.socket_calls import SocketChannel
from journal.engine.wasi.stdio.stdin import StdinSource
from journal.events.paths import FileType
from journal.vfs.descriptor_table import DescriptorTable
from journal.vfs.memory_backend import MemoryFile
from journal.wasi_abi import (
    FDSTAT,
    RIGHTS_ALL,
    RIGHTS_DIRECTORY,
    RIGHTS_PREOPEN,
    RIGHTS_PREOPEN_INHERITING,
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
    flags: int = 0
    watchers: MutableMapping[ChannelWatcher, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class OutputStream:
    """Standard output or error; ``position`` counts the bytes that the guest has written."""

    number: int
    terminal: bool
    position: int = 0
    flags: int = 0
    watchers: MutableMapping[ChannelWatcher, None] = field(default_factory=dict)


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


Descriptor = InputStream | OutputStream | OpenFile | OpenDirectory | ByteChannel
"""What a descriptor refers to: POSIX's open file description. Duplicates share it."""

CLOSE_ON_EXEC = 1
"""The one flag of a descriptor itself."""

C = TypeVar("C", bound=ByteChannel)


class DescriptorNumbers(NamedTuple):
    """Copy of the numbers of a descriptor table, for :meth:`Descriptors.restore_numbers`."""

    used: dict[int, Descriptor]
    free: frozenset[int]
    fd_flags: dict[int, int]
    lowest: int
    duplicates: dict[int, int]


class Descriptors:
    """Descriptor table of a running guest.

    ``used`` are the open descriptors by number, ``free`` the numbers that were released. A guest of
    WASIX gets the lowest number that is not in use, as POSIX requires (``is_lowest_first``). Any
    other guest gets the highest released number, as on wasmtime. ``fd_flags`` has the flags of
    descriptors that have any. ``watch_count`` counts the watches of all epoll sets.
    """

    def __init__(self) -> None:
        self._table = DescriptorTable(self._release)
        self.used: dict[int, Descriptor] = self._table.entries
        self.free: set[int] = set()
        self.fd_flags: dict[int, int] = {}
        self.is_lowest_first = False
        self.watch_count = 0
        self._reserved: int | None = None
        self._lowest = 0  # No smaller number is free.
        self._duplicates: dict[int, int] = {}  # Further descriptors, by the identity of the object.

    def next_fd(self, at_least: int = 0) -> int:
        """Return the number that :meth:`add` assigns to the next descriptor.

        ``at_least`` is the smallest number to assign (F_DUPFD), for a guest of WASIX only.
        Raises ``WasiError`` with ``MFILE`` if the table is full, and with ``INVAL`` if ``at_least``
        is no number of a descriptor.
        """
        if self._reserved is not None:
            return self._reserved
        if at_least >= DESCRIPTORS_MAX:
            raise WasiError(Errno.INVAL)
        if self.is_lowest_first or at_least:
            fd = max(self._lowest, at_least)
            while fd in self.used:
                fd += 1
            if not at_least:
                self._lowest = fd
        elif self.free:
            return max(self.free)
        else:
            fd = max(self.used, default=-1) + 1
        if fd >= DESCRIPTORS_MAX or len(self.used) >= DESCRIPTORS_MAX:
            raise WasiError(Errno.MFILE)
        return fd

    def next_pair(self) -> tuple[int, int]:
        """Return the two lowest free numbers, for a guest of WASIX.

        Raises ``WasiError`` with ``MFILE`` if the table is full.
        """
        first = self.next_fd()
        if first + 1 >= DESCRIPTORS_MAX:
            raise WasiError(Errno.MFILE)
        return first, self.next_fd(first + 1)

    def reserve(self, fd: int) -> None:
        """Make ``fd``, which is not in use, the next number."""
        assert fd not in self.used
        self._reserved = fd

    def add(self, descriptor: Descriptor, *, at_least: int = 0, fd_flags: int = 0) -> int:
        """Add ``descriptor`` and return its number."""
        fd = self.next_fd(at_least)
        self._reserved = None
        self.add_at(fd, descriptor, fd_flags)
        return fd

    def add_at(self, fd: int, descriptor: Descriptor, fd_flags: int = 0) -> None:
        """Add ``descriptor`` as ``fd``, which is not in use."""
        assert fd not in self.used
        self.free.discard(fd)
        self.used[fd] = descriptor
        if fd_flags:
            self.fd_flags[fd] = fd_flags

    def duplicate(self, fd: int, copied_fd: int, fd_flags: int = 0) -> None:
        """Add ``copied_fd``, which is not in use, as another descriptor of the object of ``fd``."""
        descriptor = self.get(fd)
        self.add_at(copied_fd, descriptor, fd_flags)
        self._duplicates[id(descriptor)] = self._duplicates.get(id(descriptor), 0) + 1

    def set_fd_flags(self, fd: int, fd_flags: int) -> None:
        """Set the flags of the descriptor ``fd`` itself."""
        if fd_flags:
            self.fd_flags[fd] = fd_flags
        else:
            self.fd_flags.pop(fd, None)

    def substitute(self, old: Descriptor, new: Descriptor) -> None:
        """Let all descriptors of the object ``old`` refer to ``new``, and close nothing."""
        for fd, descriptor in self.used.items():
            if descriptor is old:
                self.used[fd] = new
        count = self._duplicates.pop(id(old), 0)
        if count:
            self._duplicates[id(new)] = count

    def copy_numbers(self) -> "DescriptorNumbers":
        """Return which numbers refer to which objects now."""
        return DescriptorNumbers(
            dict(self.used),
            frozenset(self.free),
            dict(self.fd_flags),
            self._lowest,
            dict(self._duplicates),
        )

    def restore_numbers(self, numbers: "DescriptorNumbers") -> None:
        """Let the numbers refer to the objects of an earlier time, and close nothing."""
        self.clear()
        self.used.update(numbers.used)
        self.free.update(numbers.free)
        self.fd_flags.update(numbers.fd_flags)
        self._lowest = numbers.lowest
        self._duplicates.update(numbers.duplicates)

    def clear(self) -> None:
        """Forget all descriptors, and close nothing."""
        for each in (self.used, self.free, self.fd_flags, self._duplicates):
            each.clear()
        self._reserved, self._lowest, self.watch_count = None, 0, 0

    def get(self, fd: int) -> Descriptor:
        """Return the descriptor ``fd``; raise ``WasiError`` with ``BADF`` if it is not open."""
        descriptor = self.used.get(fd)
        if descriptor is None:
            raise WasiError(Errno.BADF)
        return descriptor

    def get_file(self, fd: int, of_channel: int = Errno.BADF) -> OpenFile:
        """Return an open file; raise ``WasiError`` with ``BADF`` for any other descriptor.

        ``of_channel`` is the error for a channel: that of Linux for the call.
        """
        descriptor = self.used.get(fd)
        if type(descriptor) is not OpenFile:
            raise WasiError(of_channel if isinstance(descriptor, ByteChannel) else Errno.BADF)
        return descriptor

    def get_seekable(self, fd: int) -> OpenFile:
        """Return an open file; raise ``WasiError`` with ``SPIPE`` for a stream or a channel."""
        descriptor = self.used.get(fd)
        if isinstance(descriptor, (InputStream, OutputStream, ByteChannel)):
            raise WasiError(Errno.SPIPE)
        return self.get_file(fd)

    def get_directory(self, fd: int) -> OpenDirectory:
        """Return an open directory; raise ``WasiError`` with ``BADF`` for any other descriptor.

        The error for a channel is ``NOTDIR``.
        """
        descriptor = self.used.get(fd)
        if type(descriptor) is not OpenDirectory:
            raise WasiError(Errno.NOTDIR if isinstance(descriptor, ByteChannel) else Errno.BADF)
        return descriptor

    def get_socket(self, fd: int) -> SocketChannel:
        """Return a socket; raise ``WasiError`` with ``NOTSOCK`` for any other descriptor."""
        return self.get_channel(fd, SocketChannel, Errno.NOTSOCK)

    def get_channel(self, fd: int, kind: type[C], errno: int = Errno.INVAL) -> C:
        """Return a channel of a kind; raise ``WasiError`` with ``errno`` for another descriptor."""
        descriptor = self.get(fd)
        if not isinstance(descriptor, kind):
            raise WasiError(errno)
        return descriptor

    def replace(self, old: ByteChannel, new: ByteChannel) -> None:
        """Let all descriptors and watches of the channel ``old`` refer to ``new``."""
        for fd, descriptor in self.used.items():
            if descriptor is old:
                self.used[fd] = new
        if id(old) in self._duplicates:
            self._duplicates[id(new)] = self._duplicates.pop(id(old))
        for watcher in tuple(old.watchers):
            watcher.on_replacement(new)

    def close(self, fd: int) -> None:
        """Close the descriptor ``fd``."""
        self._table.close(fd)
        self._set_free(fd)

    def renumber(self, old: int, new: int) -> None:
        """Move the descriptor ``old`` to ``new``, and close the previous descriptor there."""
        flags = self.fd_flags.get(old, 0)
        self._table.renumber(old, new)
        if old != new:
            self._set_free(old)
            self.free.discard(new)
            self.fd_flags.pop(new, None)
            if flags:
                self.fd_flags[new] = flags

    def _set_free(self, fd: int) -> None:
        self.free.add(fd)
        self.fd_flags.pop(fd, None)
        self._lowest = min(self._lowest, fd)

    def _release(self, fd: int, descriptor: Descriptor) -> None:
        """Close the object of a closed descriptor, unless it has another descriptor."""
        others = self._duplicates.get(id(descriptor), 0)
        if not others:
            if isinstance(descriptor, ByteChannel | InputStream | OutputStream):
                for watcher in tuple(descriptor.watchers):
                    watcher.on_close()
            close_descriptor(fd, descriptor)
        elif others > 1:
            self._duplicates[id(descriptor)] = others - 1
        else:
            del self._duplicates[id(descriptor)]


def close_descriptor(fd: int, descriptor: Descriptor) -> None:
    """Release the resources of ``descriptor``, which had the number ``fd``."""
    if isinstance(descriptor, OpenFile):
        descriptor.file.close()
    elif isinstance(descriptor, ByteChannel):
        descriptor.close()
    elif isinstance(descriptor, OpenDirectory) and descriptor.preopen is None:
        descriptor.directory.close()


def pack_fdstat(descriptor: Descriptor) -> bytes:
    """Return the structure that ``fd_fdstat_get`` writes."""
    if isinstance(descriptor, InputStream):
        return _pack_stream_fdstat(descriptor, Rights.FD_READ)
    if isinstance(descriptor, OutputStream):
        return _pack_stream_fdstat(descriptor, Rights.FD_WRITE)
    if isinstance(descriptor, OpenFile):
        rights = descriptor.rights
        return FDSTAT.pack(FileType.REGULAR_FILE, descriptor.flags, rights, rights)
    if isinstance(descriptor, ByteChannel):
        rights = descriptor.rights
        return FDSTAT.pack(descriptor.filetype, descriptor.flags, rights, rights)
    if descriptor.preopen is not None:
        return FDSTAT.pack(FileType.DIRECTORY, 0, RIGHTS_PREOPEN, RIGHTS_PREOPEN_INHERITING)
    rights = RIGHTS_DIRECTORY & ~Rights.FD_WRITE
    return FDSTAT.pack(FileType.DIRECTORY, 0, rights, rights)


def _pack_stream_fdstat(stream: InputStream | OutputStream, rights: Rights) -> bytes:
    filetype = stream_filetype(terminal=stream.terminal)
    return FDSTAT.pack(filetype, stream.flags, rights, rights)


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
    if isinstance(descriptor, ByteChannel):
        return FileStat(0, 0, descriptor.filetype, 0, 0, 0, 0, 0)
    return descriptor.directory.stat(fd)
