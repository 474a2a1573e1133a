"""Backend of files in memory, with the times, link counts and inode numbers of the guest."""

from collections.abc import Callable
from typing import NamedTuple

from journal.events.paths import FileType
from journal.replay.filesystem.directory_ops import TimeUpdate
from journal.replay.limits import ENTRY_SIZE, ReplayError, check_size, quote_path

_INODE_SHIFT = 16


class ReplayNode:
    """Base class of nodes. Times are in nanoseconds since the epoch."""

    __slots__ = ("atime", "ctime", "inode", "links", "mtime")

    def __init__(self, inode: int, links: int = 0, time: int = 0) -> None:
        self.inode, self.links = inode, links
        self.atime = self.mtime = self.ctime = time

    @property
    def kind(self) -> FileType:
        """Type of the node."""
        return FileType.UNKNOWN

    def touch(self, now: int) -> None:
        """Update the times after a change of the contents."""
        self.mtime = self.ctime = now

    def content(self) -> bytes:
        """Return the bytes of a file or the target of a link."""
        return b""


class ReplayFileNode(ReplayNode):
    """A regular file.

    ``open_count`` is that of open descriptors, which keep a file without a name.
    """

    __slots__ = ("data", "open_count")

    def __init__(self, inode: int, links: int = 0, time: int = 0) -> None:
        super().__init__(inode, links, time)
        self.data = bytearray()
        self.open_count = 0

    @property
    def kind(self) -> FileType:
        """Type of the node."""
        return FileType.REGULAR_FILE

    def content(self) -> bytes:
        """Return the bytes of the file."""
        return bytes(self.data)


class ReplayLinkNode(ReplayNode):
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, inode: int, target: str) -> None:
        super().__init__(inode)
        self.target = target

    @property
    def kind(self) -> FileType:
        """Type of the node."""
        return FileType.SYMBOLIC_LINK

    def content(self) -> bytes:
        """Return the target of the link."""
        return self.target.encode()


class ReplayDirectoryNode(ReplayNode):
    """A directory. Without links it has been removed and accepts no new entries."""

    __slots__ = ("entries", "parent")

    def __init__(self, inode: int, links: int, parent: "ReplayDirectoryNode | None" = None) -> None:
        super().__init__(inode, links)
        self.entries: dict[str, ReplayNode] = {}
        self.parent = parent

    @property
    def kind(self) -> FileType:
        """Type of the node."""
        return FileType.DIRECTORY

    def is_inside(self, other: "ReplayDirectoryNode") -> bool:
        """Return whether this is ``other`` or a directory below it."""
        at: ReplayDirectoryNode | None = self
        while at is not None:
            if at is other:
                return True
            at = at.parent
        return False


class TreeEntry(NamedTuple):
    """One entry of a file tree. Times are in nanoseconds since the epoch.

    ``content`` is the bytes of a file or the target of a link. Entries with one ``inode`` are hard
    links to one file.
    """

    kind: FileType
    inode: int
    links: int
    atime: int
    mtime: int
    ctime: int
    content: bytes


class MemoryBackend:
    """Backend of the files of one mount in memory, with at most ``size_max`` bytes.

    ``seq()`` returns the sequence number of the current event.
    """

    def __init__(self, size_max: int, seq: Callable[[], int]) -> None:
        self._size = 0
        self._size_max = size_max
        self._seq, self._last_created = seq, (0, 0)
        self._root = ReplayDirectoryNode(self._inode_of(0), links=2)

    def root(self) -> ReplayDirectoryNode:
        """Return the root directory of the mount."""
        return self._root

    def close(self) -> None:
        """Do nothing: no resource is open."""

    # -- queries ---------------------------------------------------------------------------------

    def kind(self, at: ReplayDirectoryNode, name: str) -> FileType | None:
        """Return the type of ``name``, None if it does not exist."""
        node = at.entries.get(name)
        return None if node is None else node.kind

    def link_target(self, at: ReplayDirectoryNode, name: str) -> str | None:
        """Return the target of the link ``name``, or None if ``name`` is not a link."""
        node = at.entries.get(name)
        return node.target if isinstance(node, ReplayLinkNode) else None

    def enter(self, at: ReplayDirectoryNode, name: str) -> ReplayDirectoryNode:
        """Return the directory ``name``."""
        node = _find_node(at, name)
        if not isinstance(node, ReplayDirectoryNode):
            raise ReplayError(f"{quote_path(name)} is not a directory")
        return node

    def leave(self, at: ReplayDirectoryNode) -> None:
        """Do nothing: no resource is open."""

    def open_file(self, at: ReplayDirectoryNode, name: str) -> "ReplayMemoryFile":
        """Open an existing regular file."""
        node = _find_node(at, name)
        if not isinstance(node, ReplayFileNode):
            raise ReplayError(f"{quote_path(name)} is not a file")
        return ReplayMemoryFile(self, node)

    def entries(self) -> dict[str, TreeEntry]:
        """Return all entries of the mount, by their path. The path of its root is ``.``."""
        entries: dict[str, TreeEntry] = {}
        paths_size = 0
        pending: list[tuple[str, ReplayNode]] = [("", self._root)]
        while pending:
            path, node = pending.pop()
            paths_size += len(path)
            # All paths together grow with the square of the depth.
            check_size("all paths", paths_size, self._size_max)
            times = (node.atime, node.mtime, node.ctime)
            entries[path or "."] = TreeEntry(
                node.kind, node.inode, node.links, *times, node.content()
            )
            if isinstance(node, ReplayDirectoryNode):
                prefix = f"{path}/" if path else ""
                children = sorted(node.entries.items(), reverse=True)
                pending += [(prefix + name, entry) for name, entry in children]
        return entries

    # -- changes ---------------------------------------------------------------------------------

    def make_file(self, at: ReplayDirectoryNode, name: str, now: int) -> "ReplayMemoryFile":
        """Create and open a regular file."""
        self._check_can_add(at, name)
        node = ReplayFileNode(self._next_inode())
        self._make(at, name, node, now)
        return ReplayMemoryFile(self, node)

    def make_directory(self, at: ReplayDirectoryNode, name: str, now: int) -> None:
        """Create a directory."""
        self._check_can_add(at, name)
        self._make(at, name, ReplayDirectoryNode(self._next_inode(), links=1, parent=at), now)
        at.links += 1

    def make_symlink(self, at: ReplayDirectoryNode, name: str, target: str, now: int) -> None:
        """Create a symbolic link."""
        self._check_can_add(at, name)
        self._make(at, name, ReplayLinkNode(self._next_inode(), target), now)

    def make_hard_link(
        self, at: ReplayDirectoryNode, name: str, to: ReplayDirectoryNode, to_name: str, now: int
    ) -> None:
        """Create a hard link to a file that is not a directory."""
        self._check_can_add(to, to_name)
        self._add(to, to_name, _find_node(at, name), now)

    def unlink(self, at: ReplayDirectoryNode, name: str, now: int) -> None:
        """Unlink a file or a symbolic link."""
        node = at.entries.pop(name)
        at.touch(now)
        node.links -= 1
        node.ctime = now
        self._size -= ENTRY_SIZE
        if isinstance(node, ReplayFileNode):
            self.release(node)

    def remove_directory(self, at: ReplayDirectoryNode, name: str, now: int) -> None:
        """Remove an empty directory."""
        node = at.entries[name]
        assert isinstance(node, ReplayDirectoryNode)
        if node.entries:
            raise ReplayError(f"the directory {quote_path(name)} is not empty")
        del at.entries[name]
        at.touch(now)
        at.links -= 1
        node.links = 0
        node.ctime = now
        self._size -= ENTRY_SIZE

    def rename(
        self, at: ReplayDirectoryNode, name: str, to: ReplayDirectoryNode, to_name: str, now: int
    ) -> None:
        """Rename a directory entry, and replace the entry ``to_name``."""
        node, old = _find_node(at, name), to.entries.get(to_name)
        _check_rename(at, to, to_name, node, old)
        if node is old:
            return
        if isinstance(old, ReplayDirectoryNode):
            self.remove_directory(to, to_name, now)
        elif old is not None:
            self.unlink(to, to_name, now)
        del at.entries[name]
        at.touch(now)
        to.entries[to_name] = node
        to.touch(now)
        node.ctime = now
        if isinstance(node, ReplayDirectoryNode):
            at.links -= 1
            to.links += 1
            node.parent = to

    def set_times(self, at: ReplayDirectoryNode, name: str, times: TimeUpdate, now: int) -> None:
        """Set the times of ``name``."""
        set_times(at if name == "." else _find_node(at, name), times, now)

    def check_space(self, names: int, size: int) -> None:
        """Raise ReplayError if ``names`` new entries and ``size`` bytes exceed the limit."""
        check_size("the files", self._size + names * ENTRY_SIZE + size, self._size_max)

    def reserve(self, growth: int) -> None:
        """Add ``growth`` to the used bytes. Raises ReplayError if they would exceed the limit."""
        if growth > 0:
            check_size("the files", self._size + growth, self._size_max)
        self._size += growth

    def release(self, node: ReplayFileNode) -> None:
        """Free the bytes of a file that has neither a name nor an open descriptor."""
        if not node.links and not node.open_count:
            self._size -= len(node.data)
            node.data.clear()

    def _make(self, at: ReplayDirectoryNode, name: str, node: ReplayNode, now: int) -> None:
        self._add(at, name, node, now)
        node.atime = node.mtime = now

    def _check_can_add(self, at: ReplayDirectoryNode, name: str) -> None:
        _check_not_removed(at, name)
        self.check_space(1, 0)

    def _add(self, at: ReplayDirectoryNode, name: str, node: ReplayNode, now: int) -> None:
        self.reserve(ENTRY_SIZE)
        at.entries[name] = node
        at.touch(now)
        node.links += 1
        node.ctime = now

    def _next_inode(self) -> int:
        return self._inode_of(self._seq())

    def _inode_of(self, seq: int) -> int:
        """Return an inode number as in the engine: ``seq`` and a count of its new nodes."""
        last_seq, count = self._last_created
        self._last_created = seq, count + 1 if seq == last_seq else 1
        return seq << _INODE_SHIFT | self._last_created[1]


class ReplayMemoryFile:
    """An open file in memory."""

    def __init__(self, backend: MemoryBackend, node: ReplayFileNode) -> None:
        self._backend, self._node = backend, node
        node.open_count += 1

    @property
    def inode(self) -> int:
        """Inode number of the file."""
        return self._node.inode

    def size(self) -> int:
        """Return the size in bytes."""
        return len(self._node.data)

    def write(self, offset: int, data: bytes, now: int | None) -> None:
        """Write ``data`` at ``offset``, with zeros in a gap. Without ``now`` keep the times."""
        content, end = self._node.data, offset + len(data)
        if data:
            self._backend.reserve(max(end - len(content), 0))
            content += bytes(max(offset - len(content), 0))
            content[offset:end] = data
        if now is not None:
            self._node.touch(now)

    def set_size(self, size: int, now: int) -> None:
        """Truncate the file, or extend it with zeros."""
        content = self._node.data
        growth = size - len(content)
        self._backend.reserve(growth)
        if growth > 0:
            content += bytes(growth)
        else:
            del content[size:]
        self._node.touch(now)

    def extend(self, size: int, now: int) -> None:
        """Extend the file, which is shorter than ``size``, with zeros."""
        self.set_size(size, now)

    def set_times(self, times: TimeUpdate, now: int) -> None:
        """Set the times of the file."""
        set_times(self._node, times, now)

    def close(self) -> None:
        """Close the file. Its bytes are freed with the last descriptor if it has no name."""
        self._node.open_count -= 1
        self._backend.release(self._node)


def set_times(node: ReplayNode, times: TimeUpdate, now: int) -> None:
    """Set the times of a node."""
    node.atime, node.mtime = times.resolve(now, node.atime, node.mtime)
    node.ctime = now


def _find_node(at: ReplayDirectoryNode, name: str) -> ReplayNode:
    if name == ".":
        return at
    node = at.entries.get(name)
    if node is None:
        raise ReplayError(f"{quote_path(name)} does not exist")
    return node


def _check_not_removed(at: ReplayDirectoryNode, name: str) -> None:
    if not at.links:
        raise ReplayError(f"cannot create {quote_path(name)}: its directory was removed")


def _check_rename(
    at: ReplayDirectoryNode,
    to: ReplayDirectoryNode,
    to_name: str,
    node: ReplayNode,
    old: ReplayNode | None,
) -> None:
    _check_not_removed(to, to_name)
    if isinstance(old, ReplayDirectoryNode) and at.is_inside(old):
        raise ReplayError(f"the directory {quote_path(to_name)} is not empty")
    if isinstance(node, ReplayDirectoryNode):
        if to.is_inside(node):
            raise ReplayError("a directory cannot be renamed into itself")
        if old is not None and not isinstance(old, ReplayDirectoryNode):
            raise ReplayError(f"{quote_path(to_name)} is not a directory")
        if isinstance(old, ReplayDirectoryNode) and old.entries and old is not node:
            raise ReplayError(f"the directory {quote_path(to_name)} is not empty")
    elif isinstance(old, ReplayDirectoryNode):
        raise ReplayError(f"{quote_path(to_name)} is a directory")
