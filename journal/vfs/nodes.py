"""Nodes of an in-memory file system. Times are in nanoseconds since the epoch."""

from typing import ClassVar

from journal.events.paths import FileType
from journal.events.wire_types import encode_path
from journal.wasi_abi import FileStat


class Node:
    """Base class of nodes."""

    __slots__ = ("atime", "ctime", "inode", "links", "mtime")

    filetype: ClassVar[FileType] = FileType.UNKNOWN

    def __init__(self, inode: int, links: int = 0, time: int = 0) -> None:
        self.inode, self.links = inode, links
        self.atime = self.mtime = self.ctime = time

    def stat_size(self) -> int:
        """Return the size in bytes that ``stat`` reports."""
        return 0

    def stat(self, device: int) -> FileStat:
        """Return the attributes of the node, which belongs to the mount ``device``."""
        return FileStat(
            device,
            self.inode,
            self.filetype,
            self.links,
            self.stat_size(),
            self.atime,
            self.mtime,
            self.ctime,
        )

    def touch(self, now: int) -> None:
        """Update the times after a change of the contents."""
        self.mtime = self.ctime = now

    def content(self) -> bytes:
        """Return the bytes of a file or the target of a link."""
        return b""


class FileNode(Node):
    """A regular file.

    ``open_count`` counts its open descriptors, which keep the bytes of a file without a name.
    """

    __slots__ = ("data", "open_count")

    filetype: ClassVar[FileType] = FileType.REGULAR_FILE

    def __init__(self, inode: int, links: int = 0, time: int = 0) -> None:
        super().__init__(inode, links, time)
        self.data = bytearray()
        self.open_count = 0

    def stat_size(self) -> int:
        """Return the size of the file in bytes."""
        return len(self.data)

    def content(self) -> bytes:
        """Return the bytes of the file."""
        return bytes(self.data)


class LinkNode(Node):
    """A symbolic link."""

    __slots__ = ("target",)

    filetype: ClassVar[FileType] = FileType.SYMBOLIC_LINK

    def __init__(self, inode: int, target: str) -> None:
        super().__init__(inode)
        self.target = target

    def stat_size(self) -> int:
        """Return the size of the target in bytes."""
        return len(encode_path(self.target))

    def content(self) -> bytes:
        """Return the target of the link."""
        return encode_path(self.target)


class DirectoryNode(Node):
    """A directory. Without links it has been removed and accepts no new entries.

    ``parent`` is None at the root of a mount.
    """

    __slots__ = ("entries", "parent")

    filetype: ClassVar[FileType] = FileType.DIRECTORY

    def __init__(self, inode: int, links: int, parent: "DirectoryNode | None" = None) -> None:
        super().__init__(inode, links)
        self.entries: dict[str, Node] = {}
        self.parent = parent

    def is_inside(self, other: "DirectoryNode") -> bool:
        """Return whether this is ``other`` or a directory below it."""
        at: DirectoryNode | None = self
        while at is not None:
            if at is other:
                return True
            at = at.parent
        return False
