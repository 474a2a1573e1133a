"""The nodes of a file system in memory: plain values, without descriptors or events."""

from dataclasses import dataclass, field

from journal.engine.wasi.filesystem.path_resolution import NAME_SIZE_MAX
from journal.engine.wasi_abi import Errno, FileStat, WasiError
from journal.events.paths import FileType


@dataclass(slots=True, eq=False)
class Node:
    """What all nodes have; times in nanoseconds since the epoch."""

    inode: int
    device: int
    links: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0

    filetype = FileType.UNKNOWN

    def size(self) -> int:
        """Bytes, as ``stat`` tells them."""
        return 0

    def stat(self) -> FileStat:
        """Its attributes."""
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
        """Its contents changed."""
        self.mtime = self.ctime = now


@dataclass(slots=True, eq=False)
class FileNode(Node):
    """A regular file; ``open_count`` counts the descriptors that keep it when no name does."""

    data: bytearray = field(default_factory=bytearray)
    open_count: int = 0

    filetype = FileType.REGULAR_FILE

    def size(self) -> int:
        """Bytes it has."""
        return len(self.data)


@dataclass(slots=True, eq=False)
class LinkNode(Node):
    """A symbolic link."""

    target: str = ""

    filetype = FileType.SYMBOLIC_LINK

    def size(self) -> int:
        """Bytes of what it says."""
        return len(self.target.encode())


@dataclass(slots=True, eq=False)
class DirectoryNode(Node):
    """A directory; ``parent`` is itself at the root."""

    entries: dict[str, Node] = field(default_factory=dict)
    parent: "DirectoryNode | None" = None

    filetype = FileType.DIRECTORY

    def is_inside(self, other: "DirectoryNode") -> bool:
        """Whether this is ``other`` or somewhere below it."""
        at: DirectoryNode | None = self
        while at is not None:
            if at is other:
                return True
            at = at.parent
        return False


class NodeWalker:
    """How directories in memory are walked."""

    def link_target(self, directory: DirectoryNode, name: str) -> str | None:
        """What the link ``name`` says, if it is one."""
        node = lookup(directory, name)
        return node.target if isinstance(node, LinkNode) else None

    def enter(self, directory: DirectoryNode, name: str) -> DirectoryNode:
        """The directory ``name``."""
        node = lookup(directory, name)
        if node is None:
            raise WasiError(Errno.NOENT)
        if not isinstance(node, DirectoryNode):
            raise WasiError(Errno.NOTDIR)
        return node

    def leave(self, directory: DirectoryNode) -> None:
        """Nothing to give back."""


def lookup(directory: DirectoryNode, name: str) -> Node | None:
    """The node called ``name``, if there is one."""
    if len(name.encode()) > NAME_SIZE_MAX:
        raise WasiError(Errno.NAMETOOLONG)
    return directory.entries.get(name)
