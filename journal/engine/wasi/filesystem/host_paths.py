"""Path resolution and file identities in host directories."""

import os
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from journal._arguments import quote
from journal.engine.tape import HostReply
from journal.engine.wasi.filesystem.own_files import Access, OwnFiles
from journal.events.paths import FileType
from journal.events.wire_types import PAYLOAD_SIZE_MAX
from journal.vfs.path_resolution import PathLocation, release_location, resolve
from journal.vfs.times import TimeUpdate
from journal.wasi_abi import DirectoryEntry, Errno, FileStat, WasiError, to_wasi_errno

_NODE = struct.Struct("<BQQ")
_ENTRY = struct.Struct("<QBH")
#: Entries of a directory between two checks for a stop request.
_CHECK_ENTRIES = 1024
#: Largest size of the entries of a directory in bytes. The rest of the event needs the other KiB.
_LISTING_SIZE_MAX = PAYLOAD_SIZE_MAX - 1024
_O_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class HostWalker:
    """Access to host directories during a path resolution. A directory is an ``O_PATH`` descriptor.

    The descriptors of a resolution are closed at its end. ``own`` are the files that the guest does
    not reach.
    """

    def __init__(self, own: OwnFiles) -> None:
        self._own = own

    def link_target(self, directory: int, name: str) -> str | None:
        """Return the target of the link ``name``, or None if ``name`` is not a link."""
        try:
            return os.readlink(name, dir_fd=directory)
        except OSError as error:
            if to_wasi_errno(error) in (Errno.INVAL, Errno.NOENT):
                return None
            raise WasiError(to_wasi_errno(error)) from error

    def enter(self, directory: int, name: str) -> int:
        """Open the directory ``name`` without following a link."""
        self._own.check_name(directory, name, Access.FIND)
        try:
            return os.open(name, _O_DIRECTORY, dir_fd=directory)
        except OSError as error:
            raise WasiError(to_wasi_errno(error)) from error

    def leave(self, directory: int) -> None:
        """Close the descriptor."""
        os.close(directory)


@contextmanager
def resolve_host_path(
    directory: int, path: str, own: OwnFiles, access: Access = Access.FIND, *, follow: bool
) -> Iterator[PathLocation[int]]:
    """Return the location of ``path`` below the descriptor ``directory``.

    Raises ``WasiError`` if the path leads to one of the files ``own``, or if ``access`` would
    rename or remove a directory above them. The context manager closes the descriptors of the
    resolution at its end.
    """
    walker = HostWalker(own)
    location = resolve(directory, path, walker, follow=follow)
    try:
        own.check(location, access)
        yield location
    finally:
        release_location(location, walker)


def capture_result(operation: Callable[[], bytes]) -> HostReply:
    """Return ``(0, value)`` of ``operation``, or the errno of its error and ``b""``."""
    try:
        return 0, operation()
    except WasiError as error:
        return error.errno, b""
    except OSError as error:
        return to_wasi_errno(error), b""


class FileIdentity(NamedTuple):
    """Type, device, inode and names of an opened file, to reopen the same file later."""

    filetype: int
    device: int
    inode: int
    names: tuple[str, ...]

    def pack(self) -> bytes:
        """Return the identity as the value of a ``HostResult``."""
        return _NODE.pack(self.filetype, self.device, self.inode) + pack_names(self.names)


def unpack_identity(value: bytes) -> FileIdentity:
    """Return the identity in ``value``; the inverse of :meth:`FileIdentity.pack`."""
    filetype, device, inode = _NODE.unpack_from(value)
    return FileIdentity(filetype, device, inode, unpack_names(value[_NODE.size :]))


def pack_names(names: tuple[str, ...]) -> bytes:
    """Return the names from the root of the mount, joined by slashes. No name contains a slash."""
    return os.fsencode("/".join(names))


def unpack_names(value: bytes) -> tuple[str, ...]:
    """Return the names in ``value``; the inverse of :func:`pack_names`.

    Raises ``ValueError`` for a name that is empty, ``.`` or ``..``.
    """
    names = tuple(os.fsdecode(value).split("/")) if value else ()
    if not {"", ".", ".."}.isdisjoint(names):
        raise ValueError(
            f"recorded names {quote(value)} contain an empty name, '.' or '..': they could leave "
            "the mount"
        )
    return names


def identify(handle: int, names: tuple[str, ...]) -> FileIdentity:
    """Return the identity of an open descriptor."""
    status = os.fstat(handle)
    return FileIdentity(filetype_of(status.st_mode), status.st_dev, status.st_ino, names)


def filetype_of(mode: int) -> FileType:
    """Return the WASI file type of the ``st_mode`` of a host file."""
    for test, filetype in (
        (stat.S_ISREG, FileType.REGULAR_FILE),
        (stat.S_ISDIR, FileType.DIRECTORY),
        (stat.S_ISLNK, FileType.SYMBOLIC_LINK),
        (stat.S_ISCHR, FileType.CHARACTER_DEVICE),
        (stat.S_ISBLK, FileType.BLOCK_DEVICE),
        (stat.S_ISSOCK, FileType.SOCKET_STREAM),
    ):
        if test(mode):
            return filetype
    return FileType.UNKNOWN


def stat_of(status: os.stat_result) -> FileStat:
    """Return the WASI attributes of a host file."""
    return FileStat(
        status.st_dev,
        status.st_ino,
        filetype_of(status.st_mode),
        status.st_nlink,
        status.st_size,
        max(status.st_atime_ns, 0),
        max(status.st_mtime_ns, 0),
        max(status.st_ctime_ns, 0),
    )


def pack_entries(handle: int, own: OwnFiles, check: Callable[[], None]) -> bytes:
    """Return the entries of a directory without the files ``own``, sorted by name.

    ``check`` is called between parts of a large directory. Raises ``WasiError`` with ``OVERFLOW``
    if the entries do not fit into one event.
    """
    directory = os.fstat(handle)
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
    try:
        parts: list[tuple[str, bytes]] = []
        size = 0
        with os.scandir(fd) as entries:
            for count, entry in enumerate(entries):
                if not count % _CHECK_ENTRIES:
                    check()
                attributes = entry.stat(follow_symlinks=False)
                if own.contains_entry(directory, entry.name, attributes):
                    continue
                name, kind = os.fsencode(entry.name), filetype_of(attributes.st_mode)
                parts.append((entry.name, _ENTRY.pack(entry.inode(), kind, len(name)) + name))
                size += len(parts[-1][1])
                if size > _LISTING_SIZE_MAX:
                    raise WasiError(Errno.OVERFLOW)
    finally:
        os.close(fd)
    parts.sort()
    return b"".join(packed for _, packed in parts)


def unpack_entries(value: bytes) -> list[DirectoryEntry]:
    """Return the entries in ``value``; the inverse of :func:`pack_entries`."""
    entries, offset = [], 0
    while offset < len(value):
        inode, filetype, size = _ENTRY.unpack_from(value, offset)
        offset += _ENTRY.size
        entries.append(DirectoryEntry(os.fsdecode(value[offset : offset + size]), inode, filetype))
        offset += size
    return entries


def probe(location: PathLocation[int]) -> bytes:
    """Return ``b"\\x01"`` if a file, directory or link is at the location, else ``b"\\x00"``."""
    try:
        os.stat(location.name, dir_fd=location.parent, follow_symlinks=False)
    except FileNotFoundError:
        return b"\x00"
    return b"\x01"


def resolve_times(times: TimeUpdate, stat: FileStat) -> tuple[int, int]:
    """Return the access and modification times to set on a file with the attributes ``stat``."""
    return times.resolve(time.time_ns(), stat.atime, stat.mtime)
