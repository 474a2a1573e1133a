"""Nodes of an in-memory file system: plain values, without descriptors or events."""

from dataclasses import dataclass, field

from journal.engine.wasi.filesystem.path_resolution import NAME_SIZE_MAX
from journal.events.paths import FileType
from journal.wasi_abi import Errno, FileStat, WasiError


@dataclass(slots=True, eq=False)
class Node:
    """Common attributes of all nodes; times are nanoseconds since the epoch."""

    inode: int
    device: int
    links: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0

    filetype = FileType.UNKNOWN

    def size(self) -> int:
        """Return the size in bytes that ``stat`` reports."""
        return 0

    def stat(self) -> FileStat:
        """Return the attributes."""
        return FileStat(
            self.device,
            self.inode,
            self.filetype,
            self.links,
            self.size(),
            self.atime,
            self.mtime,
            self.ctime,
        )

    def touch(self, now: int) -> None:
        """Set the modification and change times to ``now``."""
        self.mtime = self.ctime = now


@dataclass(slots=True, eq=False)
class FileNode(Node):
    """A regular file.

    ``open_count`` counts its open descriptors. An unlinked file keeps its data while it is
    open.
    """

    data: bytearray = field(default_factory=bytearray)
    open_count: int = 0

    filetype = FileType.REGULAR_FILE

    def size(self) -> int:
        """Return the size of the data in bytes."""
        return len(self.data)


@dataclass(slots=True, eq=False)
class LinkNode(Node):
    """A symbolic link."""

    target: str = ""

    filetype = FileType.SYMBOLIC_LINK

    def size(self) -> int:
        """Return the size of the target in bytes."""
        return len(self.target.encode())


@dataclass(slots=True, eq=False)
class DirectoryNode(Node):
    """A directory; ``parent`` is None at the root."""

    entries: dict[str, Node] = field(default_factory=dict)
    parent: "DirectoryNode | None" = None

    filetype = FileType.DIRECTORY

    def is_inside(self, other: "DirectoryNode") -> bool:
        """Return whether this directory is ``other`` or below it."""
        at: DirectoryNode | None = self
        while at is not None:
            if at is other:
                return True
            at = at.parent
        return False


class NodeWalker:
    """Access to in-memory directories during a path resolution."""

    def link_target(self, directory: DirectoryNode, name: str) -> str | None:
        """Return the target of the link ``name``, or None if ``name`` is not a link."""
        node = lookup(directory, name)
        return node.target if isinstance(node, LinkNode) else None

    def enter(self, directory: DirectoryNode, name: str) -> DirectoryNode:
        """Return the directory ``name``."""
        node = lookup(directory, name)
        if node is None:
            raise WasiError(Errno.NOENT)
        if not isinstance(node, DirectoryNode):
            raise WasiError(Errno.NOTDIR)
        return node

    def leave(self, directory: DirectoryNode) -> None:
        """Do nothing: a node holds no resources."""


def lookup(directory: DirectoryNode, name: str) -> Node | None:
    """Return the node with this name, or None; raise ``WasiError`` for a name that is too long."""
    if len(name.encode()) > NAME_SIZE_MAX:
        raise WasiError(Errno.NAMETOOLONG)
    return directory.entries.get(name)
