"""Interfaces of the files and directories that WASI functions use.

:mod:`journal.engine.wasi.filesystem.memory_fs` implements them in memory; a replay rebuilds that
tree. :mod:`journal.engine.wasi.filesystem.host_files` implements them for a directory of the host;
the journal contains its results. Both pass every effect and every result through the tape, under
the descriptor ``fd`` of the guest. Every method raises ``WasiError`` to refuse a call.
"""

from typing import NamedTuple, Protocol

from journal.events import codec, descriptors, paths
from journal.wasi_abi import (
    DirectoryEntry,
    Errno,
    FdFlags,
    FileStat,
    OpenFlags,
    Rights,
    TimeFlags,
    WasiError,
)

#: Largest write of one event, in bytes. A longer write of the guest becomes several events.
WRITE_SIZE_MAX = 1 << 20
#: Largest read of a host file, in bytes. A longer read is short, as the specification allows.
READ_SIZE_MAX = 4 << 20


class OpenRequest(NamedTuple):
    """Arguments of ``path_open``."""

    fd: int
    dirfd: int
    lookup: int
    path: str
    flags: OpenFlags
    rights: Rights
    inheriting: Rights
    fdflags: FdFlags

    @property
    def is_readable(self) -> bool:
        """Return whether the file is opened for reading: on request, or if not for writing."""
        return bool(self.rights & Rights.FD_READ) or not self.rights & Rights.FD_WRITE

    @property
    def is_writable(self) -> bool:
        """Return whether the file is opened for writing."""
        return bool(
            self.rights & Rights.FD_WRITE or self.flags & (OpenFlags.CREATE | OpenFlags.TRUNCATE)
        )

    @property
    def effect(self) -> bytes:
        """Return the payload of the event."""
        return pack_open(
            self.fd,
            self.dirfd,
            self.lookup,
            self.flags,
            self.fdflags,
            self.rights,
            self.inheriting,
            self.path,
        )


class RequestedTimes(NamedTuple):
    """Access and modification times that the guest requested, in nanoseconds since the epoch."""

    atime: int
    mtime: int
    flags: TimeFlags

    def resolve(self, now: int, stat: FileStat) -> tuple[int, int]:
        """Return the access and modification times to set; ``now`` is the present time."""
        atime, mtime, flags = self
        if flags & TimeFlags.ATIME_NOW:
            atime = now
        elif not flags & TimeFlags.ATIME:
            atime = stat.atime
        if flags & TimeFlags.MTIME_NOW:
            mtime = now
        elif not flags & TimeFlags.MTIME:
            mtime = stat.mtime
        return atime, mtime


def make_requested_times(atime: int, mtime: int, flags: int) -> RequestedTimes:
    """Return the requested times; raise ``WasiError`` with ``INVAL`` for contradictory flags."""
    time_flags = TimeFlags(flags)
    for pair in (TimeFlags.ATIME | TimeFlags.ATIME_NOW, TimeFlags.MTIME | TimeFlags.MTIME_NOW):
        if time_flags & pair == pair:
            raise WasiError(Errno.INVAL)
    return RequestedTimes(atime, mtime, time_flags)


class GuestFile(Protocol):
    """An open regular file. Methods take offsets, because the descriptor has the position."""

    @property
    def writable(self) -> bool:
        """Return whether the mount is writable, however the file was opened."""

    def stat(self, fd: int) -> FileStat:
        """Return the attributes."""

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes at ``offset``; empty at the end of the file."""

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Write ``data`` at ``offset`` and return the count of bytes written."""

    def size(self, fd: int) -> int:
        """Return the size in bytes."""

    def set_size(self, fd: int, size: int) -> None:
        """Truncate the file, or extend it with zeros."""

    def set_times(self, fd: int, times: RequestedTimes) -> None:
        """Set the access and modification times."""

    def sync(self, fd: int, *, data_only: bool) -> None:
        """Make the file durable as far as the file system can."""

    def close(self) -> None:
        """Release the resources of the open file."""


class GuestDirectory(Protocol):
    """An open directory. Paths are relative to it and cannot leave it."""

    @property
    def writable(self) -> bool:
        """Return whether the mount is writable."""

    def stat(self, fd: int) -> FileStat:
        """Return the attributes."""

    def set_times(self, fd: int, times: RequestedTimes) -> None:
        """Set the access and modification times."""

    def entries(self, fd: int) -> list[DirectoryEntry]:
        """Return the entries in the order of the guest, without ``.`` and ``..``."""

    def open(self, request: OpenRequest) -> "GuestFile | GuestDirectory":
        """Open the file or the directory at a path."""

    def create_directory(self, fd: int, path: str) -> None:
        """Create a directory."""

    def remove_directory(self, fd: int, path: str) -> None:
        """Remove an empty directory."""

    def unlink(self, fd: int, path: str) -> None:
        """Unlink a file or a symbolic link."""

    def read_link(self, fd: int, path: str) -> str:
        """Return the target of a symbolic link."""

    def stat_at(self, fd: int, path: str, *, follow: bool) -> FileStat:
        """Return the attributes of the file at a path."""

    def set_times_at(self, fd: int, path: str, lookup: int, times: RequestedTimes) -> None:
        """Set the access and modification times of the file at a path."""

    def symlink(self, fd: int, target: str, path: str) -> None:
        """Create a symbolic link to ``target``."""

    def rename(self, fd: int, path: str, to: "GuestDirectory", to_fd: int, to_path: str) -> None:
        """Rename a file or a directory; raise ``WasiError`` with ``XDEV`` across mounts."""

    def link(
        self, fd: int, lookup: int, path: str, to: "GuestDirectory", to_fd: int, to_path: str
    ) -> None:
        """Create a hard link; raise ``WasiError`` with ``XDEV`` across mounts."""

    def close(self) -> None:
        """Release the resources of the open directory."""


# Encoders of the payloads of effects; arguments in wire order.
pack_open = codec.make_packer(descriptors.OpenFileDescriptor)
pack_write = codec.make_packer(descriptors.FileDescriptorWrite)
pack_set_size = codec.make_packer(descriptors.FileDescriptorSetSize)
pack_set_times = codec.make_packer(descriptors.FileDescriptorSetTimes)
pack_create_directory = codec.make_packer(paths.CreateDirectory)
pack_remove_directory = codec.make_packer(paths.RemoveDirectory)
pack_unlink = codec.make_packer(paths.UnlinkFile)
pack_rename = codec.make_packer(paths.PathRename)
pack_link = codec.make_packer(paths.CreateHardLink)
pack_symlink = codec.make_packer(paths.CreateSymbolicLink)
pack_path_times = codec.make_packer(paths.PathSetTimes)
