"""Interfaces of the files and directories that WASI functions use.

:mod:`journal.engine.wasi.filesystem.memory_fs` implements them in memory, with the operations that
a replay repeats. :mod:`journal.engine.wasi.filesystem.host_files` implements them for a directory
of the host; the journal contains its results. Both pass every effect and every result through the
tape, under the descriptor ``fd`` of the guest. Every method raises ``WasiError`` to refuse a call.
"""

from typing import Protocol

from journal.vfs.open_request import OpenRequest
from journal.vfs.times import TimeUpdate
from journal.wasi_abi import DirectoryEntry, FileStat


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

    def set_times(self, fd: int, times: TimeUpdate) -> None:
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

    def set_times(self, fd: int, times: TimeUpdate) -> None:
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

    def set_times_at(self, fd: int, path: str, lookup: int, times: TimeUpdate) -> None:
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
