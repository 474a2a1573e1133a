"""Directories in memory of a running guest. A replay of the journal rebuilds the same files."""

from journal.vfs.directory import MountDirectory
from journal.vfs.errors import FileError
from journal.vfs.memory_backend import MemoryBackend, MemoryFile
from journal.vfs.nodes import DirectoryNode, LinkNode, Node
from journal.vfs.open_request import OpenRequest
from journal.vfs.path_resolution import PathLocation, resolve
from journal.wasi_abi import SYMLINK_FOLLOW, DirectoryEntry, Errno, FileStat


class MemoryDirectory(MountDirectory[DirectoryNode]):
    """An open in-memory directory, with the queries and the access checks of a running guest."""

    backend: MemoryBackend
    writable: bool = True

    def stat(self, fd: int) -> FileStat:
        """Return the attributes."""
        return self.at.stat(self.backend.device)

    def entries(self, fd: int) -> list[DirectoryEntry]:
        """Return the entries, sorted by name."""
        return self.backend.list_directory(self.at)

    def open(self, request: OpenRequest) -> "MemoryFile | MemoryDirectory":
        """Open the file or the directory at a path; create the file if the flags request it."""
        opened = super().open(request)
        assert isinstance(opened, (MemoryFile, MemoryDirectory))
        return opened

    def _open_directory(
        self, request: OpenRequest, location: PathLocation[DirectoryNode]
    ) -> "MemoryDirectory":
        if request.is_writable:
            raise FileError(Errno.ISDIR, "{} is a directory", request.path)
        return super()._open_directory(request, location)

    def read_link(self, fd: int, path: str) -> str:
        """Return the target of a symbolic link."""
        node = self._find_at(path, follow=False)
        if not isinstance(node, LinkNode):
            raise FileError(Errno.INVAL, "{} is not a symbolic link", path)
        return node.target

    def stat_at(self, fd: int, path: str, *, follow: bool) -> FileStat:
        """Return the attributes of the file at a path."""
        return self._find_at(path, follow=follow).stat(self.backend.device)

    def link(self, fd: int, lookup: int, path: str, to: object, to_fd: int, to_path: str) -> None:
        """Create a hard link to a file. A link as the last name of ``path`` cannot be followed."""
        if lookup & SYMLINK_FOLLOW:
            raise FileError(Errno.INVAL, "{} cannot be followed", path)
        super().link(fd, lookup, path, to, to_fd, to_path)

    def _find_at(self, path: str, *, follow: bool) -> Node:
        location = resolve(self.at, path, self.backend, follow=follow)
        node = self._find_existing(location, path)
        assert isinstance(node, Node)
        return node
