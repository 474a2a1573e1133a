"""What the calls of a guest need of a file system, whoever keeps the files.

:mod:`journal.engine.wasi.filesystem.memory_fs` implements them in memory; a replay rebuilds it.
:mod:`journal.engine.wasi.filesystem.host_files` implements them for a directory of the host; the
journal holds the results. Both pass every effect and every result through the tape, under the
guest's descriptor ``fd``.
Every method refuses by raising ``WasiError``.
"""

from typing import NamedTuple, Protocol

from journal.engine.wasi_abi import (
    DirectoryEntry,
    Errno,
    FdFlags,
    FileStat,
    OpenFlags,
    Rights,
    TimeFlags,
    WasiError,
)
from journal.events import codec, descriptors, paths

#: A longer write of the guest becomes several events.
WRITE_SIZE_MAX = 1 << 20
#: A longer read of a host's file is answered in part, as the specification allows.
READ_SIZE_MAX = 4 << 20


class OpenRequest(NamedTuple):
    """What the guest asked of ``path_open``."""

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
        """Whether the file is opened to be read; one that is not written is."""
        return bool(self.rights & Rights.FD_READ) or not self.rights & Rights.FD_WRITE

    @property
    def is_writable(self) -> bool:
        """Whether the file is opened to be written."""
        return bool(
            self.rights & Rights.FD_WRITE or self.flags & (OpenFlags.CREATE | OpenFlags.TRUNCATE)
        )

    @property
    def effect(self) -> bytes:
        """The payload of its event."""
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
    """What the guest wants a file's times to be; nanoseconds since the epoch."""

    atime: int
    mtime: int
    flags: TimeFlags

    def resolved(self, now: int, stat: FileStat) -> tuple[int, int]:
        """The access and modification times that result, if it is ``now``."""
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
    """The times asked for; refuses with ``INVAL`` what contradicts itself."""
    found = TimeFlags(flags)
    for both in (TimeFlags.ATIME | TimeFlags.ATIME_NOW, TimeFlags.MTIME | TimeFlags.MTIME_NOW):
        if found & both == both:
            raise WasiError(Errno.INVAL)
    return RequestedTimes(atime, mtime, found)


class GuestFile(Protocol):
    """An open regular file. Positions are the descriptor's business: every offset is given.

    ``writable`` says whether the mount may be changed, not how the file was opened.
    """

    @property
    def writable(self) -> bool:
        """Whether the mount may be changed."""

    def stat(self, fd: int) -> FileStat:
        """Its attributes."""

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """At most ``size`` bytes at ``offset``; empty at the end."""

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Put ``data`` at ``offset``; how many bytes of it."""

    def size(self, fd: int) -> int:
        """Its size in bytes."""

    def set_size(self, fd: int, size: int) -> None:
        """Cut it, or lengthen it with zeros."""

    def set_times(self, fd: int, times: RequestedTimes) -> None:
        """Set its times."""

    def sync(self, fd: int, *, data_only: bool) -> None:
        """Make it durable, as far as its keeper can."""

    def close(self) -> None:
        """It is not needed any more."""


class GuestDirectory(Protocol):
    """An open directory; paths are relative to it and stay inside it."""

    @property
    def writable(self) -> bool:
        """Whether the mount may be changed."""

    def stat(self, fd: int) -> FileStat:
        """Its attributes."""

    def set_times(self, fd: int, times: RequestedTimes) -> None:
        """Set its times."""

    def entries(self, fd: int) -> list[DirectoryEntry]:
        """What is in it, in the order a guest sees it, without ``.`` and ``..``."""

    def open(self, opening: OpenRequest) -> "GuestFile | GuestDirectory":
        """Open what a path leads to."""

    def create_directory(self, fd: int, path: str) -> None:
        """Make a directory."""

    def remove_directory(self, fd: int, path: str) -> None:
        """Remove an empty directory."""

    def unlink(self, fd: int, path: str) -> None:
        """Remove a file or a link."""

    def read_link(self, fd: int, path: str) -> str:
        """What a link says."""

    def stat_at(self, fd: int, path: str, *, follow: bool) -> FileStat:
        """Attributes of what a path leads to."""

    def set_times_at(self, fd: int, path: str, lookup: int, times: RequestedTimes) -> None:
        """Set the times of what a path leads to."""

    def symlink(self, fd: int, target: str, path: str) -> None:
        """Make a link that says ``target``."""

    def rename(self, fd: int, path: str, to: "GuestDirectory", to_fd: int, to_path: str) -> None:
        """Give something another name; refuses with ``XDEV`` across mounts."""

    def link(
        self, fd: int, lookup: int, path: str, to: "GuestDirectory", to_fd: int, to_path: str
    ) -> None:
        """Give a file one more name; refuses with ``XDEV`` across mounts."""

    def close(self) -> None:
        """It is not needed any more."""


# The payloads of the effects, in wire order.
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
